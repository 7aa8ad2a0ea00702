//! The variables that a program is to have in any case, also behind one that loses them.
#![expect(unsafe_code, reason = "reads arrays of C strings")]
use super::plan::{Plan, Preload, Reach, examine};
use super::texts::Texts;
use super::variables::{Ours, Variable, libraries, variable};
use crate::config::Config;
use crate::environment::{self, Strings, entries};
use core::ffi::CStr;

/// The variables for what is started with an environment.
pub(super) struct Carried<'a> {
    config: &'a Config,
    environment: Strings,
    plan: Plan,
    texts: Texts,
}

// === impl Carried ===

impl<'a> Carried<'a> {
    /// `None` if the environment asks for none, or names another instance without loading the library.
    ///
    /// # Safety
    /// `environment` is NULL or an array of C strings that ends in NULL, and lives as long as what comes of it.
    pub(super) unsafe fn of(config: &'a Config, environment: Strings) -> Option<Self> {
        // SAFETY: the caller vouches for the array.
        let bytes = || unsafe { entries(environment) }.map(CStr::to_bytes);
        if bytes().any(|entry| matches!(variable(entry), Some(Variable::NoInterpose(b"1")))) {
            return None;
        }
        let plan = examine(Ours::of(config), Reach::Full, bytes());
        let texts = Texts::of(plan, Ours::of(config), bytes());
        let carried = Self { config, environment, plan, texts };
        (plan.preload != Preload::Leave || carried.own_preload().is_some()).then_some(carried)
    }

    /// Whether the environment lacks something.
    #[cfg(target_os = "linux")]
    pub(super) fn is_lacking(&self) -> bool {
        self.plan.restores()
    }

    /// Calls `each` with those that the environment lacks.
    #[cfg(target_os = "linux")]
    pub(super) fn lacking(&self, each: &mut dyn FnMut(&[u8], &[u8])) {
        self.each(self.added().into_iter().chain(self.config.kept().filter(|_| self.plan.variables)), each);
    }

    /// Calls `each` with all of them, the one that loads libraries first.
    #[cfg(any(target_os = "macos", feature = "stand-ins", test))]
    pub(super) fn all(&self, each: &mut dyn FnMut(&[u8], &[u8])) {
        let kept = self.config.kept().filter(|_| self.plan.variables);
        // SAFETY: whoever made this vouches for the array.
        let given = unsafe { entries(self.environment) };
        let given = given.filter(|entry| !self.plan.variables && entry.to_bytes().starts_with(b"AGENTFS_"));
        self.each(self.added().or(self.own_preload()).into_iter().chain(kept).chain(given), each);
    }

    fn each<'c>(&self, strings: impl Iterator<Item = &'c CStr>, each: &mut dyn FnMut(&[u8], &[u8])) {
        let strings = strings.map(CStr::to_bytes).filter_map(environment::parts);
        strings.filter(|(name, _)| is_told(name)).for_each(|(name, value)| each(name, value));
    }

    /// The string that loads our library, if the environment does not.
    fn added(&self) -> Option<&CStr> {
        self.texts.preload().or((self.plan.preload == Preload::Add).then(|| self.config.preload()))
    }

    /// The environment's own string that loads our library.
    fn own_preload(&self) -> Option<&CStr> {
        let library = self.config.library().to_bytes();
        // SAFETY: whoever made this vouches for the array.
        unsafe { entries(self.environment) }.find(|entry| match variable(entry.to_bytes()) {
            Some(Variable::Preload(value)) => libraries(value).any(|one| one == library),
            _ => false,
        })
    }
}

/// Whether a command may set a variable of this name. It must not be a secret: every user can read command lines
/// (proc(5), `cmdline`).
fn is_told(name: &[u8]) -> bool {
    !name.ends_with(b"SECRET")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_in_no_command_line() {
        assert!(is_told(b"AGENTFS_APP") && !is_told(b"AGENTFS_SECRET"));
    }
}
