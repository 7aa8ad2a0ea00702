//! The engine for programs that the library does not reach (Linux): static programs, Go, anything that makes its own
//! system calls. A seccomp filter stops their `bind`, `connect` and `listen` calls and asks a *supervisor*, one small
//! process for each instance ([`supervise`]). It gives the program real TCP sockets of a *port space*, a network name space
//! of the instance's own, and makes for each listener a *front*: the Unix socket in the run dir by which the router and
//! the library reach it. A program enters by [`enter`], which installs the filter before the program is started.
//!
//! Decisions come from [`agentfs_wire::rewrite`], as the library's do. Never prints, never panics on what a program does, and
//! never waits for the collector. On other systems the crate is empty.
#![cfg(target_os = "linux")]

mod address;
mod carry;
mod copies;
mod entry;
mod facts;
mod filter;
mod fronts;
mod kernel;
mod limits;
mod notices;
mod port_space;
mod ports;
mod process;
mod protocol;
mod registration;
mod relay;
mod stand_ins;
mod supervisor;
mod sys;
mod tcp_table;
mod watched;

pub use entry::{Entered, Entry, Refusal, Running, become_program, check, close_at_exec, enter, running};
pub use protocol::{Member, Sockets};
pub use supervisor::{Places, detach, supervise};
