//! The composition root: builds every part, connects them by bounded queues, and runs the one loop that
//! owns the registry. Everything that happens becomes an event for the registry, whatever it wants done
//! is done here; parts never call one another.
//!
//! ```text
//! notice ──┐                        ┌─▶ run dir (links, stale sockets)
//! watch ───┤                        ├─▶ journal ─▶ subscriptions
//! processes┼─▶ hub ⇄ registry ──────┤
//! router ──┤                        └─▶ routing table ─▶ router
//! control ─┘
//! ```

mod answers;
mod calls;
mod drive;
mod files;
mod listen;
mod recheck;
mod reload;
mod requests;
mod routing;
mod secure;
mod start;
mod surveys;
mod warnings;

pub(crate) use start::run;
