//! The router alone, for measurements: `router LISTEN HOST=SOCKET…`, one thread, until it is killed.
use agentfs_collector::router::{Entry, RouterMetrics, Table, TableHandle, Target, Upstream, run};
use std::error::Error;
use std::net::TcpListener;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let listener = TcpListener::bind(arguments.next().ok_or("usage: router LISTEN HOST=SOCKET…")?)?;
    let port = listener.local_addr()?.port();
    let entries = arguments.map(|argument| {
        let (host, socket) = argument.split_once('=').ok_or("a route is HOST=SOCKET")?;
        let upstream = Upstream::new(Target::Unix(socket.into()), host.to_owned(), "main".to_owned(), 0);
        let upstreams = vec![Arc::new(upstream)];
        Ok(Entry { host: host.to_owned(), wildcard: false, upstreams, dead: None, title: String::new() })
    });
    let table = TableHandle::new(Table::new(entries.collect::<Result<_, &str>>()?, port));
    let (event_tx, _event_rx) = mpsc::channel(16);
    let (_stop_tx, stop_rx) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(run(vec![listener], table, event_tx, Arc::new(RouterMetrics::default()), stop_rx))?)
}
