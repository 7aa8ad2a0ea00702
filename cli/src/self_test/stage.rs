//! The stage of the self-test: a private home below /tmp with its own collector, the programs that run there,
//! and the time that is left. Owns all of it and removes it; does not judge results.
use crate::client::Client;
use crate::environment::without_ours;
use crate::liveness;
use crate::program::own_binary;
use crate::settings::Settings;
use agentfs_wire::control::{DaemonInfo, method};
use agentfs_wire::env;
use agentfs_wire::paths::Paths;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, mkdtemp};
use serde_json::{Value, json};
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Prefix of the private home. A short path: macOS's folder for temporary files has too long a path for
/// sockets, and its `/tmp` is `/private/tmp`.
const FOLDER: &str = "/tmp/afst.XXXXXX";

/// Lines of a program's output that wait to be read. At the limit the program waits.
const LINES: usize = 64;

/// How often a wait checks whether the user interrupted it.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// How long the collector may take to stop, beyond the time of the test.
const STOP_TIME: Duration = Duration::from_secs(10);

/// How long each step of a connection to the router may take.
const ROUTER_TIME: Duration = Duration::from_secs(5);

/// The stage of one self-test.
#[derive(Debug)]
pub(super) struct Stage {
    /// Holds everything.
    root: PathBuf,
    /// The collector's home, and one whose path is too long for sockets.
    homes: [Paths; 2],
    /// The folder below /tmp for the sockets of the deep home, if it did not exist before.
    made: Option<PathBuf>,
    /// This program.
    binary: PathBuf,
    /// The environment without agentfs.
    environment: Vec<(OsString, OsString)>,
    /// `PATH`.
    search_path: Option<OsString>,
    /// A program that is not wrapped and holds a port of the host.
    host: Option<Program>,
    /// That port.
    port: u16,
    /// When the time is over, and how much there was.
    end: Instant,
    time: Duration,
    /// Set by SIGINT, SIGTERM and SIGHUP.
    interrupted: Arc<AtomicBool>,
}

/// How a program is started.
#[derive(Clone, Copy, Debug)]
pub(super) enum How<'a> {
    /// As an instance of its own, APP/INSTANCE as always.
    Wrapped(&'a str),
    /// As an isolated instance.
    Isolated(&'a str),
    /// In a running instance.
    Inside(&'a str),
    /// As an instance, in the deep home.
    Deep(&'a str),
    /// In an instance of the deep home.
    InsideDeep(&'a str),
    /// Without agentfs.
    Plain,
}

/// A running program. Dropping it kills its process group.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    /// The program --lines of stdout--> us; ends with it.
    line_rx: Receiver<String>,
    end: Instant,
    time: Duration,
    interrupted: Arc<AtomicBool>,
}

// === impl Stage ===

impl Stage {
    /// Makes the private home.
    pub(super) fn set(settings: &Settings, time: Duration) -> Result<Self, String> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signal_hook::flag::register(signal as i32, Arc::clone(&interrupted))
                .map_err(|error| format!("cannot wait for signals: {error}"))?;
        }
        let root = mkdtemp(FOLDER).map_err(|error| format!("cannot make {FOLDER}: {error}"))?;
        let root = root.canonicalize().map_err(|error| format!("cannot find {}: {error}", root.display()))?;
        let deep = root.join("a-folder-whose-path-leaves-no-room-for-the-names-of-sockets-in-it");
        let homes = [root.join("h"), deep].map(|home| Paths::new(&home, settings.uid));
        let common = homes[1].base.parent().map(Path::to_owned);
        let mut stage = Self {
            root,
            homes,
            made: common.filter(|folder| !folder.exists()),
            binary: own_binary().map_err(|error| format!("cannot find this program: {error}"))?,
            environment: without_ours(&settings.environment),
            search_path: settings.search_path.clone(),
            host: None,
            port: 0,
            end: Instant::now() + time,
            time,
            interrupted,
        };
        for paths in &stage.homes {
            agentfs_home::prepare(paths).map_err(|error| error.to_string())?;
            // Programs load the library from its usual place.
            std::os::unix::fs::symlink(&settings.paths.lib, &paths.lib)
                .map_err(|error| format!("cannot link {}: {error}", paths.lib.display()))?;
        }
        let host = stage.probe(How::Plain, &["serve", "127.0.0.1:0", "host"])?;
        stage.port = host.listening()?.port();
        stage.host = Some(host);
        Ok(stage)
    }

    /// Whether there is time for more.
    pub(super) fn go_on(&self) -> Result<(), String> {
        go_on(self.end, self.time, &self.interrupted)
    }

    /// The port that a program of the host holds.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// `PATH`.
    pub(super) fn search_path(&self) -> Option<&OsStr> {
        self.search_path.as_deref()
    }

    /// The home whose path is too long for sockets.
    pub(super) fn deep_home(&self) -> &Paths {
        &self.homes[1]
    }

    /// Starts `agentfs probe ARGUMENTS`.
    pub(super) fn probe(&self, how: How<'_>, arguments: &[&str]) -> Result<Program, String> {
        let mut command = vec![self.binary.as_os_str(), OsStr::new("probe")];
        command.extend(arguments.iter().map(OsStr::new));
        self.start(how, &command)
    }

    /// Starts a program.
    pub(super) fn start(&self, how: How<'_>, command: &[&OsStr]) -> Result<Program, String> {
        let home = match how {
            How::Deep(_) | How::InsideDeep(_) => self.deep_home(),
            _ => &self.homes[0],
        };
        let words = match how {
            How::Plain => Vec::new(),
            How::Inside(name) | How::InsideDeep(name) => vec!["exec", name, "--"],
            How::Wrapped(name) | How::Isolated(name) | How::Deep(name) => {
                let (app, instance) = name.split_once('/').ok_or("a name has two parts")?;
                let isolate = matches!(how, How::Isolated(_)).then_some("--isolate");
                let names = ["--app", app, "--instance", instance, "--"];
                std::iter::once("wrap").chain(isolate).chain(names).collect()
            }
        };
        let mut words: Vec<&OsStr> = words.into_iter().map(OsStr::new).collect();
        if !words.is_empty() {
            words.insert(0, self.binary.as_os_str());
        }
        words.extend(command);
        let (program, arguments) = words.split_first().ok_or("the command is empty")?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(self.environment.iter().cloned());
        command.env(env::HOME, &home.home).env(env::ROUTER, "127.0.0.1:0").current_dir(&self.root);
        if matches!(how, How::Plain) {
            // If we are inside an instance, its library would load itself into what we start.
            command.env(env::NO_INTERPOSE, "1");
        }
        // The end of its input tells a program that we are gone, even if we were killed.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child =
            command.spawn().map_err(|error| format!("cannot start {}: {error}", show(program)))?;
        let (line_tx, line_rx) = sync_channel(LINES);
        if let Some(output) = child.stdout.take() {
            // The thread ends with the output, at the latest when the program is killed.
            std::thread::spawn(move || {
                let lines = BufReader::new(output).lines().map_while(Result::ok);
                lines.into_iter().all(|line| line_tx.send(line).is_ok())
            });
        }
        let interrupted = Arc::clone(&self.interrupted);
        Ok(Program { child, line_rx, end: self.end, time: self.time, interrupted })
    }

    /// The status and body of the router's answer to `GET http://HOST/`.
    pub(super) fn get(&self, host: &str) -> Result<(u16, String), String> {
        let info = answer(&self.homes[0]).ok_or("the collector does not answer")?;
        if let Some(error) = info.router_error {
            return Err(format!("the router does not listen: {error}"));
        }
        let failed = |error| format!("cannot ask the router for http://{host}/: {error}");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, info.http_port));
        let mut stream = TcpStream::connect_timeout(&address, ROUTER_TIME).map_err(failed)?;
        stream.set_read_timeout(Some(ROUTER_TIME)).map_err(failed)?;
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(failed)?;
        let status = text.split_whitespace().nth(1).and_then(|status| status.parse().ok());
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        status.zip(body).ok_or_else(|| format!("the router's answer is not HTTP: {text:.60}"))
    }

    /// Stops everything and removes it.
    pub(super) fn strike(mut self) -> Result<String, String> {
        self.host = None;
        let stopped: Vec<_> = self.homes.iter().map(stop).collect();
        let removed = self.remove();
        stopped.into_iter().collect::<Result<Vec<_>, _>>()?;
        removed?;
        Ok(format!("{} was removed; its collector has stopped", self.root.display()))
    }

    fn remove(&self) -> Result<(), String> {
        // The folder for sockets below /tmp is not inside the root.
        let outside = self.homes.iter().filter(|paths| paths.is_short()).map(|paths| paths.base.as_path());
        for folder in outside.chain([self.root.as_path()]).filter(|folder| folder.exists()) {
            std::fs::remove_dir_all(folder)
                .map_err(|error| format!("cannot remove {}: {error}", folder.display()))?;
        }
        if let Some(folder) = &self.made {
            // If somebody else uses it by now, it stays.
            let _ = std::fs::remove_dir(folder);
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.root.exists() {
            self.host = None;
            // Nobody is left to be told.
            let _ = self.homes.iter().map(stop).collect::<Result<Vec<_>, _>>();
            let _ = self.remove();
        }
    }
}

// === impl Program ===

impl Program {
    /// The address that a server reports.
    pub(super) fn listening(&self) -> Result<SocketAddr, String> {
        let value = self.value("listening")?;
        value.parse().map_err(|_| format!("a server says that it listens on `{value}`"))
    }

    /// The next value that it prints after `word`.
    pub(super) fn value(&self, word: &str) -> Result<String, String> {
        loop {
            match self.line()? {
                Some(line) => match line.split_once(' ') {
                    Some((first, value)) if first == word => return Ok(value.to_owned()),
                    _ => {}
                },
                None => return Err(format!("it exited without printing `{word}`")),
            }
        }
    }

    /// Waits for its end. The error says why it failed.
    pub(super) fn finish(mut self) -> Result<(), String> {
        // A program that waits for the end of input gets it.
        self.child.stdin = None;
        while self.line()?.is_some() {}
        self.end()
    }

    /// What it reports, or why it failed before that.
    pub(super) fn or_why<T>(
        mut self,
        said: impl FnOnce(&Self) -> Result<T, String>,
    ) -> Result<(Self, T), String> {
        match said(&self) {
            Ok(value) => Ok((self, value)),
            Err(why) => Err(self.end().err().unwrap_or(why)),
        }
    }

    fn line(&self) -> Result<Option<String>, String> {
        loop {
            match self.line_rx.recv_timeout(LOOK_PAUSE) {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => go_on(self.end, self.time, &self.interrupted)?,
            }
        }
    }

    /// How it ended, if it has closed its output.
    fn end(&mut self) -> Result<(), String> {
        let status = loop {
            go_on(self.end, self.time, &self.interrupted)?;
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => std::thread::park_timeout(LOOK_PAUSE),
                Err(error) => return Err(format!("cannot wait for a program: {error}")),
            }
        };
        if status.success() {
            return Ok(());
        }
        let mut words = String::new();
        if let Some(error) = self.child.stderr.take() {
            // The part that can be read is enough.
            let _ = error.take(4096).read_to_string(&mut words);
        }
        Err(first_error(&words).unwrap_or_else(|| status.to_string()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            // It may be gone already.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// The line that gives the reason: our error line, else the last line.
fn first_error(words: &str) -> Option<String> {
    let ours = words.lines().find_map(|line| line.split_once("error: ").map(|(_, error)| error));
    ours.or_else(|| words.lines().rev().find(|line| !line.trim().is_empty())).map(str::to_owned)
}

fn go_on(end: Instant, time: Duration, interrupted: &AtomicBool) -> Result<(), String> {
    if interrupted.load(Ordering::Relaxed) {
        return Err("interrupted".to_owned());
    }
    if Instant::now() > end {
        return Err(format!("not done within {} s (--timeout)", time.as_secs()));
    }
    Ok(())
}

fn answer(paths: &Paths) -> Option<DaemonInfo> {
    Client::connect(paths).ok()?.call(method::DAEMON_INFO, json!({})).ok()
}

/// Stops the collector of a home, if one is running.
fn stop(paths: &Paths) -> Result<(), String> {
    let Some(info) = answer(paths) else { return Ok(()) };
    if let Ok(mut client) = Client::connect(paths) {
        // It may stop before it answers.
        let _ = client.call::<Value>(method::DAEMON_STOP, json!({}));
    }
    let end = Instant::now() + STOP_TIME;
    while liveness::is_running(info.pid, info.started_ms) {
        if Instant::now() > end {
            return Err(format!("the collector (pid {}) does not stop", info.pid));
        }
        std::thread::park_timeout(LOOK_PAUSE);
    }
    Ok(())
}

fn show(program: &OsStr) -> std::path::Display<'_> {
    Path::new(program).display()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_line_that_names_an_error() {
        let words = "ld.so: noise\nagentfs: error: cannot bind 127.0.0.1:80: Address in use\n  hint: x\n";
        assert_eq!(first_error(words).as_deref(), Some("cannot bind 127.0.0.1:80: Address in use"));
        assert_eq!(
            first_error("a\nOSError: [Errno 98] in use\n\n").as_deref(),
            Some("OSError: [Errno 98] in use")
        );
        assert_eq!(first_error(""), None);
    }
}
