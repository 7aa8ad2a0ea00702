//! Raw TCP from outside into an instance: either one port on this host, or all ports on the instance's own
//! address in 127/8. Owns the TCP listeners. Finds the instance's sockets by their names in the run dir, as
//! the interposer does. Hands connections over if the program takes them (`handoff`), and otherwise passes
//! the bytes. Keeps the forwards in a file, so that the next collector opens them again, and forgets those whose
//! instance has ended. Called by `control`, and by `hub` at the start.
mod files;
mod serve;
mod talk;
#[cfg(test)]
mod tests;

use crate::answer::{Answer, error};
use crate::bars::Bars;
use crate::journal::{Filter, Journal};
use crate::limits::FORWARDS;
use crate::log;
use crate::registry::Key;
use agentfs_handoff::Handoff;
use agentfs_home::forwards::{self, KeptForward};
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
    /// The file of forwards.
    file: PathBuf,
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
    /// As it is on disk.
    kept: KeptForward,
    counters: Arc<Counters>,
    task: AbortHandle,
}

// === impl Forwards ===

impl Forwards {
    /// Starts without forwards. `end_rx` ends all of them; `handoff` gives connections to programs.
    pub(crate) fn new(
        run: PathBuf,
        file: PathBuf,
        journal: Journal,
        end_rx: watch::Receiver<bool>,
        handoff: Arc<Handoff>,
        bars: Bars,
    ) -> Self {
        Self { run, file, journal, end_rx, handoff, bars, active: Mutex::default() }
    }

    /// Opens again what the last collector had open, for instances that still are what they were. Returns what went
    /// wrong. Needs a runtime.
    pub(crate) fn restore(&self) -> Vec<String> {
        let (kept, trouble) = forwards::load(&self.file);
        let mut troubles: Vec<String> = trouble.into_iter().collect();
        let all = kept.len();
        for KeptForward { params, started_ms } in kept {
            let files = self.files_of(&params);
            if !files.exists() || files.started_ms() != started_ms {
                continue;
            }
            let (listen, of) = (params.listen.clone(), format!("{}/{}", params.app, params.instance));
            if let Err(error) = self.open(params) {
                let listen = listen.unwrap_or_default();
                troubles.push(format!("cannot open the forward {listen} of {of} again: {error}"));
            }
        }
        let active = self.lock();
        if active.forwards.len() < all {
            self.save(&active);
        }
        troubles
    }

    /// Ends the forwards of instances that `lives` does not know, and of those whose name somebody has taken again.
    pub(crate) fn keep_only(&self, lives: impl Fn(&str, &str) -> bool) {
        let mut active = self.lock();
        let before = active.forwards.len();
        active.forwards.retain(|listen, Forward { info, kept, task, .. }| {
            let same_life = self.files_of(&kept.params).started_ms() == kept.started_ms;
            let stays = same_life && lives(&info.app, &info.instance);
            if !stays {
                task.abort();
                self.bars.release(listen);
            }
            stays
        });
        if active.forwards.len() < before {
            self.save(&active);
        }
    }

    /// Adds a forward; a [`ForwardInfo`]. One that is there already is a success, too.
    pub(crate) fn add(&self, params: ForwardParams) -> Answer {
        let (Some(_), Some(_)) = (app_name(&params.app), instance_name(&params.instance)) else {
            let message = format!("`{}/{}` is not a valid instance name", params.app, params.instance);
            return Err(error(ErrorCode::BadParams, message, None));
        };
        if let Some(there) = self.same(&params) {
            return serde_json::to_value(&there).map_err(|cause| internal(&cause));
        }
        if self.lock().forwards.len() >= FORWARDS {
            let hint = Some("remove one; `agentfs forward list` shows them");
            return Err(error(ErrorCode::Conflict, format!("there are already {FORWARDS} forwards"), hint));
        }
        let info = self.open(params)?;
        self.save(&self.lock());
        serde_json::to_value(&info).map_err(|cause| internal(&cause))
    }

    /// The forward that does what is asked for, if there is one. Without a wish where to listen, every address of
    /// this machine alone will do.
    fn same(&self, params: &ForwardParams) -> Option<ForwardInfo> {
        let wish: Option<SocketAddr> = params.listen.as_ref().and_then(|listen| listen.parse().ok());
        let active = self.lock();
        let same = active.forwards.values().find(|forward| {
            let has = &forward.kept.params;
            let target = (&has.app, &has.instance, has.port, has.handoff);
            let listens = match (&params.listen, wish) {
                (None, _) => !forward.info.lan,
                (Some(_), wish) => {
                    wish.is_some_and(|wish| forward.info.listen == canonical(wish).to_string())
                }
            };
            target == (&params.app, &params.instance, params.port, params.handoff) && listens
        });
        same.map(|forward| ForwardInfo { existed: true, ..forward.counted() })
    }

    fn files_of(&self, params: &ForwardParams) -> InstanceFiles {
        let (app, instance) = (params.app.clone(), params.instance.clone());
        InstanceFiles { run: self.run.clone(), app, instance }
    }

    /// Opens a forward.
    fn open(&self, mut params: ForwardParams) -> Result<ForwardInfo, ControlError> {
        let counters = Arc::<Counters>::default();
        let files = self.files_of(&params);
        let started_ms = files.started_ms();
        let (handoff, by) = (params.handoff, Arc::clone(&self.handoff));
        let served = Served { files, handoff, by, counters: Arc::clone(&counters) };
        let filter = Filter {
            app: Some(params.app.clone()),
            instance: Some(params.instance.clone()),
            ..Filter::default()
        };
        let events = self.journal.subscribe(filter);
        let end_rx = self.end_rx.clone();
        let (listen, task) = match params.port {
            Some(port) => {
                let listen = params.listen.as_deref().unwrap_or("127.0.0.1:0");
                let wanted = address_of(listen, params.lan)?;
                if let Some(there) = self.lock().forwards.get(&canonical(wanted).to_string()) {
                    return Err(taken(listen, &there.described()));
                }
                let listener = bind(wanted, port, &served)?;
                let address = canonical(listener.local_addr().map_err(|cause| internal(&cause))?);
                let key = Key { app: params.app.clone(), instance: params.instance.clone() };
                self.bars.hold(&address.to_string(), address.port(), &key);
                params.listen = Some(address.to_string());
                let task =
                    self.lock().tasks.spawn(one_port(listener, address.ip(), port, served, events, end_rx));
                (address.to_string(), task)
            }
            None => {
                let address = own_address(&params.app, &params.instance);
                let listen = address.to_string();
                if let Some(there) = self.lock().forwards.get(&listen) {
                    return Err(taken(&listen, &there.described()));
                }
                let task = self.lock().tasks.spawn(all_ports(address, served, events, end_rx));
                (listen, task)
            }
        };
        let lan = listen.parse().is_ok_and(|address| !is_of_this_machine(address));
        if lan {
            log::warning!("{}/{} is open to the network on {listen}", params.app, params.instance);
        }
        let info = ForwardInfo {
            listen: listen.clone(),
            app: params.app.clone(),
            instance: params.instance.clone(),
            port: params.port,
            connections: 0,
            handed: 0,
            lan,
            handoff: params.handoff,
            existed: false,
        };
        let kept = KeptForward { params, started_ms };
        self.lock().forwards.insert(listen, Forward { info: info.clone(), kept, counters, task });
        Ok(info)
    }

    /// Writes the file of forwards. If that fails, they work until this collector ends.
    fn save(&self, active: &Active) {
        let kept = active.forwards.values().map(|forward| forward.kept.clone()).collect();
        if let Err(error) = forwards::save(&self.file, kept) {
            log::warning!("cannot write {}: {error}; forwards end with this collector", self.file.display());
        }
    }

    /// Removes a forward.
    pub(crate) fn remove(&self, listen: &str) -> Answer {
        let mut active = self.lock();
        match active.forwards.remove(listen) {
            Some(forward) => {
                forward.task.abort();
                self.bars.release(listen);
                self.save(&active);
                Ok(json!({ "removed": true }))
            }
            None => {
                let hint = Some("run `agentfs forward list` to see all forwards");
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
        let forwards: Vec<ForwardInfo> = self.lock().forwards.values().map(Forward::counted).collect();
        Ok(json!({ "forwards": forwards }))
    }

    /// The state, without forwards whose instance has ended.
    fn lock(&self) -> std::sync::MutexGuard<'_, Active> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        while active.tasks.try_join_next().is_some() {}
        let before = active.forwards.len();
        // When the collector ends, all of them end, but the next collector opens them again.
        if !*self.end_rx.borrow() {
            active.forwards.retain(|_, forward| !forward.task.is_finished());
        }
        if active.forwards.len() < before {
            self.save(&active);
        }
        active
    }
}

// === impl Forward ===

impl Forward {
    /// Where it leads, as the end of a message.
    fn described(&self) -> String {
        let ForwardInfo { app, instance, port, .. } = &self.info;
        let port = port.map_or_else(|| ", every port".to_owned(), |port| format!(" port {port}"));
        format!(": a forward to {app}/{instance}{port}")
    }

    /// What it is, with its connections so far.
    fn counted(&self) -> ForwardInfo {
        let connections = self.counters.all.load(Ordering::Relaxed);
        let handed = self.counters.handed.load(Ordering::Relaxed);
        ForwardInfo { connections, handed, ..self.info.clone() }
    }
}

fn internal(cause: &dyn std::fmt::Display) -> ControlError {
    error(ErrorCode::Internal, cause.to_string(), None)
}

/// `by`: who has it, if that is known.
fn taken(listen: &str, by: &str) -> ControlError {
    let hint = Some("choose another port, or leave it out to get a free one");
    error(ErrorCode::Conflict, format!("{listen} is already in use{by}"), hint)
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
        std::io::ErrorKind::AddrInUse => taken(&address.to_string(), &holder(address)),
        _ => error(ErrorCode::Conflict, format!("cannot listen on {address}: {cause}"), None),
    })
}

/// The process of the host that listens there, as the end of a message; empty if it is not known.
fn holder(address: SocketAddr) -> String {
    let listeners = agentfs_home::holders::of_port(address.port());
    let pid =
        listeners.iter().filter(|listener| listener.serves(address.ip())).find_map(|it| it.pids.first());
    pid.map(|pid| format!(" by {}", crate::processes::described(*pid))).unwrap_or_default()
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
