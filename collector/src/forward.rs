//! Raw TCP from outside into an instance: either one port on this host, or all ports on the instance's own
//! address in 127/8. Owns the TCP listeners. Finds the instance's sockets by their names in the run dir, as
//! the interposer does. Hands connections over if the program takes them (`handoff`), and otherwise passes
//! the bytes. Called by `control`.
mod files;
mod serve;
mod talk;

use crate::answer::{Answer, error};
use crate::bars::Bars;
use crate::journal::{Filter, Journal};
use crate::limits::FORWARDS;
use crate::log;
use crate::registry::Key;
use agentfs_handoff::Handoff;
use agentfs_wire::control::{ControlError, ErrorCode, ForwardInfo, ForwardParams};
use agentfs_wire::name::{app_name, instance_name};
use files::{InstanceFiles, bind_in};
use serde_json::json;
use serve::{Counters, Served, all_ports, one_port};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// Every forward.
#[derive(Debug)]
pub(crate) struct Forwards {
    run: PathBuf,
    journal: Journal,
    end_rx: watch::Receiver<bool>,
    handoff: Arc<Handoff>,
    /// Other instances must not reach a port of the host that leads into one.
    bars: Bars,
    active: Mutex<Active>,
}

#[derive(Debug, Default)]
struct Active {
    /// Key: the listening address, `address:port`, or only the address if all ports are served.
    forwards: BTreeMap<String, Forward>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Forward {
    info: ForwardInfo,
    counters: Arc<Counters>,
    task: AbortHandle,
}

// === impl Forwards ===

impl Forwards {
    /// Starts without forwards. `end_rx` ends all of them; `handoff` gives connections to programs.
    pub(crate) fn new(
        run: PathBuf,
        journal: Journal,
        end_rx: watch::Receiver<bool>,
        handoff: Arc<Handoff>,
        bars: Bars,
    ) -> Self {
        Self { run, journal, end_rx, handoff, bars, active: Mutex::default() }
    }

    /// Adds a forward; a [`ForwardInfo`].
    pub(crate) async fn add(&self, params: ForwardParams) -> Answer {
        let (Some(_), Some(_)) = (app_name(&params.app), instance_name(&params.instance)) else {
            let message = format!("`{}/{}` is not a valid instance name", params.app, params.instance);
            return Err(error(ErrorCode::BadParams, message, None));
        };
        if self.lock().forwards.len() >= FORWARDS {
            let hint = Some("remove one; `agentfs forward --list` shows them");
            return Err(error(ErrorCode::Conflict, format!("there are already {FORWARDS} forwards"), hint));
        }
        let counters = Arc::<Counters>::default();
        let served = Served {
            files: InstanceFiles {
                run: self.run.clone(),
                app: params.app.clone(),
                instance: params.instance.clone(),
            },
            handoff: params.handoff,
            by: Arc::clone(&self.handoff),
            counters: Arc::clone(&counters),
        };
        let filter = Filter {
            app: Some(params.app.clone()),
            instance: Some(params.instance.clone()),
            ..Filter::default()
        };
        let events = self.journal.subscribe(filter);
        let end_rx = self.end_rx.clone();
        let info = |listen: String| ForwardInfo {
            listen,
            app: params.app.clone(),
            instance: params.instance.clone(),
            port: params.port,
            connections: 0,
            handed: 0,
            lan: false,
        };
        let (listen, task) = match params.port {
            Some(port) => {
                let listen = params.listen.as_deref().unwrap_or("127.0.0.1:0");
                let listener = bind(address_of(listen, params.lan)?, port, &served)?;
                let address = canonical(listener.local_addr().map_err(|cause| internal(&cause))?);
                let key = Key { app: params.app.clone(), instance: params.instance.clone() };
                self.bars.hold(&address.to_string(), address.port(), &key);
                let task =
                    self.lock().tasks.spawn(one_port(listener, address.ip(), port, served, events, end_rx));
                (address.to_string(), task)
            }
            None => {
                let address = own_address(&params.app, &params.instance);
                let listen = address.to_string();
                if self.lock().forwards.contains_key(&listen) {
                    return Err(taken(&listen));
                }
                let task = self.lock().tasks.spawn(all_ports(address, served, events, end_rx));
                (listen, task)
            }
        };
        let lan = listen.parse().is_ok_and(|address| !is_of_this_machine(address));
        if lan {
            log::warning!("{}/{} is open to the network on {listen}", params.app, params.instance);
        }
        let info = ForwardInfo { lan, ..info(listen.clone()) };
        let answer = serde_json::to_value(&info).map_err(|cause| internal(&cause));
        self.lock().forwards.insert(listen, Forward { info, counters, task });
        answer
    }

    /// Removes a forward.
    pub(crate) fn remove(&self, listen: &str) -> Answer {
        match self.lock().forwards.remove(listen) {
            Some(forward) => {
                forward.task.abort();
                self.bars.release(listen);
                Ok(json!({ "removed": true }))
            }
            None => {
                let hint = Some("run `agentfs forward --list` to see all forwards");
                Err(error(ErrorCode::NotFound, format!("cannot find a forward from {listen}"), hint))
            }
        }
    }

    /// Number of connections into an instance that wait for an answer, of those whose bytes pass here.
    pub(crate) fn waiting(&self, app: &str, instance: &str) -> usize {
        self.waiting_of(&BTreeSet::from([(app, instance)]))
    }

    /// The same for several instances, by app and instance.
    pub(crate) fn waiting_of(&self, instances: &BTreeSet<(&str, &str)>) -> usize {
        let active = self.lock();
        let of_them = active.forwards.values().filter(|forward| {
            instances.contains(&(forward.info.app.as_str(), forward.info.instance.as_str()))
        });
        of_them.map(|forward| forward.counters.talks.waiting()).sum()
    }

    /// Every forward.
    pub(crate) fn list(&self) -> Answer {
        let forwards: Vec<ForwardInfo> = self
            .lock()
            .forwards
            .values()
            .map(|forward| {
                let connections = forward.counters.all.load(Ordering::Relaxed);
                let handed = forward.counters.handed.load(Ordering::Relaxed);
                ForwardInfo { connections, handed, ..forward.info.clone() }
            })
            .collect();
        Ok(json!({ "forwards": forwards }))
    }

    /// The state, without forwards whose instance has ended.
    fn lock(&self) -> std::sync::MutexGuard<'_, Active> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        while active.tasks.try_join_next().is_some() {}
        active.forwards.retain(|_, forward| !forward.task.is_finished());
        active
    }
}

fn internal(cause: &dyn std::fmt::Display) -> ControlError {
    error(ErrorCode::Internal, cause.to_string(), None)
}

fn taken(listen: &str) -> ControlError {
    let hint = Some("choose another port, or leave it out to get a free one");
    error(ErrorCode::Conflict, format!("{listen} is already in use"), hint)
}

/// Whether only this machine can reach an address. An IPv4-mapped IPv6 address counts as that IPv4 address.
fn is_of_this_machine(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The address to listen on. `lan`: other machines are allowed.
fn address_of(listen: &str, lan: bool) -> Result<SocketAddr, ControlError> {
    let Ok(address) = listen.parse::<SocketAddr>() else {
        let hint = Some("write it as 127.0.0.1:5432 or [::1]:5432");
        return Err(error(ErrorCode::BadParams, format!("`{listen}` is not an address and a port"), hint));
    };
    if !lan && !is_of_this_machine(address) {
        let hint = Some("use 127.0.0.1 or [::1]; add --lan if other machines should reach the app");
        return Err(error(
            ErrorCode::BadParams,
            format!("`{listen}` would open the app to the network"),
            hint,
        ));
    }
    Ok(address)
}

fn bind(address: SocketAddr, port: u16, served: &Served) -> Result<TcpListener, ControlError> {
    let dual = served.may_hand(address.port(), port) && served.files.takes_both(port);
    bind_in(address, dual).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::AddrInUse => taken(&address.to_string()),
        _ => error(ErrorCode::Conflict, format!("cannot listen on {address}: {cause}"), None),
    })
}

/// The address as it was requested, whatever the family of the socket is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// An instance's own address in 127/8. It comes from a hash of the name, so it stays the same.
fn own_address(app: &str, instance: &str) -> Ipv4Addr {
    let [a, b, c, ..] = agentfs_wire::peer::space(b"own address", app, instance).to_be_bytes();
    // 127.0/16 is left to the host; no part is 0 or 255.
    Ipv4Addr::new(127, 64 + a % 128, 1 + b % 254, 1 + c % 254)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentfs_wire::event::{What, Who};
    use agentfs_wire::paths::Paths;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpStream, UnixListener};

    fn forwards(run: &std::path::Path) -> (Forwards, watch::Sender<bool>, Journal) {
        let (end_tx, end_rx) = watch::channel(false);
        let journal = Journal::new();
        let bars = Bars::open(&Paths::new(run, 0));
        (Forwards::new(run.to_owned(), journal.clone(), end_rx, Arc::default(), bars), end_tx, journal)
    }

    fn params(port: Option<u16>) -> ForwardParams {
        ForwardParams {
            app: "shop".to_owned(),
            instance: "main".to_owned(),
            port,
            listen: None,
            handoff: None,
            lan: false,
        }
    }

    async fn echo(listener: UnixListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut input, mut output) = stream.split();
            let _ = tokio::io::copy(&mut input, &mut output).await;
        }
    }

    async fn says(address: &str) -> String {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn a_port_is_forwarded_until_its_instance_ends() {
        let run = tempfile::tempdir_in("/tmp").unwrap();
        let upstream = UnixListener::bind(run.path().join("shop-main.5432.l.sock")).unwrap();
        let _upstream = tokio::spawn(echo(upstream));
        let (forwards, _end, journal) = forwards(run.path());
        let info: ForwardInfo =
            serde_json::from_value(forwards.add(params(Some(5432))).await.unwrap()).unwrap();
        assert_eq!(says(&info.listen).await, "hello");
        let second = ForwardParams { listen: Some(info.listen.clone()), ..params(Some(5432)) };
        assert_eq!(forwards.add(second).await.unwrap_err().code, ErrorCode::Conflict);
        assert_eq!(forwards.list().unwrap()["forwards"][0]["connections"], 1);
        journal.publish(0, What::InstanceEnded { of: Who::new("shop", "main") });
        while TcpStream::connect(&info.listen).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(forwards.list().unwrap()["forwards"], json!([]));
        assert_eq!(forwards.remove(&info.listen).unwrap_err().code, ErrorCode::NotFound);
    }

    #[tokio::test]
    async fn a_forward_that_is_removed_is_closed() {
        let run = tempfile::tempdir_in("/tmp").unwrap();
        let upstream = UnixListener::bind(run.path().join("shop-main.5432.l.sock")).unwrap();
        let _upstream = tokio::spawn(echo(upstream));
        let (forwards, _end, _journal) = forwards(run.path());
        let info: ForwardInfo =
            serde_json::from_value(forwards.add(params(Some(5432))).await.unwrap()).unwrap();
        assert_eq!(says(&info.listen).await, "hello");
        forwards.remove(&info.listen).unwrap();
        let closed = async {
            while TcpStream::connect(&info.listen).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), closed).await.expect("it is closed");
        assert_eq!(forwards.list().unwrap()["forwards"], json!([]));
    }

    #[tokio::test]
    async fn an_own_address_serves_every_port() {
        let run = tempfile::tempdir_in("/tmp").unwrap();
        let (forwards, _end, journal) = forwards(run.path());
        let info: ForwardInfo = serde_json::from_value(forwards.add(params(None)).await.unwrap()).unwrap();
        // A port that is free here, because the test's own listener on another address had it.
        let probe = TcpListener::bind((info.listen.as_str(), 0)).await.unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        let upstream = UnixListener::bind(run.path().join(format!("shop-main.{port}.sock"))).unwrap();
        let _upstream = tokio::spawn(echo(upstream));
        let of = Who::new("shop", "main");
        journal.publish(0, What::InstanceStarted { of, pid: None, command: None });
        let address = format!("{}:{port}", info.listen);
        while TcpStream::connect(&address).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(says(&address).await, "hello");
    }

    #[tokio::test]
    async fn the_network_is_let_in_only_where_that_was_asked_for() {
        let run = tempfile::tempdir_in("/tmp").unwrap();
        let (forwards, _end, _journal) = forwards(run.path());
        for open in
            ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0", "[::127.0.0.1]:0", "192.0.2.1:0", "[fe80::1]:0"]
        {
            let params = ForwardParams { listen: Some(open.to_owned()), ..params(Some(1)) };
            let refused = forwards.add(params).await.unwrap_err();
            assert_eq!(refused.code, ErrorCode::BadParams, "{open}");
            assert!(refused.message.contains(open) && refused.hint.unwrap().contains("--lan"), "{open}");
        }
        for (listen, lan, open) in [
            ("127.0.0.1:0", false, false),
            ("127.9.9.9:0", false, false),
            ("[::ffff:127.0.0.1]:0", false, false),
            ("127.0.0.1:0", true, false),
            ("0.0.0.0:0", true, true),
        ] {
            let params = ForwardParams { listen: Some(listen.to_owned()), lan, ..params(Some(1)) };
            let info: ForwardInfo = serde_json::from_value(forwards.add(params).await.unwrap()).unwrap();
            assert_eq!(info.lan, open, "{listen}");
        }
    }

    #[tokio::test]
    async fn bad_addresses_are_named() {
        let run = tempfile::tempdir_in("/tmp").unwrap();
        let (forwards, _end, _journal) = forwards(run.path());
        let bad = ForwardParams { listen: Some("nowhere".to_owned()), ..params(Some(1)) };
        let error = forwards.add(bad).await.unwrap_err();
        assert!(error.message.contains("nowhere") && error.hint.is_some());
        let bad = ForwardParams { app: "No Label".to_owned(), ..params(Some(1)) };
        assert_eq!(forwards.add(bad).await.unwrap_err().code, ErrorCode::BadParams);
    }
}
