//! The environment of a wrapped program. Pure: turns the environment that we got into the program's.
use crate::interposer;
use agentfs_wire::env;
use agentfs_wire::secret::Secret;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The variable with the libraries that this system's loader loads first.
#[cfg(not(target_os = "macos"))]
pub(crate) const PRELOAD: &str = env::LD_PRELOAD;
/// The variable with the libraries that this system's loader loads first.
#[cfg(target_os = "macos")]
pub(crate) const PRELOAD: &str = env::DYLD_INSERT_LIBRARIES;

/// Prefix of all our variables.
const PREFIX: &[u8] = b"AGENTFS_";

/// Variables by which the user sets the ports and the shell of a program, or controls agentfs commands that
/// it runs. So an instance passes them on.
const OF_PROGRAMS: [&str; 7] =
    [env::ONLY, env::EXCEPT, env::EXPOSE, env::TRUST_ROOT, env::SHELL, env::QUIET, env::STAND_INS];

/// Variables by which the user configures the collector. An instance passes them on: a program in it may run
/// agentfs.
const OF_COLLECTOR: [&str; 5] = [env::LOG, env::ROUTER, env::ROUTER_TLS, env::ROUTER_THREADS, env::DNS];

/// What an instance tells its programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The run dir.
    pub(crate) run: PathBuf,
    /// The app.
    pub(crate) app: String,
    /// The instance.
    pub(crate) instance: String,
    /// Path of the main listener's socket.
    pub(crate) socket: PathBuf,
    /// Host name of the instance.
    pub(crate) host: String,
    /// URL of its main listener, if there is a router.
    pub(crate) url: Option<String>,
    /// `PORT`, if the program should get one.
    pub(crate) port: Option<u16>,
    /// The process of the command: what is refused below it is told to whoever runs it.
    pub(crate) command: u32,
    /// The secret that proves that a program belongs to the instance, if the instance has one.
    pub(crate) secret: Option<Secret>,
    /// The only ports of the instance; empty: all ports.
    pub(crate) only: Vec<u16>,
    /// Ports that stay on the host.
    pub(crate) except: Vec<u16>,
    /// Ports that are refused without a listener of the instance, if not all are.
    pub(crate) isolated: Vec<u16>,
    /// Ports of the host that are reached even where another fork may be behind them.
    pub(crate) allow_host: Vec<u16>,
    /// How the program is reached.
    pub(crate) engine: Engine,
    /// What starts programs with the seccomp engine, if they may need it.
    pub(crate) launcher: Option<PathBuf>,
}

/// How a program's calls are intercepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// By a library that the loader loads.
    Preload {
        /// `AGENTFS_HOME`
        home: PathBuf,
        /// The unpacked library.
        library: PathBuf,
        /// Whether the loader is told to load the library: not if the program could only fail to load it.
        loaded: bool,
        /// Whether the instance is isolated from the host.
        isolate: bool,
    },
    /// By a filter alone (Linux): the library is not loaded.
    Filter {
        /// `AGENTFS_HOME`
        home: PathBuf,
        /// Whether the instance is isolated from the host.
        isolate: bool,
    },
    /// Not at all: the program cooperates.
    Cooperative {
        /// Whether we are inside an instance: its library would otherwise add itself again.
        nested: bool,
    },
}

/// The ports that a variable lists, as the library reads it: anything else is skipped.
pub(crate) fn ports(environment: &[(OsString, OsString)], name: &str) -> Vec<u16> {
    let value = environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.to_string_lossy());
    let parts = value.iter().flat_map(|list| list.split(','));
    parts.filter_map(|part| part.trim().parse().ok()).collect()
}

/// The environment without the variables that choose an instance's ports.
pub(crate) fn without_ports(environment: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    environment.iter().filter(|(key, _)| key != env::ONLY && key != env::EXCEPT).cloned().collect()
}

/// The program's environment.
pub(crate) fn build(inherited: &[(OsString, OsString)], plan: &Plan) -> Vec<(OsString, OsString)> {
    let cooperative = matches!(plan.engine, Engine::Cooperative { .. });
    let mut variables: Vec<(OsString, OsString)> = inherited
        .iter()
        .filter(|(key, _)| {
            let said_again = (key == env::ONLY && !plan.only.is_empty())
                || (key == env::EXCEPT && !plan.except.is_empty());
            let handed_on = !cooperative
                && !said_again
                && OF_PROGRAMS.iter().chain(&OF_COLLECTOR).any(|name| key == name);
            handed_on || !key.as_bytes().starts_with(PREFIX)
        })
        .filter(|(key, _)| key != PRELOAD)
        .filter(|(key, _)| plan.port.is_none() || key != env::PORT)
        .cloned()
        .collect();
    let mut set = |key: &str, value: &OsStr| variables.push((key.into(), value.to_owned()));
    let preload = inherited.iter().find(|(key, _)| key == PRELOAD).map(|(_, value)| value);
    let library = match &plan.engine {
        Engine::Preload { library, loaded: true, .. } => Some(library.as_path()),
        _ => None,
    };
    if let Some(list) = preload_list(preload.map(OsString::as_os_str), library) {
        set(PRELOAD, &list);
    }
    match &plan.engine {
        Engine::Preload { home, isolate, .. } | Engine::Filter { home, isolate } => {
            set(env::HOME, home.as_os_str());
            set(env::RUN, plan.run.as_os_str());
            if let Engine::Preload { library, .. } = &plan.engine {
                set(env::INTERPOSE, library.as_os_str());
            }
            if let Some(launcher) = &plan.launcher {
                set(env::ENGINE, launcher.as_os_str());
            }
            set(env::COMMAND, OsStr::new(&plan.command.to_string()));
            if let Some(secret) = &plan.secret {
                set(env::SECRET, OsStr::new(secret.reveal()));
            }
            if *isolate {
                set(env::ISOLATE, OsStr::new("1"));
            }
            let isolated = if *isolate { &Vec::new() } else { &plan.isolated };
            for (key, ports) in [
                (env::ONLY, &plan.only),
                (env::EXCEPT, &plan.except),
                (env::ISOLATE, isolated),
                (env::ALLOW_HOST, &plan.allow_host),
            ] {
                if !ports.is_empty() {
                    let list: Vec<String> = ports.iter().map(u16::to_string).collect();
                    set(key, OsStr::new(&list.join(",")));
                }
            }
        }
        Engine::Cooperative { nested: true } => set(env::NO_INTERPOSE, OsStr::new("1")),
        Engine::Cooperative { nested: false } => {}
    }
    set(env::APP, OsStr::new(&plan.app));
    set(env::INSTANCE, OsStr::new(&plan.instance));
    set(env::SOCKET, plan.socket.as_os_str());
    set(env::HOSTNAME, OsStr::new(&plan.host));
    if let Some(url) = &plan.url {
        set(env::URL, OsStr::new(url));
    }
    if let Some(port) = plan.port {
        set(env::PORT, OsStr::new(&port.to_string()));
    }
    variables
}

/// The environment of a collector: of our variables only its home and its configuration, and no library.
pub(crate) fn of_collector(inherited: &[(OsString, OsString)], home: &Path) -> Vec<(OsString, OsString)> {
    let mut variables = without_ours(inherited);
    variables
        .extend(inherited.iter().filter(|(key, _)| OF_COLLECTOR.iter().any(|name| key == name)).cloned());
    variables.push((env::HOME.into(), home.into()));
    // If we are inside an instance, its library must not load itself into the collector.
    variables.push((env::NO_INTERPOSE.into(), "1".into()));
    variables
}

/// The environment without agentfs: none of our variables, and no library.
pub(crate) fn without_ours(inherited: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = inherited
        .iter()
        .filter(|(key, _)| key != PRELOAD && !key.as_bytes().starts_with(PREFIX))
        .cloned()
        .collect();
    let preload = inherited.iter().find(|(key, _)| key == PRELOAD).map(|(_, value)| value);
    if let Some(list) = preload_list(preload.map(OsString::as_os_str), None) {
        variables.push((PRELOAD.into(), list));
    }
    variables
}

/// The loader's list with our library once, at the end, or not at all.
fn preload_list(existing: Option<&OsStr>, library: Option<&Path>) -> Option<OsString> {
    let is_ours =
        |entry: &[u8]| entry.rsplit(|byte| *byte == b'/').next() == Some(interposer::FILE.as_bytes());
    let is_gap = |byte: &u8| *byte == b':' || *byte == b' ';
    let existing = existing.map(OsStr::as_bytes).filter(|list| !list.is_empty());
    let mut list = match existing {
        // Other entries stay exactly as they are.
        Some(list) if !list.split(is_gap).any(is_ours) => list.to_vec(),
        Some(list) => {
            let kept: Vec<&[u8]> =
                list.split(is_gap).filter(|entry| !entry.is_empty() && !is_ours(entry)).collect();
            kept.join(&b':')
        }
        None => Vec::new(),
    };
    if let Some(library) = library {
        if !list.is_empty() {
            list.push(b':');
        }
        list.extend_from_slice(library.as_os_str().as_bytes());
    }
    (!list.is_empty()).then(|| OsString::from_vec(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(engine: Engine) -> Plan {
        Plan {
            run: "/h/run".into(),
            app: "shop".to_owned(),
            instance: "blue".to_owned(),
            socket: "/h/run/shop-blue.sock".into(),
            host: "blue.shop.localhost".to_owned(),
            url: Some("http://blue.shop.localhost".to_owned()),
            port: None,
            command: 7,
            secret: None,
            only: Vec::new(),
            except: Vec::new(),
            isolated: Vec::new(),
            allow_host: Vec::new(),
            engine,
            launcher: None,
        }
    }

    fn preload() -> Engine {
        let library = PathBuf::from("/h/lib/1").join(interposer::FILE);
        Engine::Preload { home: "/h".into(), library, loaded: true, isolate: false }
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(key, value)| (key.into(), value.into())).collect()
    }

    fn get(variables: &[(OsString, OsString)], name: &str) -> Option<String> {
        let mut found = variables.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.to_str().unwrap().to_owned());
        assert!(found.next().is_none(), "{name} twice");
        value
    }

    #[test]
    fn a_wrapped_program_gets_the_instance_and_keeps_its_own() {
        let inherited =
            pairs(&[("PATH", "/bin"), ("PORT", "3000"), (PRELOAD, "/a.so /b.so"), ("AGENTFS_ONLY", "80")]);
        let variables = build(&inherited, &plan(preload()));
        assert_eq!(get(&variables, PRELOAD), Some(format!("/a.so /b.so:/h/lib/1/{}", interposer::FILE)));
        for (name, value) in [
            ("PATH", "/bin"),
            ("PORT", "3000"),
            ("AGENTFS_HOME", "/h"),
            ("AGENTFS_RUN", "/h/run"),
            ("AGENTFS_APP", "shop"),
            ("AGENTFS_INSTANCE", "blue"),
            ("AGENTFS_SOCKET", "/h/run/shop-blue.sock"),
            ("AGENTFS_URL", "http://blue.shop.localhost"),
            ("AGENTFS_HOSTNAME", "blue.shop.localhost"),
            ("AGENTFS_ONLY", "80"),
        ] {
            assert_eq!(get(&variables, name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(get(&variables, "AGENTFS_ISOLATE"), None);
    }

    #[test]
    fn only_a_program_with_the_library_gets_the_secret() {
        let digits = "000102030405060708090a0b0c0d0e0f";
        let inherited = pairs(&[("AGENTFS_SECRET", "of an outer instance")]);
        for (secret, engine, expected) in [
            (Secret::parse(digits), preload(), Some(digits)),
            (Secret::parse(digits), Engine::Cooperative { nested: true }, None),
            (None, preload(), None),
        ] {
            let plan = Plan { secret, ..plan(engine) };
            assert_eq!(get(&build(&inherited, &plan), "AGENTFS_SECRET").as_deref(), expected);
            assert!(!format!("{plan:?}").contains(digits), "{plan:?}");
        }
        assert!(of_collector(&inherited, Path::new("/h")).iter().all(|(key, _)| key != env::SECRET));
    }

    #[test]
    fn without_a_router_no_url_is_exported() {
        let inherited = pairs(&[("AGENTFS_URL", "http://outer.localhost")]);
        let variables = build(&inherited, &Plan { url: None, ..plan(preload()) });
        assert_eq!(get(&variables, "AGENTFS_URL"), None);
        assert_eq!(get(&variables, "AGENTFS_HOSTNAME").as_deref(), Some("blue.shop.localhost"));
    }

    #[test]
    fn ports_are_read_and_left_out() {
        let inherited =
            pairs(&[("AGENTFS_ONLY", "80, 443,x,70000,"), ("PATH", "/bin"), ("AGENTFS_EXCEPT", "1")]);
        assert_eq!(ports(&inherited, env::ONLY), [80, 443]);
        assert!(ports(&inherited, env::EXPOSE).is_empty());
        assert_eq!(without_ports(&inherited), pairs(&[("PATH", "/bin")]));
    }

    #[test]
    fn an_outer_instance_is_replaced() {
        let old = format!("/x.so:/old/{}:/y.so", interposer::FILE);
        let inherited = pairs(&[
            (PRELOAD, old.as_str()),
            ("AGENTFS_APP", "outer"),
            ("AGENTFS_ISOLATE", "1"),
            ("AGENTFS_UNKNOWN", "1"),
        ]);
        let variables = build(&inherited, &plan(preload()));
        assert_eq!(get(&variables, PRELOAD), Some(format!("/x.so:/y.so:/h/lib/1/{}", interposer::FILE)));
        assert_eq!(get(&variables, "AGENTFS_APP").as_deref(), Some("shop"));
        assert_eq!(get(&variables, "AGENTFS_ISOLATE"), None);
        assert_eq!(get(&variables, "AGENTFS_UNKNOWN"), None);
    }

    #[test]
    fn a_cooperative_program_gets_five_variables_and_a_port() {
        let inherited =
            pairs(&[("AGENTFS_HOME", "/h"), ("AGENTFS_NO_INTERPOSE", "1"), ("AGENTFS_LOG", "debug")]);
        let plan = Plan { port: Some(5000), ..plan(Engine::Cooperative { nested: false }) };
        let mut names: Vec<String> =
            build(&inherited, &plan).into_iter().map(|(key, _)| key.into_string().unwrap()).collect();
        names.sort();
        let expected =
            ["AGENTFS_APP", "AGENTFS_HOSTNAME", "AGENTFS_INSTANCE", "AGENTFS_SOCKET", "AGENTFS_URL", "PORT"];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_collector_inherits_no_instance() {
        let old = format!("/old/{}", interposer::FILE);
        let inherited = pairs(&[(PRELOAD, old.as_str()), ("AGENTFS_RUN", "/h/run"), ("AGENTFS_ROUTER", "x")]);
        let variables = of_collector(&inherited, Path::new("/h"));
        assert_eq!(get(&variables, PRELOAD), None);
        assert_eq!(get(&variables, "AGENTFS_RUN"), None);
        assert_eq!(get(&variables, "AGENTFS_ROUTER").as_deref(), Some("x"));
        assert_eq!(get(&variables, "AGENTFS_HOME").as_deref(), Some("/h"));
    }
}
