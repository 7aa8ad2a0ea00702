//! How the client end of a connection is named: an abstract name on Linux, a file on macOS. Each system has the same
//! functions.
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(target_os = "macos")]
use macos as platform;

pub(crate) use platform::{forget, give, read};
