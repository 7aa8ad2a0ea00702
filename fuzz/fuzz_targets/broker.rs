//! The broker's messages: reading never panics; what reads is written as the same bytes; nothing is written
//! that is longer than its buffer.
#![no_main]

use agentfs_wire::broker::{Answer, REQUEST_BYTES, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    let mut buffer = [0; REQUEST_BYTES + 1];
    if let Some(request) = Request::decode(message) {
        let length = request.encode(&mut buffer).expect("what was read fits");
        assert_eq!(&buffer[..length], message);
        assert!(request.encode(&mut buffer[..length - 1]).is_none());
        assert_eq!(Request::decode(&message[..length - 1]), None);
    }
    if let Some(answer) = Answer::decode(message) {
        let length = answer.encode(&mut buffer).expect("what was read fits");
        assert_eq!(&buffer[..length], message);
    }
});
