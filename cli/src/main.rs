//! The agentfs command.
fn main() {}
