//! Variables that mean something to us.
use crate::config::Config;
use crate::environment::{PRELOAD, parts};
use agentfs_wire::env;

/// What an environment must have of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ours<'a> {
    /// The path of the library.
    pub(super) library: &'a [u8],
    /// The instance.
    pub(super) instance: &'a [u8],
    /// The run dir.
    pub(super) run: &'a [u8],
    /// Whether there is a secret to hand on.
    pub(super) has_secret: bool,
}

// === impl Ours ===

impl<'a> Ours<'a> {
    /// What a child of this process must have.
    pub(super) fn of(config: &'a Config) -> Self {
        Self {
            library: config.library().to_bytes(),
            instance: config.instance.as_bytes(),
            run: config.run(),
            has_secret: config.secret.is_some(),
        }
    }
}

/// A variable that means something to us, with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable<'a> {
    Preload(&'a [u8]),
    Instance(&'a [u8]),
    Run(&'a [u8]),
    Secret,
    NoInterpose(&'a [u8]),
    SanitizerOptions(&'a [u8]),
}

/// The variable that an entry of an environment sets, if it means something to us.
pub(super) fn variable(entry: &[u8]) -> Option<Variable<'_>> {
    let (name, value) = parts(entry)?;
    let is = |known: &str| name == known.as_bytes();
    if is(PRELOAD) {
        Some(Variable::Preload(value))
    } else if is(env::INSTANCE) {
        Some(Variable::Instance(value))
    } else if is(env::RUN) {
        Some(Variable::Run(value))
    } else if is(env::SECRET) {
        Some(Variable::Secret)
    } else if is(env::NO_INTERPOSE) {
        Some(Variable::NoInterpose(value))
    } else if is(env::ASAN_OPTIONS) {
        Some(Variable::SanitizerOptions(value))
    } else {
        None
    }
}

/// The libraries in a value (ld.so(8): by colons or spaces).
pub(super) fn libraries(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| matches!(byte, b':' | b' ')).filter(|one| !one.is_empty())
}
