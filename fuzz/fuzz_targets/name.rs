//! The codec of file names: whatever is read is written again as it was, whatever is written is read again,
//! and no name is longer than its limit. Labels are folded into labels.
#![no_main]

use agentfs_wire::address::Scope;
use agentfs_wire::label::fold;
use agentfs_wire::limits::{APP_BYTES, FILE_NAME_BYTES, INSTANCE_BYTES, REUSEPORT_WORKERS};
use agentfs_wire::name::{Kind, SocketName, app_name, instance_name, is_label};
use libfuzzer_sys::fuzz_target;
use std::net::Ipv4Addr;

#[derive(arbitrary::Arbitrary, Debug)]
struct Input<'a> {
    kind: u8,
    port: u16,
    address: u32,
    worker: u8,
    /// A file name; or an app and an instance as people call them, with a newline between.
    text: &'a str,
}

fuzz_target!(|input: Input<'_>| {
    if let Ok(name) = SocketName::parse(input.text) {
        assert_eq!(name.format().as_str(), input.text);
        assert!(is_label(name.app.as_str()) && is_label(name.instance.as_str()));
    }
    let port = input.port.max(1);
    let scope = match input.address % 5 {
        0 => Scope::AnyV4,
        1 => Scope::AnyDual,
        2 => Scope::AnyV6,
        3 => Scope::LoopbackV6,
        _ => Scope::V4(Ipv4Addr::from(0x7f00_0000 | (input.address >> 8))),
    };
    let kind = match input.kind % 5 {
        0 => Kind::Main,
        1 => Kind::Companion,
        2 => Kind::Group { port, scope },
        3 => Kind::Listener { port, scope, worker: None },
        _ => Kind::Listener { port, scope, worker: Some(input.worker % REUSEPORT_WORKERS) },
    };
    let (app, instance) = input.text.split_once('\n').unwrap_or((input.text, input.text));
    let folded = [fold(app, APP_BYTES), fold(instance, INSTANCE_BYTES)];
    for (label, limit) in folded.iter().zip([APP_BYTES, INSTANCE_BYTES]) {
        assert!(label.as_ref().is_none_or(|label| is_label(label) && label.len() <= limit), "{label:?}");
    }
    let [app, instance] = folded.map(Option::unwrap_or_default);
    if let (Some(app), Some(instance)) = (app_name(&app), instance_name(&instance)) {
        let name = SocketName { app, instance, kind };
        let file = name.format();
        assert!(file.as_bytes().len() <= FILE_NAME_BYTES);
        assert_eq!(SocketName::parse(file.as_str()), Ok(name));
    }
});
