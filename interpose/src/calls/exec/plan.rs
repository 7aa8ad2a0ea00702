//! What the environment of a child lacks. Pure: it decides over bytes.
use super::variables::{Ours, Variable, libraries, variable};

/// Whether a program can load the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It can.
    Full,
    /// It can, with an option for AddressSanitizer.
    Sanitized,
    /// It cannot. The loader would print an error, so the library is removed from the environment.
    None,
}

/// What becomes of the variable that loads libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preload {
    /// It stays as it is.
    Leave,
    /// There is none: ours is added.
    Add,
    /// Our library is added after the program's own, in the entry at this index.
    Merge(usize),
    /// Our library is removed from it.
    Strip,
}

/// How an environment is changed for a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The number of its entries.
    length: usize,
    /// What becomes of the variable that loads libraries.
    pub(super) preload: Preload,
    /// Whether it lacks the variables of the instance.
    pub(super) variables: bool,
    /// Whether it names the instance but lacks its secret, because the program passes on only chosen variables.
    pub(super) secret: bool,
    /// Whether AddressSanitizer needs its option.
    pub(super) options: bool,
}

/// Looks through an environment. One that names another instance, or asks for none, is not changed.
pub(super) fn examine<'a>(ours: Ours<'_>, reach: Reach, environment: impl Iterator<Item = &'a [u8]>) -> Plan {
    let options = reach == Reach::Sanitized;
    let mut plan = Plan { length: 0, preload: Preload::Add, variables: true, secret: false, options };
    let (mut has_secret, mut is_run) = (false, false);
    let (mut has_preload, mut foreign) = (false, false);
    for entry in environment {
        match variable(entry) {
            Some(Variable::Preload(value)) => {
                has_preload = true;
                let loaded = libraries(value).any(|one| one == ours.library);
                plan.preload = if loaded { Preload::Leave } else { Preload::Merge(plan.length) };
            }
            Some(Variable::Instance(value)) => {
                foreign |= value != ours.instance;
                plan.variables = false;
            }
            Some(Variable::Run(value)) => is_run = value == ours.run,
            Some(Variable::Secret) => has_secret = true,
            Some(Variable::NoInterpose(b"1")) => foreign = true,
            _ => {}
        }
        plan.length += 1;
    }
    if reach == Reach::None {
        let preload = if has_preload { Preload::Strip } else { Preload::Leave };
        // The variables stay: a child of the program may be able to load the library.
        return Plan { preload, variables: false, ..plan };
    }
    if foreign {
        return Plan { preload: Preload::Leave, variables: false, ..plan };
    }
    plan.secret = !plan.variables && is_run && !has_secret && ours.has_secret;
    plan
}

// === impl Plan ===

impl Plan {
    /// Whether the environment can be passed on as it is.
    pub(super) fn changes_nothing(self) -> bool {
        self.preload == Preload::Leave && !self.variables && !self.secret && !self.options
    }

    /// Whether something of ours is added.
    pub(super) fn restores(self) -> bool {
        matches!(self.preload, Preload::Add | Preload::Merge(_)) || self.variables || self.secret
    }

    /// Places that the new array needs, its NULL included, with `kept` variables of the instance.
    pub(super) fn needed(self, kept: usize) -> usize {
        // One for the preload, one for the option.
        self.length + kept + 3
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
