//! What a program of an instance is told: host name, URL, socket, port and how it is reached.
//! Shared by `wrap` and `exec`.
use crate::environment::{Engine, Plan};
use crate::exit::Exit;
use crate::hint::Failure;
use crate::printer::Printer;
use crate::program::Reach;
use crate::settings::Settings;
use agentfs_wire::name::{Kind, SocketName, app_name, instance_name};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

/// The port of HTTP, which URLs leave out.
const HTTP_PORT: u16 = 80;

/// The router's port where it may not bind [`HTTP_PORT`], as long as nobody told us another.
const USUAL_PORT: u16 = 4280;

/// The host name that always means this instance.
pub(crate) fn host(app: &str, instance: &str) -> String {
    format!("{instance}.{app}.localhost")
}

/// The URL of a host name.
pub(crate) fn url(host: &str, port: u16) -> String {
    if port == HTTP_PORT { format!("http://{host}") } else { format!("http://{host}:{port}") }
}

/// The router's port as far as one can tell without a collector.
pub(crate) fn expected_port(settings: &Settings) -> u16 {
    match settings.router {
        Some(address) if address.port() != 0 => address.port(),
        _ if settings.uid == 0 => HTTP_PORT,
        _ => USUAL_PORT,
    }
}

/// The plan of a program in an instance.
///
/// # Errors
/// Names that are no names, which only a foreign collector could give.
pub(crate) fn plan(
    settings: &Settings,
    app: &str,
    instance: &str,
    http_port: u16,
    engine: Engine,
) -> Result<Plan, Failure> {
    let host = host(app, instance);
    Ok(Plan {
        run: settings.paths.run.clone(),
        app: app.to_owned(),
        instance: instance.to_owned(),
        socket: main_socket(settings, app, instance)?,
        url: url(&host, http_port),
        host,
        port: None,
        only: Vec::new(),
        except: Vec::new(),
        engine,
    })
}

/// How the program at `path` is reached; tells where it cannot be.
pub(crate) fn preload(
    settings: &Settings,
    printer: &Printer,
    path: &Path,
    library: PathBuf,
    isolate: bool,
) -> Engine {
    let reach = crate::program::reach(path);
    let cause = match reach {
        Reach::Loads => None,
        Reach::Static => Some("it is linked statically"),
        Reach::OtherMachine => Some("it is for another kind of machine"),
    };
    if let Some(cause) = cause {
        printer.warn(&format!(
            "{} keeps the host's ports: {cause}, so its calls cannot be intercepted",
            path.display()
        ));
    }
    // A static program ignores the list and its children use it; the others' loaders would complain.
    let loaded = matches!(reach, Reach::Loads | Reach::Static);
    Engine::Preload { home: settings.paths.home.clone(), library, loaded, isolate }
}

/// A port of the host that nobody uses at this moment.
///
/// # Errors
/// Where the system has none.
pub(crate) fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener
        .map(|address| address.port())
        .map_err(|error| Failure::new(Exit::Setup, format_args!("cannot find a free port: {error}")))
}

fn main_socket(settings: &Settings, app: &str, instance: &str) -> Result<PathBuf, Failure> {
    let names = app_name(app).zip(instance_name(instance));
    let (app, instance) =
        names.ok_or_else(|| Failure::new(Exit::Setup, format_args!("{app}/{instance} is no name")))?;
    let name = SocketName { app, instance, kind: Kind::Main };
    Ok(settings.paths.run.join(name.format().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_leave_the_usual_port_out() {
        assert_eq!(url(&host("shop", "blue"), 80), "http://blue.shop.localhost");
        assert_eq!(url("shop.localhost", 4280), "http://shop.localhost:4280");
    }
}
