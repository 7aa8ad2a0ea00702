//! The array of a child's environment. The environment that the program passed is never written to.
#![expect(unsafe_code, reason = "reads and makes arrays of C strings")]
use super::plan::{Plan, Preload};
use super::texts::Texts;
use super::variables::{Variable, variable};
use crate::environment::{Strings, entries};
use core::ffi::CStr;
use libc::c_char;

/// The strings of this process that a child may be given.
#[derive(Debug)]
pub(super) struct Own<'a, Kept> {
    /// The variable that loads our library alone.
    pub(super) preload: &'a CStr,
    /// The variables of the instance.
    pub(super) kept: Kept,
    /// The secret among them.
    pub(super) secret: Option<&'a CStr>,
}

/// Writes the new array, which is zeroed and has as many places as are needed.
///
/// # Safety
/// `environment` is what the plan was made of.
pub(super) unsafe fn write<'a>(
    plan: Plan,
    environment: Strings,
    texts: &'a Texts,
    own: Own<'a, impl Iterator<Item = &'a CStr>>,
    array: &mut [*const c_char],
) {
    let mut places = array.iter_mut();
    let mut add = |string: &CStr| {
        if let Some(place) = places.next() {
            *place = string.as_ptr();
        }
    };
    // SAFETY: the plan was made of this array, so it has been read to its end.
    for (index, entry) in unsafe { entries(environment) }.enumerate() {
        match (variable(entry.to_bytes()), plan.preload) {
            (Some(Variable::Preload(_)), Preload::Merge(at)) if at == index => {
                add(texts.preload().unwrap_or(entry));
            }
            (Some(Variable::Preload(_)), Preload::Strip) => {
                if let Some(others) = texts.preload() {
                    add(others);
                }
            }
            (Some(Variable::SanitizerOptions(_)), _) if texts.options().is_some() => {}
            _ => add(entry),
        }
    }
    if plan.preload == Preload::Add {
        add(own.preload);
    }
    if plan.variables {
        own.kept.for_each(&mut add);
    } else if plan.secret
        && let Some(secret) = own.secret
    {
        add(secret);
    }
    if let Some(options) = texts.options() {
        add(options);
    }
}

#[cfg(test)]
#[path = "array_tests.rs"]
mod tests;
