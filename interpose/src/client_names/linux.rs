//! Abstract names: they disappear together with their socket.
use crate::config::Config;
use crate::rawaddr::UnixName;
use crate::sys;
use agentfs_wire::address::Endpoint;
use agentfs_wire::peer::Peer;
use libc::c_int;

/// Gives the client end of a connection its name. EADDRINUSE: these two endpoints are connected already.
pub(crate) fn give(
    config: &Config,
    socket: c_int,
    v6_socket: bool,
    local: Endpoint,
    remote: Endpoint,
) -> sys::Result<()> {
    let name = Peer::format_client(config.space, v6_socket, local, remote);
    sys::bind(socket, UnixName::abstract_name(name.as_bytes()).bytes())
}

/// Reads a peer's name: `text` is what its socket name has after the header.
pub(crate) fn read(_config: &Config, text: &[u8]) -> Option<Peer> {
    if text.first() == Some(&0) { Peer::parse(text) } else { None }
}

/// Removes what the name left in the file system. An abstract name leaves nothing.
pub(crate) fn forget(_config: &Config, _v6_socket: bool, _local: Endpoint, _remote: Endpoint) {}
