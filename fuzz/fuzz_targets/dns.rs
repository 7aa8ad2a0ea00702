//! Questions about names: reading never panics; an answer is marked as one, and not much longer than its question.
#![no_main]

use agentfs_wire::dns::{MESSAGE_BYTES, answer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    let mut reply = [0; MESSAGE_BYTES];
    if let Some(length) = answer(message, &mut reply) {
        assert!(length >= 12 && length <= message.len() + 28);
        assert_eq!(reply[..2], message[..2]);
        assert!(reply[2] & 0x80 != 0 && message[2] & 0x80 == 0);
    }
});
