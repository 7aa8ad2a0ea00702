//! `TCP_INFO` of a rewritten socket (tcp(7)): the state that TCP would have, in an answer as long as the running
//! kernel's. All other fields have the values of an idle connection over loopback. On macOS `TCP_CONNECTION_INFO`
//! says that the socket is connected.
use crate::facts::Fact;
#[cfg(target_os = "linux")]
use crate::options;
#[cfg(target_os = "linux")]
use crate::sys;
use libc::c_int;

/// More than any kernel's `struct tcp_info` has. The structure grows at its end.
const ROOM: usize = 512;

/// An answer.
pub(super) struct Info {
    bytes: [u8; ROOM],
    length: usize,
}

// === impl Info ===

impl Info {
    /// The answer for a rewritten socket.
    pub(super) fn of(fd: c_int, fact: Fact) -> Self {
        let mut info = Self { bytes: [0; ROOM], length: 0 };
        info.fill(fd, fact);
        info
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }

    fn put(&mut self, offset: usize, value: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(offset).zip(value) {
            *to = *from;
        }
    }

    /// The state `TCPS_ESTABLISHED` of netinet/tcp_fsm.h, and a round-trip time.
    #[cfg(target_os = "macos")]
    fn fill(&mut self, _fd: c_int, _fact: Fact) {
        self.put(0, &[4]);
        self.put(68, &u32::to_ne_bytes(50));
        self.length = 104;
    }

    #[cfg(target_os = "linux")]
    fn fill(&mut self, fd: c_int, fact: Fact) {
        use linux::{CLOSE, LISTEN};
        let state = linux::state(fd, fact);
        self.put(0, &[state]);
        if !matches!(state, LISTEN | CLOSE) {
            // Options (time stamps, selective acknowledgements, window scaling), and the window scales.
            self.put(5, &[7, 0xaa]);
            // Offsets of linux/tcp.h: timeout, sizes of sent and received segments, path MTU, window limit, round trip
            // and its variance, the largest segment that was offered, the receive buffer.
            let values = [(8, 204_000), (16, 32_768), (20, 536), (60, 65_535), (64, 65_483), (68, 50)];
            for (offset, value) in values.into_iter().chain([(72, 25), (84, 65_483), (96, 65_483)]) {
                self.put(offset, &u32::to_ne_bytes(value));
            }
        }
        if state == LISTEN {
            // Connections that wait to be accepted, and how many may wait (uWSGI, php-fpm and raindrops read them here).
            let queue = sys::inode(fd).and_then(sys::queue_of);
            let (waiting, room) = queue.unwrap_or((0, 0));
            let room = crate::hints::backlog(fd).unwrap_or(room);
            self.put(24, &waiting.to_ne_bytes());
            self.put(28, &room.to_ne_bytes());
        }
        // Slow start threshold, congestion window, reordering.
        for (offset, value) in [(76, 0x7fff_ffff), (80, 10), (88, 3)] {
            self.put(offset, &u32::to_ne_bytes(value));
        }
        self.length = sys::info_length().min(ROOM);
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{Fact, c_int, options, sys};

    // linux/tcp_states.h
    const ESTABLISHED: u8 = 1;
    const FIN_WAIT2: u8 = 5;
    pub(super) const CLOSE: u8 = 7;
    const CLOSE_WAIT: u8 = 8;
    pub(super) const LISTEN: u8 = 10;

    /// What can be seen of a connection.
    #[derive(Clone, Copy, Debug, Default)]
    struct Seen {
        /// This process has shut the socket down for reading.
        own_read: bool,
        /// This process has shut the socket down for writing.
        own_write: bool,
        /// No more will come (`POLLRDHUP`).
        ended: bool,
        /// Both directions are closed (`POLLHUP`).
        hung_up: bool,
        /// An error is pending (`POLLERR`): the other end closed with unread data.
        error: bool,
    }

    fn state_of(seen: Seen) -> u8 {
        // Our own shutdown for reading looks the same. Then only a hang-up shows that the other end has closed.
        let peer_ended =
            if seen.own_read { seen.hung_up && !seen.own_write } else { seen.ended || seen.hung_up };
        match (seen.own_write, peer_ended) {
            _ if seen.error => CLOSE,
            (false, false) => ESTABLISHED,
            (false, true) => CLOSE_WAIT,
            (true, false) => FIN_WAIT2,
            (true, true) => CLOSE,
        }
    }

    pub(super) fn state(fd: c_int, fact: Fact) -> u8 {
        let connected = matches!(fact, Fact::Client { .. }) || sys::peer_name(fd).is_ok();
        if !connected {
            return if sys::is_listening(fd) { LISTEN } else { CLOSE };
        }
        if options::was_reset(fd) {
            return CLOSE;
        }
        let (own_read, own_write) = options::shut_down(fd);
        let events = sys::events_now(fd, libc::POLLRDHUP).unwrap_or(0);
        let has = |event| events & event != 0;
        state_of(Seen {
            own_read,
            own_write,
            ended: has(libc::POLLRDHUP),
            hung_up: has(libc::POLLHUP),
            error: has(libc::POLLERR),
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn states_follow_both_ends() {
            let nothing = Seen::default();
            assert_eq!(state_of(nothing), ESTABLISHED);
            assert_eq!(state_of(Seen { ended: true, ..nothing }), CLOSE_WAIT);
            assert_eq!(state_of(Seen { ended: true, hung_up: true, ..nothing }), CLOSE_WAIT);
            assert_eq!(state_of(Seen { own_write: true, ..nothing }), FIN_WAIT2);
            assert_eq!(state_of(Seen { own_write: true, ended: true, hung_up: true, ..nothing }), CLOSE);
            assert_eq!(state_of(Seen { error: true, ended: true, hung_up: true, ..nothing }), CLOSE);
            // Our own shutdown for reading looks as if the other end had closed.
            assert_eq!(state_of(Seen { own_read: true, ended: true, ..nothing }), ESTABLISHED);
            let both = Seen { own_read: true, own_write: true, ended: true, hung_up: true, error: false };
            assert_eq!(state_of(both), FIN_WAIT2);
        }
    }
}
