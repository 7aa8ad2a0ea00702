//! The vocabulary that the parts of agentfs share.
//!
//! Owns: file names of sockets ([`name`]), abstract names of client sockets ([`peer`]), the datagram
//! that the interposer sends ([`notice`]), the proof that a process belongs to an instance ([`secret`]), requests and
//! replies of the control socket (`control`), journal events (`event`), host names (`host`) and URLs (`url`), what
//! ports speak (`speaks`), what is to become of a program's calls ([`rewrite`]), levels of the log (`level`), the file beside an instance (`companion`), what a process's
//! environment says (`environ`), where files live (`paths`), what macOS starts for
//! a script and loads into a program ([`script`], [`slices`]), how variables get past programs that lose them ([`carry`]),
//! [`limits`] and environment names ([`mod@env`]).
//! Never does I/O, never reads a clock or the environment.
//! Used by every other crate; without the feature `std` (the interposer) it neither allocates nor
//! needs more than `core`.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod address;
pub mod barred;
pub mod broker;
pub mod carry;
pub mod dns;
pub mod elf;
pub mod env;
pub mod handoff;
pub mod limits;
pub mod name;
pub mod notice;
pub mod peer;
pub mod rewrite;
pub mod script;
pub mod secret;
pub mod slices;
pub mod text;

#[cfg(feature = "std")]
pub mod companion;
#[cfg(feature = "std")]
pub mod control;
#[cfg(feature = "std")]
pub mod environ;
#[cfg(feature = "std")]
pub mod event;
#[cfg(feature = "std")]
pub mod folder;
#[cfg(feature = "std")]
pub mod host;
#[cfg(feature = "std")]
pub mod label;
#[cfg(feature = "std")]
pub mod level;
#[cfg(feature = "std")]
pub mod paths;
#[cfg(feature = "std")]
pub mod speaks;
#[cfg(feature = "std")]
pub mod url;
