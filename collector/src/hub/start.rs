//! Builds the parts, in the order in which they need one another, and ends them again.
use super::drive::{Hub, Inputs, Stopping};
use super::files::Files;
use super::former::{self, Former};
use super::hosts::Hosts;
use super::listen;
use super::routing::Naming;
use super::search::Searching;
use super::secure::{self, Secured, Switch};
use super::surveys::Surveys;
use crate::bars::Bars;
use crate::clock::now_ms;
use crate::config::{Config, Report};
use crate::control::{Command, Server, Shared};
use crate::dns::Responder;
use crate::end::ended;
use crate::error::Error;
use crate::forward::Forwards;
use crate::journal::Journal;
use crate::limits::{DRAIN, LISTENERS_QUEUE, OPEN_FILES, REQUEST_QUEUE, ROUTER_QUEUE, RUN_LOCK_RETRY_MS};
use crate::metrics::CollectorMetrics;
use crate::processes::Processes;
use crate::registry::{Event, HandRoute, Key, Registry};
use crate::warnings::Warnings;
use crate::watch::{Hint, Hints, Patrol, Post, Watcher};
use crate::{log, notice};
use agentfs_handoff::Handoff;
use agentfs_home::{CollectorLock, TracePage, list, routes};
use agentfs_router::{
    self as router, Counter, Listeners, RequestLog, RouterEvent, RouterMetrics, SecureListeners,
};
use agentfs_wire::control::DaemonInfo;
use agentfs_wire::event::What;
use agentfs_wire::paths::Paths;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// Runs a collector until `shutdown` completes or a client asks for its end.
///
/// # Errors
/// [`Error`] where it cannot start. Once it answers on its control socket nothing is fatal.
pub(crate) async fn run(mut config: Config, shutdown: impl Future<Output = ()>) -> Result<Report, Error> {
    log::set(config.log);
    let paths = config.paths.clone();
    agentfs_home::prepare(&paths)?;
    let lock = CollectorLock::take(&paths)?;
    log::limit(&paths);
    raise_open_files();
    let page =
        TracePage::open(&paths.trace_page, |error| log::warning!("cannot write the trace page: {error}"))
            .map_err(|source| file_error("open", &paths.trace_page, source))?;
    let (receiver, notice_rx, notices) = notice::Receiver::bind(&paths.notice)
        .map_err(|source| Error::Listen { path: paths.notice.clone(), source })?;
    let (hints, hint_rx) = Hints::pair();
    let mut files = Files::new(paths.clone(), hints, inode(&paths.run)?, inode(&paths.lock)?);
    let router_metrics = Arc::new(RouterMetrics::default());

    let mut troubles = Vec::new();
    let bars = Bars::open(&paths);
    watch_home(&mut files, &router_metrics, (&page, &bars), &mut troubles);
    let ports = Ports::open(&mut config, &mut troubles);
    let responder = match config.dns_address {
        Some(address) => Some(Responder::open(address).await),
        None => None,
    };
    let mut info = ports.describe(&config, &paths);
    info.dns = responder.as_ref().and_then(Responder::address).map(|address| address.to_string());
    let journal = Journal::new();
    let metrics = Arc::new(CollectorMetrics::new(journal.clone(), notices));
    let shown = Arc::clone(&metrics);
    router_metrics.others.set(move || shown.render());
    let (mut inputs, outlets) = queues(notice_rx, hint_rx, &journal);
    let (listeners_tx, listeners_rx) = mpsc::channel(LISTENERS_QUEUE);
    let urls = info.urls();
    let (info_tx, info_rx) = watch::channel(info);
    let (end_tx, end_rx) = watch::channel(false);
    let mut hub = Hub {
        registry: Registry::new(paths.run.clone()),
        files,
        processes: outlets.processes,
        surveys: Surveys::default(),
        hosts: Hosts::new(bars.clone()),
        naming: Naming::new(paths.run.clone(), urls),
        journal: journal.clone(),
        warnings: Warnings::default(),
        switch: Switch { config: config.tls, address: config.tls_address, listeners_tx, info_tx },
        router_metrics,
        metrics,
        requests_missed: outlets.requests_missed,
        surveyed_tx: None,
        searches: JoinSet::new(),
        searching: Searching::default(),
        tasks: JoinSet::new(),
        stopping: Stopping::No,
    };
    let server = begin(&mut hub, &troubles)?;
    let (stays, guarded) = (server.stays(), config.guardian.is_some());
    log_start(&info_rx.borrow());

    #[cfg(target_os = "linux")]
    serve_broker(&mut hub, &end_rx);
    let receiving = receiver.run(end_rx.clone());
    hub.tasks.spawn(async move {
        receiving.await;
        ("notice receiver", None)
    });
    if let Some(responder) = responder {
        let answering = responder.run(end_rx.clone());
        hub.tasks.spawn(async move {
            answering.await;
            ("answers for names", None)
        });
    }
    // Whether a listener takes connections is learned once, whoever offers one.
    let handoff = Arc::<Handoff>::default();
    if let Some(listeners) = ports.into_listeners(listeners_rx, outlets.request_log, &handoff) {
        let (table, metrics) = (hub.naming.table.clone(), Arc::clone(&hub.router_metrics));
        let serving = router::run(listeners, table, outlets.router_tx, metrics, end_rx.clone());
        hub.tasks.spawn(async move { ("router", serving.await.err().map(|error| error.to_string())) });
    }
    let forwards = Forwards::new(paths.run, paths.forwards, journal.clone(), end_rx.clone(), handoff, bars);
    // Before the control socket answers: somebody else could take their ports.
    forwards.restore().iter().for_each(|trouble| hub.warn(trouble));
    let shared = Shared { info_rx, journal: journal.clone(), forwards, page, command_tx: outlets.command_tx };
    let shared = Arc::new(shared);
    forget_ended(&mut hub, Arc::clone(&shared), end_rx.clone());
    let serving = server.run(shared, end_rx);
    hub.tasks.spawn(async move {
        serving.await;
        ("control socket", None)
    });

    hub.run(&mut inputs, shutdown).await;
    // Nothing is written into a home that was taken away.
    if hub.files.are_ours() {
        hub.hosts.close();
        hub.store_faces();
    }

    // A guardian starts the next collector. If that is killed too, announcers do, as after SIGKILL.
    stays.store(guarded && hub.stopping != Stopping::Asked, Ordering::Relaxed);
    // Requests in the queue are told that we end, by the end of the queue.
    drop(inputs);
    let _ = end_tx.send(true);
    let still_open = drain(std::mem::take(&mut hub.tasks)).await;
    if still_open > 0 {
        log::warning!("{still_open} parts did not stop in time");
    }
    log::info!("collector stopped");
    drop(lock);
    Ok(Report { events: journal.sequence(), still_open, asked: hub.stopping == Stopping::Asked })
}

/// Ends the forwards of instances that the first survey finds dead: nobody is told of their end.
fn forget_ended(hub: &mut Hub, shared: Arc<Shared>, mut end_rx: watch::Receiver<bool>) {
    let (surveyed_tx, surveyed_rx) = oneshot::channel::<BTreeSet<Key>>();
    if hub.registry.keys().next().is_none() {
        shared.forwards.keep_only(|_, _| false);
        return;
    }
    hub.surveyed_tx = Some(surveyed_tx);
    hub.tasks.spawn(async move {
        let keys = tokio::select! {
            keys = surveyed_rx => keys.ok(),
            () = ended(&mut end_rx) => None,
        };
        if let Some(keys) = keys {
            let key = |app: &str, instance: &str| Key { app: app.to_owned(), instance: instance.to_owned() };
            shared.forwards.keep_only(|app, instance| keys.contains(&key(app, instance)));
        }
        ("survey of forwards", None)
    });
}

/// The router's sockets and their settings.
#[derive(Debug)]
struct Ports {
    /// Sockets for HTTP; none if the router does not listen.
    listeners: Vec<TcpListener>,
    /// Their port; 0 if there are none.
    http_port: u16,
    /// Whether only this machine can connect.
    only_local: bool,
    /// Why the router does not listen.
    error: Option<String>,
    /// TLS certificates and sockets.
    secured: Secured,
}

/// The other ends of the hub's queues.
struct Outlets {
    processes: Processes,
    /// router --reports--> hub
    router_tx: mpsc::Sender<RouterEvent>,
    request_log: RequestLog,
    requests_missed: Arc<AtomicU64>,
    /// control --commands--> hub
    command_tx: mpsc::Sender<Command>,
}

// === impl Ports ===

impl Ports {
    fn open(config: &mut Config, troubles: &mut Vec<String>) -> Self {
        let sockets = std::mem::take(&mut config.router_sockets);
        let former = Former::load(&config.paths);
        let mut ports = match listen::choose(config.router_address, sockets, listen::HTTP, former.http) {
            Ok(bound) => {
                troubles.extend(bound.note);
                let (listeners, http_port, only_local) = (bound.listeners, bound.port, bound.only_local);
                Self { listeners, http_port, only_local, error: None, secured: Secured::default() }
            }
            Err(error) => {
                troubles.push(format!("the router does not listen: {error}"));
                let (listeners, secured) = (Vec::new(), Secured::default());
                return Self { listeners, http_port: 0, only_local: true, error: Some(error), secured };
            }
        };
        let (home, tls) = (&config.paths.home, config.tls.as_ref());
        let opened = secure::open(home, tls, config.tls_address, None, former.https);
        ports.secured = opened.unwrap_or_else(|error| {
            troubles.push(format!("TLS is off: {error}"));
            Secured { error: Some(error), ..Secured::default() }
        });
        troubles.extend(ports.secured.note.take());
        let https = ports.secured.port.filter(|_| former::is_any(config.tls_address));
        let http = former::is_any(config.router_address).then_some(ports.http_port);
        if http.is_some() || https.is_some() {
            Former { http: http.or(former.http), https: https.or(former.https) }.store(&config.paths);
        }
        ports
    }

    fn describe(&self, config: &Config, paths: &Paths) -> DaemonInfo {
        DaemonInfo {
            pid: std::process::id(),
            version: config.version.to_owned(),
            home: paths.home.to_string_lossy().into_owned(),
            run: paths.run.to_string_lossy().into_owned(),
            listen: listen::addresses(&self.listeners),
            listen_tls: listen::addresses(&self.secured.listeners),
            http_port: self.http_port,
            https_port: self.secured.port,
            started_ms: now_ms(),
            guardian: config.guardian,
            router_error: self.error.clone(),
            tls_error: self.secured.error.clone(),
            dns: None,
        }
    }

    /// What the router is started with; nothing if it does not listen.
    fn into_listeners(
        self,
        changes: mpsc::Receiver<SecureListeners>,
        log: RequestLog,
        handoff: &Arc<Handoff>,
    ) -> Option<Listeners> {
        (!self.listeners.is_empty()).then(|| Listeners {
            http: self.listeners,
            https: self.secured.listeners,
            tls: self.secured.config,
            changes: Some(changes),
            only_local: self.only_local,
            log: Some(log),
            handoff: Arc::clone(handoff),
            ..Listeners::default()
        })
    }
}

/// The hub's queues, both ends.
fn queues(
    notice_rx: mpsc::Receiver<notice::VerifiedNotice>,
    hint_rx: mpsc::Receiver<Hint>,
    journal: &Journal,
) -> (Inputs, Outlets) {
    let (processes, exit_rx) = Processes::new();
    let (router_tx, router_rx) = mpsc::channel(ROUTER_QUEUE);
    let (request_tx, request_rx) = mpsc::channel(REQUEST_QUEUE);
    let requests_missed = Arc::<AtomicU64>::default();
    let request_log =
        RequestLog::new(journal.requests_wanted(), request_tx.clone(), Arc::clone(&requests_missed));
    let (command_tx, command_rx) = Server::queue();
    let inputs = Inputs {
        notice_rx,
        hint_rx,
        exit_rx,
        command_rx,
        router_rx,
        _router_tx: router_tx.clone(),
        request_rx,
        _request_tx: request_tx,
    };
    (inputs, Outlets { processes, router_tx, request_log, requests_missed, command_tx })
}

/// Starts the watcher and the patrol.
fn watch_home(
    files: &mut Files,
    metrics: &Arc<RouterMetrics>,
    (page, bars): (&TracePage, &Bars),
    troubles: &mut Vec<String>,
) {
    match Watcher::start(&files.paths.run, files.hints.clone()) {
        Ok(watcher) => files.watcher = Some(watcher),
        Err(error) => troubles.push(format!(
            "cannot watch {}: {error}; changes are noticed up to a second late",
            files.paths.run.display()
        )),
    }
    let metrics = Arc::clone(metrics);
    let answered = Box::new(move || metrics.responses.iter().map(Counter::get).sum());
    let (page, bars) = (page.clone(), bars.clone());
    let keep_pages = Box::new(move || {
        page.restore();
        bars.restore();
    });
    let post = Post { paths: files.paths.clone(), alone: files.watcher.is_none(), answered, keep_pages };
    match Patrol::start(post, files.hints.clone()) {
        Ok(patrol) => files.patrol = Some(patrol),
        Err(error) => troubles.push(format!("cannot start a thread: {error}; closed sockets stay listed")),
    }
}

/// Finds what is there. When the control socket answers, everything that was there before is known.
fn begin(hub: &mut Hub, troubles: &[String]) -> Result<Server, Error> {
    hub.journal.publish(now_ms(), What::CollectorStarted { pid: std::process::id() });
    let (routes, torn) = routes::load(&hub.files.paths.routes, HandRoute::parse);
    troubles.iter().chain(&torn).for_each(|trouble| hub.warn(trouble));
    hub.recall_faces();
    hub.tell(routes.into_iter().map(|route| Event::RouteAdded { route }).collect());

    let control = hub.files.paths.control.clone();
    let server = Server::bind(&control).map_err(|source| Error::Listen { path: control.clone(), source })?;
    if let Some(watcher) = &mut hub.files.watcher {
        // If they cannot be watched, the patrol checks them.
        let _ = (watcher.guard(&hub.files.paths.lock), watcher.guard(&control));
    }
    // Restore what was removed while no collector ran. The survey below finds out which instances are alive.
    let there = list(hub.files.run.path()).unwrap_or_default();
    for busy in hub.files.keep.reconcile(&there, |_| true) {
        hub.files.rechecks.add(busy, RUN_LOCK_RETRY_MS);
    }
    hub.reconcile();
    hub.hosts.retain(hub.registry.keys());
    hub.surveys.want_now(hub.registry.keys());
    Ok(server)
}

#[cfg(target_os = "linux")]
fn serve_broker(hub: &mut Hub, end_rx: &watch::Receiver<bool>) {
    match crate::broker::Broker::listen(&hub.files.paths) {
        Ok(None) => {}
        Ok(Some(broker)) => {
            let serving = broker.run(end_rx.clone());
            hub.tasks.spawn(async move {
                serving.await;
                ("broker", None)
            });
        }
        Err(error) => hub.warn(&format!(
            "cannot serve processes that change their user: {error}; they reach only the host's ports"
        )),
    }
}

fn log_start(info: &DaemonInfo) {
    log::info!("collector {} (pid {}) serves {}", info.version, info.pid, info.home);
    log::info!(
        "router listens on {}",
        if info.listen.is_empty() { "nothing".to_owned() } else { info.listen.join(" and ") }
    );
    if !info.listen_tls.is_empty() {
        log::info!("router speaks TLS on {}", info.listen_tls.join(" and "));
    }
}

/// Waits for the parts to end, for a bounded time; how many did not.
async fn drain(mut tasks: JoinSet<(&'static str, Option<String>)>) -> usize {
    let all = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, all).await;
    tasks.len()
}

fn inode(path: &Path) -> Result<u64, Error> {
    fs::metadata(path).map(|file| file.ino()).map_err(|source| file_error("read", path, source))
}

fn file_error(action: &'static str, path: &Path, source: io::Error) -> Error {
    agentfs_home::Error::File { action, path: path.to_owned(), source }.into()
}

/// Takes as many descriptors as we may have.
fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = OPEN_FILES.min(hard);
        if soft < wanted
            && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
        {
            log::debug!("cannot raise the limit of open files: {error}");
        }
    }
}
