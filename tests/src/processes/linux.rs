//! Linux: /proc.
use crate::report::entries;
use std::path::{Path, PathBuf};

/// Whether a process runs; one that only waits to be reaped does not.
pub(super) fn is_alive(pid: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state follows the parenthesised name, which may itself hold anything.
    status.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Processes that have `variable` (`NAME=VALUE`) in their environment, the tests' own apart: id and
/// command line.
pub(super) fn with_variable(variable: &str) -> Vec<(i32, String)> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut found = Vec::new();
    for entry in entries(Path::new("/proc")) {
        let Some(pid) = entry.file_name().and_then(|name| name.to_str()?.parse::<i32>().ok()) else {
            continue;
        };
        let environment = std::fs::read(entry.join("environ")).unwrap_or_default();
        if pid != own && environment.split(|byte| *byte == 0).any(|other| other == variable.as_bytes()) {
            let command = std::fs::read(entry.join("cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    found
}

/// Ports on which a process listens on TCP.
pub(super) fn tcp_ports(pid: i32) -> Vec<u16> {
    let listening = tcp_listeners();
    let mut ports = Vec::new();
    for descriptor in entries(&PathBuf::from(format!("/proc/{pid}/fd"))) {
        let target = std::fs::read_link(descriptor).unwrap_or_default();
        let inode = target.to_string_lossy().replace("socket:[", "").replace(']', "");
        ports.extend(listening.iter().filter(|(_, of)| *of == inode).map(|(port, _)| *port));
    }
    ports
}

/// Port and inode of every TCP socket that listens on this machine (proc(5), state 0A).
fn tcp_listeners() -> Vec<(u16, String)> {
    let mut found = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let [_, local, _, "0A", _, _, _, _, _, inode, ..] = fields[..]
                && let Some((_, port)) = local.rsplit_once(':')
                && let Ok(port) = u16::from_str_radix(port, 16)
            {
                found.push((port, inode.to_owned()));
            }
        }
    }
    found
}
