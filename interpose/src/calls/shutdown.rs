//! shutdown(2) of sockets that are not connected: there a Unix socket differs from a TCP socket.
#![expect(unsafe_code, reason = "carries out hooked calls")]

use crate::config;
#[cfg(target_os = "linux")]
use crate::config::Config;
use crate::facts::{self, Fact};
#[cfg(target_os = "linux")]
use crate::names::Listener;
use crate::real;
use crate::sys::{self, Errno};
use libc::c_int;

/// shutdown(2). On a socket that is only bound, it succeeds for a Unix socket, and TCP says ENOTCONN. A listener
/// refuses connections from then on. A TCP listener does not count as listening any more, and can listen again.
///
/// # Safety
/// As shutdown(2).
pub(crate) unsafe fn shutdown(fd: c_int, how: c_int) -> c_int {
    // SAFETY: shutdown(2) takes two integers.
    let result = unsafe { real::shutdown(fd, how) };
    if result != 0 {
        return result;
    }
    let Some(config) = config::get() else { return result };
    let errno = Errno::keep();
    let listener = match facts::of(config, fd) {
        Fact::Listener(listener) if sys::peer_name(fd).is_err() => listener,
        Fact::Listener(_) | Fact::Client { .. } => {
            #[cfg(target_os = "linux")]
            {
                crate::options::note_shutdown(fd, how);
                if how != libc::SHUT_RD {
                    crate::hints::ended(fd);
                }
            }
            return result;
        }
        Fact::Tcp { .. } | Fact::Other => return result,
    };
    if !sys::is_listening(fd) {
        drop(errno);
        return sys::fail(libc::ENOTCONN);
    }
    #[cfg(target_os = "linux")]
    if how != libc::SHUT_WR {
        stop_listening(config, fd, listener);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = listener;
    result
}

/// Replaces a socket that has stopped listening by a new one that is bound to the same file and does not listen. So
/// everybody sees what TCP shows: a port that is in use and refuses. If this fails, the old socket stays and refuses as
/// well.
#[cfg(target_os = "linux")]
pub(super) fn stop_listening(config: &Config, fd: c_int, listener: Listener) {
    use crate::{convert, names, options, rawaddr, rundir};
    let _blocked = sys::Blocked::all();
    let Ok(name) = sys::own_name(fd) else { return };
    let Some((file, _)) = names::file_of(config.run(), rawaddr::unix_text(name.bytes())) else { return };
    let Ok(new) = sys::unix_socket(libc::SOCK_STREAM) else { return };
    options::carry_ours(fd, new.number());
    let path = names::path_of(config, file.as_bytes(), listener.v6_socket && !listener.scope.is_v6());
    if rundir::rebind(config, new.number(), &path).is_ok() {
        let _ = convert::replace(fd, new);
    }
}
