//! Looks for whoever has a port of the host. Called outside the loop: it takes milliseconds.
use crate::answer::Answer;
use crate::notice::VerifiedNotice;
use crate::registry::Key;
use agentfs_home::forwards::KeptForward;
use agentfs_home::holders;
use agentfs_wire::control::SettleParams;
use agentfs_wire::event::Call;
use agentfs_wire::notice;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use tokio::sync::oneshot;

/// A call whose port is searched for, with what was found.
#[derive(Debug)]
pub(super) struct Searched {
    pub(super) call: Box<Call>,
    pub(super) port: u16,
    pub(super) found: Option<Holder>,
}

/// Who has a port of the host.
#[derive(Debug)]
pub(super) enum Holder {
    /// A process, and the instance that it belongs to.
    Process(u32, Option<Key>),
    /// This collector, for a forward to a port of an instance.
    Forward(Key, u16),
}

/// Searches for ports.
#[derive(Debug, Default)]
pub(super) struct Searching {
    /// How many searches are running, by the instance whose program could not bind.
    pub(super) running: BTreeMap<Key, usize>,
    /// Who waits until an instance has none. Each has a connection, so there are not more than connections.
    pub(super) waiting: Vec<(SettleParams, oneshot::Sender<Answer>)>,
}

/// Whether a notice is of a bind that failed because its port is in use.
pub(super) fn is_in_use(notice: &VerifiedNotice) -> bool {
    notice.call == notice::Call::Bind && notice.errno == Errno::EADDRINUSE as i32
}

/// Who has the port that a bind to `address` needs. `members` finds the processes of all instances.
pub(super) fn holder(
    address: SocketAddr,
    forwards: &[KeptForward],
    members: impl FnOnce() -> Vec<(Key, u32)>,
) -> Option<Holder> {
    let mut listeners = holders::of_port(address.port());
    // A bind of the wildcard collides with every address.
    listeners.retain(|listener| address.ip().is_unspecified() || listener.serves(address.ip()));
    let listener = listeners.first()?;
    if listener.pids.contains(&std::process::id()) {
        let listen = SocketAddr::new(listener.address.ip().to_canonical(), address.port()).to_string();
        let forward = forwards.iter().find(|forward| forward.params.listen.as_ref() == Some(&listen));
        if let Some(KeptForward { params, .. }) = forward {
            let key = Key { app: params.app.clone(), instance: params.instance.clone() };
            return Some(Holder::Forward(key, params.port?));
        }
    }
    let pid = *listener.pids.first()?;
    let key = members().into_iter().find(|(_, member)| *member == pid).map(|(key, _)| key);
    Some(Holder::Process(pid, key))
}
