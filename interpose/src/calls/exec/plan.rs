//! What the environment of a child lacks, and how it is completed. Decided over plain bytes; nothing of the
//! environment that was given is ever written to.
#![expect(unsafe_code, reason = "reads and makes arrays of C strings")]

use crate::environment::{PRELOAD, Strings, entries, parts};
use agentfs_wire::env;
use core::ffi::CStr;
use libc::c_char;

/// Bytes of a variable that is put together of the program's value and ours. A longer one stays the program's.
const TEXT_BYTES: usize = 1024;

/// What of ours an environment must have.
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

/// How far the library gets into a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// It is loaded.
    Full,
    /// It is loaded, once AddressSanitizer is told not to mind.
    Sanitized,
    /// The loader could only complain of it: it is taken out.
    None,
}

/// What becomes of the variable that loads libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preload {
    /// It stays as it is.
    Leave,
    /// There is none: ours comes in.
    Add,
    /// Our library is added behind the program's, in the entry at this index.
    Merge(usize),
    /// Our library is taken out of it.
    Strip,
}

/// How an environment is changed for a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Entries that it has.
    length: usize,
    preload: Preload,
    /// Whether it lacks the variables of the instance.
    variables: bool,
    /// Whether it names the instance but lacks its secret, because the program passes on only chosen variables.
    secret: bool,
    /// Whether AddressSanitizer needs its option.
    options: bool,
}

/// A variable that means something to us, with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variable<'a> {
    Preload(&'a [u8]),
    Instance(&'a [u8]),
    Run(&'a [u8]),
    Secret,
    NoInterpose(&'a [u8]),
    SanitizerOptions(&'a [u8]),
}

fn variable(entry: &[u8]) -> Option<Variable<'_>> {
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
fn libraries(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| matches!(byte, b':' | b' ')).filter(|one| !one.is_empty())
}

/// Looks through an environment. One that names another instance, or asks for none, is left alone.
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
        // The variables stay as they are: a child of the program may be within reach again.
        return Plan { preload, variables: false, ..plan };
    }
    if foreign {
        return Plan { preload: Preload::Leave, variables: false, ..plan };
    }
    plan.secret = !plan.variables && is_run && !has_secret && ours.has_secret;
    plan
}

/// A string that is put together.
#[derive(Debug)]
pub(super) struct Line<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

// === impl Line ===

impl<const N: usize> Line<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    /// Adds bytes; `false`, and nothing added, where they and a NUL do not fit.
    fn push(&mut self, bytes: &[u8]) -> bool {
        let Some(end) = self.length.checked_add(bytes.len()).filter(|end| *end < N) else { return false };
        let Some(room) = self.bytes.get_mut(self.length..end) else { return false };
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.length = end;
        true
    }

    fn push_all(&mut self, parts: &[&[u8]]) -> bool {
        parts.iter().all(|part| self.push(part))
    }

    fn as_c(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

/// The variables of a child that are neither the program's nor ours, but of both.
#[derive(Debug)]
pub(super) struct Texts {
    preload: Option<Line<TEXT_BYTES>>,
    options: Option<Line<TEXT_BYTES>>,
}

// === impl Texts ===

impl Texts {
    /// Puts together what `plan` asks for.
    pub(super) fn of<'a>(plan: Plan, ours: Ours<'_>, environment: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut texts = Self { preload: None, options: None };
        let mut own_options: &[u8] = b"";
        for (index, entry) in environment.enumerate() {
            match (variable(entry), plan.preload) {
                (Some(Variable::Preload(value)), Preload::Merge(at)) if at == index => {
                    texts.preload = merge(value, ours.library);
                }
                (Some(Variable::Preload(value)), Preload::Strip) => {
                    texts.preload = others(value, ours.library);
                }
                (Some(Variable::SanitizerOptions(value)), _) => own_options = value,
                _ => {}
            }
        }
        if plan.options {
            texts.options = with_any_order(own_options);
        }
        texts
    }

    /// The variable that loads libraries, put together.
    pub(super) fn preload(&self) -> Option<&CStr> {
        self.preload.as_ref().map(Line::as_c)
    }
}

/// The program's libraries with ours behind them; `None` where they do not fit.
fn merge(own: &[u8], library: &[u8]) -> Option<Line<TEXT_BYTES>> {
    let mut line = Line::new();
    let separator: &[u8] = if own.is_empty() { b"" } else { b":" };
    line.push_all(&[PRELOAD.as_bytes(), b"=", own, separator, library]).then_some(line)
}

/// The libraries that are not ours; `None` where there are none, or they do not fit.
fn others(value: &[u8], library: &[u8]) -> Option<Line<TEXT_BYTES>> {
    let mut line = Line::new();
    let mut fits = line.push_all(&[PRELOAD.as_bytes(), b"="]);
    let mut separator: &[u8] = b"";
    for one in libraries(value).filter(|one| *one != library) {
        fits &= line.push_all(&[separator, one]);
        separator = b":";
    }
    (fits && !separator.is_empty()).then_some(line)
}

/// AddressSanitizer's library ends a program into which another one was loaded first, although ours does no harm
/// there: the option that turns this check off, behind the program's own. `None` where they do not fit.
fn with_any_order(own: &[u8]) -> Option<Line<TEXT_BYTES>> {
    let mut line = Line::new();
    let separator: &[u8] = if own.is_empty() { b"" } else { b":" };
    let (name, option) = (env::ASAN_OPTIONS.as_bytes(), env::ASAN_ANY_ORDER.as_bytes());
    line.push_all(&[name, b"=", own, separator, option]).then_some(line)
}

// === impl Plan ===

impl Plan {
    /// Whether the environment can be passed on as it is.
    pub(super) fn changes_nothing(self) -> bool {
        self.preload == Preload::Leave && !self.variables && !self.secret && !self.options
    }

    /// Whether something of ours is put back.
    pub(super) fn restores(self) -> bool {
        matches!(self.preload, Preload::Add | Preload::Merge(_)) || self.variables || self.secret
    }

    /// Whether the variable that loads our library alone is added.
    pub(super) fn adds_preload(self) -> bool {
        self.preload == Preload::Add
    }

    /// Whether the instance's variables are added.
    pub(super) fn adds_variables(self) -> bool {
        self.variables
    }

    /// Places that the new array needs, its NULL included, with `kept` variables of the instance.
    pub(super) fn needed(self, kept: usize) -> usize {
        // One for the preload, one for the option.
        self.length + kept + 3
    }

    /// Writes the new array, which is zeroed and has as many places as are needed.
    ///
    /// # Safety
    /// `environment` is what the plan was made of.
    pub(super) unsafe fn write<'a>(
        self,
        environment: Strings,
        texts: &'a Texts,
        preload: &'a CStr,
        kept: impl Iterator<Item = &'a CStr>,
        secret: Option<&'a CStr>,
        array: &mut [*const c_char],
    ) {
        let mut places = array.iter_mut();
        let mut add = |string: &CStr| {
            if let Some(place) = places.next() {
                *place = string.as_ptr();
            }
        };
        // SAFETY: the caller vouches for the array.
        for (index, entry) in unsafe { entries(environment) }.enumerate() {
            match (variable(entry.to_bytes()), self.preload) {
                (Some(Variable::Preload(_)), Preload::Merge(at)) if at == index => {
                    add(texts.preload().unwrap_or(entry));
                }
                (Some(Variable::Preload(_)), Preload::Strip) => {
                    if let Some(others) = texts.preload() {
                        add(others);
                    }
                }
                (Some(Variable::SanitizerOptions(_)), _) if texts.options.is_some() => {}
                _ => add(entry),
            }
        }
        if self.preload == Preload::Add {
            add(preload);
        }
        if self.variables {
            kept.for_each(&mut add);
        } else if self.secret
            && let Some(secret) = secret
        {
            add(secret);
        }
        if let Some(options) = &texts.options {
            add(options.as_c());
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
