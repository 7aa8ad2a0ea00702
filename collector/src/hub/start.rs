//! Builds the parts, in the order in which they need one another, and ends them again.
use super::drive::{Hub, Inputs};
use super::listen;
use super::looks::Looks;
use super::routing::Upstreams;
use super::secure::{self, Secured, Switch};
use crate::clock::now_ms;
use crate::config::{Config, Report};
use crate::control::{Server, Shared};
use crate::error::Error;
use crate::forward::Forwards;
use crate::journal::Journal;
use crate::limits::{DOORS_QUEUE, DRAIN, HINT_QUEUE, OPEN_FILES, REQUEST_QUEUE, ROUTER_QUEUE};
use crate::metrics::CollectorMetrics;
use crate::processes::Processes;
use crate::registry::{Event, HandRoute, Registry};
use crate::warnings::Warnings;
use crate::watch::Watcher;
use crate::{log, notice};
use agentfs_handoff::Handoff;
use agentfs_home::{CollectorLock, Keep, RunDir, TracePage, list, routes};
use agentfs_router::{self as router, Listeners, RequestLog, RouterMetrics, Table, TableHandle};
use agentfs_wire::control::DaemonInfo;
use agentfs_wire::event::What;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs;
use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Runs a collector until `shutdown` completes or a client asks for its end.
///
/// # Errors
/// [`Error`] where it cannot start. Once it answers on its control socket nothing is fatal.
pub(crate) async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<Report, Error> {
    log::set(config.log);
    let paths = config.paths;
    agentfs_home::prepare(&paths)?;
    let lock = CollectorLock::take(&paths)?;
    log::limit(&paths);
    raise_open_files();
    let page =
        TracePage::open(&paths.trace_page, |error| log::warning!("cannot write the trace page: {error}"))
            .map_err(|source| file_error("open", &paths.trace_page, source))?;
    let (receiver, notice_rx, notices) = notice::Receiver::bind(&paths.notice)
        .map_err(|source| Error::Listen { path: paths.notice.clone(), source })?;
    let inode = |path: &Path| {
        fs::metadata(path).map(|file| file.ino()).map_err(|source| file_error("read", path, source))
    };
    let (run_inode, lock_inode) = (inode(&paths.run)?, inode(&paths.lock)?);

    let mut troubles = Vec::new();
    let (watcher, hint_rx, hint_tx, hints_lost) = match Watcher::start(&paths.run) {
        Ok((watcher, hint_rx, lost)) => (Some(watcher), hint_rx, None, lost),
        Err(error) => {
            troubles.push(format!(
                "cannot watch {}: {error}; changes are noticed up to a second late",
                paths.run.display()
            ));
            let (hint_tx, hint_rx) = mpsc::channel(HINT_QUEUE);
            (None, hint_rx, Some(hint_tx), Arc::new(AtomicBool::new(false)))
        }
    };
    let (listeners, http_port, only_local, router_error) =
        match listen::choose(config.router_address, config.router_sockets, listen::HTTP) {
            Ok(bound) => {
                troubles.extend(bound.note);
                (bound.listeners, bound.port, bound.only_local, None)
            }
            Err(error) => {
                troubles.push(format!("the router does not listen: {error}"));
                (Vec::new(), 0, true, Some(error))
            }
        };
    let secured = if router_error.is_none() {
        secure::open(&paths.home, config.tls.as_ref(), config.tls_address, None).unwrap_or_else(|error| {
            troubles.push(format!("TLS is off: {error}"));
            Secured { error: Some(error), ..Secured::default() }
        })
    } else {
        Secured::default()
    };
    troubles.extend(secured.note);
    let info = DaemonInfo {
        pid: std::process::id(),
        version: config.version.to_owned(),
        home: paths.home.to_string_lossy().into_owned(),
        run: paths.run.to_string_lossy().into_owned(),
        listen: listen::addresses(&listeners),
        listen_tls: listen::addresses(&secured.listeners),
        http_port,
        https_port: secured.port,
        started_ms: now_ms(),
        router_error,
        tls_error: secured.error,
    };

    let journal = Journal::new();
    let metrics = Arc::new(CollectorMetrics::new(journal.clone(), notices));
    let router_metrics = Arc::new(RouterMetrics::default());
    let shown = Arc::clone(&metrics);
    router_metrics.others.set(move || shown.render());
    let (processes, exit_rx) = Processes::new();
    let (router_tx, router_rx) = mpsc::channel(ROUTER_QUEUE);
    let (request_tx, request_rx) = mpsc::channel(REQUEST_QUEUE);
    let requests_missed = Arc::<AtomicU64>::default();
    let request_log =
        RequestLog::new(journal.requests_wanted(), request_tx.clone(), Arc::clone(&requests_missed));
    let (command_tx, command_rx) = Server::queue();
    let (doors_tx, doors_rx) = mpsc::channel(DOORS_QUEUE);
    let urls = info.urls();
    let (info_tx, info_rx) = watch::channel(info);
    let (end_tx, end_rx) = watch::channel(false);
    let mut hub = Hub {
        registry: Registry::new(paths.run.clone()),
        keep: Keep::open(paths.run.clone(), paths.keep.clone(), paths.run_lock.clone()),
        keep_at: None,
        run_dir: RunDir::new(paths.run.clone(), paths.run_lock.clone()),
        processes,
        journal: journal.clone(),
        warnings: Warnings::default(),
        looks: Looks::default(),
        table: TableHandle::new(Table::new(Vec::new(), urls.http_port).with_https(urls.https_port)),
        upstreams: Upstreams::new(paths.run.clone()),
        urls,
        switch: Switch { config: config.tls, address: config.tls_address, doors_tx, info_tx },
        router_metrics,
        requests_missed,
        metrics,
        watcher,
        hints_lost,
        surveys: JoinSet::new(),
        survey_wanted: Vec::new(),
        survey_at: None,
        tasks: JoinSet::new(),
        run_inode,
        lock_inode,
        routes_dirty: false,
        removed: None,
        stopping: false,
        paths,
    };
    let mut inputs = Inputs {
        notice_rx,
        hint_rx,
        _hint_tx: hint_tx,
        exit_rx,
        command_rx,
        router_rx,
        _router_tx: router_tx.clone(),
        request_rx,
        _request_tx: request_tx,
    };

    journal.publish(now_ms(), What::CollectorStarted { pid: std::process::id() });
    let (routes, torn) = routes::load(&hub.paths.routes, HandRoute::parse);
    troubles.extend(torn);
    troubles.iter().for_each(|trouble| hub.warn(trouble));
    hub.tell(routes.into_iter().map(|route| Event::RouteAdded { route }).collect());

    // Whoever is answered on the control socket finds everything that was there before.
    let server = Server::bind(&hub.paths.control)
        .map_err(|source| Error::Listen { path: hub.paths.control.clone(), source })?;
    // What was taken away while no collector ran. Who of them lives is found out below.
    let there = list(hub.run_dir.path()).unwrap_or_default();
    hub.keep.reconcile(&there, |_| true);
    hub.reconcile();
    hub.survey_wanted.extend(hub.registry.keys());
    hub.survey_at = Some(Instant::now());

    log_start(&info_rx.borrow());
    #[cfg(target_os = "linux")]
    match crate::broker::Broker::listen(&hub.paths) {
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
    let receiving = receiver.run(end_rx.clone());
    hub.tasks.spawn(async move {
        receiving.await;
        ("notice receiver", None)
    });
    // Whether a listener takes connections is learned once, whoever offers one.
    let handoff = Arc::<Handoff>::default();
    if !listeners.is_empty() {
        let listeners = Listeners {
            http: listeners,
            https: secured.listeners,
            tls: secured.config,
            changes: Some(doors_rx),
            only_local,
            log: Some(request_log),
            handoff: Arc::clone(&handoff),
            ..Listeners::default()
        };
        let serving = router::run(
            listeners,
            hub.table.clone(),
            router_tx,
            Arc::clone(&hub.router_metrics),
            end_rx.clone(),
        );
        hub.tasks.spawn(async move { ("router", serving.await.err().map(|error| error.to_string())) });
    }
    let forwards = Forwards::new(hub.paths.run.clone(), journal.clone(), end_rx.clone(), handoff);
    let shared = Shared { info_rx, journal: journal.clone(), forwards, page, command_tx };
    let serving = server.run(Arc::new(shared), end_rx);
    hub.tasks.spawn(async move {
        serving.await;
        ("control socket", None)
    });

    hub.run(&mut inputs, shutdown).await;

    // Requests in the queue are told that we end, by the end of the queue.
    drop(inputs);
    let _ = end_tx.send(true);
    let still_open = drain(hub.tasks).await;
    if still_open > 0 {
        log::warning!("{still_open} parts did not stop in time");
    }
    log::info!("collector stopped");
    drop(lock);
    Ok(Report { events: journal.sequence(), still_open })
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
