//! Which programs the engine serves, and how they are started. The engine itself is `agentfs_engine`; there is one on Linux
//! only.
use clap::ValueEnum;

/// What `--engine` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Choice {
    /// The library where it reaches, the seccomp engine where it does not
    #[default]
    Auto,
    /// Only the library
    Preload,
    /// Only the seccomp engine (Linux)
    Seccomp,
}

// === impl Choice ===

impl Choice {
    /// The word that asks for it, unless it is the default.
    pub(crate) fn word(self) -> Option<String> {
        match self {
            Self::Auto => None,
            Self::Preload => Some("preload".to_owned()),
            Self::Seccomp => Some("seccomp".to_owned()),
        }
    }

    /// What such a word asks for.
    pub(crate) fn of_word(word: Option<&str>) -> Self {
        word.and_then(|word| Self::from_str(word, false).ok()).unwrap_or_default()
    }
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{Place, available, begin, close_at_exec, detach_and_serve, serves};

#[cfg(not(target_os = "linux"))]
pub(crate) use other::{Place, available, begin, close_at_exec, detach_and_serve, serves};

#[cfg(target_os = "linux")]
mod linux {
    use super::Choice;
    use crate::exit::Exit;
    use crate::hint::Failure;
    use crate::settings::Settings;
    use crate::{autostart, descriptors};
    use agentfs_engine::{Entered, Entry, Member, Places, Refusal};
    use agentfs_wire::companion::Rules;
    use agentfs_wire::env;
    use agentfs_wire::notice::Why;
    use std::ffi::OsString;
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::path::Path;
    use std::process::{Command, Stdio};

    /// The instance that a program enters.
    #[derive(Clone, Debug)]
    pub(crate) struct Place<'a> {
        /// The app.
        pub(crate) app: &'a str,
        /// The instance.
        pub(crate) instance: &'a str,
        /// Its rules.
        pub(crate) rules: Rules,
    }

    /// Whether the engine is to serve a program that the library does not reach for this reason.
    pub(crate) fn serves(choice: Choice, unreached: Option<Why>) -> bool {
        match choice {
            Choice::Preload => false,
            Choice::Auto => matches!(unreached, Some(Why::Static | Why::Go)),
            Choice::Seccomp => !matches!(unreached, Some(Why::OtherMachine | Why::GainsRights)),
        }
    }

    /// Installs the filter in this process, which is about to become the program, and says so in its environment.
    ///
    /// # Errors
    /// Why the program is not served. It can be started all the same.
    pub(crate) fn begin(
        settings: &Settings,
        place: &Place<'_>,
        variables: &mut Vec<(OsString, OsString)>,
    ) -> Result<(), Failure> {
        let places = Places {
            paths: settings.paths.clone(),
            app: place.app.to_owned(),
            instance: place.instance.to_owned(),
        };
        let command = variables.iter().find(|(name, _)| name == env::COMMAND).map(|(_, value)| value);
        let command = command.map(|command| command.to_string_lossy().into_owned()).unwrap_or_default();
        let member = Member {
            app: places.app.clone(),
            instance: places.instance.clone(),
            rules: place.rules.clone(),
            command,
        };
        let outer = outer(settings);
        let entry = Entry { places: &places, member: &member, outer: outer.as_ref() };
        let entered = agentfs_engine::enter(&entry, |entrance| start(settings, &places, entrance));
        variables.retain(|(name, _)| name != env::ENGINE);
        let failure = match entered {
            Ok(Entered::Served | Entered::Inherited) => {
                variables.push((env::ENGINE.into(), env::ENGINE_ACTIVE.into()));
                return Ok(());
            }
            Ok(Entered::Occupied) => Failure::of(
                "a program above it has a seccomp filter with a supervisor already, and the kernel allows only one",
            ),
            Err(Refusal::PortSpace(error)) => {
                Failure::of(format_args!("the system does not give it a network name space: {error}"))
                    .hint(hint_for_spaces())
            }
            Err(Refusal::Filter(error)) => {
                Failure::of(format_args!("the system does not allow a seccomp filter: {error}"))
                    .hint("Linux 5.14 or later is needed, and a container that allows seccomp(2)")
            }
            Err(Refusal::Supervisor(error)) => {
                Failure::of(format_args!("the supervisor of the seccomp engine does not answer: {error}"))
            }
        };
        Err(failure)
    }

    /// Marks the descriptor that a path `/proc/self/fd/N` names, so that the program does not get it.
    pub(crate) fn close_at_exec(path: &Path) {
        let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        if let Some(number) = number.filter(|number| *number > 2) {
            agentfs_engine::close_at_exec(number);
        }
    }

    /// Whether the engine can serve programs, for `doctor`.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn available() -> Result<&'static str, Failure> {
        agentfs_engine::check()
            .map(|()| "serves static programs and Go")
            .map_err(|error| Failure::of(error).hint(hint_for_spaces()))
    }

    /// What lets a system give name spaces to its users.
    fn hint_for_spaces() -> String {
        let restricts =
            |path: &str, value: &str| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
        if restricts("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
            return "to allow it: `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`".to_owned();
        }
        if restricts("/proc/sys/kernel/unprivileged_userns_clone", "0") {
            return "to allow it: `sudo sysctl kernel.unprivileged_userns_clone=1`".to_owned();
        }
        if restricts("/proc/sys/user/max_user_namespaces", "0") {
            return "to allow it: `sudo sysctl user.max_user_namespaces=10000`".to_owned();
        }
        "in a container, allow user name spaces: with Docker `--security-opt seccomp=unconfined`".to_owned()
    }

    /// The instance that we are in ourselves, if it is of the same home.
    fn outer(settings: &Settings) -> Option<Places> {
        let run = settings.variable(env::RUN)?;
        let (app, instance) = (settings.variable(env::APP)?, settings.variable(env::INSTANCE)?);
        (Path::new(&run) == settings.paths.run).then_some(())?;
        Some(Places {
            paths: settings.paths.clone(),
            app: app.into_string().ok()?,
            instance: instance.into_string().ok()?,
        })
    }

    /// Starts the supervisor: a process that is nobody's child once this returns.
    fn start(settings: &Settings, places: &Places, entrance: OwnedFd) -> io::Result<()> {
        let mut command: Command = autostart::own_command(settings)?;
        command.args(["engine-serve", "--app", &places.app, "--instance", &places.instance]);
        command.stdin(entrance).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
        match command.status() {
            // Who ignores SIGCHLD gets no status (wait(2)).
            Err(error) if error.raw_os_error() != Some(nix::errno::Errno::ECHILD as i32) => Err(error),
            Ok(status) if !status.success() => Err(io::Error::other("it could not be started")),
            _ => Ok(()),
        }
    }

    /// `agentfs engine-serve` (hidden): the supervisor of one instance. Its standard input is the socket where programs enter.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn detach_and_serve(settings: &Settings, app: &str, instance: &str) -> Result<Exit, Failure> {
        let serve = || -> io::Result<()> {
            descriptors::close_inherited();
            let entrance = io::stdin().as_fd().try_clone_to_owned()?;
            rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
            if !agentfs_engine::detach()? {
                return Ok(());
            }
            let places =
                Places { paths: settings.paths.clone(), app: app.to_owned(), instance: instance.to_owned() };
            agentfs_engine::supervise(&places, entrance)
        };
        serve().map_err(|error| Failure::of(&error))?;
        Ok(Exit::Success)
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use super::Choice;
    use crate::exit::Exit;
    use crate::hint::Failure;
    use crate::settings::Settings;
    use agentfs_wire::companion::Rules;
    use agentfs_wire::notice::Why;
    use std::ffi::OsString;
    use std::path::Path;

    /// The instance that a program enters.
    #[derive(Clone, Debug)]
    #[expect(dead_code, reason = "without an engine nothing reads it")]
    pub(crate) struct Place<'a> {
        /// The app.
        pub(crate) app: &'a str,
        /// The instance.
        pub(crate) instance: &'a str,
        /// Its rules.
        pub(crate) rules: Rules,
    }

    /// There is no engine on this system; who asks for it is told why.
    pub(crate) fn serves(choice: Choice, _unreached: Option<Why>) -> bool {
        choice == Choice::Seccomp
    }

    /// There is no engine that would start one.
    pub(crate) fn close_at_exec(_path: &Path) {}

    /// macOS has none and needs none for Go.
    ///
    /// # Errors
    /// None.
    pub(crate) fn available() -> Result<&'static str, Failure> {
        Ok("not needed here")
    }

    /// It cannot begin.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn begin(
        _settings: &Settings,
        _place: &Place<'_>,
        _variables: &mut Vec<(OsString, OsString)>,
    ) -> Result<(), Failure> {
        Err(absent())
    }

    /// # Errors
    /// Always.
    pub(crate) fn detach_and_serve(
        _settings: &Settings,
        _app: &str,
        _instance: &str,
    ) -> Result<Exit, Failure> {
        Err(absent())
    }

    fn absent() -> Failure {
        Failure::of("the seccomp engine is part of Linux only")
    }
}
