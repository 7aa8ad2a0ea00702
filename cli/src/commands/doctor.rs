//! `agentfs doctor`: checks what agentfs needs. One line per check; a failure says what to do.
use crate::args::DoctorArguments;
use crate::autostart;
use crate::check::{Check, from_failure, good, report};
use crate::engine;
use crate::environment::PRELOAD;
use crate::exit::Exit;
use crate::hint::{Failure, io_hint};
use crate::interposer;
use crate::printer::Printer;
use crate::resolving::{self, Resolved};
use crate::settings::Settings;
use agentfs_wire::control::DaemonInfo;
use agentfs_wire::env;
use agentfs_wire::limits::{FILE_NAME_BYTES, SOCKET_PATH_BYTES};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long the router may take to accept.
const CONNECT_TIME: Duration = Duration::from_secs(1);

/// Runs the command.
///
/// # Errors
/// The result cannot be written. A failed check is a result, not an error.
pub(crate) fn run(
    arguments: &DoctorArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    if let Some(library) = &arguments.loaded {
        return Ok(if is_loaded(library) { Exit::Success } else { Exit::Failure });
    }
    let checks = if arguments.self_test {
        self_test(settings, Duration::from_secs(arguments.timeout))
    } else {
        check(settings)
    };
    if arguments.json {
        let text = serde_json::to_string(&checks)
            .map_err(|error| Failure::of(format_args!("cannot write JSON: {error}")))?;
        printer.data(&format!("{text}\n"))?;
    } else {
        printer.data(&report(&checks))?;
    }
    Ok(if checks.iter().all(|check| check.ok) { Exit::Success } else { Exit::Failure })
}

fn check(settings: &Settings) -> Vec<Check> {
    let mut checks = before_programs(settings);
    match autostart::ensure(settings)
        .and_then(|_| autostart::answer(settings).ok_or_else(|| Failure::of("the collector does not answer")))
    {
        Ok(info) => {
            checks.push(collector(&info));
            checks.push(router(&info));
            checks.extend(tls(&info, settings));
        }
        Err(failure) => checks.push(from_failure("collector", failure)),
    }
    checks.push(resolver(settings));
    checks.extend(crate::sip::check(settings.search_path.as_deref()));
    #[cfg(target_os = "macos")]
    checks.push(protected(settings));
    checks
}

/// What every program needs before it is started.
fn before_programs(settings: &Settings) -> Vec<Check> {
    let mut checks = vec![folders(settings), budget(settings), disk(settings)];
    if cfg!(target_os = "linux") {
        checks.push(seccomp_engine());
    }
    let mut trouble = None;
    match interposer::unpack(settings, |text| trouble = Some(text.to_owned())) {
        Ok(library) => {
            checks.push(match trouble {
                Some(found) => {
                    let hint = Some("run `rm -r /tmp/agentfs-0.lib` as root".to_owned());
                    Check { name: "interposer", ok: false, found, hint }
                }
                None => good("interposer", library.display()),
            });
            checks.push(loads(settings, &library));
        }
        Err(failure) => checks.push(from_failure("interposer", failure)),
    }
    checks
}

/// The self-test, if what it needs is there. Starts only its own collector.
fn self_test(settings: &Settings, time: Duration) -> Vec<Check> {
    let mut checks = vec![system()];
    checks.extend(before_programs(settings));
    checks.push(resolver(settings));
    checks.extend(crate::sip::check(settings.search_path.as_deref()));
    if checks.iter().all(|check| check.ok) {
        checks.extend(crate::self_test::run(settings, time));
    } else {
        let hint = "fix what failed above, then run it again".to_owned();
        let found = "not run".to_owned();
        checks.push(Check { name: "self-test", ok: false, found, hint: Some(hint) });
    }
    checks
}

/// Whether programs that load no library can be served. If not, everything else works.
fn seccomp_engine() -> Check {
    match engine::available() {
        Ok((found, hint)) => Check { name: "engine", ok: true, found, hint },
        Err(failure) => {
            let found = format!("static programs and Go use the host's ports: {}", failure.message);
            Check { name: "engine", ok: true, found, hint: failure.hint }
        }
    }
}

/// The system that the report is about.
fn system() -> Check {
    let version = env!("CARGO_PKG_VERSION");
    let kernel = Command::new("uname").arg("-srm").output();
    let kernel = kernel.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let kernel = kernel.unwrap_or_else(|_| std::env::consts::OS.to_owned());
    good("system", format_args!("agentfs {version} for {} on {kernel}", std::env::consts::ARCH))
}

fn folders(settings: &Settings) -> Check {
    match agentfs_home::prepare(&settings.paths) {
        Ok(()) => good("folders", format_args!("{} is yours alone", settings.paths.run.display())),
        Err(error) => from_failure("folders", error.into()),
    }
}

fn budget(settings: &Settings) -> Check {
    let run = settings.paths.run.as_os_str().len();
    let longest = run + 1 + FILE_NAME_BYTES;
    let found = format!("the longest socket path takes {longest} of {SOCKET_PATH_BYTES} bytes");
    let hint = settings.paths.is_short().then(|| {
        let home = settings.paths.home.display();
        format!("the path {home} is too long for sockets; they are in {}", settings.paths.run.display())
    });
    Check { name: "path length", ok: longest <= SOCKET_PATH_BYTES, found, hint }
}

fn disk(settings: &Settings) -> Check {
    let path = settings.paths.run.join(format!(".doctor.{}", std::process::id()));
    let tried = std::fs::write(&path, [0; 4096]);
    let _ = std::fs::remove_file(&path);
    match tried {
        Ok(()) => good("disk", format_args!("{} is writable", settings.paths.run.display())),
        Err(error) => {
            let found = format!("cannot write to {}: {error}", settings.paths.run.display());
            Check { name: "disk", ok: false, found, hint: Some(io_hint(&error)) }
        }
    }
}

/// Starts this program with the library and checks whether it was loaded.
fn loads(settings: &Settings, library: &Path) -> Check {
    let tried = crate::program::own_binary().and_then(|binary| {
        let mut command = Command::new(binary);
        command.arg("doctor").arg("--loaded").arg(library).env(PRELOAD, library);
        command.env(env::HOME, &settings.paths.home).stdin(Stdio::null()).output()
    });
    match tried {
        Ok(output) if output.status.success() => good("loader", "programs load the interposer"),
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            let found = format!("programs do not load the interposer: {}", words.trim());
            let hint =
                "check whether its folder is mounted `noexec` or a security module blocks it".to_owned();
            Check { name: "loader", ok: false, found, hint: Some(hint) }
        }
        Err(error) => {
            from_failure("loader", Failure::of(format_args!("cannot start agentfs itself: {error}")))
        }
    }
}

#[cfg(target_os = "linux")]
fn is_loaded(library: &Path) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.contains(&library.display().to_string())
}

/// The loader of macOS refuses to start a program whose inserted library it cannot load.
#[cfg(not(target_os = "linux"))]
fn is_loaded(_library: &Path) -> bool {
    true
}

fn collector(info: &DaemonInfo) -> Check {
    let own = env!("CARGO_PKG_VERSION");
    let found = format!("pid {}, version {}", info.pid, info.version);
    let same = info.version == own;
    let hint = (!same).then(|| {
        format!("this command is version {own}; run `agentfs daemon stop`, and the next command starts that")
    });
    Check { name: "collector", ok: same, found, hint }
}

fn router(info: &DaemonInfo) -> Check {
    if let Some(error) = &info.router_error {
        let hint =
            "free the port, or choose another with AGENTFS_ROUTER=127.0.0.1:PORT and restart the collector";
        return Check { name: "router", ok: false, found: error.clone(), hint: Some(hint.to_owned()) };
    }
    let reached = info.listen.iter().find_map(|address| {
        let address: SocketAddr = address.parse().ok()?;
        TcpStream::connect_timeout(&address, CONNECT_TIME).ok().map(|_| address)
    });
    match reached {
        Some(address) => good(
            "router",
            format_args!(
                "{address} accepts connections; URLs are {}",
                info.urls().url("*.localhost").unwrap_or_default()
            ),
        ),
        None => Check {
            name: "router",
            ok: false,
            found: format!("nothing listens on {}", info.listen.join(", ")),
            hint: Some("see collector.log in AGENTFS_HOME".to_owned()),
        },
    }
}

/// Nothing if TLS was never turned on.
fn tls(info: &DaemonInfo, settings: &Settings) -> Option<Check> {
    if let Some(error) = &info.tls_error {
        let hint = "fix it and run `agentfs daemon start --tls`, or turn TLS off with `agentfs trust --undo`";
        let (ok, found) = (false, error.clone());
        return Some(Check { name: "tls", ok, found, hint: Some(hint.to_owned()) });
    }
    let port = info.https_port?;
    let authority = agentfs_tls::find_ca(&settings.paths.home).ok().flatten();
    if authority.is_some_and(|authority| authority.is_too_wide()) {
        let found = "the local CA can sign for more than `localhost` names".to_owned();
        let hint = Some("run `agentfs trust` to replace it".to_owned());
        return Some(Check { name: "tls", ok: false, found, hint });
    }
    Some(good("tls", format_args!("port {port}; `agentfs trust` shows which stores trust it")))
}

/// Browsers and curl resolve `*.localhost` themselves; in wrapped programs the library does.
fn resolver(settings: &Settings) -> Check {
    let found = resolving::look();
    let words = found.words();
    match found {
        Resolved::Loopback => good("names", words),
        Resolved::Unknown => {
            let hint = format!(
                "browsers, curl and wrapped programs resolve them anyway; for others {}",
                resolving::advice(settings.dns)
            );
            Check { name: "names", ok: true, found: words, hint: Some(hint) }
        }
        Resolved::Elsewhere(_) => Check {
            name: "names",
            ok: false,
            found: words,
            hint: Some("RFC 6761 6.3 requires loopback; check your DNS server and /etc/hosts".to_owned()),
        },
    }
}

/// Programs that macOS keeps the interposer out of. That is not a failure, but the user should know.
#[cfg(target_os = "macos")]
fn protected(settings: &Settings) -> Check {
    let (found, hint) = crate::protection::check(settings);
    Check { name: "programs", ok: true, found, hint }
}
