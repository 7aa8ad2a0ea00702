//! What lives in a home: instances, their listeners and processes, and the names that lead to them.
//!
//! Pure: `apply(now, event) -> effects`. It never looks at a clock, a file or a socket; `hub` turns
//! what the world shows into [`Event`]s and carries out the [`Effect`]s. Everything in it can be
//! rebuilt from the run dir, so nothing of it is stored, except the routes made by hand and what ports were seen to speak.
//!
//! ```text
//! notice, watch, pidfd, control ──Event──▶ Registry ──Effect──▶ run dir, journal, routing table
//! ```

mod changes;
mod claims;
pub(crate) mod effect;
pub(crate) mod event;
mod face;
mod faces;
mod hand;
mod held;
mod instance;
mod key;
mod learned;
mod names;
mod route;
mod state;
mod updates;
mod view;

pub(crate) use effect::Effect;
pub(crate) use event::{Event, FileState, Held};
pub(crate) use hand::{HandRoute, RouteTarget};
pub(crate) use key::Key;
pub(crate) use route::{End, LastSeen, Route, Target};
pub(crate) use state::Registry;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
