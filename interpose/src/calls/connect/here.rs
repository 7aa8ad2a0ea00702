//! Which listener of the instance a connect reaches: the exact address, then the wildcards, then a group.
use super::client::{Caller, connect_by_broker, connect_to};
use crate::config::Config;
use crate::names;
use crate::rawaddr::UnixName;
use crate::rewrite;
use crate::rundir::{self, Behind, Prober};
use crate::sys;
use agentfs_wire::address::Endpoint;
use agentfs_wire::limits::REUSEPORT_WORKERS;
use agentfs_wire::name::Kind;
use core::sync::atomic::{AtomicU32, Ordering};
use libc::c_int;

/// What became of a connect.
pub(super) enum Done {
    /// Connected to a listener of the instance.
    Connected,
    /// The program gets this errno.
    Failed(c_int),
    /// The instance has no such listener.
    NobodyHere,
}

/// Connects to the instance's own listener.
pub(super) fn connect_here(config: &Config, caller: Caller, to: Endpoint) -> Done {
    let mut listening = false;
    for scope in rewrite::candidates(to.ip) {
        let file = names::own_file(config, Kind::Listener { port: to.port, scope, worker: None });
        let name = names::path_of(config, file.as_bytes(), false);
        let result = match rundir::look(config, &name) {
            Ok(()) => connect_to(config, caller, to, &name),
            Err(libc::EACCES) => connect_by_broker(config, caller, to, file.as_str()),
            Err(_) => continue,
        };
        match result {
            Ok(()) => return Done::Connected,
            Err(libc::ECONNREFUSED | libc::ENOENT) => {
                listening |= Prober::new().ask(config, &name) == Behind::Socket;
            }
            Err(libc::EACCES | libc::EPERM) => return Done::NobodyHere,
            // There is no descriptor left for the new socket. TCP needs none; ENOBUFS is what it says when it lacks
            // something (connect(3p)).
            Err(libc::EMFILE | libc::ENFILE) => return Done::Failed(libc::ENOBUFS),
            Err(reason) => return Done::Failed(reason),
        }
    }
    if sys::exists(rundir::group_mark(config, to.port).c_path()) {
        match connect_to_group(config, caller, to) {
            Done::NobodyHere => {}
            done => return done,
        }
    }
    if !listening && !sys::exists(UnixName::path(&[config.run()]).c_path()) {
        return connect_from_other_root(config, caller, to);
    }
    // The port is bound but does not listen: TCP refuses. A listener of the host is not used.
    if listening { Done::Failed(libc::ECONNREFUSED) } else { Done::NobodyHere }
}

/// Connects for a process that changed its root (chroot(2), as HAProxy does) and no longer sees the run dir.
fn connect_from_other_root(config: &Config, caller: Caller, to: Endpoint) -> Done {
    for scope in rewrite::candidates(to.ip) {
        let file = names::own_file(config, Kind::Listener { port: to.port, scope, worker: None });
        match connect_by_broker(config, caller, to, file.as_str()) {
            Ok(()) => return Done::Connected,
            Err(libc::ENOENT | libc::ECONNREFUSED) => {}
            Err(_) => break,
        }
    }
    Done::NobodyHere
}

/// Connects to one member of a `SO_REUSEPORT` group, to each in turn.
fn connect_to_group(config: &Config, caller: Caller, to: Endpoint) -> Done {
    static TURN: AtomicU32 = AtomicU32::new(0);
    for scope in rewrite::candidates(to.ip) {
        let member = |worker| {
            let file = names::own_file(config, Kind::Listener { port: to.port, scope, worker: Some(worker) });
            names::path_of(config, file.as_bytes(), false)
        };
        let mut present = [0_u8; REUSEPORT_WORKERS as usize];
        let mut count = 0_u32;
        for worker in 0..REUSEPORT_WORKERS {
            if sys::exists(member(worker).c_path())
                && let Some(place) = usize::try_from(count).ok().and_then(|count| present.get_mut(count))
            {
                *place = worker;
                count += 1;
            }
        }
        if count == 0 {
            continue;
        }
        let first = TURN.fetch_add(1, Ordering::Relaxed).wrapping_add(u32::from(rundir::random_port()));
        for step in 0..count {
            let index =
                usize::try_from(first.wrapping_add(step).checked_rem(count).unwrap_or(0)).unwrap_or(0);
            let worker = present.get(index).copied().unwrap_or(0);
            match connect_to(config, caller, to, &member(worker)) {
                Ok(()) => return Done::Connected,
                Err(libc::ECONNREFUSED | libc::ENOENT) => {}
                Err(libc::EMFILE | libc::ENFILE) => return Done::Failed(libc::ENOBUFS),
                Err(reason) => return Done::Failed(reason),
            }
        }
    }
    Done::NobodyHere
}
