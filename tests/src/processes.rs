//! What the system says of processes: whether they run, their environment, their listeners. Linux says it in
//! /proc (proc(5)), macOS through ps(1) and lsof(8).

#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(not(target_os = "linux"), test))]
mod tools;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use tools as system;

/// Whether a process runs; one that only waits to be reaped does not.
pub fn is_alive(pid: i32) -> bool {
    system::is_alive(pid)
}

/// Processes that have `variable` (`NAME=VALUE`) in their environment, the tests' own apart: id and
/// command line.
pub(crate) fn with_variable(variable: &str) -> Vec<(i32, String)> {
    system::with_variable(variable)
}

/// Whether a process listens on that port of TCP.
pub fn listens_on(pid: i32, port: u16) -> bool {
    tcp_ports(pid).contains(&port)
}

/// Ports on which a process listens on TCP.
pub(crate) fn tcp_ports(pid: i32) -> Vec<u16> {
    system::tcp_ports(pid)
}
