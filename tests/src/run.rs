//! Commands in a [`Home`]: started in a process group of their own, with output in files, ended by group.
use crate::Home;
use crate::wait::until;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A command to be run.
#[derive(Debug)]
pub struct Run<'home> {
    /// Where it runs.
    home: &'home Home,
    /// The command so far.
    command: Command,
    /// What it reads on stdin; without it, /dev/null.
    input: Option<Vec<u8>>,
    /// Whether stdin stays open until the process is dropped.
    open_input: bool,
}

/// What a command did.
#[derive(Debug)]
pub struct Output<'home> {
    home: &'home Home,
    /// The command line, for messages.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// A running command. Dropping it kills its process group.
#[derive(Debug)]
pub struct Process<'home> {
    home: &'home Home,
    child: Child,
    line: String,
    stdout: PathBuf,
    stderr: PathBuf,
    status: Option<ExitStatus>,
}

// === impl Run ===

impl<'home> Run<'home> {
    pub(crate) fn new(home: &'home Home, command: Command) -> Self {
        Self { home, command, input: None, open_input: false }
    }

    /// Appends an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes an environment variable.
    #[must_use]
    pub fn unset(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Lets agentfs write to stderr, as it does for a user.
    #[must_use]
    pub fn speaking(self) -> Self {
        self.unset(agentfs_wire::env::QUIET)
    }

    /// The body that a server fixture answers with.
    #[must_use]
    pub fn body(self, body: &str) -> Self {
        self.env("FIXTURE_BODY", body)
    }

    /// Runs in that folder.
    #[must_use]
    pub fn directory(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Gives that on stdin, then its end.
    #[must_use]
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.input = Some(bytes.to_owned());
        self
    }

    /// Keeps stdin an open pipe for [`Process::write`].
    #[must_use]
    pub fn open_input(mut self) -> Self {
        self.open_input = true;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn spawn(mut self) -> Process<'home> {
        let (stdout, stderr) = self.home.log_files(&self.command);
        let create = |path: &Path| std::fs::File::create(path).expect("the home's log folder is writable");
        self.command.stdout(create(&stdout)).stderr(create(&stderr)).process_group(0);
        let piped = self.open_input || self.input.is_some();
        self.command.stdin(if piped { Stdio::piped() } else { Stdio::null() });
        let line = format!("{:?}", self.command);
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
        if let Some(input) = self.input {
            // From a thread of its own: the program may write before it has read everything.
            let mut pipe = child.stdin.take().expect("stdin was set to a pipe");
            std::thread::spawn(move || {
                // A program that ends early closes the pipe; what it did is judged by its output.
                let _ = pipe.write_all(&input);
            });
        }
        Process { home: self.home, child, line, stdout, stderr, status: None }
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// Where it does not end in time.
    pub fn output(self) -> Output<'home> {
        self.spawn().finish()
    }

    /// Runs it to a successful end; its stdout.
    ///
    /// # Panics
    /// Where it does not end in time, or without success.
    pub fn text(self) -> String {
        self.output().success().stdout
    }
}

// === impl Output ===

impl Output<'_> {
    /// Itself, where the status is 0.
    ///
    /// # Panics
    /// Where it is not.
    #[must_use]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// Itself, where it exited with that status.
    ///
    /// # Panics
    /// Where it did not.
    #[must_use]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "exit status of\n{}", self.explain());
        self
    }

    /// Itself, where it was ended by that signal.
    ///
    /// # Panics
    /// Where it was not.
    #[must_use]
    pub fn signal(self, signal: Signal) -> Self {
        assert_eq!(self.status.signal(), Some(signal as i32), "signal that ended\n{}", self.explain());
        self
    }

    /// Itself, where stderr names each of these things.
    ///
    /// # Panics
    /// Where it does not.
    #[must_use]
    pub fn names(self, things: &[&str]) -> Self {
        for thing in things {
            assert!(self.stderr.contains(thing), "stderr does not name {thing:?}:\n{}", self.explain());
        }
        self
    }

    /// Everything about it.
    pub fn explain(&self) -> String {
        format!(
            "command: {}\nin: {}\n{}\n--- stdout\n{}\n--- stderr\n{}\n---",
            self.line,
            self.home.root().display(),
            self.status,
            self.stdout,
            self.stderr
        )
    }
}

// === impl Process ===

impl<'home> Process<'home> {
    /// Its process id, which is also that of its group.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("Linux pids fit")
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        // It may have ended in the meantime; what the test then sees says so.
        let _ = kill(Pid::from_raw(self.pid()), signal);
    }

    /// Sends a signal to its whole group, as a terminal does.
    pub fn signal_group(&self, signal: Signal) {
        let _ = killpg(Pid::from_raw(self.pid()), signal);
    }

    /// Writes to its stdin ([`Run::open_input`]).
    ///
    /// # Panics
    /// Where stdin is not open.
    pub fn write(&mut self, bytes: &[u8]) {
        let pipe = self.child.stdin.as_mut().expect("the command was started with open_input");
        pipe.write_all(bytes).expect("the program reads its stdin");
    }

    /// Closes its stdin.
    pub fn close_input(&mut self) {
        self.child.stdin = None;
    }

    /// What it wrote to stdout so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// Where waitpid(2) fails.
    pub fn is_running(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("the child is ours to wait for");
        }
        self.status.is_none()
    }

    /// Waits until stdout has `text`.
    ///
    /// # Panics
    /// Where it ends before, or does not in time.
    pub fn wait_for(&mut self, text: &str) {
        let what = format!("{text:?} on stdout of {}", self.line);
        until(&what, || {
            let running = self.is_running();
            let found = self.stdout().contains(text);
            assert!(found || running, "ended before {what}\n{}\n{}", self.stdout(), self.stderr());
            found.then_some(())
        });
    }

    /// Waits for its end, and leaves the rest of its group alone until it is dropped.
    ///
    /// # Panics
    /// Where it does not end in time.
    pub fn wait(&mut self) {
        let what = format!("the end of {}", self.line);
        until(&what, || (!self.is_running()).then_some(()));
    }

    /// Waits for its end and kills what is left of its group.
    ///
    /// # Panics
    /// Where it does not end in time.
    pub fn finish(mut self) -> Output<'home> {
        self.wait();
        Output {
            home: self.home,
            line: self.line.clone(),
            status: self.status.expect("it is not running, so it has a status"),
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }

    /// Ends it with SIGTERM and waits.
    ///
    /// # Panics
    /// Where it does not end in time.
    pub fn terminate(self) -> Output<'home> {
        self.signal(Signal::SIGTERM);
        self.finish()
    }
}

impl Drop for Process<'_> {
    fn drop(&mut self) {
        self.signal_group(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
