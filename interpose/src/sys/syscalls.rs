//! Thin system calls: results for errno, slices for pointers, owned descriptors. They never go through a hook.
//! - Linux makes raw system calls, by libc's own syscall(2). Neither our hooks nor those of another preloaded library see them.
//! - macOS calls libSystem. dyld does not interpose calls of the interposing library.
//!
//! Each topic lists the names that both systems must have, and then the names that only one of them has. If a name of
//! the list is missing, that system does not compile.
mod check;
pub(super) mod descriptors;
pub(super) mod files;
pub(super) mod process;
pub(super) mod sockets;
