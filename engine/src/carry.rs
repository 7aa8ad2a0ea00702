//! Options that a program set on a socket, carried over to the socket that takes its place. Which of them matter to TCP in
//! the port space is not decided here: every option that differs from a fresh socket's is set.
use crate::sys::options::{self, Value};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::os::fd::{AsFd, BorrowedFd};

/// Options of any socket. The first two decide what bind(2) says.
const SOCKET: &[i32] = &[
    libc::SO_REUSEADDR,
    libc::SO_REUSEPORT,
    libc::SO_KEEPALIVE,
    libc::SO_BROADCAST,
    libc::SO_OOBINLINE,
    libc::SO_LINGER,
    libc::SO_RCVTIMEO,
    libc::SO_SNDTIMEO,
    libc::SO_RCVLOWAT,
    libc::SO_PRIORITY,
    libc::SO_MARK,
    libc::SO_BUSY_POLL,
    libc::SO_DONTROUTE,
    libc::SO_TIMESTAMP,
    libc::SO_ZEROCOPY,
];
/// Sizes, which the kernel doubles when they are set (socket(7)).
const SIZES: &[i32] = &[libc::SO_RCVBUF, libc::SO_SNDBUF];
const IP: &[i32] = &[
    libc::IP_TOS,
    libc::IP_TTL,
    libc::IP_FREEBIND,
    libc::IP_TRANSPARENT,
    libc::IP_MTU_DISCOVER,
    libc::IP_RECVERR,
    libc::IP_BIND_ADDRESS_NO_PORT,
];
const IP6: &[i32] = &[
    libc::IPV6_V6ONLY,
    libc::IPV6_UNICAST_HOPS,
    libc::IPV6_TCLASS,
    libc::IPV6_FREEBIND,
    libc::IPV6_TRANSPARENT,
    libc::IPV6_RECVERR,
];
const TCP: &[i32] = &[
    libc::TCP_NODELAY,
    libc::TCP_CORK,
    libc::TCP_KEEPIDLE,
    libc::TCP_KEEPINTVL,
    libc::TCP_KEEPCNT,
    libc::TCP_SYNCNT,
    libc::TCP_LINGER2,
    libc::TCP_DEFER_ACCEPT,
    libc::TCP_WINDOW_CLAMP,
    libc::TCP_MAXSEG,
    libc::TCP_USER_TIMEOUT,
    libc::TCP_FASTOPEN,
    libc::TCP_FASTOPEN_CONNECT,
    libc::TCP_NOTSENT_LOWAT,
    libc::TCP_CONGESTION,
    libc::TCP_SAVE_SYN,
    libc::TCP_THIN_LINEAR_TIMEOUTS,
];

/// What a fresh socket has.
#[derive(Debug, Default)]
pub(crate) struct Usual {
    v4: Vec<Option<Value>>,
    v6: Vec<Option<Value>>,
}

// === impl Usual ===

impl Usual {
    /// Asks two fresh sockets. Without IPv6, only one.
    pub(crate) fn of(v4: impl AsFd, v6: Option<impl AsFd>) -> Self {
        let ask = |socket: BorrowedFd<'_>, v6| {
            list(v6).map(|(level, name)| options::get(socket, level, name).ok()).collect()
        };
        Self { v4: ask(v4.as_fd(), false), v6: v6.map_or_else(Vec::new, |socket| ask(socket.as_fd(), true)) }
    }

    /// Carries over every option, and whether calls wait. An option that the new socket refuses is left.
    pub(crate) fn carry(&self, from: impl AsFd, to: impl AsFd, v6: bool) {
        let (from, to) = (from.as_fd(), to.as_fd());
        let usual = if v6 { &self.v6 } else { &self.v4 };
        for ((level, name), usual) in list(v6).zip(usual) {
            let Ok(value) = options::get(from, level, name) else { continue };
            if *usual == Some(value) {
                continue;
            }
            let is_size = level == libc::SOL_SOCKET && SIZES.contains(&name);
            let asked = value.as_number().filter(|_| is_size).map(|size| Value::number(size / 2));
            let _ = options::set(to, level, name, &asked.unwrap_or(value));
        }
        let flags = fcntl(from, FcntlArg::F_GETFL).unwrap_or(0);
        let kept = OFlag::from_bits_truncate(flags) & (OFlag::O_NONBLOCK | OFlag::O_ASYNC);
        if !kept.is_empty() {
            let _ = fcntl(to, FcntlArg::F_SETFL(kept));
        }
        options::carry_signal(from, to);
    }
}

fn list(v6: bool) -> impl Iterator<Item = (i32, i32)> {
    let of = |level, names: &'static [i32]| names.iter().map(move |name| (level, *name));
    let family = if v6 { IP6 } else { &[] };
    of(libc::SOL_SOCKET, SOCKET)
        .chain(of(libc::SOL_SOCKET, SIZES))
        .chain(of(libc::IPPROTO_IP, IP))
        .chain(of(libc::IPPROTO_IPV6, family))
        .chain(of(libc::IPPROTO_TCP, TCP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    use std::os::fd::OwnedFd;

    fn tcp() -> OwnedFd {
        socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap()
    }

    #[test]
    fn what_a_program_set_is_carried_over() {
        let usual = Usual::of(tcp(), None::<OwnedFd>);
        let (from, to) = (tcp(), tcp());
        let set = [
            (libc::SOL_SOCKET, libc::SO_REUSEADDR, 1),
            (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 77),
            (libc::SOL_SOCKET, libc::SO_RCVBUF, 50_000),
        ];
        for (level, name, number) in set {
            options::set(&from, level, name, &Value::number(number)).unwrap();
        }
        fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        usual.carry(&from, &to, false);
        for (level, name, _) in set {
            assert_eq!(options::get(&from, level, name).unwrap(), options::get(&to, level, name).unwrap());
        }
        let flags = fcntl(&to, FcntlArg::F_GETFL).unwrap();
        assert!(OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK));
    }
}
