//! `agentfs trust`: installs the local CA in this machine's trust stores and turns TLS on.
use crate::args::TrustArguments;
use crate::client::Client;
use crate::display;
use crate::exit::Exit;
use crate::hint::Failure;
use crate::printer::Printer;
use crate::settings::Settings;
use crate::trust::{self, Places, Store, Trouble};
use agentfs_tls::{self as tls, Authority};
use agentfs_wire::control::{DaemonInfo, method};
use serde::Serialize;
use serde_json::json;

/// What became of one store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Line {
    /// Whose store it is.
    store: &'static str,
    /// Where it is.
    place: String,
    /// What became of it.
    state: State,
    /// Why it could not be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// What became of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// The certificate was installed.
    PutIn,
    /// It was there before.
    AlreadyThere,
    /// It was removed.
    TakenOut,
    /// It was not there.
    NotThere,
    /// The store was found but cannot be read or written.
    CannotBeWritten,
    /// Only the user can do it.
    Yours,
}

/// Runs the command.
///
/// # Errors
/// The CA cannot be made or read, or the collector refuses. A store that cannot be written is a result, not
/// an error.
pub(crate) fn run(
    arguments: &TrustArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    agentfs_home::prepare(&settings.paths)?;
    let home = &settings.paths.home;
    if settings.uid == 0 && settings.variable("SUDO_UID").is_some_and(|uid| uid != "0") {
        printer.warn("this installs root's local CA, not yours; run it without sudo: it shows which commands need root");
    }
    let places = Places::of(settings);
    let mut lines = Vec::new();
    let found = tls::find_ca(home)?;
    let authority = if arguments.undo {
        found
    } else {
        if let Some(earlier) = found.filter(Authority::is_too_wide) {
            printer
                .talk("the local CA can sign for more than `localhost` names; replacing it with a new one");
            let treated = trust::find(&places).into_iter().map(|store| treat(store.as_ref(), &earlier, true));
            lines.extend(treated.filter(|line| line.state != State::NotThere));
        }
        Some(tls::renew_ca(home)?)
    };
    let Some(authority) = authority else {
        printer.talk("no local CA to remove");
        switch_off(settings, printer)?;
        return print(&[], arguments.json, printer);
    };
    lines.extend(trust::find(&places).iter().map(|store| treat(store.as_ref(), &authority, arguments.undo)));
    let trusted = lines.iter().any(|line| matches!(line.state, State::PutIn | State::AlreadyThere));
    lines.extend(node(&places, &authority, arguments.undo));
    let exit = print(&lines, arguments.json, printer)?;
    if arguments.undo {
        switch_off(settings, printer)?;
    } else if trusted {
        switch_on(settings, printer)?;
    } else {
        let path = authority.certificate_path().display();
        return Err(Failure::of("TLS stays off: no store trusts the local CA").hint(format_args!(
            "its certificate is {path}; run `agentfs daemon start --tls` to turn TLS on anyway"
        )));
    }
    Ok(exit)
}

/// Installs the certificate in one store, or removes it.
fn treat(store: &dyn Store, authority: &Authority, undo: bool) -> Line {
    let state = store.holds(authority).and_then(|holds| match (holds, undo) {
        (true, false) => Ok(State::AlreadyThere),
        (false, false) => store.put(authority).map(|()| State::PutIn),
        (true, true) => store.take(authority).map(|()| State::TakenOut),
        (false, true) => Ok(State::NotThere),
    });
    let (state, why, hint) = match state {
        Ok(state) => (state, None, None),
        Err(Trouble { why, remedy }) => (State::CannotBeWritten, Some(why), Some(remedy)),
    };
    Line { store: store.kind(), place: store.place().display().to_string(), state, why, hint }
}

fn node(places: &Places, authority: &Authority, undo: bool) -> Option<Line> {
    let (there, advice) = trust::node(places, authority, undo)?;
    let place = "the environment of Node.js".to_owned();
    let (state, hint) = if there { (State::AlreadyThere, None) } else { (State::Yours, Some(advice)) };
    Some(Line { store: "Node", place, state, why: None, hint })
}

fn print(lines: &[Line], as_json: bool, printer: &Printer) -> Result<Exit, Failure> {
    if as_json {
        let text = serde_json::to_string(lines)
            .map_err(|error| Failure::of(format_args!("cannot write JSON: {error}")))?;
        printer.data(&format!("{text}\n"))?;
    } else {
        let rows: Vec<Vec<String>> = lines.iter().map(Line::row).collect();
        printer.data(&display::table(&rows))?;
    }
    let failed = lines.iter().any(|line| line.state == State::CannotBeWritten);
    Ok(if failed { Exit::Failure } else { Exit::Success })
}

/// Turns TLS on. If the user set a certificate, it stays in use.
fn switch_on(settings: &Settings, printer: &Printer) -> Result<(), Failure> {
    let home = &settings.paths.home;
    if tls::enabled(home)?.is_none() {
        tls::enable(home, None)?;
    }
    match reload(settings)? {
        Some(info) => say_urls(printer, &info),
        None => printer.talk("URLs will begin with https when the collector starts"),
    }
    Ok(())
}

/// Turns TLS off, unless the user set a certificate: then TLS was not turned on by this command.
fn switch_off(settings: &Settings, printer: &Printer) -> Result<(), Failure> {
    let home = &settings.paths.home;
    if tls::enabled(home)?.is_some_and(|config| config.own.is_none()) {
        tls::disable(home)?;
        reload(settings)?;
        printer.talk("TLS is off");
    }
    Ok(())
}

/// Lets a running collector read its TLS settings again. Returns what it then reports.
///
/// # Errors
/// Why it cannot use TLS.
pub(crate) fn reload(settings: &Settings) -> Result<Option<DaemonInfo>, Failure> {
    match Client::connect(&settings.paths) {
        Ok(mut client) => client.call(method::TLS_RELOAD, json!({})).map(Some),
        Err(error) if crate::autostart::is_absent(&error) => Ok(None),
        Err(_) => Client::require(&settings.paths).map(|_| None),
    }
}

// === impl Line ===

impl Line {
    fn row(&self) -> Vec<String> {
        let state = match self.state {
            State::PutIn => "installed",
            State::AlreadyThere => "already installed",
            State::TakenOut => "removed",
            State::NotThere => "was not installed",
            State::CannotBeWritten => "cannot be written",
            State::Yours => "do this yourself",
        };
        let because = self.why.as_deref().map_or_else(String::new, |why| format!(", because {why}"));
        let then = self.hint.as_deref().map_or_else(String::new, |hint| format!(": {hint}"));
        vec![self.store.to_owned(), state.to_owned(), format!("{}{because}{then}", self.place)]
    }
}

/// Says how URLs begin from now on.
pub(crate) fn say_urls(printer: &Printer, info: &DaemonInfo) {
    if let Some(url) = info.urls().url("*.localhost") {
        printer.talk(&format!("URLs are now {url}"));
    }
}
