//! The first two bytes of a raw socket address: the family (Linux), or a length and the family (macOS and
//! the other BSDs, `sys/socket.h`). Pure, and separate from the system calls, so that `rawaddr` can be fuzzed alone.
#![expect(unsafe_code, reason = "reads the family of a program's address")]

use libc::{c_int, sockaddr, socklen_t};

/// A length as the socket calls take it. Lengths here are at most a few hundred bytes.
pub(crate) fn socklen(length: usize) -> socklen_t {
    socklen_t::try_from(length).unwrap_or(0)
}

/// The family of a socket name.
#[cfg(not(target_vendor = "apple"))]
pub(crate) fn family_of(name: &[u8]) -> c_int {
    match name {
        [low, high, ..] => c_int::from(u16::from_ne_bytes([*low, *high])),
        _ => libc::AF_UNSPEC,
    }
}

/// The family of a socket name: its second byte.
#[cfg(target_vendor = "apple")]
pub(crate) fn family_of(name: &[u8]) -> c_int {
    match name {
        [_, family, ..] => c_int::from(*family),
        _ => libc::AF_UNSPEC,
    }
}

#[cfg(not(target_vendor = "apple"))]
fn header(family: c_int, _length: usize) -> [u8; 2] {
    libc::sa_family_t::try_from(family).unwrap_or(0).to_ne_bytes()
}

#[cfg(target_vendor = "apple")]
fn header(family: c_int, length: usize) -> [u8; 2] {
    [u8::try_from(length).unwrap_or(0), u8::try_from(family).unwrap_or(0)]
}

/// The two bytes before the path in a Unix socket name of `length` bytes.
pub(crate) fn unix_header(length: usize) -> [u8; 2] {
    header(libc::AF_UNIX, length)
}

/// The two bytes before port and address in an inet socket name of `length` bytes.
pub(crate) fn inet_header(family: c_int, length: usize) -> [u8; 2] {
    header(family, length)
}

/// Reads `pointer` as the family of a program's address.
///
/// # Safety
/// At least two bytes at `pointer` can be read.
pub(crate) unsafe fn family_at(pointer: *const sockaddr) -> c_int {
    // SAFETY: the caller vouches for two bytes; alignment is not assumed.
    family_of(&unsafe { pointer.cast::<[u8; 2]>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_has_its_family() {
        for family in [libc::AF_INET, libc::AF_INET6] {
            assert_eq!(family_of(&inet_header(family, 16)), family);
        }
        assert_eq!(family_of(&unix_header(20)), libc::AF_UNIX);
        assert_eq!(family_of(&[]), libc::AF_UNSPEC);
        assert_eq!(family_of(&[1]), libc::AF_UNSPEC);
    }

    #[test]
    fn a_header_is_what_the_system_has_there() {
        // SAFETY: all zeros is an address.
        let mut address: libc::sockaddr = unsafe { core::mem::zeroed() };
        address.sa_family = libc::sa_family_t::try_from(libc::AF_INET6).unwrap();
        #[cfg(target_vendor = "apple")]
        {
            address.sa_len = 28;
        }
        // SAFETY: the address is larger than two bytes.
        let header = unsafe { core::ptr::from_ref(&address).cast::<[u8; 2]>().read_unaligned() };
        assert_eq!(inet_header(libc::AF_INET6, 28), header);
        // SAFETY: the address is larger than two bytes.
        assert_eq!(unsafe { family_at(&raw const address) }, libc::AF_INET6);
    }

    #[test]
    fn lengths_stay() {
        assert_eq!([socklen(0), socklen(16), socklen(128)], [0, 16, 128]);
    }
}
