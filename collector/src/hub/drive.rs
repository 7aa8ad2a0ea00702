//! The one loop: waits for whatever comes first, tells the registry, carries out what it wants.
use super::calls;
use super::files::{Files, Folder};
use super::hosts::Hosts;
use super::requests;
use super::routing::{self, Naming};
use super::search::{Searched, Searching, is_in_use};
use super::secure::Switch;
use super::surveys::Surveys;
use crate::answer::Answer;
use crate::clock::now_ms;
use crate::control::Command;
use crate::journal::Journal;
use crate::limits::{
    EXIT_QUEUE, FACE_PAUSE, HINT_QUEUE, NOTICE_BATCH, PATROL, REQUEST_BATCH, RETRY, RETRY_MS,
    RUN_LOCK_RETRY_MS,
};
use crate::metrics::CollectorMetrics;
use crate::notice::VerifiedNotice;
use crate::processes::Processes;
use crate::registry::{Effect, Event, FileState, Key, Registry};
use crate::warnings::Warnings;
use crate::watch::Hint;
use agentfs_home::Change;
use agentfs_router::{RequestRecord, RouterEvent, RouterMetrics};
use agentfs_wire::event::What;
use agentfs_wire::name::{Kind, SocketName};
use agentfs_wire::notice::{Call, Outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Rounds of event and effect that one cause may take. A cause that takes more is left to the next check of
/// everything, which the patrol starts: better a name a second late than a loop without end.
const ROUNDS: usize = 64;

/// The owner of the registry and of everything that only the loop touches.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) registry: Registry,
    /// The run dir, and the files that wait for a check.
    pub(super) files: Files,
    pub(super) processes: Processes,
    /// Searches for processes of instances that seem dead.
    pub(super) surveys: Surveys,
    /// The host's ports, and who must not reach them.
    pub(super) hosts: Hosts,
    /// The router's table, and the upstreams in it.
    pub(super) naming: Naming,
    pub(super) journal: Journal,
    pub(super) warnings: Warnings,
    /// Turns TLS on and off.
    pub(super) switch: Switch,
    pub(super) router_metrics: Arc<RouterMetrics>,
    pub(super) metrics: Arc<CollectorMetrics>,
    /// Requests that did not fit into their queue.
    pub(super) requests_missed: Arc<AtomicU64>,
    /// Parts that run as tasks, by name, with what ended them.
    pub(super) tasks: JoinSet<(&'static str, Option<String>)>,
    /// Gets the instances that are alive once the first survey is done.
    pub(super) surveyed_tx: Option<oneshot::Sender<BTreeSet<Key>>>,
    /// Searches for who has a port that is in use, at most `PORT_SEARCHES`.
    pub(super) searches: JoinSet<Searched>,
    /// Instances whose ports are searched for, and who waits for that.
    pub(super) searching: Searching,
    /// Whether to end.
    pub(super) stopping: Stopping,
}

/// Whether the collector ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopping {
    /// No.
    No,
    /// A signal came: somebody may need it, who did not ask for its end.
    Signal,
    /// It was asked to, or its home is gone.
    Asked,
}

/// What comes in.
#[derive(Debug)]
pub(super) struct Inputs {
    /// receiver --notices--> hub
    pub(super) notice_rx: mpsc::Receiver<VerifiedNotice>,
    /// watcher, patrol --hints--> hub
    pub(super) hint_rx: mpsc::Receiver<Hint>,
    /// processes --exited pid--> hub
    pub(super) exit_rx: mpsc::Receiver<u32>,
    /// control --commands--> hub
    pub(super) command_rx: mpsc::Receiver<Command>,
    /// router --reports--> hub
    pub(super) router_rx: mpsc::Receiver<RouterEvent>,
    /// Keeps the queue of reports open where there is no router.
    pub(super) _router_tx: mpsc::Sender<RouterEvent>,
    /// router --requests that somebody follows--> hub
    pub(super) request_rx: mpsc::Receiver<RequestRecord>,
    /// Keeps the queue of requests open where there is no router.
    pub(super) _request_tx: mpsc::Sender<RequestRecord>,
}

// === impl Hub ===

impl Hub {
    /// Runs until `shutdown` completes or a client asks for the end.
    pub(super) async fn run(&mut self, inputs: &mut Inputs, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut notices = Vec::new();
        let mut hints = Vec::new();
        let mut exits = Vec::new();
        let mut requests = Vec::new();
        let mut retry_at = None;
        while self.stopping == Stopping::No {
            let now = Instant::now();
            let (look_at, survey_at, keep_at) =
                (self.files.rechecks.next(), self.surveys.at, self.files.keep_at);
            let (sample_at, faces_at) = (self.naming.sample_at, self.naming.faces_at);
            retry_at = retry_at.or_else(|| self.must_ask().then(|| now + RETRY));
            tokio::select! {
                () = &mut shutdown => self.stopping = Stopping::Signal,
                1.. = inputs.notice_rx.recv_many(&mut notices, NOTICE_BATCH) => self.take_notices(&mut notices),
                1.. = inputs.hint_rx.recv_many(&mut hints, HINT_QUEUE) => self.take_hints(&mut hints),
                1.. = inputs.exit_rx.recv_many(&mut exits, EXIT_QUEUE) => {
                    self.tell(exits.drain(..).map(|pid| Event::ProcessExited { pid }).collect());
                }
                Some(command) = inputs.command_rx.recv() => {
                    // What was reported before somebody asked is known to the answer.
                    while notices.len() < NOTICE_BATCH && let Ok(notice) = inputs.notice_rx.try_recv() {
                        notices.push(notice);
                    }
                    if !notices.is_empty() {
                        self.take_notices(&mut notices);
                    }
                    self.answer(command);
                }
                Some(report) = inputs.router_rx.recv() => self.take_report(&report),
                1.. = inputs.request_rx.recv_many(&mut requests, REQUEST_BATCH) => {
                    requests::pass(&self.journal, &self.requests_missed, requests.drain(..));
                }
                Some(survey) = self.surveys.next() => self.take_survey(survey),
                Some(found) = self.hosts.next() => {
                    self.hosts.take(found, || self.registry.folders());
                    self.look_at_host(None);
                }
                Some(ended) = self.searches.join_next() => self.take_search(ended),
                Some(ended) = self.tasks.join_next() => self.task_ended(ended),
                () = sleep_until(look_at.unwrap_or(now)), if look_at.is_some() => {
                    let due = self.files.due();
                    self.look_at(due);
                }
                () = sleep_until(keep_at.unwrap_or(now)), if keep_at.is_some() => self.files.keep_names(),
                () = sleep_until(survey_at.unwrap_or(now)), if survey_at.is_some() => {
                    self.surveys.begin(self.files.run.path());
                }
                () = sleep_until(sample_at.unwrap_or(now)), if sample_at.is_some() => self.naming.sample(now),
                () = sleep_until(faces_at.unwrap_or(now)), if faces_at.is_some() => self.store_faces(),
                () = sleep_until(retry_at.unwrap_or(now)), if retry_at.is_some() => {
                    retry_at = None;
                    self.ask();
                }
            }
        }
    }

    /// Tells the registry, carries out its effects, and repeats until nothing is left to do. Journal events are
    /// published last, so a listener is routed when the journal reports it.
    pub(super) fn tell(&mut self, mut events: Vec<Event>) {
        let mut published = Vec::new();
        for _ in 0..ROUNDS {
            let mut effects = Vec::new();
            for event in events.drain(..) {
                effects.extend(self.registry.apply(now_ms(), event));
            }
            let mut looks = BTreeSet::new();
            let mut stale = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Publish(event) => published.push(*event),
                    Effect::RemoveStale { file } => stale.push(file),
                    effect => self.perform(effect, &mut events, &mut looks),
                }
            }
            // First the page, once for all: whoever finds no listener behind a name must not go to the host.
            let registry = &self.registry;
            self.hosts.removing(stale.iter().filter(|file| registry.has_living(file)));
            for file in stale {
                self.perform(Effect::RemoveStale { file }, &mut events, &mut looks);
            }
            events.extend(self.look(looks.into_iter().map(|file| (file, false))));
            if events.is_empty() {
                break;
            }
        }
        if !events.is_empty() {
            self.files.hints.lose();
        }
        self.store_names();
        let registry = &self.registry;
        for event in &published {
            self.hosts.hear(event, |key| registry.is_living(key), |key| registry.life_of(key));
        }
        self.hosts.write();
        self.hosts.begin();
        for event in published {
            self.journal.publish(now_ms(), event);
        }
    }

    /// Gives the router a new table if names changed.
    pub(super) fn store_names(&mut self) {
        if self.naming.store(&mut self.registry) {
            // Whatever changes these numbers changes a name as well.
            let (instances, listeners) = self.registry.counts();
            if let Some(patrol) = &self.files.patrol {
                patrol.watch_host(instances > 0);
            }
            self.metrics.set(instances, listeners, self.registry.hand_routes());
        }
    }

    /// Looks which programs hold the host's ports, if somebody wants to know; tells `answer_tx` when it is done.
    pub(super) fn look_at_host(&mut self, answer_tx: Option<oneshot::Sender<Answer>>) {
        if answer_tx.is_some() {
            self.hosts.want(answer_tx);
        }
        self.hosts.begin();
    }

    /// Looks at files and tells what is there.
    pub(super) fn look_at(&mut self, files: impl IntoIterator<Item = String>) {
        let events = self.look(files.into_iter().map(|file| (file, false)));
        self.tell(events);
    }

    /// Checks everything: our own files, the folder, processes, every file.
    pub(super) fn reconcile(&mut self) {
        self.check_own_files();
        self.check_run_dir();
        self.files.hints.found();
        self.ask();
        let (files, warning) = self.files.all(&self.registry);
        if let Some(warning) = warning {
            self.warn(&warning);
        }
        self.look_at(files);
    }

    /// Whether there is something whose change the system does not report.
    fn must_ask(&self) -> bool {
        self.registry.next_drain_end().is_some() || self.processes.must_be_asked()
    }

    /// Checks it.
    fn ask(&mut self) {
        let exited = self.processes.ended();
        let mut events: Vec<_> = exited.into_iter().map(|pid| Event::ProcessExited { pid }).collect();
        events.push(Event::Tick);
        self.tell(events);
    }

    /// Says that something of ours does not work, in the journal and in the log, once in a while.
    pub(super) fn warn(&mut self, text: &str) {
        let now = now_ms();
        if self.warnings.is_due(now, text) {
            crate::log::warning!("{text}");
            self.journal.publish(now, What::Warning { text: text.to_owned() });
        }
    }

    fn look(&mut self, files: impl IntoIterator<Item = (String, bool)>) -> Vec<Event> {
        let (events, warnings) = self.files.look(&self.registry, files);
        warnings.iter().for_each(|warning| self.warn(warning));
        events
    }

    fn take_notices(&mut self, notices: &mut Vec<VerifiedNotice>) {
        let mut events = Vec::new();
        let mut files = BTreeMap::new();
        let mut refused = Vec::new();
        for notice in notices.drain(..) {
            let port = notice.address.map(|address| address.port).filter(|_| notice.call == Call::Connect);
            let holder = port.and_then(|port| self.hosts.holder(port, notice.why, &notice.key));
            let call = calls::event(&notice, self.files.run.path(), holder);
            if is_in_use(&notice) {
                refused.push((notice, call));
                continue;
            }
            self.journal.publish(now_ms(), call);
            let listens = notice.call == Call::Listen;
            if notice.outcome != Outcome::Rewritten
                || notice.errno != 0
                || !(listens || notice.call == Call::Bind)
            {
                continue;
            }
            if !SocketName::parse(&notice.file).is_ok_and(|name| Key::of(&name) == notice.key) {
                continue;
            }
            *files.entry(notice.file.clone()).or_insert(false) |= listens;
            if notice.pid != 0 {
                events.push(Event::Told { key: notice.key, pid: notice.pid, file: Some(notice.file) });
            }
        }
        events.extend(self.look(files));
        if !events.is_empty() {
            self.tell(events);
        }
        // Who has the port may have reported itself just before.
        for (notice, call) in refused {
            self.publish_refused(&notice, call);
        }
    }

    /// Checks what the watcher and the patrol reported, each file once, however often it changed.
    fn take_hints(&mut self, hints: &mut Vec<Hint>) {
        let everything = self.files.hints.found();
        let mut files = BTreeSet::new();
        let (mut folder, mut all) = (false, everything);
        for hint in hints.drain(..) {
            match hint {
                Hint::File(file) => {
                    files.insert(file);
                }
                Hint::Folder => folder = true,
                Hint::Everything => all = true,
                Hint::Host => self.hosts.want(None),
                Hint::Busy => self.naming.busy(Instant::now(), PATROL),
            }
        }
        if all {
            return self.reconcile();
        }
        if folder {
            files.extend(self.files.changed());
        }
        let mut events = self.look(files.into_iter().map(|file| (file, false)));
        self.files.postpone_stale(&mut events);
        self.tell(events);
    }

    fn take_report(&mut self, report: &RouterEvent) {
        match report {
            RouterEvent::UpstreamRefused { socket } => {
                if let Some(file) = routing::file_of(socket, self.files.run.path()) {
                    self.look_at([file]);
                }
            }
            RouterEvent::Spoke { socket, speaks } => {
                if let Some(file) = routing::file_of(socket, self.files.run.path()) {
                    self.tell(vec![Event::Spoke { file, speaks: *speaks }]);
                }
            }
            RouterEvent::SecureListenersFailed { reason } => {
                self.warn(&format!("the router cannot listen for TLS: {reason}"));
            }
        }
    }

    fn perform(&mut self, effect: Effect, events: &mut Vec<Event>, looks: &mut BTreeSet<String>) {
        match effect {
            // Published after the router has the new names.
            Effect::Publish(_) => {}
            Effect::Look { file, after_ms: 0 } => {
                looks.insert(file);
            }
            Effect::Look { file, after_ms } => self.files.rechecks.add(file, after_ms),
            Effect::Watch { pid, born_before_ms } => {
                let lives = self.processes.watch(pid, born_before_ms);
                events.push(if lives { Event::ProcessLives { pid } } else { Event::ProcessExited { pid } });
            }
            Effect::Forget { pid } => self.processes.forget(pid),
            Effect::Link { file, target, instead_of } => {
                match self.files.run.link(&file, &target, instead_of.as_deref()) {
                    Ok(Change::Done) => {}
                    Ok(Change::Different) => events.extend(self.see_main_name(file)),
                    Ok(Change::Busy) => self.files.rechecks.add(file, RUN_LOCK_RETRY_MS),
                    Err(error) => {
                        self.warn(&format!("cannot link {file} in the run dir: {error}"));
                        self.files.rechecks.add(file, RETRY_MS);
                    }
                }
            }
            Effect::RemoveStale { file } => match self.files.run.remove_stale(&file) {
                Ok(Change::Done) => self.count_removal(file),
                Ok(Change::Different) => {
                    looks.insert(file);
                }
                Ok(Change::Busy) => self.files.rechecks.add(file, RUN_LOCK_RETRY_MS),
                Err(error) => {
                    self.warn(&format!("cannot remove the stale socket {file}: {error}"));
                    self.files.rechecks.add(file, RETRY_MS);
                }
            },
            Effect::RemoveLink { file } => {
                let result = self.files.run.remove_link(&file);
                self.note_removal(file, result);
            }
            Effect::RemoveMark { file } => {
                let result = self.files.run.remove_mark(&file);
                self.note_removal(file, result);
            }
            Effect::RemoveCompanion { file, companion } => {
                match self.files.run.remove_companion(&file, &companion) {
                    // Somebody takes the name, or removes another: seen again, it is found dead or new.
                    Ok(Change::Different | Change::Busy) => self.files.rechecks.add(file, RUN_LOCK_RETRY_MS),
                    result => self.note_removal(file, result),
                }
            }
            Effect::Survey { key } => self.surveys.want(key),
            Effect::StoreFaces => self.naming.faces_at = Some(Instant::now() + FACE_PAUSE),
            Effect::Routes => self.naming.dirty = true,
        }
    }

    pub(super) fn note_removal(&mut self, file: String, result: io::Result<Change>) {
        match result {
            Ok(Change::Done) => self.count_removal(file),
            Ok(Change::Different | Change::Busy) => {}
            Err(error) => {
                self.warn(&format!("cannot remove {file} from the run dir: {error}"));
                self.files.rechecks.add(file, RETRY_MS);
            }
        }
    }

    fn count_removal(&mut self, file: String) {
        if let Some(pruning) = &mut self.surveys.pruning {
            pruning.removed.push(file);
        }
    }

    /// What took the place of the main link, where that is a listener or a link to one. Anything else
    /// would only make the registry ask for the link again.
    fn see_main_name(&mut self, file: String) -> Option<Event> {
        let key = Key::of(&SocketName::parse(&file).ok()?);
        let is_own_listener = |target: &String| {
            SocketName::parse(target)
                .is_ok_and(|name| Key::of(&name) == key && matches!(name.kind, Kind::Listener { .. }))
        };
        let seen = self.look([(file, false)]).pop()?;
        let taken = match &seen {
            Event::Seen { state: FileState::Socket { .. }, .. } => true,
            Event::Seen { state: FileState::Link { file, end }, .. } => {
                matches!(**end, FileState::Socket { .. }) || file.as_ref().is_some_and(is_own_listener)
            }
            _ => false,
        };
        taken.then_some(seen)
    }

    fn task_ended(&mut self, ended: Result<(&'static str, Option<String>), tokio::task::JoinError>) {
        match ended {
            Ok((_, None)) => {}
            Ok((part, Some(error))) => self.warn(&format!("the {part} has stopped: {error}")),
            Err(error) => self.warn(&format!("a part has stopped: {error}")),
        }
    }

    /// Ends where our home was taken away.
    fn check_own_files(&mut self) {
        if !self.files.are_ours() {
            crate::log::error!("{} was removed: this collector stops", self.files.paths.home.display());
            self.stopping = Stopping::Asked;
        }
    }

    fn check_run_dir(&mut self) {
        if self.stopping == Stopping::No
            && let Folder::Mended(what) = self.files.mend_run_dir()
        {
            self.warn(&what);
        }
    }
}
