//! Loads and unloads our LaunchAgent with launchctl(1). Owns the file of the agent; `launch_agent` makes its
//! content. Called by `daemon install` and `uninstall`, and by `autostart`: a collector that it starts itself
//! would not get the sockets that launchd holds.
use crate::exit::Exit;
use crate::hint::{Failure, io_hint};
use crate::launch_agent::LaunchAgent;
use crate::settings::Settings;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The tool.
const TOOL: &str = "launchctl";

/// launchctl, and whose jobs it looks after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launchd {
    tool: PathBuf,
    uid: u32,
}

/// What launchctl did.
#[derive(Clone, Debug)]
struct Said {
    ok: bool,
    /// Its output, in one line.
    words: String,
}

/// Lets launchd start the collector if launchd has our agent for this home. Returns whether launchctl reports
/// success.
pub(crate) fn kickstart(settings: &Settings) -> bool {
    if !cfg!(target_os = "macos") {
        return false;
    }
    let Ok(agent) = LaunchAgent::of(settings) else { return false };
    agent.file().is_file()
        && Launchd::find(settings)
            .is_ok_and(|launchd| launchd.run("kickstart", [launchd.domain(&agent)]).is_ok_and(|said| said.ok))
}

// === impl Launchd ===

impl Launchd {
    /// launchctl of this system.
    ///
    /// # Errors
    /// It does not exist: on every system except macOS.
    pub(crate) fn find(settings: &Settings) -> Result<Self, Failure> {
        let tool = crate::program::find(OsStr::new(TOOL), settings.search_path.as_deref()).map_err(|_| {
            Failure::of("cannot install: this system has no launchd").hint(
                "the first command that needs the collector starts it; to start it now, run `agentfs daemon start`",
            )
        })?;
        if settings.uid == 0 {
            return Err(Failure::new(Exit::Usage, "a LaunchAgent belongs to a user, not to root")
                .hint("run it without sudo"));
        }
        Ok(Self { tool, uid: settings.uid })
    }

    /// What launchctl calls the agent, once it is loaded.
    pub(crate) fn domain(&self, agent: &LaunchAgent) -> String {
        format!("gui/{}/{}", self.uid, agent.label())
    }

    /// Writes the agent and loads it, in place of an older one.
    ///
    /// # Errors
    /// It cannot be written, or launchd refuses it (with launchd's message). Then nothing is left behind.
    pub(crate) fn install(&self, agent: &LaunchAgent) -> Result<(), Failure> {
        // An older one. It is not an error if there is none.
        self.unload(agent)?;
        write(agent.file(), &agent.plist()).map_err(|error| {
            Failure::of(format_args!("cannot write {}: {error}", agent.file().display()))
                .hint(io_hint(&error))
        })?;
        self.load(agent).inspect_err(|_| {
            // launchd would try it again at each login.
            let _ = fs::remove_file(agent.file());
        })
    }

    /// Unloads the agent and removes it. Returns whether there was one.
    ///
    /// # Errors
    /// The file cannot be removed, or launchctl cannot be run.
    pub(crate) fn uninstall(&self, agent: &LaunchAgent) -> Result<bool, Failure> {
        self.unload(agent)?;
        match fs::remove_file(agent.file()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => {
                let failure = Failure::of(format_args!("cannot remove {}: {error}", agent.file().display()));
                Err(failure.hint(io_hint(&error)))
            }
        }
    }

    /// Loads it into the graphical session, else into the user's session (as over ssh), else with the old
    /// command.
    fn load(&self, agent: &LaunchAgent) -> Result<(), Failure> {
        let file = agent.file().as_os_str();
        let (gui, user) = (format!("gui/{}", self.uid), format!("user/{}", self.uid));
        let ways: [(&str, &[&OsStr]); 3] = [
            ("bootstrap", &[OsStr::new(&gui), file]),
            ("bootstrap", &[OsStr::new(&user), file]),
            ("load", &[OsStr::new("-w"), file]),
        ];
        let mut first = None;
        for (command, arguments) in ways {
            let said = self.run(command, arguments)?;
            // `load` reports a failure only in its output.
            if said.ok && (command != "load" || said.words.is_empty()) {
                return Ok(());
            }
            first.get_or_insert(said.words);
        }
        let file = agent.file().display();
        let words = first.unwrap_or_default();
        Err(Failure::of(format_args!("launchd refused {file}: {words}")).hint(
            "check the file with `agentfs daemon install --print >x.plist; plutil -lint x.plist`; it may be turned off in \
                 System Settings, General, Login Items. Without it, the first command that needs the collector starts it",
        ))
    }

    fn unload(&self, agent: &LaunchAgent) -> Result<(), Failure> {
        for domain in ["gui", "user"] {
            let target = format!("{domain}/{}/{}", self.uid, agent.label());
            // It fails if the agent is not loaded.
            self.run("bootout", [target])?;
        }
        Ok(())
    }

    fn run(
        &self,
        command: &str,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Result<Said, Failure> {
        let output = Command::new(&self.tool).arg(command).args(arguments).stdin(Stdio::null()).output();
        let output = output
            .map_err(|error| Failure::of(format_args!("cannot run {}: {error}", self.tool.display())))?;
        let words = [&output.stderr, &output.stdout].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let words: Vec<&str> = words
            .iter()
            .flat_map(|text| text.lines())
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        Ok(Said { ok: output.status.success(), words: words.join("; ") })
    }
}

/// Writes a complete file, and creates its folder if it is missing.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let draft = file.with_extension(format!("{}.new", std::process::id()));
    fs::write(&draft, text).and_then(|()| fs::rename(&draft, file)).inspect_err(|_| {
        let _ = fs::remove_file(&draft);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch_agent::tests::agent;

    /// A launchctl that records its calls and runs `script`.
    fn launchd(folder: &Path, script: &str) -> Launchd {
        let tool = folder.join(TOOL);
        let record = folder.join("record").display().to_string();
        let text = format!("#!/bin/sh\necho \"$@\" >>'{record}'\n{script}\n");
        // By another process: a file that a thread of this one has open for writing cannot be executed by
        // others, and a fork of another thread keeps it open.
        let mut writer = Command::new("sh");
        writer.args(["-c", "printf %s \"$1\" >\"$0\" && chmod 755 \"$0\""]).arg(&tool).arg(text);
        assert!(writer.status().unwrap().success());
        Launchd { tool, uid: 501 }
    }

    fn record(folder: &Path) -> Vec<String> {
        let text = fs::read_to_string(folder.join("record")).unwrap();
        let text = text.replace(&folder.display().to_string(), "[DIR]");
        text.lines().map(str::to_owned).collect()
    }

    const FILE: &str = "[DIR]/Library/LaunchAgents/agentfs.collector.plist";

    #[test]
    fn an_agent_is_written_and_loaded_in_place_of_an_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let agent = agent(folder.path());
        launchd(folder.path(), "[ \"$1\" = bootstrap ]").install(&agent).unwrap();
        assert_eq!(fs::read_to_string(agent.file()).unwrap(), agent.plist());
        let expected = [
            "bootout gui/501/agentfs.collector".to_owned(),
            "bootout user/501/agentfs.collector".to_owned(),
            format!("bootstrap gui/501 {FILE}"),
        ];
        assert_eq!(record(folder.path()), expected);
        let folder_of_agents = agent.file().parent().unwrap();
        assert_eq!(fs::read_dir(folder_of_agents).unwrap().count(), 1, "nothing beside it");
    }

    #[test]
    fn without_a_session_with_windows_the_users_domain_is_tried() {
        let folder = tempfile::tempdir().unwrap();
        let launchd = launchd(folder.path(), "[ \"$2\" = user/501 ]");
        launchd.install(&agent(folder.path())).unwrap();
        assert_eq!(record(folder.path()).last().unwrap(), &format!("bootstrap user/501 {FILE}"));
    }

    /// "launchd refusing the plist": its words, what to do, and nothing left behind.
    #[test]
    fn a_refusal_is_quoted_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let agent = agent(folder.path());
        let script = "[ \"$1\" = load ] && { echo 'Load failed: 5'; exit 0; }\n\
                      echo 'Bootstrap failed: 5: Input/output error' >&2; exit 5";
        let failure = launchd(folder.path(), script).install(&agent).unwrap_err();
        assert!(failure.message.contains("Bootstrap failed: 5: Input/output error"), "{failure}");
        assert!(failure.message.contains("agentfs.collector.plist"), "{failure}");
        assert!(failure.hint.unwrap().contains("plutil -lint"));
        assert!(!agent.file().exists());
    }

    #[test]
    fn what_was_installed_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let agent = agent(folder.path());
        let launchd = launchd(folder.path(), "exit 0");
        assert_eq!(launchd.uninstall(&agent), Ok(false));
        launchd.install(&agent).unwrap();
        assert_eq!(launchd.uninstall(&agent), Ok(true));
        assert!(!agent.file().exists());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Library"), "").unwrap();
        let failure = launchd(folder.path(), "exit 0").install(&agent(folder.path())).unwrap_err();
        assert!(failure.message.contains("LaunchAgents"), "{failure}");
    }
}
