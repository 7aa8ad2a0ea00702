//! Names of client ends: reading never panics; what reads is written as the same name, as far as the name says
//! all of it; what is written reads as the same peer and fits.
#![no_main]

use agentfs_wire::address::Endpoint;
use agentfs_wire::peer::{PEER_NAME_BYTES, Peer};
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(arbitrary::Arbitrary, Debug)]
struct Input<'a> {
    client: IpAddr,
    own: Option<u32>,
    other: Option<u32>,
    ports: [u16; 2],
    flag: bool,
    space: u64,
    pid: u32,
    name: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    match Peer::parse(input.name) {
        Some(Peer::Client { v6_socket, local, remote }) => {
            let again = Peer::format_client(0, v6_socket, local, remote);
            // Only the instance's space is not kept.
            assert_eq!(again.as_bytes().get(24..), input.name.get(24..));
            assert_eq!(again.as_bytes().len(), input.name.len());
        }
        Some(peer @ Peer::Forwarded { client, handed_over }) => {
            let again = Peer::format_forwarded(client, handed_over, input.pid, input.space);
            assert_eq!(Peer::parse(again.as_bytes()), Some(peer));
        }
        None => {}
    }
    let [port, to] = input.ports;
    let client = Endpoint { ip: input.client, port };
    let forwarded = Peer::format_forwarded(client, input.flag, input.pid, input.space);
    assert!(forwarded.as_bytes().len() <= PEER_NAME_BYTES);
    let peer = Peer::Forwarded { client, handed_over: input.flag };
    assert_eq!(Peer::parse(forwarded.as_bytes()), Some(peer));
    let ip = |number: Option<u32>| match number {
        Some(number) => IpAddr::V4(Ipv4Addr::from(number)),
        None => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let (local, remote) = (Endpoint { ip: ip(input.own), port }, Endpoint { ip: ip(input.other), port: to });
    let name = Peer::format_client(input.space, input.flag, local, remote);
    assert!(name.as_bytes().len() <= PEER_NAME_BYTES);
    let peer = Peer::Client { v6_socket: input.flag, local, remote };
    assert_eq!(Peer::parse(name.as_bytes()), Some(peer));
});
