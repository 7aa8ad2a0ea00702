//! What each hooked call does: decide, act (the real call, once), after (tell). A function here has the
//! arguments of the libc function of its name.
//!
//! Two reasons stand in many SAFETY comments here:
//! - *The program's own arguments*: they go on to libc's function as the program passed them. What that function asks
//!   of its caller, the program has promised, and nothing is read or written here.
//! - *Before the kernel*: a pointer of the program's is read or written here, and the kernel has not checked it. The
//!   program has promised that it may be, since the call is defined to do the same. If the promise is broken, the
//!   kernel would say EFAULT, and this library crashes the program; [`crate::rawaddr::is_nowhere`] tells NULL and the
//!   first page apart, and a check of anything else costs a system call.

mod accept;
mod bind;
#[cfg(target_os = "linux")]
mod closing;
mod connect;
mod descriptors;
mod errors;
mod exec;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod exec_list;
mod handoff;
mod hostport;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod loading;
#[cfg(target_os = "macos")]
mod macos;
mod messages;
mod names;
mod options;
mod resolve;
mod sends;
mod shutdown;
mod started;
#[cfg(target_os = "linux")]
mod syscall;
mod tcp_info;

pub(crate) use accept::accept;
#[cfg(target_os = "linux")]
pub(crate) use accept::accept4;
pub(crate) use bind::{bind, listen};
#[cfg(all(target_os = "linux", not(test)))]
pub(crate) use closing::prepare;
#[cfg(target_os = "linux")]
pub(crate) use closing::{close, fork, forkpty};
pub(crate) use connect::connect;
pub(crate) use descriptors::{dup, dup2, socket};
#[cfg(target_os = "linux")]
pub(crate) use descriptors::{dup3, epoll_create, epoll_create1, fcntl, fcntl64, umask};
#[cfg(target_os = "macos")]
pub(crate) use exec::popen_extsn;
pub(crate) use exec::{execv, execve, execvp, popen, posix_spawn, posix_spawnp, system};
#[cfg(target_os = "linux")]
pub(crate) use exec::{execveat, execvpe, fexecve};
#[cfg(target_os = "macos")]
pub(crate) use macos::{
    accept_nocancel, connect_nocancel, connectx, exec_search, recvfrom_nocancel, recvmsg_nocancel,
    sendmsg_nocancel, sendto_nocancel,
};
#[cfg(all(target_os = "macos", not(test)))]
pub(crate) use macos::{execl, execle, execlp, fcntl, fcntl_nocancel};
#[cfg(target_os = "linux")]
pub(crate) use messages::{recv, recv_chk, recvfrom_chk, recvmmsg};
pub(crate) use messages::{recvfrom, recvmsg};
pub(crate) use names::{getpeername, getsockname};
pub(crate) use options::{getsockopt, setsockopt};
pub(crate) use resolve::{getaddrinfo, gethostbyname, gethostbyname2};
#[cfg(target_os = "linux")]
pub(crate) use resolve::{gethostbyname_r, gethostbyname2_r};
#[cfg(target_os = "linux")]
pub(crate) use sends::{send, sendmmsg};
pub(crate) use sends::{sendmsg, sendto};
pub(crate) use shutdown::shutdown;
#[cfg(target_os = "linux")]
pub(crate) use syscall::syscall;
