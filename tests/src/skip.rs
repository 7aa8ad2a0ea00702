//! Tests that this machine or user cannot try: each says so, since the runner counts it as passed.
use nix::unistd::Uid;

/// Whether the tests run as root, who alone can become another user and has a broker. Where not, says that the test,
/// or the part of it that asks, is skipped.
pub fn is_root() -> bool {
    let root = Uid::effective().is_root();
    if !root {
        skipped("only root can try this");
    }
    root
}

/// Says on stderr that something is not tried, and why.
#[expect(clippy::print_stderr, reason = "the test runner shows it (`--success-output immediate`)")]
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}
