//! epoll interest and duplicate descriptors on Linux.
use crate::sys::{self, Fd};
use agentfs_wire::text::{Text, parse_number};
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use libc::c_int;

/// epoll instances that are remembered by number; programs have one or a few. If there are more, every descriptor
/// is checked.
const EPOLLS: usize = 32;
/// Duplicates of one socket that get the new one.
const TWINS: usize = 32;

/// epoll instances whose interest in one descriptor is kept.
const INSTANCES: usize = 16;

/// Numbers of epoll instances, plus one; 0 is an empty place. Only hints: a number may have been closed.
static EPOLL: [AtomicI32; EPOLLS] = [const { AtomicI32::new(0) }; EPOLLS];
/// Whether there were more than there is room for.
static MANY: AtomicBool = AtomicBool::new(false);
/// Whether this process (or one that it was forked from) ever duplicated a descriptor.
static DUPLICATED: AtomicBool = AtomicBool::new(false);

/// Remembers an epoll instance.
pub(crate) fn note_epoll(epoll: c_int) {
    for place in &EPOLL {
        let number = place.load(Ordering::Relaxed);
        if number == epoll + 1 {
            return;
        }
        if number == 0 && place.compare_exchange(0, epoll + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return;
        }
    }
    MANY.store(true, Ordering::Relaxed);
}

/// Remembers that descriptors are duplicated here.
pub(crate) fn note_dup() {
    DUPLICATED.store(true, Ordering::Relaxed);
}

/// Copies who gets SIGIO, and which signal stands for it.
pub(super) fn copy_owner(fd: c_int, new: c_int, owner: c_int) {
    // A process id is passed as it is, a process group as a negative number in two's complement.
    let _ = sys::control(new, libc::F_SETOWN, isize::try_from(owner).unwrap_or(0).cast_unsigned());
    if let Ok(signal) = sys::control(fd, F_GETSIG, 0)
        && signal != 0
    {
        let _ = sys::control(new, F_SETSIG, usize::try_from(signal).unwrap_or(0));
    }
}

/// fcntl(2); not in every version of the libc crate.
const F_SETSIG: c_int = 10;
const F_GETSIG: c_int = 11;

/// The interest that epoll instances have in one descriptor.
pub(super) struct Interest {
    entries: [Option<(c_int, libc::epoll_event)>; INSTANCES],
}

// === impl Interest ===

impl Interest {
    /// Takes the interest in `fd` out of every epoll instance that has any.
    pub(super) fn take(fd: c_int) -> Self {
        let mut interest = Self { entries: [None; INSTANCES] };
        for place in &EPOLL {
            let number = place.load(Ordering::Relaxed);
            if number == 0 {
                continue;
            }
            // The number was closed, or something else has it.
            if matches!(interest.take_from(number - 1, fd), Some(libc::EBADF | libc::EINVAL)) {
                let _ = place.compare_exchange(number, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
        if MANY.load(Ordering::Relaxed) {
            for_each_descriptor(|other| {
                interest.take_from(other, fd);
                true
            });
        }
        interest
    }

    /// Takes the interest of one instance. Returns the errno if it is not an epoll instance.
    fn take_from(&mut self, epoll: c_int, fd: c_int) -> Option<c_int> {
        match sys::epoll_watches(epoll, fd) {
            Ok(false) => return None,
            Ok(true) => {}
            Err(errno @ (libc::EBADF | libc::EINVAL)) => return Some(errno),
            // The kernel does not answer this question here: the list is read instead.
            Err(_) => {}
        }
        let event = registered(epoll, fd)?;
        let nothing = libc::epoll_event { events: 0, u64: 0 };
        sys::epoll_control(epoll, libc::EPOLL_CTL_DEL, fd, nothing).ok()?;
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.is_none()) {
            *entry = Some((epoll, event));
        }
        None
    }

    /// Gives the interest to what is under the number now.
    pub(super) fn give(self, fd: c_int) {
        for (epoll, event) in self.entries.into_iter().flatten() {
            let _ = sys::epoll_control(epoll, libc::EPOLL_CTL_ADD, fd, event);
        }
    }
}

/// What an epoll instance has registered for a descriptor, from `/proc/self/fdinfo/{epoll}` (proc(5)):
/// lines `tfd: 5 events: 19 data: 5 …`, events and data in hexadecimal.
fn registered(epoll: c_int, fd: c_int) -> Option<libc::epoll_event> {
    let mut path = Text::<48>::new();
    path.push("/proc/self/fdinfo/");
    path.push_number(u64::try_from(epoll).ok()?);
    path.push("\0");
    let path = core::ffi::CStr::from_bytes_with_nul(path.as_bytes()).ok()?;
    let info = sys::open(path, libc::O_RDONLY, 0).ok()?;
    let mut lines = Lines { fd: info, buffer: [0; 512], filled: 0 };
    while let Some(line) = lines.next() {
        if let Some(event) = parse_line(line, fd) {
            return Some(event);
        }
    }
    None
}

fn parse_line(line: &[u8], fd: c_int) -> Option<libc::epoll_event> {
    let line = core::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    if words.next() != Some("tfd:") {
        return None;
    }
    let number = parse_number(words.next()?, u64::from(u32::MAX))?;
    if number != u64::try_from(fd).ok()? || words.next() != Some("events:") {
        return None;
    }
    let events = hexadecimal(words.next()?)?;
    if words.next() != Some("data:") {
        return None;
    }
    let data = hexadecimal(words.next()?)?;
    Some(libc::epoll_event { events: u32::try_from(events).ok()?, u64: data })
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// The lines of an open file. Lines longer than the buffer are cut.
struct Lines {
    fd: Fd,
    buffer: [u8; 512],
    filled: usize,
}

// === impl Lines ===

impl Lines {
    fn next(&mut self) -> Option<&[u8]> {
        // Drop the line that was returned last: its newline was replaced by NUL.
        if let Some(end) = self.buffer.get(..self.filled)?.iter().position(|byte| *byte == 0) {
            let rest = self.filled.saturating_sub(end + 1);
            for index in 0..rest {
                let byte = self.buffer.get(end + 1 + index).copied().unwrap_or(0);
                if let Some(slot) = self.buffer.get_mut(index) {
                    *slot = byte;
                }
            }
            self.filled = rest;
        }
        loop {
            let used = self.buffer.get(..self.filled)?;
            if let Some(end) = used.iter().position(|byte| *byte == b'\n') {
                *self.buffer.get_mut(end)? = 0;
                return self.buffer.get(..end);
            }
            let room = self.buffer.get_mut(self.filled..)?;
            if room.is_empty() {
                self.filled = 0;
                continue;
            }
            match sys::read(self.fd.number(), room) {
                Ok(count) if count > 0 => self.filled += count,
                _ => return None,
            }
        }
    }
}

/// Descriptors of this process that share one socket with another.
pub(super) struct Twins {
    numbers: [c_int; TWINS],
    count: usize,
}

// === impl Twins ===

impl Twins {
    /// Their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = c_int> + '_ {
        self.numbers.iter().take(self.count).copied()
    }
}

/// Other descriptors of `fd`'s socket; `None` if there are certainly none.
pub(super) fn twins(fd: c_int) -> Option<Twins> {
    if !DUPLICATED.load(Ordering::Relaxed) || crate::hints::is_single(fd) {
        return None;
    }
    let inode = sys::inode(fd)?;
    let mut twins = Twins { numbers: [-1; TWINS], count: 0 };
    for_each_descriptor(|other| {
        if other != fd
            && sys::inode(other) == Some(inode)
            && sys::option(other, libc::SOL_SOCKET, libc::SO_TYPE).is_ok()
            && let Some(number) = twins.numbers.get_mut(twins.count)
        {
            *number = other;
            twins.count += 1;
        }
        true
    });
    (twins.count > 0).then_some(twins)
}

/// Calls `visit` with every open descriptor's number until it says `false`.
fn for_each_descriptor(mut visit: impl FnMut(c_int) -> bool) {
    let Ok(folder) = sys::open(c"/proc/self/fd", libc::O_RDONLY | libc::O_DIRECTORY, 0) else { return };
    // struct linux_dirent64 (getdents(2)): inode 8, offset 8, record length 2, type 1, name.
    let mut buffer = [0_u8; 1024];
    while let Ok(filled) = sys::directory_entries(folder.number(), &mut buffer) {
        let mut entries = buffer.get(..filled).unwrap_or(&[]);
        if entries.is_empty() {
            break;
        }
        while let Some([low, high]) = entries.get(16..18) {
            let length = usize::from(u16::from_ne_bytes([*low, *high]));
            let name = entries.get(19..length).unwrap_or(&[]);
            let name = name.split(|byte| *byte == 0).next().unwrap_or(&[]);
            let number = core::str::from_utf8(name).ok().and_then(|name| parse_number(name, 1 << 30));
            if let Some(number) = number.and_then(|number| c_int::try_from(number).ok())
                && number != folder.number()
                && !visit(number)
            {
                return;
            }
            entries = entries.get(length.max(19)..).unwrap_or(&[]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_fdinfo_line_is_read() {
        let line = b"tfd:        5 events:       19 data: ffffffff00000005  pos:0 ino:3d7 sdev:8";
        let event = parse_line(line, 5).unwrap();
        assert_eq!(({ event.events }, { event.u64 }), (0x19, 0xffff_ffff_0000_0005));
        assert!(parse_line(line, 6).is_none());
        assert!(parse_line(b"pos:\t0", 5).is_none());
    }

    #[test]
    #[expect(unsafe_code, reason = "makes an epoll instance and waits on it")]
    fn asking_an_epoll_instance_has_no_effect() {
        // SAFETY: epoll_create1(2) takes an integer.
        let epoll = Fd::owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) });
        let own = sys::tcp_socket(false).unwrap();
        let (epoll, socket) = (epoll.number(), own.number());
        assert_eq!(sys::epoll_watches(epoll, socket), Ok(false));
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for one event. A socket that is not connected is hung up: any trace would show.
        assert_eq!(unsafe { libc::epoll_wait(epoll, &raw mut event, 1, 0) }, 0);
        let interest = libc::epoll_event { events: 0x19, u64: 77 };
        sys::epoll_control(epoll, libc::EPOLL_CTL_ADD, socket, interest).unwrap();
        assert_eq!(sys::epoll_watches(epoll, socket), Ok(true));
        assert_eq!({ registered(epoll, socket).unwrap().u64 }, 77);
        assert!(sys::epoll_watches(socket, socket).is_err());
    }
}
