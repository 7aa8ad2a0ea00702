//! The seccomp filter (seccomp(2), bpf): which system calls ask the supervisor. Pure.
//!
//! `bind`, `connect` and `listen` ask, sends that connect (`MSG_FASTOPEN`), and `epoll_create` and
//! `io_uring_setup`, which are only noted. Everything else, and every call of a program for another machine (32 bit), goes on
//! as if there were no filter.
use libc::sock_filter;

/// `AUDIT_ARCH_…` of programs of this machine (linux/audit.h).
const ARCHITECTURE: u32 = if cfg!(target_arch = "x86_64") {
    0xc000_003e
} else if cfg!(target_arch = "aarch64") {
    0xc000_00b7
} else if cfg!(target_arch = "riscv64") {
    0xc000_00f3
} else {
    0
};

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const ARGUMENTS: u32 = 16;

// Instructions (linux/bpf_common.h).
const LOAD: u16 = 0x20;
const IS: u16 = 0x15;
const HAS: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const ASK: u32 = 0x7fc0_0000;

/// `MSG_FASTOPEN`: the send connects.
const FAST_OPEN: u32 = 0x2000_0000;

/// The filter; nothing for a machine that it does not know. `more` are further calls that ask.
pub(crate) fn program(more: &[libc::c_long]) -> Option<Vec<sock_filter>> {
    if ARCHITECTURE == 0 {
        return None;
    }
    let number = |number: libc::c_long| u32::try_from(number).unwrap_or(u32::MAX);
    let step = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let asks = [
        libc::SYS_bind,
        libc::SYS_connect,
        libc::SYS_listen,
        libc::SYS_epoll_create1,
        libc::SYS_io_uring_setup,
    ];
    #[cfg(target_arch = "x86_64")]
    let asks = [&asks[..], &[libc::SYS_epoll_create]].concat();
    let asks = [&asks[..], more].concat();
    let count = u8::try_from(asks.len()).ok()?;
    // Jumps count the instructions that they leave out.
    let mut program =
        vec![step(LOAD, MACHINE, 0, 0), step(IS, ARCHITECTURE, 0, count + 4), step(LOAD, NUMBER, 0, 0)];
    let last = (0..count).rev();
    program.extend(asks.iter().zip(last).map(|(call, after)| step(IS, number(*call), after + 8, 0)));
    program.extend([
        step(IS, number(libc::SYS_sendto), 3, 0),
        step(IS, number(libc::SYS_sendmmsg), 2, 0),
        step(IS, number(libc::SYS_sendmsg), 3, 0),
        step(RETURN, ALLOW, 0, 0),
        // sendto(fd, data, length, FLAGS, …), sendmmsg(fd, messages, count, FLAGS)
        step(LOAD, argument(3), 0, 0),
        step(HAS, FAST_OPEN, 2, 3),
        // sendmsg(fd, message, FLAGS)
        step(LOAD, argument(2), 0, 0),
        step(HAS, FAST_OPEN, 0, 1),
        step(RETURN, ASK, 0, 0),
        step(RETURN, ALLOW, 0, 0),
    ]);
    Some(program)
}

/// Where the lower half of an argument is.
const fn argument(index: u32) -> u32 {
    ARGUMENTS + 8 * index + if cfg!(target_endian = "big") { 4 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter says about a call.
    fn run(machine: u32, number: i64, arguments: [u64; 6]) -> u32 {
        run_with(&[], machine, number, arguments)
    }

    fn run_with(more: &[libc::c_long], machine: u32, number: i64, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(u32::try_from(number).unwrap().to_ne_bytes());
        data.extend(machine.to_ne_bytes());
        data.extend(0_u64.to_ne_bytes());
        data.extend(arguments.iter().flat_map(|argument| argument.to_ne_bytes()));
        let program = program(more).unwrap();
        let (mut at, mut register) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                LOAD => {
                    let from = usize::try_from(k).unwrap();
                    register = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
                }
                IS => at += usize::from(if register == k { jt } else { jf }),
                HAS => at += usize::from(if register & k != 0 { jt } else { jf }),
                RETURN => return k,
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn only_calls_that_name_ports_ask() {
        let asks = [
            libc::SYS_bind,
            libc::SYS_connect,
            libc::SYS_listen,
            libc::SYS_epoll_create1,
            libc::SYS_io_uring_setup,
        ];
        for number in asks {
            assert_eq!(run(ARCHITECTURE, number, [0; 6]), ASK, "{number}");
            assert_eq!(run(ARCHITECTURE ^ 1, number, [0; 6]), ALLOW, "{number} of another machine");
        }
        for number in [libc::SYS_read, libc::SYS_accept4, libc::SYS_socket, libc::SYS_execve] {
            assert_eq!(run(ARCHITECTURE, number, [u64::MAX; 6]), ALLOW, "{number}");
        }
    }

    #[test]
    fn more_calls_may_ask() {
        let more = [libc::SYS_getsockname, libc::SYS_getpeername];
        for number in [libc::SYS_bind, libc::SYS_getsockname, libc::SYS_getpeername] {
            assert_eq!(run_with(&more, ARCHITECTURE, number, [0; 6]), ASK, "{number}");
        }
        assert_eq!(run(ARCHITECTURE, libc::SYS_getsockname, [0; 6]), ALLOW);
        assert_eq!(run_with(&more, ARCHITECTURE, libc::SYS_read, [0; 6]), ALLOW);
    }

    #[test]
    fn a_send_asks_only_if_it_connects() {
        for (number, place) in [(libc::SYS_sendto, 3), (libc::SYS_sendmmsg, 3), (libc::SYS_sendmsg, 2)] {
            let mut arguments = [u64::MAX; 6];
            arguments[place] = !u64::from(FAST_OPEN);
            assert_eq!(run(ARCHITECTURE, number, arguments), ALLOW);
            arguments = [0; 6];
            arguments[place] = u64::from(FAST_OPEN) | 0x4000;
            assert_eq!(run(ARCHITECTURE, number, arguments), ASK);
        }
    }
}
