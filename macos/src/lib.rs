//! What keeps the interposer out of programs on macOS, and what can be done about it.
//!
//! Owns: what a Mach-O file says ([`image`], [`signature`], [`entitlements`]), whether macOS lets a library into
//! it ([`judge`]), what to start instead ([`resolve`]), and the copies of protected tools ([`tools`]). Only
//! `tools` accesses files itself and starts a program (codesign). Nothing here depends on the system it is
//! compiled on, so it is tested on Linux; the command line uses it on macOS. Never loads a library, never
//! decides for the user.

pub mod entitlements;
mod error;
pub mod image;
pub mod judge;
pub mod limits;
pub mod resolve;
pub mod signature;
pub mod tools;

#[cfg(test)]
#[cfg(feature = "built")]
mod built;
#[cfg(test)]
mod sample;
