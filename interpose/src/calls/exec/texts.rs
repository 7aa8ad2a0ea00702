//! The variables of a child that join the program's value and ours.
use super::plan::{Plan, Preload};
use super::variables::{Ours, Variable, libraries, variable};
use crate::environment::PRELOAD;
use agentfs_wire::env;
use core::ffi::CStr;

/// Bytes of a variable that joins the program's value and ours. A longer one keeps the program's value.
pub(super) const TEXT_BYTES: usize = 1024;

/// A string that is built from parts.
#[derive(Debug)]
struct Line<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

// === impl Line ===

impl<const N: usize> Line<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    /// Adds bytes. `false`: they and a NUL do not fit, and nothing was added.
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

/// The variables of a child that join the program's value and ours.
#[derive(Debug)]
pub(super) struct Texts {
    preload: Option<Line<TEXT_BYTES>>,
    options: Option<Line<TEXT_BYTES>>,
}

// === impl Texts ===

impl Texts {
    /// Builds what `plan` asks for.
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

    /// The variable that loads libraries, if both values are in it.
    pub(super) fn preload(&self) -> Option<&CStr> {
        self.preload.as_ref().map(Line::as_c)
    }

    /// AddressSanitizer's options, if one was added.
    pub(super) fn options(&self) -> Option<&CStr> {
        self.options.as_ref().map(Line::as_c)
    }
}

/// The program's libraries and then ours; `None` if they do not fit.
fn merge(own: &[u8], library: &[u8]) -> Option<Line<TEXT_BYTES>> {
    let mut line = Line::new();
    let separator: &[u8] = if own.is_empty() { b"" } else { b":" };
    line.push_all(&[PRELOAD.as_bytes(), b"=", own, separator, library]).then_some(line)
}

/// The libraries without ours; `None` if there are none, or they do not fit.
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

/// The program's options for AddressSanitizer, and then the one that turns a check off: its library ends a program that
/// has loaded another library first, although ours does no harm. `None` if they do not fit.
fn with_any_order(own: &[u8]) -> Option<Line<TEXT_BYTES>> {
    let mut line = Line::new();
    let separator: &[u8] = if own.is_empty() { b"" } else { b":" };
    let (name, option) = (env::ASAN_OPTIONS.as_bytes(), env::ASAN_ANY_ORDER.as_bytes());
    line.push_all(&[name, b"=", own, separator, option]).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: &[u8] = b"/h/lib/ours.so";

    fn text(line: Option<Line<TEXT_BYTES>>) -> Option<String> {
        line.map(|line| line.as_c().to_str().unwrap().to_owned())
    }

    fn preload(value: &str) -> Option<String> {
        Some(format!("{PRELOAD}={value}"))
    }

    #[test]
    fn our_library_is_merged_behind_the_programs_own() {
        assert_eq!(text(merge(b"/x.so", LIBRARY)), preload("/x.so:/h/lib/ours.so"));
        assert_eq!(text(merge(b"/x.so /y.so", LIBRARY)), preload("/x.so /y.so:/h/lib/ours.so"));
        assert_eq!(text(merge(b"", LIBRARY)), preload("/h/lib/ours.so"));
    }

    #[test]
    fn merged_text_ends_within_its_room() {
        let room = TEXT_BYTES - PRELOAD.len() - "=:".len() - LIBRARY.len() - 1;
        let fits = vec![b'x'; room];
        assert_eq!(merge(&fits, LIBRARY).unwrap().as_c().to_bytes().len(), TEXT_BYTES - 1);
        assert!(merge(&vec![b'x'; room + 1], LIBRARY).is_none());
    }

    #[test]
    fn our_library_is_taken_out_of_the_others() {
        assert_eq!(text(others(b"/x.so:/h/lib/ours.so /y.so", LIBRARY)), preload("/x.so:/y.so"));
        assert_eq!(text(others(b"/x.so", LIBRARY)), preload("/x.so"));
        assert_eq!(text(others(b"/h/lib/ours.so:", LIBRARY)), None);
        assert_eq!(text(others(&[b'x'; TEXT_BYTES], LIBRARY)), None);
    }
}
