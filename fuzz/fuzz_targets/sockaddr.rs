//! The reader and the writer of raw socket addresses: the reader looks at no byte behind the length it was given
//! (AddressSanitizer watches), the writer writes none, reports the full length, and both agree.
#![no_main]
#![expect(unsafe_code, reason = "calls what takes a program's pointers")]

#[path = "../../interpose/src/header.rs"]
mod header;
#[expect(dead_code, reason = "used in part")]
#[path = "../../interpose/src/rawaddr.rs"]
mod rawaddr;

use agentfs_wire::address::Endpoint;
use libfuzzer_sys::fuzz_target;
use rawaddr::{Encoded, Given, UnixName, give, names_other_family, read, read_name, unix_text};
use std::net::IpAddr;

#[derive(arbitrary::Arbitrary, Debug)]
struct Input<'a> {
    /// Whether the program's length is that of the bytes, or this one.
    claimed: Option<u32>,
    ip: IpAddr,
    port: u16,
    room: u8,
    folder: &'a [u8],
    address: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    // On the heap and of the exact size: a byte too many is seen.
    let bytes: Box<[u8]> = input.address.into();
    let exact = u32::try_from(bytes.len()).unwrap_or(0);
    // A length that goes beyond what is there is the program's fault, unless it is so wrong that nothing is read.
    let length = match input.claimed {
        Some(claimed) if claimed <= exact || claimed > 128 => claimed,
        _ => exact,
    };
    // SAFETY: `length` bytes are there, or it is beyond any address and nothing is read.
    let given = unsafe { read(bytes.as_ptr().cast(), length) };
    // SAFETY: as above.
    let other = unsafe { names_other_family(bytes.as_ptr().cast(), length) };
    match given {
        Given::Inet(endpoint) => {
            assert!(!other && length <= exact);
            assert_eq!(read_name(&bytes), given);
            let again = Encoded::of(endpoint);
            assert_eq!(read_name(again.bytes()), given);
            // Everything but what stands for flow, scope and padding.
            let (address, at) = if endpoint.ip.is_ipv4() { (4..8, 8) } else { (8..24, 24) };
            assert_eq!(bytes.get(..4), again.bytes().get(..4));
            assert_eq!(bytes.get(address.clone()), again.bytes().get(address));
            assert!(again.bytes().iter().skip(at).all(|byte| *byte == 0));
        }
        Given::Unspecified => assert!(!other),
        Given::Other => {}
    }
    let _ = (read_name(&bytes), unix_text(&bytes));

    let endpoint = Endpoint { ip: input.ip, port: input.port };
    let encoded = Encoded::of(endpoint);
    assert_eq!(read_name(encoded.bytes()), Given::Inet(endpoint));
    // SAFETY: the bytes are ours.
    let same = unsafe { read(encoded.bytes().as_ptr().cast(), header::socklen(encoded.bytes().len())) };
    assert_eq!(same, Given::Inet(endpoint));
    for name in [encoded.bytes(), &bytes] {
        let room = usize::from(input.room);
        let mut buffer: Box<[u8]> = vec![0xaa; room].into();
        let mut length = header::socklen(room);
        // SAFETY: the buffer has `length` bytes.
        unsafe { give(name, buffer.as_mut_ptr().cast(), &raw mut length) };
        let count = room.min(name.len());
        assert_eq!(usize::try_from(length).ok(), Some(name.len()));
        assert_eq!(buffer.get(..count), name.get(..count));
        assert!(buffer.iter().skip(count).all(|byte| *byte == 0xaa));
    }

    let parts = [input.folder, input.address];
    let whole: Vec<u8> = parts.concat();
    let name = UnixName::path(&parts);
    assert!(name.bytes().len() <= 110 && header::family_of(name.bytes()) == libc::AF_UNIX);
    if (1..=105).contains(&whole.len()) && !whole.contains(&0) {
        assert_eq!(unix_text(name.bytes()), whole);
        assert_eq!(name.c_path().to_bytes(), whole);
    }
    let name = UnixName::abstract_name(&whole);
    assert!(name.bytes().len() <= 110 && whole.starts_with(&name.bytes()[2..]));
});
