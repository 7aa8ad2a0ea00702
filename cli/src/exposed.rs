//! Ports of an instance that the collector opens on the host as well, both on `127.0.0.1` and on `[::1]`.
use crate::client::Client;
use crate::exit::Exit;
use crate::hint::Failure;
use agentfs_wire::control::{ForwardInfo, ForwardParams, method};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Opens the ports, until the instance ends. Returns the addresses that were not open before.
///
/// # Errors
/// There is no collector, or one of them is in use: then none of them stays open.
pub(crate) fn open(
    ports: &[u16],
    client: Option<&mut Client>,
    app: &str,
    instance: &str,
) -> Result<Vec<String>, Failure> {
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    let Some(client) = client else {
        return Err(Failure::new(Exit::Setup, "--expose needs the collector, but none answers")
            .hint("run `agentfs daemon start` to see why"));
    };
    // `localhost` means both addresses, and some programs (Node 18) try only the first. A machine may have no
    // IPv6.
    let both = ["127.0.0.1", "[::1]"];
    let has_v6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    let mut opened: Vec<String> = Vec::new();
    // A port that is named twice is opened once.
    for port in ports.iter().collect::<BTreeSet<_>>() {
        for address in both.into_iter().take(if has_v6 { 2 } else { 1 }) {
            let params = ForwardParams {
                app: app.to_owned(),
                instance: instance.to_owned(),
                port: Some(*port),
                listen: Some(format!("{address}:{port}")),
                handoff: None,
                lan: false,
            };
            match client.call::<ForwardInfo>(method::FORWARD_ADD, params) {
                Ok(forward) if forward.existed => {}
                Ok(forward) => opened.push(forward.listen),
                Err(error) => {
                    // The instance may have been there before us: nothing of ours stays open.
                    close(&opened, client);
                    return Err(error.exit(Exit::Setup));
                }
            }
        }
    }
    Ok(opened)
}

/// Closes what [`open`] has opened. The instance may have ended meanwhile, and they with it.
pub(crate) fn close(opened: &[String], client: &mut Client) {
    for listen in opened {
        let _: Result<Value, Failure> = client.call(method::FORWARD_REMOVE, json!({ "listen": listen }));
    }
}
