//! Control lines: the collector's reader gives every line whole or refuses it, however the bytes are cut, and
//! never keeps more than its limit; a request or reply that reads is written and read as the same.
#![no_main]

use agentfs_wire::companion::Companion;
use agentfs_wire::control::{
    DaemonInfo, ForwardParams, Reply, RouteParams, Snapshot, SubscribeParams, parse_request,
};
use agentfs_wire::event::Event;
use libfuzzer_sys::fuzz_target;
use line::Line;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use tokio::io::BufReader;

#[path = "../../collector/src/control/line.rs"]
mod line;

/// What `text` means is the same after it was written and read again.
fn stable<T: Serialize + DeserializeOwned + PartialEq + Debug>(text: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(text) else { return };
    let written = serde_json::to_vec(&value).expect("plain data can be written");
    assert!(!written.contains(&b'\n'), "a line has one newline, at its end");
    assert_eq!(serde_json::from_slice::<T>(&written).ok(), Some(value));
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (limit, capacity, bytes) = input;
    let limit = usize::from(limit);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime needs nothing");
    let mut reader = BufReader::with_capacity(usize::from(capacity).max(1), bytes);
    let mut rest = bytes;
    loop {
        match runtime.block_on(line::read(&mut reader, limit)).expect("memory does not fail") {
            Line::Whole(found) => {
                let end = rest.iter().position(|byte| *byte == b'\n');
                assert_eq!(found, &rest[..end.unwrap_or(rest.len())]);
                assert!(found.len() <= limit);
                rest = &rest[end.map_or(rest.len(), |end| end + 1)..];
            }
            Line::TooLong => {
                let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                assert!(end > limit);
                break;
            }
            Line::End => {
                assert!(rest.is_empty());
                break;
            }
        }
    }
    for text in bytes.split(|byte| *byte == b'\n') {
        if let Ok(request) = parse_request(text) {
            let written = serde_json::to_vec(&request).expect("a request can be written");
            assert_eq!(parse_request(&written).ok(), Some(request.clone()));
            let params = serde_json::to_vec(&request.params).expect("a value can be written");
            stable::<RouteParams>(&params);
            stable::<ForwardParams>(&params);
            stable::<SubscribeParams>(&params);
        }
        stable::<Reply>(text);
        stable::<Snapshot>(text);
        stable::<DaemonInfo>(text);
        stable::<Event>(text);
        stable::<Companion>(text);
    }
});
