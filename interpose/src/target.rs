//! What differs between the systems beyond system calls: how libraries are loaded first, and how the client
//! end of a connection is named.
#![expect(unsafe_code, reason = "reads the address of the environment")]

use crate::config::Config;
#[cfg(target_os = "linux")]
use crate::rawaddr::UnixName;
use crate::sys;
use agentfs_wire::address::Endpoint;
use agentfs_wire::peer::Peer;
use libc::{c_char, c_int};

/// The variable that loads libraries first.
#[cfg(target_os = "linux")]
pub(crate) const PRELOAD: &str = agentfs_wire::env::LD_PRELOAD;
/// The variable that loads libraries first.
#[cfg(target_os = "macos")]
pub(crate) const PRELOAD: &str = agentfs_wire::env::DYLD_INSERT_LIBRARIES;

/// The process's environment as it stands.
pub(crate) fn environment() -> *const *const c_char {
    #[cfg(target_os = "linux")]
    {
        unsafe extern "C" {
            static environ: *const *const c_char;
        }
        // SAFETY: libc defines it (environ(7)); reading a pointer races only with a program that
        // replaces its whole environment in another thread, which no libc supports either.
        unsafe { environ }
    }
    #[cfg(target_os = "macos")]
    {
        // SAFETY: takes no arguments; dylibs may not name `environ` itself (environ(7)).
        let pointer = unsafe { libc::_NSGetEnviron() };
        // SAFETY: points to the environment for the life of the process.
        unsafe { (*pointer).cast::<*const c_char>() }
    }
}

/// Gives the client end of a connection its name. EADDRINUSE: these two endpoints are connected already.
#[cfg(target_os = "linux")]
pub(crate) fn name_client(
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
#[cfg(target_os = "linux")]
pub(crate) fn read_client_name(_config: &Config, text: &[u8]) -> Option<Peer> {
    if text.first() == Some(&0) { Peer::parse(text) } else { None }
}

/// Forgets whatever naming the client end left in the file system: nothing, for an abstract name.
#[cfg(target_os = "linux")]
pub(crate) fn forget_client_name(_config: &Config, _v6_socket: bool, _local: Endpoint, _remote: Endpoint) {}

#[cfg(target_os = "macos")]
mod client_files {
    //! macOS has no abstract names: the client end is bound to a file of the run dir's folder, which is
    //! removed once the connection stands; the kernel keeps the name. A slash of the name is written `-`,
    //! and the leading `\0afs1/C/{space}` is left out: the folder says it.
    use super::{Config, Endpoint, Peer, c_int, sys};
    use crate::rawaddr::UnixName;
    use agentfs_wire::peer::PeerName;

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
    pub(crate) fn name_client(
        config: &Config,
        socket: c_int,
        v6_socket: bool,
        local: Endpoint,
        remote: Endpoint,
    ) -> sys::Result<()> {
        sys::bind(socket, path(config, v6_socket, local, remote).bytes())
    }

    /// See the Linux definition.
    pub(crate) fn read_client_name(config: &Config, text: &[u8]) -> Option<Peer> {
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
    pub(crate) fn forget_client_name(config: &Config, v6_socket: bool, local: Endpoint, remote: Endpoint) {
        let _ = sys::unlink(path(config, v6_socket, local, remote).c_path());
    }
}
#[cfg(target_os = "macos")]
pub(crate) use client_files::{forget_client_name, name_client, read_client_name};
