//! Notices: reading never panics; what reads is written as the same bytes; what is written reads as the same
//! notice; nothing is written that is longer than its buffer.
#![no_main]

use agentfs_wire::address::{Endpoint, WireEndpoint};
use agentfs_wire::limits::NOTICE_BYTES;
use agentfs_wire::notice::{Notice, NoticeError, ON_BEHALF, VERSION, is_on_behalf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    match Notice::decode(datagram) {
        Ok(notice) => {
            let mut buffer = [0; NOTICE_BYTES + 1];
            // Of the process that sends it, or of another one.
            let encode = |buffer: &mut [u8]| {
                if is_on_behalf(datagram) { notice.encode_on_behalf(buffer) } else { notice.encode(buffer) }
            };
            let length = encode(&mut buffer).expect("what was read fits");
            assert_eq!(&buffer[..length], datagram);
            for cut in [0, length / 2, length - 1] {
                assert!(encode(&mut buffer[..cut]).is_none(), "{cut} bytes hold {length}");
                assert!(Notice::decode(&datagram[..cut]).is_err());
            }
            if let Some(address) = notice.address {
                let endpoint = Endpoint::from(address);
                assert_eq!(Endpoint::from(WireEndpoint::from(endpoint)), endpoint);
                assert_eq!(endpoint.canonical().mapped().canonical(), endpoint.canonical());
            }
        }
        Err(NoticeError::Empty) => assert!(datagram.is_empty()),
        Err(NoticeError::Version(version)) => {
            assert!(version == datagram[0] && version != VERSION && version != ON_BEHALF)
        }
        Err(NoticeError::Malformed) => {
            assert!([VERSION, ON_BEHALF].contains(&datagram[0]))
        }
    }
});
