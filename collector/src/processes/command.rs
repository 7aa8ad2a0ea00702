//! The command line of a process, for people who choose between the ports of an app.
use crate::limits::COMMAND_BYTES;
#[cfg(target_os = "linux")]
use std::io::Read as _;

/// The command line of `pid`; nothing if it has ended, or if the system does not show it.
#[cfg(target_os = "linux")]
pub(crate) fn command(pid: u32) -> Option<Vec<String>> {
    let mut bytes = Vec::new();
    std::fs::File::open(format!("/proc/{pid}/cmdline"))
        .ok()?
        .take(COMMAND_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let words: Vec<String> = text.trim_end_matches('\0').split('\0').map(str::to_owned).collect();
    words.first().is_some_and(|program| !program.is_empty()).then_some(words)
}

/// Only Linux shows it without a helper program.
#[cfg(not(target_os = "linux"))]
pub(crate) fn command(_pid: u32) -> Option<Vec<String>> {
    const _: u64 = COMMAND_BYTES;
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn a_living_process_has_a_command() {
        let own = super::command(std::process::id()).unwrap();
        assert_eq!(own, std::env::args().collect::<Vec<_>>());
        assert_eq!(super::command(u32::MAX), None);
    }
}
