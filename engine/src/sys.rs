//! What the kernel does for us and no crate has in a safe form: seccomp(2) with its notifications, socket options as plain
//! bytes, fork(2), execve(2) and madvise(2).
pub(crate) mod exec;
pub(crate) mod fork;
pub(crate) mod kcmp;
pub(crate) mod memory;
pub(crate) mod options;
pub(crate) mod seccomp;
