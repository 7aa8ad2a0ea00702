//! The one loop: waits for whatever comes first, tells the registry, carries out what it wants.
use super::calls;
use super::looks::Looks;
use super::requests;
use super::routing::{self, Upstreams};
use super::secure::Switch;
use crate::clock::now_ms;
use crate::control::Command;
use crate::journal::Journal;
use crate::limits::{
    HINT_QUEUE, KEEP_DELAY, LOOKS_FLOOD, NOTICE_BATCH, RECONCILE, REQUEST_BATCH, RUN_LOCK_RETRY_MS,
    STALE_REST_MS, SURVEY_DELAY,
};
use crate::metrics::CollectorMetrics;
use crate::notice::Told;
use crate::processes::{Processes, survey};
use crate::registry::{Effect, Event, Key, Registry, Sight};
use crate::warnings::Warnings;
use crate::watch::{Hint, Looker, Watcher};
use agentfs_home::{Change, Keep, RunDir, list};
use agentfs_router::{RequestRecord, RouterEvent, RouterMetrics, TableHandle};
use agentfs_wire::event::What;
use agentfs_wire::name::{Kind, SocketName};
use agentfs_wire::notice::{Call, Outcome};
use agentfs_wire::paths::Paths;
use agentfs_wire::url::UrlStyle;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// Rounds of event and effect that one cause may take. A cause that takes more is left to the next
/// reconciliation: better a name a second late than a loop without end.
const ROUNDS: usize = 64;

/// The owner of the registry and of everything that only the loop touches.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) paths: Paths,
    pub(super) registry: Registry,
    pub(super) run_dir: RunDir,
    /// Second names of what lies in the run dir.
    pub(super) keep: Keep,
    /// When what is new gets its second name.
    pub(super) keep_at: Option<Instant>,
    pub(super) processes: Processes,
    pub(super) journal: Journal,
    pub(super) warnings: Warnings,
    /// Files to look at later.
    pub(super) looks: Looks,
    /// The router's table.
    pub(super) table: TableHandle,
    pub(super) upstreams: Upstreams,
    pub(super) urls: UrlStyle,
    /// Turns TLS on and off.
    pub(super) switch: Switch,
    pub(super) router_metrics: Arc<RouterMetrics>,
    pub(super) metrics: Arc<CollectorMetrics>,
    /// Requests that did not fit into their queue.
    pub(super) requests_missed: Arc<AtomicU64>,
    /// The watcher, unless the system has none to give: then only reconciliation sees changes.
    pub(super) watcher: Option<Watcher>,
    /// Set when hints were lost.
    pub(super) hints_lost: Arc<AtomicBool>,
    /// The survey under way, if any, with the instances that it is about.
    pub(super) surveys: JoinSet<Survey>,
    /// Instances that wait for the next survey.
    pub(super) survey_wanted: Vec<Key>,
    /// When the next survey begins.
    pub(super) survey_at: Option<Instant>,
    /// Parts that run as tasks, by name, with what ended them.
    pub(super) tasks: JoinSet<(&'static str, Option<String>)>,
    /// Number of the run dir's file: another number is another folder.
    pub(super) run_inode: u64,
    /// Number of the lock's file: without it a second collector could start.
    pub(super) lock_inode: u64,
    /// Whether the routing table is out of date.
    pub(super) routes_dirty: bool,
    /// Files removed since a prune began; absent while none is going on, since a collector removes files for years.
    pub(super) removed: Option<Vec<String>>,
    /// Whether to end.
    pub(super) stopping: bool,
}

/// The instances that a survey was about, and the processes that it found.
type Survey = (Vec<Key>, Vec<(Key, u32)>);

/// What comes in.
#[derive(Debug)]
pub(super) struct Inputs {
    /// receiver --notices--> hub
    pub(super) notice_rx: mpsc::Receiver<Told>,
    /// watcher --hints--> hub
    pub(super) hint_rx: mpsc::Receiver<Hint>,
    /// Keeps the queue of hints open where there is no watcher.
    pub(super) _hint_tx: Option<mpsc::Sender<Hint>>,
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
        let mut tick = interval(RECONCILE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut notices = Vec::new();
        let mut hints = Vec::new();
        let mut requests = Vec::new();
        while !self.stopping {
            let now = Instant::now();
            let (look_at, survey_at, keep_at) = (self.looks.next(), self.survey_at, self.keep_at);
            tokio::select! {
                () = &mut shutdown => return,
                1.. = inputs.notice_rx.recv_many(&mut notices, NOTICE_BATCH) => self.take_notices(&mut notices),
                1.. = inputs.hint_rx.recv_many(&mut hints, HINT_QUEUE) => self.take_hints(&mut hints),
                Some(pid) = inputs.exit_rx.recv() => self.tell(vec![Event::ProcessExited { pid }]),
                Some(command) = inputs.command_rx.recv() => self.answer(command),
                Some(report) = inputs.router_rx.recv() => self.take_report(&report),
                1.. = inputs.request_rx.recv_many(&mut requests, REQUEST_BATCH) => {
                    requests::pass(&self.journal, &self.requests_missed, requests.drain(..));
                }
                Some(Ok((asked, living))) = self.surveys.join_next() => {
                    self.tell(vec![Event::Surveyed { asked, living }]);
                    if !self.survey_wanted.is_empty() {
                        self.survey_at = Some(now + SURVEY_DELAY);
                    }
                }
                Some(ended) = self.tasks.join_next() => self.task_ended(ended),
                () = sleep_until(look_at.unwrap_or(now)), if look_at.is_some() => {
                    let due = self.looks.due();
                    self.look_at(due);
                }
                () = sleep_until(keep_at.unwrap_or(now)), if keep_at.is_some() => self.keep_names(),
                () = sleep_until(survey_at.unwrap_or(now)), if survey_at.is_some() => self.begin_survey(),
                _ = tick.tick() => self.reconcile_unless_flooded(),
            }
        }
    }

    /// Tells the registry, carries out what it wants, and so on until nothing is left to do.
    pub(super) fn tell(&mut self, mut events: Vec<Event>) {
        for _ in 0..ROUNDS {
            let mut effects = Vec::new();
            for event in events.drain(..) {
                effects.extend(self.registry.apply(now_ms(), event));
            }
            let mut looks = BTreeSet::new();
            for effect in effects {
                self.perform(effect, &mut events, &mut looks);
            }
            events.extend(self.look(looks.into_iter().map(|file| (file, false))));
            if events.is_empty() {
                break;
            }
        }
        if std::mem::take(&mut self.routes_dirty) {
            let table = self.upstreams.table(self.registry.routes(), self.urls.http_port);
            self.table.store(table.with_https(self.urls.https_port));
            // Whatever changes these numbers changes a name as well.
            let (instances, listeners) = self.registry.counts();
            self.metrics.set(instances, listeners, self.registry.hand_routes());
        }
    }

    /// Looks at files and tells what is there.
    pub(super) fn look_at(&mut self, files: impl IntoIterator<Item = String>) {
        let events = self.look(files.into_iter().map(|file| (file, false)));
        self.tell(events);
    }

    /// Reconciles, unless so many files wait to be looked at that they are most of the folder.
    fn reconcile_unless_flooded(&mut self) {
        if self.looks.len() <= LOOKS_FLOOD {
            return self.reconcile();
        }
        self.check_own_files();
        self.check_run_dir();
    }

    /// Everything that no hint told: vanished folders, processes, files, sockets.
    pub(super) fn reconcile(&mut self) {
        self.check_own_files();
        self.check_run_dir();
        self.hints_lost.store(false, Ordering::Release);
        let exited = self.processes.ended();
        let mut events: Vec<_> = exited.into_iter().map(|pid| Event::ProcessExited { pid }).collect();
        events.push(Event::Tick);
        self.tell(events);
        self.upstreams.sample(Instant::now());
        let mut files = self.registry.files();
        match list(self.run_dir.path()) {
            Ok(there) => {
                self.keep.reconcile(&there, |file| self.registry.has_living(file));
                files.extend(there);
            }
            Err(error) => {
                let run = self.run_dir.path().display().to_string();
                self.warn(&format!("cannot list {run}: {error}"));
            }
        }
        self.look_at(files);
    }

    /// Gives what is new its second name.
    fn keep_names(&mut self) {
        self.keep_at = None;
        if let Ok(there) = list(self.run_dir.path()) {
            self.keep.reconcile(&there, |file| self.registry.has_living(file));
        }
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
        let registry = &self.registry;
        let known = |file: &str, inode| registry.is_accepting(file, inode);
        let mut looker = Looker::new(self.run_dir.path(), &known);
        let events: Vec<Event> = files
            .into_iter()
            .map(|(file, told)| {
                let mut sight = looker.look(&file, told);
                let vanished = sight == Sight::Gone;
                if vanished && self.keep.restore(&file, registry.has_living(&file)) {
                    sight = looker.look(&file, told);
                }
                if self.keep_at.is_none() && !vanished && self.keep.wants(&file) {
                    self.keep_at = Some(Instant::now() + KEEP_DELAY);
                }
                Event::Seen { file, sight }
            })
            .collect();
        for event in &events {
            if let Event::Seen { file, sight: Sight::Foreign(what) } = event {
                self.warn(&format!("{} {what}; it is ignored", self.run_dir.path().join(file).display()));
            }
        }
        events
    }

    fn take_notices(&mut self, notices: &mut Vec<Told>) {
        let mut events = Vec::new();
        let mut files = BTreeMap::new();
        for told in notices.drain(..) {
            self.journal.publish(now_ms(), calls::event(&told, self.run_dir.path()));
            let listens = told.call == Call::Listen;
            if told.outcome != Outcome::Rewritten || told.errno != 0 || !(listens || told.call == Call::Bind)
            {
                continue;
            }
            if !SocketName::parse(&told.file).is_ok_and(|name| Key::of(&name) == told.key) {
                continue;
            }
            *files.entry(told.file.clone()).or_insert(false) |= listens;
            if told.pid != 0 {
                events.push(Event::Told { key: told.key, pid: told.pid, file: Some(told.file) });
            }
        }
        events.extend(self.look(files));
        if !events.is_empty() {
            self.tell(events);
        }
    }

    /// Looks at what the watcher hinted at, each file once however often it changed.
    fn take_hints(&mut self, hints: &mut Vec<Hint>) {
        let everything = self.hints_lost.swap(false, Ordering::AcqRel);
        if hints.contains(&Hint::Everything) || everything {
            hints.clear();
            return self.reconcile();
        }
        let files: BTreeSet<String> = hints
            .drain(..)
            .filter_map(|hint| match hint {
                Hint::File(file) => Some(file),
                Hint::Everything => None,
            })
            .collect();
        let mut events = self.look(files.into_iter().map(|file| (file, false)));
        // What is dead already when its hint comes was never worth a look, and is probably made again soon.
        events.retain(|event| match event {
            Event::Seen { file, sight: Sight::Stale } => {
                self.looks.add(file.clone(), STALE_REST_MS);
                false
            }
            _ => true,
        });
        self.tell(events);
    }

    fn take_report(&mut self, report: &RouterEvent) {
        match report {
            RouterEvent::UpstreamRefused { socket } => {
                if let Some(file) = routing::file_of(socket, self.run_dir.path()) {
                    self.look_at([file]);
                }
            }
            RouterEvent::SecureListenersFailed { reason } => {
                self.warn(&format!("the router cannot listen for TLS: {reason}"));
            }
        }
    }

    fn perform(&mut self, effect: Effect, events: &mut Vec<Event>, looks: &mut BTreeSet<String>) {
        match effect {
            Effect::Publish(what) => self.journal.publish(now_ms(), *what),
            Effect::Look { file, after_ms: 0 } => {
                looks.insert(file);
            }
            Effect::Look { file, after_ms } => self.looks.add(file, after_ms),
            Effect::Watch { pid, born_before_ms } => {
                let lives = self.processes.watch(pid, born_before_ms);
                events.push(if lives { Event::ProcessLives { pid } } else { Event::ProcessExited { pid } });
            }
            Effect::Forget { pid } => self.processes.forget(pid),
            Effect::Link { file, target, instead_of } => {
                match self.run_dir.link(&file, &target, instead_of.as_deref()) {
                    Ok(Change::Done) => {}
                    Ok(Change::Different) => events.extend(self.see_main_name(file)),
                    Ok(Change::Busy) => self.looks.add(file, RUN_LOCK_RETRY_MS),
                    Err(error) => self.warn(&format!("cannot link {file} in the run dir: {error}")),
                }
            }
            Effect::RemoveStale { file } => match self.run_dir.remove_stale(&file) {
                Ok(Change::Done) => self.count_removal(file),
                Ok(Change::Different) => {
                    looks.insert(file);
                }
                Ok(Change::Busy) => self.looks.add(file, RUN_LOCK_RETRY_MS),
                Err(error) => self.warn(&format!("cannot remove the stale socket {file}: {error}")),
            },
            Effect::RemoveLink { file } => {
                let result = self.run_dir.remove_link(&file);
                self.note_removal(file, result);
            }
            Effect::RemoveMark { file } => {
                let result = self.run_dir.remove_mark(&file);
                self.note_removal(file, result);
            }
            Effect::RemoveCompanion { file, wrap_pid, started_ms } => {
                match self.run_dir.remove_companion(&file, wrap_pid, started_ms) {
                    // Somebody takes the name, or removes another: seen again, it is found dead or new.
                    Ok(Change::Different | Change::Busy) => self.looks.add(file, RUN_LOCK_RETRY_MS),
                    result => self.note_removal(file, result),
                }
            }
            Effect::Survey { key } => {
                self.survey_wanted.push(key);
                self.survey_at.get_or_insert_with(|| Instant::now() + SURVEY_DELAY);
            }
            Effect::Routes => self.routes_dirty = true,
        }
    }

    pub(super) fn note_removal(&mut self, file: String, result: io::Result<Change>) {
        match result {
            Ok(Change::Done) => self.count_removal(file),
            Ok(Change::Different | Change::Busy) => {}
            Err(error) => self.warn(&format!("cannot remove {file} from the run dir: {error}")),
        }
    }

    fn count_removal(&mut self, file: String) {
        if let Some(removed) = &mut self.removed {
            removed.push(file);
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
            Event::Seen { sight: Sight::Socket { .. }, .. } => true,
            Event::Seen { sight: Sight::Link { file, end }, .. } => {
                matches!(**end, Sight::Socket { .. }) || file.as_ref().is_some_and(is_own_listener)
            }
            _ => false,
        };
        taken.then_some(seen)
    }

    fn begin_survey(&mut self) {
        self.survey_at = None;
        if !self.surveys.is_empty() || self.survey_wanted.is_empty() {
            return;
        }
        let asked = std::mem::take(&mut self.survey_wanted);
        let run = self.run_dir.path().to_owned();
        self.surveys.spawn_blocking(move || {
            let living = survey(&run, &asked);
            (asked, living)
        });
    }

    fn task_ended(&mut self, ended: Result<(&'static str, Option<String>), tokio::task::JoinError>) {
        match ended {
            Ok((_, None)) => {}
            Ok((part, Some(error))) => self.warn(&format!("the {part} has stopped: {error}")),
            Err(error) => self.warn(&format!("a part has stopped: {error}")),
        }
    }

    /// Ends where our home was taken away: nobody could reach us, and another collector may start.
    fn check_own_files(&mut self) {
        let lock = std::fs::metadata(&self.paths.lock);
        if !lock.is_ok_and(|lock| lock.ino() == self.lock_inode) || !self.paths.control.exists() {
            crate::log::error!("{} was removed: this collector stops", self.paths.home.display());
            self.stopping = true;
        }
    }

    /// Makes the run dir again where it was removed or replaced, and watches the new one; closes it to others,
    /// and opens it to us, where somebody changed that.
    fn check_run_dir(&mut self) {
        let run = std::fs::metadata(self.run_dir.path()).ok();
        let inode = run.as_ref().map(MetadataExt::ino);
        let closed = run.is_some_and(|run| run.mode() & 0o777 == agentfs_home::PRIVATE);
        if self.stopping || (inode == Some(self.run_inode) && closed) {
            return;
        }
        if let Err(error) = agentfs_home::prepare(&self.paths) {
            return self.warn(&error.to_string());
        }
        if inode == Some(self.run_inode) {
            return self.warn("the mode of the run dir was changed; it is set to 0700 again");
        }
        self.run_inode = std::fs::metadata(self.run_dir.path()).map_or(0, |run| run.ino());
        let renewed = self.watcher.as_mut().map_or(Ok(()), Watcher::renew);
        match renewed {
            Ok(()) => self.warn("the run dir was removed; it was created again"),
            Err(error) => self.warn(&format!("cannot watch the new run dir: {error}")),
        }
    }
}
