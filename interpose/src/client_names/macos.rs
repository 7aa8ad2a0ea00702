//! macOS has no abstract names. The client end is bound to a file in the folder of the run dir. The file is
//! removed as soon as the socket is connected; the kernel keeps the name. A slash in the name is written `-`.
//! The leading `\0afs1/C/{space}` is left out, because the folder already says it.
use crate::config::Config;
use crate::rawaddr::UnixName;
use crate::sys;
use agentfs_wire::address::Endpoint;
use agentfs_wire::peer::{Peer, PeerName};
use libc::c_int;

fn file(v6_socket: bool, local: Endpoint, remote: Endpoint) -> (PeerName, usize) {
    let name = Peer::format_client(0, v6_socket, local, remote);
    let skip = name.as_bytes().iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    (name, skip)
}

fn path(config: &Config, v6_socket: bool, local: Endpoint, remote: Endpoint) -> UnixName {
    let (name, skip) = file(v6_socket, local, remote);
    let mut space = agentfs_wire::text::Text::<8>::new();
    space.push_hex(config.space & 0xffff_ffff, 8);
    UnixName::path(&[
        config.base(),
        b"/c.",
        space.as_bytes(),
        b".",
        name.as_bytes().get(skip..).unwrap_or(&[]),
    ])
}

/// See the Linux definition.
pub(crate) fn give(
    config: &Config,
    socket: c_int,
    v6_socket: bool,
    local: Endpoint,
    remote: Endpoint,
) -> sys::Result<()> {
    sys::bind(socket, path(config, v6_socket, local, remote).bytes())
}

/// See the Linux definition.
pub(crate) fn read(config: &Config, text: &[u8]) -> Option<Peer> {
    let file = text.strip_prefix(config.base())?.strip_prefix(b"/")?;
    if file.starts_with(b"f.") {
        return agentfs_wire::peer::parse_forwarded_file(core::str::from_utf8(file).ok()?);
    }
    let rest = file.strip_prefix(b"c.")?;
    let ends = rest.get(9..)?;
    let mut name = PeerName::new();
    name.push("\0afs1/C/0000000000000000/");
    if !name.push(core::str::from_utf8(ends).ok()?) {
        return None;
    }
    Peer::parse(name.as_bytes())
}

/// See the Linux definition.
pub(crate) fn forget(config: &Config, v6_socket: bool, local: Endpoint, remote: Endpoint) {
    let _ = sys::unlink(path(config, v6_socket, local, remote).c_path());
}
