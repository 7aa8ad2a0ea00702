//! `agentfs names`: tells the system to ask the collector for names under `localhost`. On macOS that is a file of
//! resolver(5), which only root may write. macOS is known by its folders, so that it can be tested on any system.
use crate::args::{NamesAction, NamesArguments};
use crate::exit::Exit;
use crate::hint::Failure;
use crate::printer::Printer;
use crate::program;
use crate::resolving;
use crate::settings::Settings;
use agentfs_wire::env;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that every Mac has, below the root.
const MAC: &str = "System/Library";
/// The folder of resolver(5), below the root.
const FOLDER: &str = "etc/resolver";
/// The file for names under `localhost`.
const FILE: &str = "localhost";
/// By what our own file is known.
const MARK: &str = "# Written by `agentfs names install`.";

/// What root does, in one command: `$1` is the folder, `$2` the file, `$3` what is to be in it.
const WRITE: &str = "mkdir -p \"$1\" && cp \"$3\" \"$1/$2\" && chmod 644 \"$1/$2\"";

/// Runs the command.
///
/// # Errors
/// The system has no such file, somebody else's is there, or it cannot be written.
pub(crate) fn run(
    arguments: &NamesArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    let place = Place::of(settings);
    match arguments.action {
        None => status(&place, settings, printer),
        Some(NamesAction::Install) => install(&place, settings, printer),
        Some(NamesAction::Uninstall) => uninstall(&place, settings, printer),
    }
}

/// Where the system's settings are.
#[derive(Debug)]
struct Place {
    folder: PathBuf,
    file: PathBuf,
    is_mac: bool,
}

/// What is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is no file.
    Absent,
    /// It is what we would write.
    Installed,
    /// It is ours, with another address.
    Outdated,
    /// Somebody else wrote it.
    Foreign,
}

// === impl Place ===

impl Place {
    fn of(settings: &Settings) -> Self {
        let root = settings.variable(env::TRUST_ROOT).map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let folder = root.join(FOLDER);
        Self { file: folder.join(FILE), folder, is_mac: root.join(MAC).is_dir() }
    }

    fn state(&self, settings: &Settings) -> Result<State, Failure> {
        match std::fs::read_to_string(&self.file) {
            Ok(text) if text == content(settings) => Ok(State::Installed),
            Ok(text) if text.starts_with(MARK) => Ok(State::Outdated),
            Ok(_) => Ok(State::Foreign),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(State::Absent),
            Err(error) => Err(Failure::of(format_args!("cannot read {}: {error}", self.file.display()))),
        }
    }
}

/// The file for resolver(5).
fn content(settings: &Settings) -> String {
    let (address, port) = (settings.dns.ip(), settings.dns.port());
    format!(
        "{MARK}\n# Names under `localhost` are this machine. `agentfs names uninstall` removes this file.\n\
         nameserver {address}\nport {port}\ntimeout 1\n"
    )
}

fn status(place: &Place, settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    let found = resolving::look();
    let file = place.file.display();
    let setting = match place.state(settings)? {
        _ if !place.is_mac => String::new(),
        State::Absent => format!("{file} is not there\n"),
        State::Installed => format!("{file} is installed\n"),
        State::Outdated => format!("{file} names another address; run `agentfs names install`\n"),
        State::Foreign => format!("{file} was not written by agentfs\n"),
    };
    printer.data(&format!("{}\n{setting}", found.words()))?;
    Ok(if found.is_resolved() { Exit::Success } else { Exit::Failure })
}

fn install(place: &Place, settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    if !place.is_mac {
        let failure =
            Failure::of("cannot install names: this system has no file for one domain as macOS has");
        return Err(failure.hint(resolving::advice(settings.dns)));
    }
    if settings.dns.port() == 0 {
        return Err(Failure::new(Exit::Usage, "cannot install names with any free port")
            .hint("unset AGENTFS_DNS, or give it a port"));
    }
    match place.state(settings)? {
        State::Installed => {
            printer.talk(&format!("{} is installed already", place.file.display()));
            return Ok(Exit::Success);
        }
        State::Foreign => return Err(foreign(place)),
        State::Absent | State::Outdated => {}
    }
    agentfs_home::prepare(&settings.paths)?;
    let draft = settings.paths.home.join(format!("resolver.{}", std::process::id()));
    let written = std::fs::write(&draft, content(settings))
        .map_err(|error| Failure::of(format_args!("cannot write {}: {error}", draft.display())))
        .and_then(|()| as_root(settings, WRITE, &[&place.folder, Path::new(FILE), &draft]));
    let _ = std::fs::remove_file(&draft);
    written?;
    if place.state(settings)? != State::Installed {
        return Err(Failure::of(format_args!("{} was not written", place.file.display())));
    }
    printer.talk(&format!(
        "installed {}: the system asks {} for *.localhost",
        place.file.display(),
        settings.dns
    ));
    Ok(Exit::Success)
}

fn uninstall(place: &Place, settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    match place.state(settings)? {
        State::Absent => {
            printer.talk(&format!("{} is not there", place.file.display()));
            return Ok(Exit::Success);
        }
        State::Foreign => return Err(foreign(place)),
        State::Installed | State::Outdated => {}
    }
    as_root(settings, "rm -f \"$1\"", &[&place.file])?;
    printer.talk(&format!("removed {}", place.file.display()));
    Ok(Exit::Success)
}

fn foreign(place: &Place) -> Failure {
    let file = place.file.display();
    Failure::of(format_args!("{file} was not written by agentfs"))
        .hint("look at it, and remove it if nobody needs it")
}

/// Runs a command of the shell as root. sudo(8) may ask for a password.
fn as_root(settings: &Settings, text: &str, arguments: &[&Path]) -> Result<(), Failure> {
    let mut command = if settings.uid == 0 {
        Command::new("/bin/sh")
    } else {
        let mut command = Command::new(program::find("sudo".as_ref(), settings.search_path.as_deref())?);
        command.arg("/bin/sh");
        command
    };
    let status = command.args(["-c", text, "sh"]).args(arguments).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::of(format_args!("cannot change the system's settings: {status}"))
            .hint("run it again, and give sudo your password")),
        Err(error) => Err(Failure::of(format_args!("cannot change the system's settings: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As resolver(5) of macOS reads it.
    #[test]
    fn the_file_names_the_collectors_port() {
        let mut settings = crate::settings::sample(&[("HOME", "/h")]);
        let expected = "# Written by `agentfs names install`.\n\
            # Names under `localhost` are this machine. `agentfs names uninstall` removes this file.\n\
            nameserver 127.0.0.1\nport 4253\ntimeout 1\n";
        assert_eq!(content(&settings), expected);
        settings.dns = "[::1]:99".parse().unwrap();
        assert!(content(&settings).contains("nameserver ::1\nport 99\n"));
    }
}
