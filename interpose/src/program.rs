//! What kind of program a file is, from its first bytes: whether the library can be loaded into it at all.
use crate::sys;
use core::ffi::CStr;

/// Bytes that are read: the ELF header and some eighteen program headers.
const HEAD_BYTES: usize = 1152;

/// Kinds of program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of another word size than this library. The loader would complain on the program's stderr.
    OtherSize,
    /// Without a dynamic loader: nothing can be loaded into it.
    Static,
    /// Anything else: it takes the library, or is a script whose interpreter does.
    Reachable,
}

/// The kind of the program at `path`; [`Kind::Reachable`] where it cannot be read.
pub(crate) fn kind(path: &CStr) -> Kind {
    let Ok(fd) = sys::open(path, libc::O_RDONLY, 0) else { return Kind::Reachable };
    let mut head = [0_u8; HEAD_BYTES];
    let length = sys::read(fd, &mut head).unwrap_or(0);
    sys::close(fd);
    classify(head.get(..length).unwrap_or(&[]))
}

/// Reads an ELF header (elf(5)).
fn classify(head: &[u8]) -> Kind {
    const PT_INTERP: u32 = 3;
    let Some(class) = head.strip_prefix(b"\x7fELF").and_then(|rest| rest.first()) else {
        return Kind::Reachable;
    };
    if *class != 2 {
        return Kind::OtherSize;
    }
    let number16 = |at: usize| {
        let bytes = head.get(at..at.checked_add(2)?)?;
        Some(u16::from_le_bytes(bytes.try_into().ok()?))
    };
    let number32 = |at: usize| {
        let bytes = head.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let (Some(offset), Some(size), Some(count)) = (number32(32), number16(54), number16(56)) else {
        return Kind::Reachable;
    };
    for index in 0..usize::from(count) {
        let at = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .saturating_add(index.saturating_mul(usize::from(size)));
        match number32(at) {
            Some(PT_INTERP) => return Kind::Reachable,
            Some(_) => {}
            // Headers beyond what was read: nothing is claimed.
            None => return Kind::Reachable,
        }
    }
    Kind::Static
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_apart() {
        assert_eq!(kind(c"/proc/self/exe"), Kind::Reachable);
        assert_eq!(classify(b"#!/bin/sh\n"), Kind::Reachable);
        assert_eq!(classify(b"\x7fELF\x01"), Kind::OtherSize);
        let mut fixed = [0_u8; 128];
        fixed[..5].copy_from_slice(b"\x7fELF\x02");
        fixed[32] = 64;
        fixed[54] = 56;
        fixed[56] = 1;
        fixed[64] = 1;
        assert_eq!(classify(&fixed), Kind::Static);
        fixed[64] = 3;
        assert_eq!(classify(&fixed), Kind::Reachable);
    }
}
