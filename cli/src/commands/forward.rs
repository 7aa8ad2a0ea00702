//! `agentfs forward`: raw TCP from outside into an instance.
use crate::args::{ForwardAction, ForwardArguments};
use crate::autostart;
use crate::client::Client;
use crate::display;
use crate::exit::Exit;
use crate::here;
use crate::hint::Failure;
use crate::known;
use crate::pasted::{self, Pasted, port_label};
use crate::printer::Printer;
use crate::settings::Settings;
use agentfs_wire::control::{DaemonInfo, ForwardInfo, ForwardParams, Snapshot, method};
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Answer to `forward.list`.
#[derive(Debug, Deserialize)]
struct Forwards {
    /// Every forward.
    forwards: Vec<ForwardInfo>,
}

/// Runs the command.
///
/// # Errors
/// What the collector answers, or that it does not answer.
pub(crate) fn run(
    arguments: &ForwardArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    let mut client = autostart::ensure(settings)?;
    let (listed, removed) = match &arguments.action {
        Some(ForwardAction::List { json }) => (Some(*json), None),
        Some(ForwardAction::Remove { listen }) => (None, Some(listen)),
        None => (arguments.list.then_some(arguments.json), arguments.remove.as_ref()),
    };
    if let Some(as_json) = listed {
        return list(&mut client, as_json, printer);
    }
    if let Some(listen) = removed {
        // All ports of an instance have an address without a port; the collector says what is not found.
        let listen = listen_of(listen).unwrap_or_else(|_| listen.clone());
        let _: Value = client.call(method::FORWARD_REMOVE, json!({ "listen": listen }))?;
        printer.talk(&format!("removed the forward from {listen}"));
        return Ok(Exit::Success);
    }
    add(arguments, &mut client, settings, printer)
}

fn add(
    arguments: &ForwardArguments,
    client: &mut Client,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    let target = arguments.target.as_deref();
    let is_router = |port| {
        let daemon = client.call::<DaemonInfo>(method::DAEMON_INFO, json!({}));
        daemon.is_ok_and(|daemon| known::is_router(&daemon, port))
    };
    let (name, port) = target.map_or(Ok((None, None)), |target| target_of(target, is_router))?;
    if let (None, Some(listen)) = (port, &arguments.listen) {
        let name = name.unwrap_or("the instance");
        let failure =
            Failure::new(Exit::Usage, format_args!("every port of {name} cannot be served on `{listen}`"));
        return Err(failure.hint(
            "leave it out to serve all ports on an address of their own, or name one port: INSTANCE:PORT",
        ));
    }
    let snapshot: Snapshot = client.call(method::LIST, json!({}))?;
    let instance = here::choose(name, settings, client, &snapshot, Some(printer))?;
    let params = ForwardParams {
        app: instance.app.clone(),
        instance: instance.instance.clone(),
        port,
        listen: arguments.listen.as_deref().map(listen_of).transpose()?,
        handoff: match (arguments.handoff, arguments.proxy) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        },
        lan: arguments.lan,
    };
    let forward: ForwardInfo = client.call(method::FORWARD_ADD, params)?;
    if forward.lan {
        // Even if stderr is not a terminal: nobody should open a port to the network without knowing it.
        printer.say(&format!(
            "warning: {} is open to the network; other machines can reach {}",
            forward.listen,
            described(&forward)
        ));
    }
    if arguments.json {
        printer.data(&format!("{}\n", json(&forward)?))?;
    } else {
        printer.data(&format!("{}\n", forward.listen))?;
        printer.talk(&format!("{} → {}", forward.listen, described(&forward)));
    }
    if forward.existed {
        printer.note(&format!(
            "the forward from {} to {} exists already",
            forward.listen,
            described(&forward)
        ));
    }
    Ok(Exit::Success)
}

/// Divides `INSTANCE:PORT`. `INSTANCE` alone means all ports, `:PORT` the instance of the folder. A URL has the port of
/// the router, which is not the instance's; without a scheme it looks like `INSTANCE:PORT`, and its port tells.
fn target_of(
    target: &str,
    is_router: impl FnOnce(u16) -> bool,
) -> Result<(Option<&str>, Option<u16>), Failure> {
    if let Some(Pasted::Host { name, port, is_url }) = pasted::read(target)
        && (is_url || port.is_none_or(is_router))
    {
        return Ok((Some(target), port_label(&name).1));
    }
    let Some((name, port)) = target.rsplit_once(':') else { return Ok((Some(target), None)) };
    let name = Some(name).filter(|name| !name.is_empty());
    match port.parse::<u16>() {
        Ok(port) if port != 0 => Ok((name, Some(port))),
        _ => Err(Failure::new(Exit::Usage, format_args!("`{port}` in `{target}` is not a port"))
            .hint("write INSTANCE:PORT, as in shop/k3f9:5432")),
    }
}

/// An address to listen on: `ADDRESS:PORT`, or a port of 127.0.0.1.
fn listen_of(text: &str) -> Result<String, Failure> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(format!("127.0.0.1:{port}"));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => {
            Err(Failure::new(Exit::Usage, format_args!("`{text}` is not a port or an address with a port"))
                .hint("write 5432, 127.0.0.1:5432 or [::1]:5432"))
        }
    }
}

fn described(forward: &ForwardInfo) -> String {
    match forward.port {
        Some(port) => format!("{}/{} port {port}", forward.app, forward.instance),
        None => format!("{}/{}, every port", forward.app, forward.instance),
    }
}

fn list(client: &mut Client, as_json: bool, printer: &Printer) -> Result<Exit, Failure> {
    let Forwards { forwards } = client.call(method::FORWARD_LIST, json!({}))?;
    if as_json {
        printer.data(&format!("{}\n", json(&forwards)?))?;
        return Ok(Exit::Success);
    }
    if forwards.is_empty() {
        printer.talk("no forwards; add one with `agentfs forward INSTANCE:PORT`");
        return Ok(Exit::Success);
    }
    let heads = ["LISTEN", "OPEN TO", "INSTANCE", "CONNECTIONS", "HANDED OVER"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for forward in forwards {
        let target = described(&forward);
        let reach = if forward.lan { "THE NETWORK" } else { "this machine" }.to_owned();
        let (connections, handed) = (forward.connections.to_string(), forward.handed.to_string());
        rows.push(vec![forward.listen, reach, target, connections, handed]);
    }
    printer.data(&display::table(&rows))?;
    Ok(Exit::Success)
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::of(format_args!("cannot write JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_and_addresses_are_read() {
        let of = |target| target_of(target, |port| port == 4280);
        assert_eq!(of("shop/k3f9:5432").unwrap(), (Some("shop/k3f9"), Some(5432)));
        assert_eq!(of("shop").unwrap(), (Some("shop"), None));
        assert_eq!(of(":5432").unwrap(), (None, Some(5432)));
        for url in ["http://blue.shop.localhost:4280/", "blue.shop.localhost:4280", "blue.shop.localhost:7/x"]
        {
            assert_eq!(of(url).unwrap(), (Some(url), None));
        }
        assert_eq!(of("5173.blue.shop.localhost").unwrap().1, Some(5173));
        assert_eq!(of("blue.shop.localhost:5432").unwrap(), (Some("blue.shop.localhost"), Some(5432)));
        assert!(of("shop:0").is_err() && of("shop:http").is_err());
        assert_eq!(listen_of("5432").unwrap(), "127.0.0.1:5432");
        assert_eq!(listen_of("[::1]:80").unwrap(), "[::1]:80");
        assert!(listen_of("localhost").is_err());
    }
}
