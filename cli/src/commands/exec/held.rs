//! Ports of an instance that are open on the host while a command runs that the interposer does not get into: its
//! requests to `localhost` reach the instance all the same, never silently another program of the host.
use crate::autostart;
use crate::client::Client;
use crate::exit::Exit;
use crate::exposed;
use crate::hint::Failure;
use crate::printer::Printer;
use crate::program;
use crate::protection::{Lost, Start};
use crate::settings::Settings;
use crate::supervise;
use agentfs_wire::control::InstanceInfo;
use std::ffi::OsString;

/// Addresses of the host that are open for one command. While it runs, so does this process.
#[derive(Debug)]
pub(super) struct Held {
    opened: Vec<String>,
}

/// Opens the ports of the instance for a command that has the program `lost`.
///
/// # Errors
/// One of the ports is in use, or the instance is isolated from the host, which is the one thing that this cannot do.
pub(super) fn hold(
    lost: &Lost,
    is_isolated: bool,
    target: &InstanceInfo,
    client: &mut Client,
    printer: &Printer,
) -> Result<Held, Failure> {
    let (path, why) = (lost.path.display(), &lost.why);
    let name = format!("{}/{}", target.app, target.instance);
    if is_isolated {
        let message = format_args!("{path} cannot be isolated from the host, as {name} is: {why}");
        return Err(Failure::new(Exit::Setup, message).hint(lost.advice));
    }
    let mut ports: Vec<u16> =
        target.listeners.iter().map(|listener| listener.port).filter(|port| *port != 0).collect();
    ports.sort_unstable();
    ports.dedup();
    let opened = exposed::open(&ports, Some(client), &target.app, &target.instance).map_err(|error| {
        let message = format!("{path} would reach another program than {name}: {why}; {}", error.message);
        let urls: Vec<&str> =
            target.listeners.iter().filter_map(|listener| listener.url.as_deref()).collect();
        let urls = if urls.is_empty() { String::new() } else { format!("use {}, or ", urls.join(" or ")) };
        Failure::new(Exit::Setup, message).hint(format_args!("{urls}{}", lost.advice))
    })?;
    let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    printer.note(&if ports.is_empty() {
        format!("{path} uses the host's ports ({why}); {name} has no listener")
    } else {
        format!("port {list} of this machine is {name} while the command runs: {path} uses the host's ports ({why})")
    });
    Ok(Held { opened })
}

// === impl Held ===

impl Held {
    /// Runs the command, and then closes the ports.
    ///
    /// # Errors
    /// It cannot be started, or the kernel does not say how it ended.
    pub(super) fn run(
        self,
        start: &Start,
        variables: &[(OsString, OsString)],
        settings: &Settings,
    ) -> Result<Exit, Failure> {
        let ended = supervise::spawn(&start.path, &start.arguments, variables)
            .map_err(|error| program::cannot_start(&start.path, &error))
            .map(|child| child.wait());
        if !self.opened.is_empty()
            && let Ok(Some(mut client)) = autostart::where_needed(settings)
        {
            exposed::close(&self.opened, &mut client);
        }
        match ended? {
            Ok(end) => Ok(end.mirror()),
            Err(error) => Err(Failure::new(
                Exit::Setup,
                format_args!("cannot wait for {}: {error}", start.path.display()),
            )),
        }
    }
}
