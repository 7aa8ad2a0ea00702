//! Which programs the engine serves, and how they are started. The engine itself is `agentfs_engine`; there is one on Linux
//! only.
use crate::printer::Printer;
use crate::settings::Settings;
use agentfs_wire::notice::Why;
use clap::ValueEnum;
use serde::Serialize;

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

/// What no_new_privs does to programs of an ordinary user (prctl(2)).
const NO_RIGHTS: &str = "what a served program starts cannot gain rights, so sudo and ping do not work there";

/// Says what a program that is about to be served can no longer do.
pub(crate) fn tell_rights(settings: &Settings, printer: &Printer) {
    if settings.uid != 0 {
        printer.detail(NO_RIGHTS);
    }
}

/// That a program is served, for the trace: how, and errno of what the system does not give us.
pub(crate) type Served = (Why, i32);

/// What serves the programs of an instance that the library does not reach, for `ps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct InUse {
    /// `seccomp`.
    pub(crate) engine: &'static str,
    /// Where its sockets are: `port_space` or `stand_ins`. Nothing if the supervisor was killed.
    pub(crate) sockets: Option<&'static str>,
    /// Why they are there, or why nothing is.
    pub(crate) why: Option<String>,
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{Place, available, begin, close_at_exec, detach_and_serve, in_use, serves};

#[cfg(not(target_os = "linux"))]
pub(crate) use other::{Place, available, begin, close_at_exec, detach_and_serve, in_use, serves};

#[cfg(target_os = "linux")]
mod linux {
    use super::{Choice, InUse, NO_RIGHTS, Served};
    use crate::exit::Exit;
    use crate::hint::Failure;
    use crate::settings::Settings;
    use crate::{autostart, descriptors};
    use agentfs_engine::{Entered, Entry, Member, Places, Refusal, Running, Sockets};
    use agentfs_wire::companion::Rules;
    use agentfs_wire::control::InstanceInfo;
    use agentfs_wire::env;
    use agentfs_wire::notice::Why;
    use nix::errno::Errno;
    use std::ffi::OsString;
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::path::Path;
    use std::process::{Command, Stdio};
    use std::time::{Duration, UNIX_EPOCH};

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
    ) -> Result<Served, Failure> {
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
            Ok(Entered::Served(sockets) | Entered::Inherited(sockets)) => {
                variables.push((env::ENGINE.into(), env::ENGINE_ACTIVE.into()));
                return Ok(match sockets {
                    Sockets::PortSpace => (Why::Engine, 0),
                    Sockets::StandIns { errno } => (Why::EngineStandIns, errno),
                });
            }
            Ok(Entered::Occupied) => Failure::of(
                "a program above it has a seccomp filter with a supervisor already, and the kernel allows only one",
            ),
            Err(Refusal::PortSpace(error)) => {
                Failure::of(format_args!("the system does not give it a network name space: {error}"))
                    .hint(hint_for_spaces(error.raw_os_error()))
            }
            Err(Refusal::Filter(error)) => {
                Failure::of(format_args!("the system does not allow a seccomp filter: {error}"))
                    .hint("Linux 5.14 or later is needed, and a container that allows seccomp(2)")
            }
            Err(Refusal::Memory(error)) => Failure::of(format_args!(
                "the system does not let the engine read its memory: {error}"
            ))
            .hint(
                "it needs `kernel.yama.ptrace_scope` 0 or 1, and a container that allows process_vm_readv(2)",
            ),
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
    pub(crate) fn available() -> Result<(String, Option<String>), Failure> {
        match agentfs_engine::check() {
            Ok(Sockets::PortSpace) => Ok((
                "serves static programs and Go, each instance in a port space of its own".to_owned(),
                (!nix::unistd::geteuid().is_root()).then(|| NO_RIGHTS.to_owned()),
            )),
            Ok(Sockets::StandIns { errno }) => Ok((
                format!("serves static programs and Go on stand-ins: {}", no_space(errno)),
                Some(hint_for_spaces(Some(errno))),
            )),
            Err(error) => {
                let hint = hint_for_spaces(error.raw_os_error());
                Err(Failure::of(error).hint(hint))
            }
        }
    }

    /// The engine that serves programs of an instance now. Nothing if none of them needs one.
    pub(crate) fn in_use(settings: &Settings, instance: &InstanceInfo) -> Option<InUse> {
        let InstanceInfo { app, instance, started_ms, .. } = instance;
        let places = Places { paths: settings.paths.clone(), app: app.clone(), instance: instance.clone() };
        let since = UNIX_EPOCH + Duration::from_millis(*started_ms);
        let (sockets, why) = match agentfs_engine::running(&places, since)? {
            Running::Serves(Sockets::PortSpace) => (Some("port_space"), None),
            Running::Serves(Sockets::StandIns { errno }) => (Some("stand_ins"), Some(no_space(errno))),
            Running::Ended => {
                (None, Some("the supervisor was killed; restart the programs that it served".to_owned()))
            }
        };
        Some(InUse { engine: "seccomp", sockets, why })
    }

    /// Why there is no port space.
    fn no_space(errno: i32) -> String {
        if errno == Errno::ENOPROTOOPT as i32 {
            return "Linux before 5.14 does not say in which network a socket is".to_owned();
        }
        format!("the system gives no network name space: {}", io::Error::from_raw_os_error(errno))
    }

    /// What lets a system give name spaces to its users.
    fn hint_for_spaces(errno: Option<i32>) -> String {
        hint_for(errno, |path| std::fs::read_to_string(path).ok())
    }

    /// The same for a system whose settings `read` reads.
    fn hint_for(errno: Option<i32>, read: impl Fn(&str) -> Option<String>) -> String {
        let is = |path: &str, value: &str| read(path).is_some_and(|text| text.trim() == value);
        let to_allow = |setting: &str| format!("to allow it: `sudo sysctl {setting}`");
        if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
            return to_allow("kernel.apparmor_restrict_unprivileged_userns=0");
        }
        if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
            return to_allow("kernel.unprivileged_userns_clone=1");
        }
        if is("/proc/sys/user/max_user_namespaces", "0") {
            return to_allow("user.max_user_namespaces=10000");
        }
        match errno {
            Some(errno) if errno == Errno::ENOSPC as i32 => {
                let more = "user.max_net_namespaces=100000 user.max_user_namespaces=100000";
                format!("all that the system allows are in use; for more: `sudo sysctl {more}`")
            }
            Some(errno) if errno == Errno::ENOPROTOOPT as i32 => "a later kernel has it".to_owned(),
            _ => "in a container, allow user name spaces: with Docker `--security-opt seccomp=unconfined`"
                .to_owned(),
        }
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
            Err(error) if error.raw_os_error() != Some(Errno::ECHILD as i32) => Err(error),
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

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_system_that_gives_no_name_space_is_told_with_its_command() {
            let hint = |errno, path: &str, value: &str| {
                hint_for(Some(errno), |asked| (asked.ends_with(path)).then(|| format!("{value}\n")))
            };
            let refused = Errno::EPERM as i32;
            for (path, value, command) in [
                (
                    "apparmor_restrict_unprivileged_userns",
                    "1",
                    "kernel.apparmor_restrict_unprivileged_userns=0",
                ),
                ("unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
                ("max_user_namespaces", "0", "user.max_user_namespaces=10000"),
            ] {
                assert_eq!(hint(refused, path, value), format!("to allow it: `sudo sysctl {command}`"));
            }
            assert!(hint(refused, "apparmor_restrict_unprivileged_userns", "0").contains("Docker"));
            assert!(hint(Errno::ENOSPC as i32, "", "").contains("user.max_net_namespaces"));
            assert!(no_space(Errno::ENOPROTOOPT as i32).contains("Linux before 5.14"));
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use super::{Choice, InUse, Served};
    use crate::exit::Exit;
    use crate::hint::Failure;
    use crate::settings::Settings;
    use agentfs_wire::companion::Rules;
    use agentfs_wire::control::InstanceInfo;
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
    pub(crate) fn available() -> Result<(String, Option<String>), Failure> {
        Ok(("not needed here".to_owned(), None))
    }

    /// None.
    pub(crate) fn in_use(_settings: &Settings, _instance: &InstanceInfo) -> Option<InUse> {
        None
    }

    /// It cannot begin.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn begin(
        _settings: &Settings,
        _place: &Place<'_>,
        _variables: &mut Vec<(OsString, OsString)>,
    ) -> Result<Served, Failure> {
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
