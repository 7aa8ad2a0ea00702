//! What the system says: about processes ([`process`]), about TCP sockets and who holds them ([`tcp`], [`holders`]), and
//! about git checkouts ([`git`]).
//!
//! Only asks, changes nothing, and knows nothing of agentfs. Most answers take milliseconds at most, but those that
//! look at every process may block for longer: each says so. What a system does not say is left out, never guessed.
#[cfg(target_os = "linux")]
mod diag;
pub mod git;
pub mod holders;
pub mod process;
mod sockets;
pub mod tcp;
