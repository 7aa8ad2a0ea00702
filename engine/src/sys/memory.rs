//! Gives memory back that only the start needed.
#![expect(unsafe_code, reason = "madvise on code")]

use rustix::mm::{Advice, madvise};
use std::fs;

/// Lets go of the pages of code that are mapped: the start used far more of it than what follows. The kernel maps a page
/// again when it is run, from the page cache. Errors do not matter.
pub(crate) fn let_go_of_code() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, length) in maps.lines().filter_map(code) {
        let start = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: nobody can have written to these pages, so each comes back as it was.
        let _ = unsafe { madvise(start, length, Advice::LinuxDontNeed) };
    }
}

/// Start and length of a mapping of a file that can be run and not written, from a line as in proc_pid_maps(5).
fn code(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, rights, path) = (words.next()?, words.next()?, words.nth(3)?);
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    (rights == "r-xp" && path.starts_with('/')).then_some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_let_go_of() {
        for (line, expected) in [
            ("1000-3000 r-xp 001c4000 fe:00 54 /usr/bin/agentfs", Some((0x1000, 0x2000))),
            ("1000-3000 r--p 001c4000 fe:00 54 /usr/bin/agentfs", None),
            ("1000-3000 rwxp 001c4000 fe:00 54 /usr/bin/agentfs", None),
            ("1000-3000 r-xp 00000000 00:00 0 [vdso]", None),
            ("1000-3000 r-xp 00000000 00:00 0", None),
            ("", None),
        ] {
            assert_eq!(code(line), expected, "{line}");
        }
        let_go_of_code();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        assert!(maps.lines().filter_map(code).count() > 1, "{maps}");
    }
}
