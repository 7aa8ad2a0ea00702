//! A private `AGENTFS_HOME`: its own run dir, collector, router port, work folder and logs.
//!
//! ```text
//! /tmp/afXXXXXX/h     AGENTFS_HOME (short, so that socket paths fit without the detour by /tmp/agentfs-UID)
//! /tmp/afXXXXXX/work  where commands run
//! /tmp/afXXXXXX/logs  stdout and stderr of each
//! ```
//! Dropping it stops the collector, checks that no process of this home is left, and where the test has
//! failed prints everything that may explain it.
use crate::control::Control;
use crate::http::{self, Answer};
use crate::wait::until;
use crate::{Run, artifact, processes, report};
use agentfs_wire::control::{DaemonInfo, InstanceInfo, ListenerInfo, Snapshot, SubscribeParams, method};
use agentfs_wire::paths::Paths;
use agentfs_wire::{env, event};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User, chown};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// Journal events that a failure prints.
const EVENTS: usize = 50;

/// A private home.
#[derive(Debug)]
pub struct Home {
    /// Holds everything; removed at the end.
    directory: TempDir,
    /// The `agentfs` that is tested.
    binary: PathBuf,
    /// The user that commands run as, where it is not the tests' own.
    user: Option<User>,
    /// Where the files of this home are.
    paths: Paths,
    /// Commands so far, for the names of their logs.
    commands: AtomicUsize,
}

// === impl Home ===

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// An empty home of the user who runs the tests.
    ///
    /// # Panics
    /// Where `agentfs` was not built, or /tmp is not writable.
    pub fn new() -> Self {
        Self::create(None)
    }

    /// A home whose commands run as `name` where the tests run as root (PostgreSQL refuses root). It has
    /// a copy of `agentfs`, because another user may not reach the target folder.
    ///
    /// # Panics
    /// Where there is no such user.
    pub fn of_user(name: &str) -> Self {
        let user = Uid::effective().is_root().then(|| {
            let found = User::from_name(name).expect("the user database is readable");
            found.unwrap_or_else(|| panic!("there is no user {name}\nhint: run `./test --setup`"))
        });
        Self::create(user)
    }

    fn create(user: Option<User>) -> Self {
        let directory = tempfile::Builder::new().prefix("af").tempdir_in("/tmp").expect("/tmp is writable");
        let root = directory.path().canonicalize().expect("it was just made");
        let mut binary = artifact::binary("agentfs");
        if user.is_some() {
            let copy = root.join("agentfs");
            artifact::copy(&binary, &copy);
            binary = copy;
        }
        for folder in ["h", "work", "logs"] {
            std::fs::create_dir(root.join(folder)).expect("the folder is new");
        }
        if let Some(user) = &user {
            for folder in ["", "h", "work"] {
                chown(&root.join(folder), Some(user.uid), Some(user.gid)).expect("root may change owners");
            }
        }
        let uid = user.as_ref().map_or_else(Uid::effective, |user| user.uid);
        let paths = Paths::new(&root.join("h"), uid.as_raw());
        Self { directory, binary, user, paths, commands: AtomicUsize::new(0) }
    }

    // --- where things are

    /// The folder that holds everything of this home.
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// The folder in which commands run.
    pub fn work(&self) -> PathBuf {
        self.root().join("work")
    }

    /// Where the collector and the run dir are.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The `agentfs` that is tested.
    pub fn agentfs_path(&self) -> &Path {
        &self.binary
    }

    /// Writes a file below the work folder; its path.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.work().join(name);
        let folder = path.parent().expect("a file is in a folder");
        std::fs::create_dir_all(folder).expect("the work folder is writable");
        std::fs::write(&path, content).expect("the work folder is writable");
        path
    }

    // --- commands

    /// A program without agentfs around it, but with this home's environment.
    pub fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Run<'_> {
        let mut command = match &self.user {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
                command.args(["--clear-groups", "--"]).arg(program).env("HOME", self.work());
                command
            }
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AGENTFS_") {
                command.env_remove(name);
            }
        }
        for name in [artifact::PRELOAD, env::PORT, "NO_COLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command.env(env::HOME, &self.paths.home).env(env::ROUTER, "127.0.0.1:0").current_dir(self.work());
        // Most tests look at what the program itself writes. `speaking` undoes it.
        command.env(env::QUIET, "1");
        // The machine's own port and trust stores are not for tests.
        command.env(env::ROUTER_TLS, "127.0.0.1:0").env(env::TRUST_ROOT, self.root().join("nowhere"));
        command.env(env::DNS, "127.0.0.1:0");
        Run::new(self, command)
    }

    /// `agentfs ARGUMENTS`
    pub fn agentfs(&self, arguments: &[&str]) -> Run<'_> {
        self.program(&self.binary).args(arguments)
    }

    /// `agentfs wrap --app APP --instance INSTANCE -- COMMAND`
    pub fn wrap(&self, app: &str, instance: &str, command: &[impl AsRef<str>]) -> Run<'_> {
        let command = command.iter().map(AsRef::as_ref);
        self.agentfs(&["wrap", "--app", app, "--instance", instance, "--"]).args(command)
    }

    /// `agentfs exec APP/INSTANCE -- COMMAND`
    pub fn exec(&self, instance: &str, command: &[impl AsRef<str>]) -> Run<'_> {
        self.agentfs(&["exec", instance, "--"]).args(command.iter().map(AsRef::as_ref))
    }

    // --- the collector

    /// A connection to the collector, or `None` where none answers.
    pub fn control(&self) -> Option<Control> {
        Control::connect(&self.paths.control).ok()
    }

    /// Calls a method of the collector.
    ///
    /// # Panics
    /// Where no collector answers, or it refuses.
    pub fn call(&self, method: &str, params: Value) -> Value {
        let mut control = self.control().expect("a collector listens on the control socket");
        let reply = control.call(method, params).expect("the collector answers");
        reply.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// What the collector says of itself, or `None` where none answers.
    pub fn daemon(&self) -> Option<DaemonInfo> {
        let reply = self.control()?.call(method::DAEMON_INFO, json!({})).ok()?;
        Some(serde_json::from_value(reply.ok()?).expect("daemon.info has its documented form"))
    }

    /// Starts the collector and waits until it answers.
    ///
    /// # Panics
    /// Where it does not.
    pub fn start_daemon(&self) -> DaemonInfo {
        let _ = self.agentfs(&["daemon", "start"]).output().success();
        until("the collector answers daemon.info", || self.daemon())
    }

    /// Kills the collector and its guardian with SIGKILL, so that no collector runs; waits until it is gone. What it
    /// was.
    ///
    /// # Panics
    /// Where none runs.
    pub fn kill_daemon(&self) -> DaemonInfo {
        let daemon = self.daemon().expect("a collector runs");
        if let Some(guardian) = daemon.guardian.and_then(|pid| i32::try_from(pid).ok()) {
            // It may be gone already.
            let _ = kill(Pid::from_raw(guardian), Signal::SIGKILL);
            until("the guardian is gone", || (!processes::is_alive(guardian)).then_some(()));
        }
        self.kill_collector()
    }

    /// Kills the collector alone with SIGKILL, as somebody does who frees a port; waits until it is gone. What it was.
    ///
    /// # Panics
    /// Where none runs.
    pub fn kill_collector(&self) -> DaemonInfo {
        let daemon = self.daemon().expect("a collector runs");
        let pid = i32::try_from(daemon.pid).expect("Linux pids fit");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("the collector is ours to kill");
        until("the collector is gone", || (!processes::is_alive(pid)).then_some(()));
        daemon
    }

    /// Everything that the collector knows, or `None` where none answers.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let reply = self.control()?.call(method::LIST, json!({})).ok()?;
        Some(serde_json::from_value(reply.ok()?).expect("list has its documented form"))
    }

    /// The instance as the collector knows it.
    pub fn instance(&self, app: &str, instance: &str) -> Option<InstanceInfo> {
        let mut all = self.snapshot()?.instances.into_iter();
        all.find(|info| info.app == app && info.instance == instance)
    }

    /// Waits until the instance listens on `port`.
    ///
    /// # Panics
    /// Where it does not in time.
    pub fn listener(&self, app: &str, instance: &str, port: u16) -> ListenerInfo {
        until(&format!("{app}/{instance} listens on {port}"), || {
            self.instance(app, instance)?.listeners.into_iter().find(|listener| listener.port == port)
        })
    }

    /// Waits until the collector knows nothing of the instance.
    ///
    /// # Panics
    /// Where it still does at the deadline.
    pub fn gone(&self, app: &str, instance: &str) {
        until(&format!("{app}/{instance} is gone"), || {
            let snapshot = self.snapshot()?;
            let known = snapshot.instances.iter().any(|info| info.app == app && info.instance == instance);
            (!known).then_some(())
        });
    }

    /// The port of the router.
    ///
    /// # Panics
    /// Where no collector answers, or its router does not listen.
    pub fn router_port(&self) -> u16 {
        let daemon = until("the collector answers daemon.info", || self.daemon());
        assert_eq!(daemon.router_error, None, "the router of this home");
        daemon.http_port
    }

    /// GETs `/` of `host` through the router.
    ///
    /// # Panics
    /// Where the connection breaks.
    pub fn get(&self, host: &str) -> Answer {
        let port = self.router_port();
        http::get(port, host, "/").unwrap_or_else(|error| panic!("GET http://{host}:{port}/: {error}"))
    }

    /// GETs `/` of `host` and asserts a 200 with that body.
    ///
    /// # Panics
    /// Where the answer is another one.
    pub fn expect_body(&self, host: &str, body: &str) {
        let answer = self.get(host);
        assert_eq!((answer.status, answer.body.as_str()), (200, body), "answer of http://{host}/");
    }

    /// Asserts that `host` leads nowhere: unknown (404), or remembered without a listener (502).
    ///
    /// # Panics
    /// Where something answers.
    pub fn expect_nothing(&self, host: &str) {
        let answer = self.get(host);
        assert!([404, 502].contains(&answer.status), "answer of http://{host}/: {answer:?}");
    }

    // --- for failures

    pub(crate) fn log_files(&self, command: &Command) -> (PathBuf, PathBuf) {
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        let name = |argument: &std::ffi::OsStr| {
            Path::new(argument)
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let mut words = vec![name(command.get_program())];
        words.extend(command.get_args().map(name).filter(|word| !word.starts_with('-')).take(6));
        let stem = words.join(" ").chars().take(80).collect::<String>();
        let path = |kind: &str| self.root().join("logs").join(format!("{number:03} {stem} {kind}"));
        (path("out"), path("err"))
    }

    /// Everything that may explain a failure: files, journal, logs.
    pub fn report(&self) -> String {
        let mut report = format!("==== {}\n---- files\n", self.root().display());
        report::tree(&self.paths.home, &mut report);
        if self.paths.is_short() {
            report::tree(&self.paths.base, &mut report);
        }
        report.push_str("---- journal\n");
        for event in self.journal() {
            report.push_str(&serde_json::to_string(&event).unwrap_or_default());
            report.push('\n');
        }
        report::tail(&self.paths.log, &mut report);
        for log in report::entries(&self.root().join("logs")) {
            report::tail(&log, &mut report);
        }
        report
    }

    fn journal(&self) -> Vec<event::Event> {
        let Some(mut control) = self.control() else { return Vec::new() };
        let params = SubscribeParams { since_ms: Some(0), ..SubscribeParams::default() };
        let params = serde_json::to_value(params).unwrap_or_default();
        if !matches!(control.call(method::SUBSCRIBE, params), Ok(Ok(_))) {
            return Vec::new();
        }
        // The past comes at once; what takes longer has not happened yet.
        if control.set_patience(Duration::from_millis(200)).is_err() {
            return Vec::new();
        }
        let mut events: Vec<event::Event> = std::iter::from_fn(|| control.event().ok()).collect();
        events.drain(..events.len().saturating_sub(EVENTS));
        events
    }

    /// Processes that have this home in their environment: wrapped ones and the collector.
    pub fn processes(&self) -> Vec<(i32, String)> {
        processes::with_variable(&format!("{}={}", env::HOME, self.paths.home.display()))
    }

    /// Asserts that no wrapped process listens on real TCP, whatever else runs on this machine.
    ///
    /// # Panics
    /// Where one does.
    pub fn assert_host_is_free(&self) {
        let collector = self.daemon().and_then(|daemon| i32::try_from(daemon.pid).ok());
        for (pid, command) in self.processes().into_iter().filter(|(pid, _)| Some(*pid) != collector) {
            let ports = processes::tcp_ports(pid);
            assert!(ports.is_empty(), "{command} (pid {pid}) listens on the host: {ports:?}");
        }
    }

    fn stop_daemon(&self) -> Result<(), String> {
        let Some(daemon) = self.daemon() else { return Ok(()) };
        let pid = i32::try_from(daemon.pid).unwrap_or(0);
        if let Some(mut control) = self.control() {
            // It may end before its reply is read.
            let _ = control.call(method::DAEMON_STOP, json!({}));
        }
        let start = std::time::Instant::now();
        while processes::is_alive(pid) {
            if start.elapsed() > crate::wait::DEADLINE {
                return Err(format!("the collector (pid {pid}) did not stop when told"));
            }
            crate::wait::pause();
        }
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            #[expect(clippy::print_stderr, reason = "the test runner shows it beside the failure")]
            {
                eprintln!("{}", self.report());
            }
        }
        let stopped = self.stop_daemon();
        // What ended just now may still be on its way out.
        let start = std::time::Instant::now();
        let mut left = self.processes();
        while !left.is_empty() && start.elapsed() < crate::wait::DEADLINE && !failed {
            crate::wait::pause();
            // A collector that was killed may have come back a moment ago.
            let _ = self.stop_daemon();
            left = self.processes();
        }
        for (pid, _) in &left {
            // Gone in the meantime is as good.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        if self.paths.is_short() {
            let _ = std::fs::remove_dir_all(&self.paths.base);
        }
        if !failed {
            assert_eq!(stopped, Ok(()), "stopping the collector");
            assert!(left.is_empty(), "processes left behind: {left:?}");
        }
    }
}
