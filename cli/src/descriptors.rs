//! Descriptors of processes that outlive the command that starts them: none that they do not need.
use std::fs;
use std::os::fd::RawFd;

/// The folder with a file for each open descriptor.
const OPEN: &str = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };

/// Closes what was inherited beyond the standard streams: a pipe whose reader waits for its end, a lock. Only for a
/// process that has opened nothing itself yet.
pub(crate) fn close_inherited() {
    let open: Vec<RawFd> = fs::read_dir(OPEN)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        // One of them was for reading the folder and is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}
