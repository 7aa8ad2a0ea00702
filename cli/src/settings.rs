//! Flags, environment and paths, resolved once into one struct. Only this module reads the environment.
use crate::exit::Exit;
use crate::hint::Failure;
use agentfs_wire::dns;
use agentfs_wire::env;
use agentfs_wire::level::Level;
use agentfs_wire::paths::Paths;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::path::{Path, PathBuf};

/// Most threads that the user may set for the router.
const ROUTER_THREADS: usize = 64;

/// What every command needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where everything is.
    pub(crate) paths: Paths,
    /// The user's own folder, for short paths in output.
    pub(crate) user_home: Option<PathBuf>,
    /// The effective user.
    pub(crate) uid: u32,
    /// Whether `AGENTFS_NO_INTERPOSE` asks to leave programs alone.
    pub(crate) no_interpose: bool,
    /// Whether the user set `AGENTFS_ISOLATE`; a value inherited from an instance does not count.
    pub(crate) isolate: bool,
    /// Whether this process itself belongs to an instance.
    pub(crate) nested: bool,
    /// Address set for the router.
    pub(crate) router: Option<SocketAddr>,
    /// Address set for TLS.
    pub(crate) router_tls: Option<SocketAddr>,
    /// Address on which questions about names are answered.
    pub(crate) dns: SocketAddr,
    /// Number of threads set for the router.
    pub(crate) router_threads: Option<NonZero<usize>>,
    /// How much the collector logs.
    pub(crate) log: Level,
    /// Whether `AGENTFS_QUIET` asks for silence.
    pub(crate) quiet: bool,
    /// Whether `NO_COLOR` is set (no-color.org).
    pub(crate) no_color: bool,
    /// `PATH`, for finding programs.
    pub(crate) search_path: Option<OsString>,
    /// The whole environment as it was given to us.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

// === impl Settings ===

impl Settings {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// A value is invalid, or there is no home.
    pub(crate) fn read() -> Result<Self, Failure> {
        Self::resolve(std::env::vars_os().collect(), nix::unistd::geteuid().as_raw())
    }

    /// A variable of the environment, unless it is empty.
    pub(crate) fn variable(&self, name: &str) -> Option<OsString> {
        variable(&self.environment, name)
    }

    fn resolve(environment: Vec<(OsString, OsString)>, uid: u32) -> Result<Self, Failure> {
        let get = |name: &str| variable(&environment, name);
        let user_home = get("HOME").map(PathBuf::from).or_else(|| {
            let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
            user.map(|user| user.dir)
        });
        let home = match (get(env::HOME), &user_home) {
            (Some(home), _) => PathBuf::from(home),
            (None, Some(user_home)) => user_home.join(".agentfs"),
            (None, None) => {
                return Err(Failure::of("cannot find a home: neither AGENTFS_HOME nor HOME is set")
                    .hint("set AGENTFS_HOME to a folder of your own"));
            }
        };
        let home = canonical(&home)?;
        let nested = get(env::INSTANCE).is_some();
        let log = match get(env::LOG) {
            None => Level::Info,
            Some(text) => text.to_string_lossy().parse().map_err(|error| wrong(env::LOG, &error))?,
        };
        let address = |name: &'static str| match get(name) {
            None => Ok(None),
            Some(text) => parse_router(name, &text.to_string_lossy()).map(Some),
        };
        let router_threads = match get(env::ROUTER_THREADS) {
            None => None,
            Some(text) => Some(parse_threads(&text.to_string_lossy())?),
        };
        Ok(Self {
            paths: Paths::new(&home, uid),
            user_home,
            uid,
            no_interpose: is_on(get(env::NO_INTERPOSE)),
            isolate: !nested && is_on(get(env::ISOLATE)),
            nested,
            router: address(env::ROUTER)?,
            router_tls: address(env::ROUTER_TLS)?,
            dns: address(env::DNS)?.unwrap_or((Ipv4Addr::LOCALHOST, dns::PORT).into()),
            router_threads,
            log,
            quiet: is_on(get(env::QUIET)),
            no_color: get("NO_COLOR").is_some(),
            search_path: get("PATH"),
            environment,
        })
    }
}

fn variable(environment: &[(OsString, OsString)], name: &str) -> Option<OsString> {
    let found = environment.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
}

fn is_on(value: Option<OsString>) -> bool {
    value.is_some_and(|value| value != "0")
}

fn parse_router(name: &str, text: &str) -> Result<SocketAddr, Failure> {
    let address: SocketAddr = text.parse().map_err(|_| wrong(name, &format_args!("`{text}`")))?;
    if address.ip().is_loopback() { Ok(address) } else { Err(wrong(name, &"not a loopback address")) }
}

fn parse_threads(text: &str) -> Result<NonZero<usize>, Failure> {
    let threads: Option<NonZero<usize>> = text.parse().ok();
    threads
        .filter(|threads| threads.get() <= ROUTER_THREADS)
        .ok_or_else(|| wrong(env::ROUTER_THREADS, &format_args!("`{text}`")))
}

fn wrong(name: &str, what: &dyn std::fmt::Display) -> Failure {
    let hint = match name {
        env::ROUTER | env::ROUTER_TLS | env::DNS => {
            "write a loopback address and a port, such as 127.0.0.1:4280 (port 0 takes any free one)"
        }
        env::ROUTER_THREADS => "write a number from 1 to 64",
        _ => "write error, warn, info or debug",
    };
    Failure::new(Exit::Usage, format_args!("cannot read {name}: {what}")).hint(hint)
}

/// The absolute path without links. Only the first folders of the path need to exist.
fn canonical(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(path)
        .map_err(|error| Failure::of(format_args!("cannot find {}: {error}", path.display())))?;
    let mut missing = Vec::new();
    let mut there = absolute.as_path();
    let found = loop {
        match there.canonicalize() {
            Ok(found) => break found,
            Err(error) => match (there.parent(), there.file_name()) {
                (Some(parent), Some(name)) if error.kind() == std::io::ErrorKind::NotFound => {
                    missing.push(name);
                    there = parent;
                }
                _ => {
                    let failure =
                        Failure::of(format_args!("cannot use the home {}: {error}", absolute.display()));
                    return Err(failure.hint("set AGENTFS_HOME to a folder of your own"));
                }
            },
        }
    };
    let mut path = found;
    path.extend(missing.into_iter().rev());
    if path.to_str().is_none() {
        let failure =
            Failure::of(format_args!("cannot use the home {}: it is not UTF-8 text", path.display()));
        return Err(failure.hint("set AGENTFS_HOME to another folder"));
    }
    Ok(path)
}

/// Settings of an environment, for tests of other files.
#[cfg(test)]
pub(crate) fn sample(pairs: &[(&str, &str)]) -> Settings {
    let environment = pairs.iter().map(|(key, value)| (key.into(), value.into())).collect();
    Settings::resolve(environment, 1000).expect("the environment is valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(pairs: &[(&str, &str)]) -> Result<Settings, Failure> {
        Settings::resolve(pairs.iter().map(|(key, value)| (key.into(), value.into())).collect(), 1000)
    }

    #[test]
    fn the_home_defaults_to_a_folder_of_the_user() {
        assert_eq!(resolve(&[("HOME", "/nowhere")]).unwrap().paths.home, Path::new("/nowhere/.agentfs"));
        let both = resolve(&[("HOME", "/nowhere"), ("AGENTFS_HOME", "/tmp/../tmp/not/there")]).unwrap();
        assert_eq!(both.paths.home, Path::new("/tmp").canonicalize().unwrap().join("not/there"));
    }

    #[test]
    fn isolation_is_not_inherited_from_an_outer_instance() {
        let pairs = [("HOME", "/"), ("AGENTFS_ISOLATE", "1"), ("AGENTFS_INSTANCE", "outer")];
        assert!(resolve(&pairs[..2]).unwrap().isolate);
        assert!(!resolve(&pairs).unwrap().isolate);
    }

    #[test]
    fn wrong_values_are_named() {
        for (name, value) in [
            ("AGENTFS_ROUTER", "0.0.0.0:80"),
            ("AGENTFS_ROUTER", "x"),
            ("AGENTFS_LOG", "loud"),
            ("AGENTFS_ROUTER_TLS", "443"),
            ("AGENTFS_DNS", "0.0.0.0:53"),
            ("AGENTFS_ROUTER_THREADS", "0"),
            ("AGENTFS_ROUTER_THREADS", "65"),
        ] {
            let failure = resolve(&[("HOME", "/"), (name, value)]).unwrap_err();
            assert!(failure.message.contains(name) && failure.hint.is_some(), "{failure}");
        }
    }
}
