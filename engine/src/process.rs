//! A process that the engine serves: its memory, its descriptors, its names. Everything is asked anew for each call, since
//! the number of a thread may belong to another process a moment later; until the call is answered it does not.
use crate::limits::ROOM_TRIES;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, pidfd_getfd, pidfd_open, prlimit};
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;

/// `PIDFD_THREAD` (Linux 6.9): a descriptor of a thread, which need not lead its process.
const THREAD: u32 = libc::O_EXCL.cast_unsigned();

/// The calling thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(pub(crate) u32);

// === impl Caller ===

impl Caller {
    /// Reads memory of the process. Fewer bytes if the rest is not mapped.
    ///
    /// # Errors
    /// `EFAULT` if nothing is there, `EPERM` if we may not read it.
    pub(crate) fn read(self, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let base = usize::try_from(address).map_err(io::Error::other)?;
        let remote = [RemoteIoVec { base, len: buffer.len() }];
        Ok(process_vm_readv(self.pid(), &mut [IoSliceMut::new(buffer)], &remote)?)
    }

    /// Writes memory of the process.
    ///
    /// # Errors
    /// `EFAULT` if not all of it can be written, `EPERM` if we may not.
    pub(crate) fn write(self, address: u64, bytes: &[u8]) -> io::Result<()> {
        let base = usize::try_from(address).map_err(io::Error::other)?;
        let remote = [RemoteIoVec { base, len: bytes.len() }];
        match process_vm_writev(self.pid(), &[IoSlice::new(bytes)], &remote)? {
            written if written == bytes.len() => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        }
    }

    /// A descriptor of the process.
    ///
    /// # Errors
    /// `EBADF` if it has none with this number, `EPERM` if we may not have it.
    pub(crate) fn descriptor(self, number: i32) -> io::Result<OwnedFd> {
        if number < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        Ok(pidfd_getfd(self.handle()?, number, PidfdGetfdFlags::empty())?)
    }

    /// A number that no other thread ever has. Nothing before Linux 6.9.
    pub(crate) fn identity(self) -> Option<u64> {
        /// `PID_FS_MAGIC`: each thread has a file of its own there.
        const THREADS: rustix::fs::FsWord = 0x5049_4446;
        let handle = open(self.0, PidfdFlags::from_bits_retain(THREAD)).ok()?;
        let system = rustix::fs::fstatfs(&handle).ok()?;
        (system.f_type == THREADS).then_some(())?;
        rustix::fs::fstat(&handle).ok().map(|status| status.st_ino)
    }

    /// A descriptor that is readable when the process has ended.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn handle(self) -> io::Result<OwnedFd> {
        match open(self.0, PidfdFlags::from_bits_retain(THREAD)) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                open(self.leader(), PidfdFlags::empty())
            }
            result => result,
        }
    }

    /// A descriptor that is readable when the whole process has ended.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn end(self) -> io::Result<OwnedFd> {
        open(self.leader(), PidfdFlags::empty())
    }

    /// The number of the process.
    pub(crate) fn leader(self) -> u32 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or(self.0)
    }

    /// Whether its network has an interface besides loopback: then somebody may reach its ports there, as those of a
    /// container. So it counts if it cannot be read.
    pub(crate) fn has_outer_interface(self) -> bool {
        fs::read_to_string(format!("/proc/{}/net/dev", self.0))
            .map_or(true, |table| !is_loopback_only(&table))
    }

    /// The name of the process.
    pub(crate) fn name(self) -> String {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.leader())).unwrap_or_default();
        name.trim_end().to_owned()
    }

    /// Whether a descriptor is closed on exec.
    pub(crate) fn closes_on_exec(self, number: i32) -> bool {
        self.flags(number) & libc::O_CLOEXEC != 0
    }

    /// Whether calls do not wait on a descriptor.
    pub(crate) fn is_nonblocking(self, number: i32) -> bool {
        self.flags(number) & libc::O_NONBLOCK != 0
    }

    fn flags(self, number: i32) -> i32 {
        let text = fs::read_to_string(format!("/proc/{}/fdinfo/{number}", self.0)).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("flags:"));
        line.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok()).unwrap_or(0)
    }

    /// What each descriptor of the process is.
    pub(crate) fn descriptors(self) -> Vec<(i32, String)> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.0)).into_iter().flatten().flatten();
        let named = entries.filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        });
        named.collect()
    }

    /// The number of the socket under a descriptor of the process.
    pub(crate) fn socket(self, number: i32) -> Option<u64> {
        let link = fs::read_link(format!("/proc/{}/fd/{number}", self.0)).ok()?;
        socket_number(link.to_str()?)
    }

    /// The numbers of all sockets of the process.
    pub(crate) fn sockets(self) -> Vec<u64> {
        self.descriptors().iter().filter_map(|(_, what)| socket_number(what)).collect()
    }

    /// Whether we may read the memory of the process. Nothing is read.
    ///
    /// # Errors
    /// `EPERM` if we may not, `ENOSYS` if nobody may.
    pub(crate) fn is_readable(self) -> io::Result<()> {
        // Nothing is ever mapped at the first address.
        match self.read(0, &mut [0]) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Calls `call` while the process may open a descriptor with this number.
    ///
    /// # Errors
    /// What the system says, or the call.
    pub(crate) fn with_room_for(self, number: i32, call: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let pid = i32::try_from(self.leader()).ok().and_then(rustix::process::Pid::from_raw);
        let needed = u64::try_from(number).unwrap_or(0).saturating_add(1);
        let mut result = Err(io::Error::from_raw_os_error(libc::EBADF));
        for _ in 0..ROOM_TRIES {
            // Root may raise the upper limit too.
            let maximum = getrlimit_of(pid)?.maximum.map(|maximum| maximum.max(needed));
            let room = Rlimit { current: Some(needed), maximum };
            let before = prlimit(pid, Resource::Nofile, room)?;
            result = call();
            let last = prlimit(pid, Resource::Nofile, before)?;
            // The program has set another limit meanwhile, which holds.
            if last != room {
                prlimit(pid, Resource::Nofile, last)?;
            }
            if result.as_ref().err().and_then(io::Error::raw_os_error) != Some(libc::EBADF) {
                break;
            }
        }
        result
    }

    /// The environment of the process, as it was started.
    pub(crate) fn environment(self) -> Vec<u8> {
        fs::read(format!("/proc/{}/environ", self.0)).unwrap_or_default()
    }

    fn pid(self) -> Pid {
        Pid::from_raw(i32::try_from(self.0).unwrap_or(0))
    }
}

/// The number in `socket:[NUMBER]`.
fn socket_number(name: &str) -> Option<u64> {
    name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The limit of open files of a process.
fn getrlimit_of(pid: Option<rustix::process::Pid>) -> io::Result<Rlimit> {
    let number = pid.map_or(0, |pid| pid.as_raw_nonzero().get());
    let text = fs::read_to_string(format!("/proc/{number}/limits"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"));
    let mut words = line.unwrap_or_default().split_ascii_whitespace();
    let mut next = || words.next().and_then(|word| word.parse().ok());
    Ok(Rlimit { current: next(), maximum: next() })
}

fn open(number: u32, flags: PidfdFlags) -> io::Result<OwnedFd> {
    let number = i32::try_from(number).ok().and_then(rustix::process::Pid::from_raw);
    let number = number.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(pidfd_open(number, flags)?)
}

/// Whether a table as /proc/net/dev (proc_pid_net(5)) names no interface but `lo`. Two lines are its head.
fn is_loopback_only(table: &str) -> bool {
    let mut names = table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim()));
    names.all(|name| name == "lo")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_network_with_more_than_loopback_is_known_by_its_table() {
        let head = "Inter-|   Receive\n face |bytes packets\n";
        for (rows, expected) in [
            ("", true),
            ("    lo: 0 0\n", true),
            ("    lo: 0 0\n  eth0: 0 0\n", false),
            ("  tap0: 1 0\n", false),
        ] {
            assert_eq!(is_loopback_only(&format!("{head}{rows}")), expected, "{rows}");
        }
    }

    #[test]
    fn our_own_process_is_read() {
        let own = Caller(std::process::id());
        let text = *b"the program's own memory";
        let mut copy = [0; 24];
        let address = u64::try_from(text.as_ptr().addr()).unwrap();
        assert_eq!(own.read(address, &mut copy).unwrap(), text.len());
        assert_eq!(copy, text);
        assert!(own.read(8, &mut copy).is_err());
        assert_eq!(own.leader(), std::process::id());
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert!(own.closes_on_exec(file.as_raw_fd()));
        assert!(own.descriptor(file.as_raw_fd()).is_ok() && own.descriptor(-1).is_err());
        assert!(own.descriptors().iter().any(|(number, _)| *number == file.as_raw_fd()));
    }
}
