//! The library that agentfs puts into a program (LD_PRELOAD on Linux, DYLD_INSERT_LIBRARIES on macOS).
//!
//! It turns TCP listeners on loopback and wildcard addresses into Unix sockets whose file names say what
//! the program asked for, and makes every call that names an address answer as TCP would. It keeps no
//! table of descriptors: the name in the kernel is the state. It never prints, never exits, holds no
//! lock that a fork could leave locked, and leaves no descriptor of its own open. It waits for the collector
//! in one case only (`broker`). If one of our own steps fails, the program's call goes through unchanged.
//!
//! What programs load is built with `panic = "abort"`. It has no std, no allocator and no panic code (a test
//! checks the linked library), and needs only libc. With unwinding, for tests and lints, it links std.
#![cfg_attr(panic = "abort", no_std)]
#![cfg_attr(test, expect(dead_code, reason = "under test no hook is exported, so much is not reached"))]

#[macro_use]
mod functions;

#[cfg(target_os = "linux")]
mod broker;
mod calls;
mod client_names;
mod config;
mod convert;
mod environment;
mod facts;
mod header;
mod hints;
mod hooks;
mod known;
#[cfg(target_os = "macos")]
mod loadable;
mod names;
mod notify;
mod options;
mod program;
mod rawaddr;
mod real;
mod room;
mod rundir;
mod sys;

pub(crate) use agentfs_wire::rewrite;

/// Runs before `main`: reads the configuration before the program can change the environment.
#[cfg(not(test))]
#[ctor::ctor(unsafe)]
fn start() {
    config::load();
    #[cfg(target_os = "linux")]
    calls::prepare();
}

/// `no_std` requires it. It is never linked, because no code of this library can panic.
#[cfg(all(panic = "abort", not(test)))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::abort()
}
