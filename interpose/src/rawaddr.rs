//! The one reader and the one writer of raw socket addresses.
//!
//! The length is checked before the family, and the family before the rest. Nothing is written past the length
//! that the program gave. The full length is always returned, as the kernel does (accept(2): a value greater
//! than the given one means that the name was cut).
#![expect(unsafe_code, reason = "raw socket addresses")]

use crate::header::{family_at, family_of, inet_header, socklen, unix_header};
use agentfs_wire::address::Endpoint;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use libc::{c_int, sockaddr, socklen_t};

/// Bytes of `sockaddr_in`.
pub(crate) const IN_BYTES: usize = 16;
/// Bytes of `sockaddr_in6`.
pub(crate) const IN6_BYTES: usize = 28;
/// Least bytes of an IPv6 address that the kernel takes (`SIN6_LEN_RFC2133`).
const IN6_LEAST_BYTES: usize = 24;
/// Most bytes that the kernel takes, a `sockaddr_storage`; a negative length is a larger one.
const STORAGE_BYTES: usize = 128;
/// No memory can be mapped below this address, so such a pointer is as bad as NULL.
const FIRST_PAGE: usize = 4096;

/// Whether a pointer is NULL, or as bad: the kernel will say EFAULT.
///
/// More cannot be known about a pointer without a system call, and every call of the program would pay for it. Any
/// other pointer into no memory ends the program by SIGSEGV if it is read here before the kernel checks it
/// (docs/interposer.md, "What differs").
pub(crate) fn is_nowhere<T>(pointer: *const T) -> bool {
    pointer.addr() < FIRST_PAGE
}

/// An address that a program passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// An inet address that is long enough for its family.
    Inet(Endpoint),
    /// `AF_UNSPEC`.
    Unspecified,
    /// Anything else, also what is malformed or NULL. The kernel answers.
    Other,
}

/// Reads an address that a program passed.
///
/// # Safety
/// A pointer outside the first page that is at least two bytes long by `length` can be read for
/// `length` bytes, as the system call requires.
pub(crate) unsafe fn read(address: *const sockaddr, length: socklen_t) -> Given {
    let length = usize::try_from(length).unwrap_or(0);
    if is_nowhere(address) || !(2..=STORAGE_BYTES).contains(&length) {
        return Given::Other;
    }
    // SAFETY: the caller vouches for `length` >= 2 bytes.
    let family = unsafe { family_at(address) };
    let used = match family {
        libc::AF_INET if length >= IN_BYTES => IN_BYTES,
        libc::AF_INET6 if length >= IN6_LEAST_BYTES => IN6_LEAST_BYTES,
        libc::AF_UNSPEC => return Given::Unspecified,
        _ => return Given::Other,
    };
    // SAFETY: the caller vouches for `length` bytes, of which `used` are read.
    let bytes = unsafe { core::slice::from_raw_parts(address.cast::<u8>(), used) };
    decode_inet(family, bytes).map_or(Given::Other, Given::Inet)
}

/// Whether a program's address is well-formed, as far as its family can be read, and of no inet family.
///
/// # Safety
/// As [`read`].
pub(crate) unsafe fn names_other_family(address: *const sockaddr, length: socklen_t) -> bool {
    let length = usize::try_from(length).unwrap_or(0);
    if is_nowhere(address) || !(2..=STORAGE_BYTES).contains(&length) {
        return false;
    }
    // SAFETY: the caller vouches for `length` >= 2 bytes.
    !matches!(unsafe { family_at(address) }, libc::AF_INET | libc::AF_INET6 | libc::AF_UNSPEC)
}

/// Reads an inet address from bytes.
fn decode_inet(family: c_int, bytes: &[u8]) -> Option<Endpoint> {
    let port = u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]);
    let ip = if family == libc::AF_INET {
        let octets: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
        IpAddr::V4(Ipv4Addr::from(octets))
    } else {
        let octets: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    Some(Endpoint { ip, port })
}

/// Reads a name that the kernel gave.
pub(crate) fn read_name(name: &[u8]) -> Given {
    match family_of(name) {
        family @ (libc::AF_INET | libc::AF_INET6) => {
            decode_inet(family, name).map_or(Given::Other, Given::Inet)
        }
        libc::AF_UNSPEC => Given::Unspecified,
        _ => Given::Other,
    }
}

/// An inet address as the kernel would write it.
pub(crate) struct Encoded {
    bytes: [u8; IN6_BYTES],
    length: usize,
}

// === impl Encoded ===

impl Encoded {
    /// Writes an endpoint.
    pub(crate) fn of(endpoint: Endpoint) -> Self {
        let mut bytes = [0; IN6_BYTES];
        let (family, length) = match endpoint.ip {
            IpAddr::V4(_) => (libc::AF_INET, IN_BYTES),
            IpAddr::V6(_) => (libc::AF_INET6, IN6_BYTES),
        };
        let header = inet_header(family, length);
        let port = endpoint.port.to_be_bytes();
        copy(&mut bytes, 0, &header);
        copy(&mut bytes, 2, &port);
        match endpoint.ip {
            IpAddr::V4(ip) => copy(&mut bytes, 4, &ip.octets()),
            IpAddr::V6(ip) => copy(&mut bytes, 8, &ip.octets()),
        }
        Self { bytes, length }
    }

    /// The address.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

fn copy(to: &mut [u8], at: usize, from: &[u8]) {
    for (to, from) in to.iter_mut().skip(at).zip(from) {
        *to = *from;
    }
}

/// Writes a name for a program, as accept, getsockname, getpeername and recvfrom do. If there is no room, only the
/// length is written, and the address may be any pointer.
///
/// # Safety
/// `length` is NULL or points to a length; `address` is NULL or has room for that many bytes.
pub(crate) unsafe fn give(name: &[u8], address: *mut sockaddr, length: *mut socklen_t) {
    if is_nowhere(length) {
        return;
    }
    // SAFETY: the caller vouches for `length`.
    let room = usize::try_from(unsafe { length.read_unaligned() }).unwrap_or(0);
    let count = room.min(name.len());
    if count > 0 {
        if is_nowhere(address) {
            return;
        }
        // SAFETY: `address` has room for `room` >= `count` bytes, and `name` is ours.
        unsafe { core::ptr::copy_nonoverlapping(name.as_ptr(), address.cast::<u8>(), count) };
    }
    // SAFETY: the caller vouches for `length`.
    unsafe { length.write_unaligned(socklen(name.len())) };
}

/// Whether a name can be written there. The kernel refuses a length that is NULL or negative, and an address in no
/// memory; with a length of 0 the address may be any pointer.
///
/// # Safety
/// A pointer outside the first page can be read.
pub(crate) unsafe fn takes_name(address: *const sockaddr, length: *const socklen_t) -> bool {
    // SAFETY: the caller vouches for the pointer.
    if !unsafe { has_room(length) } {
        return false;
    }
    // SAFETY: as above.
    !is_nowhere(address) || unsafe { length.read_unaligned() } == 0
}

/// Whether the length of a name is neither NULL nor negative; the kernel refuses these.
///
/// # Safety
/// A pointer outside the first page can be read.
pub(crate) unsafe fn has_room(length: *const socklen_t) -> bool {
    // SAFETY: the caller vouches for the pointer.
    !is_nowhere(length) && unsafe { length.read_unaligned() }.cast_signed() >= 0
}

/// A Unix socket name: two bytes of header, then a path with its NUL, or an abstract name.
pub(crate) struct UnixName {
    bytes: [u8; 112],
    length: usize,
}

// === impl UnixName ===

impl UnixName {
    /// The name of a path, which has no NUL in it. A path that is too long is cut; the limits in `wire` prevent that.
    pub(crate) fn path(parts: &[&[u8]]) -> Self {
        let mut name = Self { bytes: [0; 112], length: 2 };
        for part in parts {
            copy(name.bytes.get_mut(..108).unwrap_or(&mut []), name.length, part);
            name.length = (name.length + part.len()).min(107);
        }
        name.length += 1;
        name.head()
    }

    /// An abstract name (Linux), leading NUL included.
    #[cfg(target_os = "linux")]
    pub(crate) fn abstract_name(text: &[u8]) -> Self {
        let mut name = Self { bytes: [0; 112], length: 2 };
        copy(&mut name.bytes, 2, text);
        name.length = (2 + text.len()).min(110);
        name.head()
    }

    fn head(mut self) -> Self {
        let header = unix_header(self.length);
        copy(&mut self.bytes, 0, &header);
        self
    }

    /// The whole name, for bind, connect, sendto.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }

    /// The path with its NUL.
    pub(crate) fn c_path(&self) -> &core::ffi::CStr {
        let path = self.bytes.get(2..).unwrap_or(&[]);
        core::ffi::CStr::from_bytes_until_nul(path).unwrap_or(c"")
    }
}

/// The path or abstract name in a Unix socket name from the kernel, without the header. A path comes without its NUL
/// and what follows it.
pub(crate) fn unix_text(name: &[u8]) -> &[u8] {
    let text = name.get(2..).unwrap_or(&[]);
    // macOS has no abstract names: its unnamed sockets answer a NUL (XNU, sun_noname).
    if cfg!(target_os = "linux") && text.first() == Some(&0) {
        return text;
    }
    match text.iter().position(|byte| *byte == 0) {
        Some(end) => text.get(..end).unwrap_or(&[]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        let address: core::net::SocketAddr = text.parse().unwrap();
        Endpoint { ip: address.ip(), port: address.port() }
    }

    #[test]
    fn memory_begins_behind_the_first_page() {
        for (address, nowhere) in [(0, true), (1, true), (FIRST_PAGE - 1, true), (FIRST_PAGE, false)] {
            assert_eq!(is_nowhere(core::ptr::without_provenance::<u8>(address)), nowhere, "{address}");
        }
    }

    fn read_bytes(bytes: &[u8], length: usize) -> Given {
        // SAFETY: `bytes` has at least `length` bytes in every test.
        unsafe { read(bytes.as_ptr().cast(), socklen(length)) }
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in ["127.0.0.1:8080", "0.0.0.0:0", "[::1]:3000", "[::ffff:127.0.0.1]:1"] {
            let encoded = Encoded::of(endpoint(text));
            let bytes = encoded.bytes();
            assert_eq!(read_bytes(bytes, bytes.len()), Given::Inet(endpoint(text)), "{text}");
            assert_eq!(read_name(bytes), Given::Inet(endpoint(text)), "{text}");
        }
    }

    #[test]
    fn short_and_null_addresses_are_the_kernels_business() {
        let encoded = Encoded::of(endpoint("127.0.0.1:8080"));
        assert_eq!(read_bytes(encoded.bytes(), 15), Given::Other);
        assert_eq!(read_bytes(encoded.bytes(), 0), Given::Other);
        // SAFETY: NULL is never read.
        assert_eq!(unsafe { read(core::ptr::null(), 16) }, Given::Other);
        let six = Encoded::of(endpoint("[::1]:1"));
        assert_eq!(read_bytes(six.bytes(), 16), Given::Other);
        assert!(matches!(read_bytes(six.bytes(), 24), Given::Inet(_)));
    }

    #[test]
    fn a_longer_length_is_fine() {
        let mut padded = [0_u8; 128];
        copy(&mut padded, 0, Encoded::of(endpoint("127.0.0.1:80")).bytes());
        assert_eq!(read_bytes(&padded, 128), Given::Inet(endpoint("127.0.0.1:80")));
    }

    #[test]
    fn nothing_is_written_past_the_given_length() {
        let encoded = Encoded::of(endpoint("127.0.0.1:8080"));
        let mut buffer = [0xaa_u8; 32];
        let mut length: socklen_t = 7;
        // SAFETY: the buffer has more than 7 bytes.
        unsafe { give(encoded.bytes(), buffer.as_mut_ptr().cast(), &mut length) };
        assert_eq!(length, 16);
        assert_eq!(buffer.get(..7), encoded.bytes().get(..7));
        assert!(buffer.iter().skip(7).all(|byte| *byte == 0xaa));
    }

    #[test]
    fn a_name_without_room_tells_its_length() {
        let encoded = Encoded::of(endpoint("127.0.0.1:8080"));
        let mut length: socklen_t = 0;
        // SAFETY: an address without room is never written to.
        unsafe { give(encoded.bytes(), core::ptr::null_mut(), &mut length) };
        assert_eq!(length, 16);
        // SAFETY: the length is ours.
        assert!(!unsafe { takes_name(core::ptr::null(), &length) });
        length = 0;
        // SAFETY: the length is ours.
        assert!(unsafe { takes_name(core::ptr::null(), &length) });
        // SAFETY: NULL is never read.
        assert!(!unsafe { takes_name(encoded.bytes().as_ptr().cast(), core::ptr::null()) });
    }

    #[test]
    fn other_families_are_told_apart() {
        // SAFETY: `bytes` has at least `length` bytes in every call.
        let other = |bytes: &[u8], length: usize| unsafe {
            names_other_family(bytes.as_ptr().cast(), socklen(length))
        };
        let local = UnixName::path(&[b"/x"]);
        assert!(other(local.bytes(), local.bytes().len()) && other(local.bytes(), 2));
        let padded = [local.bytes(), &[0; 200]].concat();
        assert!(other(&padded, 128) && !other(&padded, 129) && !other(&padded, 1) && !other(&padded, 0));
        for inet in ["127.0.0.1:80", "[::1]:80"].map(|text| Encoded::of(endpoint(text))) {
            assert!(!other(inet.bytes(), inet.bytes().len()));
        }
        assert!(!other(&[0; 16], 16));
        // SAFETY: what is in the first page is never read.
        assert!(!unsafe { names_other_family(core::ptr::without_provenance(4095), 16) });
        assert_eq!(read_bytes(&padded, local.bytes().len()), Given::Other);
        assert_eq!(read_name(local.bytes()), Given::Other);
        assert_eq!((read_bytes(&[0; 16], 16), read_name(&[])), (Given::Unspecified, Given::Unspecified));
    }

    #[test]
    fn an_address_is_laid_out_as_the_kernel_does() {
        let four = Encoded::of(endpoint("127.0.0.2:258"));
        assert_eq!(four.bytes().get(2..), Some(&[1, 2, 127, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0][..]));
        let six = Encoded::of(endpoint("[102::304]:258"));
        let mut expected = [0_u8; 26];
        expected[..2].copy_from_slice(&[1, 2]);
        expected[6..8].copy_from_slice(&[1, 2]);
        expected[20..22].copy_from_slice(&[3, 4]);
        assert_eq!(six.bytes().get(2..), Some(&expected[..]));
    }

    #[test]
    fn no_name_is_given_where_it_would_be_refused() {
        let encoded = Encoded::of(endpoint("127.0.0.1:8080"));
        let mut length: socklen_t = 16;
        // SAFETY: what is in the first page is never read or written.
        unsafe { give(encoded.bytes(), core::ptr::without_provenance_mut(4095), &raw mut length) };
        assert_eq!(length, 16);
        // SAFETY: as above.
        unsafe { give(encoded.bytes(), core::ptr::null_mut(), core::ptr::without_provenance_mut(4095)) };
        length = 7;
        // SAFETY: as above.
        unsafe { give(encoded.bytes(), core::ptr::null_mut(), &raw mut length) };
        assert_eq!(length, 7, "without room that was promised, nothing is told");
        let mut room = [0_u8; 64];
        length = 64;
        // SAFETY: the room is as long as `length` says.
        unsafe { give(encoded.bytes(), room.as_mut_ptr().cast(), &raw mut length) };
        assert_eq!((length, room.get(..16)), (16, Some(encoded.bytes())));
        let address = room.as_ptr().cast();
        for (told, taken) in [(0, true), (16, true), (c_int::MAX, true), (-1, false), (c_int::MIN, false)] {
            let told = told.cast_unsigned();
            // SAFETY: the length is ours; no address is read.
            assert_eq!(unsafe { takes_name(address, &raw const told) }, taken, "{told}");
            // SAFETY: as above.
            assert_eq!(unsafe { has_room(&raw const told) }, taken, "{told}");
        }
        let told = 16;
        // SAFETY: what is in the first page is never read.
        assert!(!unsafe { takes_name(core::ptr::without_provenance(4095), &raw const told) });
        // SAFETY: as above.
        assert!(!unsafe { has_room(core::ptr::without_provenance(4095)) });
    }

    #[test]
    fn what_is_too_long_is_cut_and_ends() {
        let long = [b'x'; 300];
        let path = UnixName::path(&[b"/run", &long]);
        assert_eq!(path.bytes().len(), 108);
        assert_eq!(path.c_path().to_bytes().len(), 106);
        assert_eq!(unix_text(path.bytes()).len(), 106);
        assert_eq!(UnixName::path(&[b"/run"]).bytes().get(2..), Some(&b"/run\0"[..]));
        #[cfg(target_os = "linux")]
        assert_eq!(UnixName::abstract_name(&long).bytes().len(), 110);
    }

    #[test]
    fn padded_paths_are_trimmed() {
        let path = UnixName::path(&[b"/run/x", b"/a-b.80.sock"]);
        assert_eq!(unix_text(path.bytes()), b"/run/x/a-b.80.sock");
        assert_eq!(path.c_path(), c"/run/x/a-b.80.sock");
        assert_eq!(unix_text(&[1, 0]), b"");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn abstract_names_are_kept() {
        let name = UnixName::abstract_name(b"\0abc\0\0");
        assert_eq!(unix_text(name.bytes()), b"\0abc\0\0");
    }

    #[cfg(target_os = "macos")]
    #[test]
    fn an_unnamed_socket_has_no_text() {
        assert_eq!(unix_text(&[3, 1, 0]), b"");
    }
}
