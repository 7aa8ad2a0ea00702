//! System calls, thin: a result, slices in the place of pointers, owned descriptors. They never pass through a hook:
//! Linux uses the raw system call (syscall(2)), which neither our hooks nor another preloaded library sees; macOS calls
//! libSystem, which dyld leaves alone in the interposing image.
//!
//! Each topic names what both systems must have, and then what one of them has alone: what is missing does not compile.
mod check;
pub(super) mod descriptors;
pub(super) mod files;
pub(super) mod process;
pub(super) mod sockets;
