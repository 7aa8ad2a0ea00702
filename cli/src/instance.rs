//! What a program of an instance is told: host name, URL, socket, port and how it is reached.
//! Shared by `wrap` and `exec`.
use crate::environment::{Engine, Plan};
use crate::exit::Exit;
use crate::hint::Failure;
use crate::printer::Printer;
use crate::program::Reach;
use crate::settings::Settings;
use agentfs_wire::name::{Kind, SocketName, app_name, instance_name};
use agentfs_wire::url::UrlStyle;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// The router's ports for HTTP: where it may bind any, and else.
const HTTP: [u16; 2] = [80, 4280];

/// The router's ports for TLS, in the same way.
const HTTPS: [u16; 2] = [443, 4443];

/// The host name that always means this instance.
pub(crate) fn host(app: &str, instance: &str) -> String {
    format!("{instance}.{app}.localhost")
}

/// How URLs are written, as far as one can tell without a collector.
pub(crate) fn expected_urls(settings: &Settings) -> UrlStyle {
    let port = |asked: Option<SocketAddr>, [usual, ordinary]: [u16; 2]| match asked {
        Some(address) if address.port() != 0 => address.port(),
        _ if settings.uid == 0 => usual,
        _ => ordinary,
    };
    // A file that cannot be read switches nothing on.
    let secure = matches!(agentfs_collector::tls::enabled(&settings.paths.home), Ok(Some(_)));
    UrlStyle {
        http_port: port(settings.router, HTTP),
        https_port: secure.then(|| port(settings.router_tls, HTTPS)),
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
    urls: UrlStyle,
    engine: Engine,
) -> Result<Plan, Failure> {
    let host = host(app, instance);
    Ok(Plan {
        run: settings.paths.run.clone(),
        app: app.to_owned(),
        instance: instance.to_owned(),
        socket: main_socket(settings, app, instance)?,
        url: urls.url(&host),
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
