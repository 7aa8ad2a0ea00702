//! The composition root: builds every part, connects them by bounded queues, and runs the one loop that owns
//! the registry. The loop turns what parts report into events of the registry and carries out the effects
//! that the registry answers with. Parts do not call one another, with one exception: the control socket
//! calls `forward` and `journal` itself.
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
mod faces;
mod files;
mod former;
mod hosts;
mod listen;
mod recheck;
mod reload;
mod requests;
mod routing;
mod search;
mod secure;
mod start;
mod surveys;
mod taken;

pub(crate) use start::run;
