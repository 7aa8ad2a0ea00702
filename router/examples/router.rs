//! The router alone, for measurements: `router LISTEN THREADS HOST=SOCKET…`, until it is killed.
//!
//! One thread is an event loop of its own; more are the pool that the daemon runs in.
use agentfs_router::{Entry, RouterMetrics, Table, TableHandle, Target, Upstream, run};
use std::error::Error;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: router LISTEN THREADS HOST=SOCKET…";
    let listener = TcpListener::bind(arguments.next().ok_or(usage)?)?;
    let threads: usize = arguments.next().ok_or(usage)?.parse()?;
    let port = listener.local_addr()?.port();
    let entries = arguments.map(|argument| {
        let (host, socket) = argument.split_once('=').ok_or("a route is HOST=SOCKET")?;
        let upstream = Upstream::new(Target::Unix(socket.into()), host.to_owned(), "main".to_owned(), 0);
        let upstreams = vec![Arc::new(upstream)];
        Ok(Entry { upstreams, ..Entry::new(host.to_owned()) })
    });
    let table = TableHandle::new(Table::new(entries.collect::<Result<_, &str>>()?, port));
    let (event_tx, _event_rx) = mpsc::channel(16);
    let (_stop_tx, stop_rx) = watch::channel(false);
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(threads).enable_all().build()?;
    let router = run(vec![listener], table, event_tx, Arc::new(RouterMetrics::default()), stop_rx);
    Ok(runtime.block_on(async { tokio::spawn(router).await })??)
}
