//! The companion file `{app}-{instance}.json`: facts about an instance that its name does not contain. The
//! command that starts the instance creates it exclusively, so it is also the claim on the name. Commands that join
//! the instance later add themselves, under the run lock. It is removed with the instance.
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Which ports belong to an instance, and whether the host's ports are reached. Kept so that a program that
/// joins the instance later gets the same rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    /// Whether ports without a listener of the instance are refused.
    pub isolate: bool,
    /// The only ports of the instance; empty: all ports.
    pub only: Vec<u16>,
    /// Ports that stay on the host.
    pub except: Vec<u16>,
    /// Ports that are refused without a listener of the instance, if not all are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub isolated: Vec<u16>,
    /// Ports of the host that are reached even where another fork may be behind them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_host: Vec<u16>,
}

/// One command of an instance, as `agentfs wrap` (or `agentfs trace -- COMMAND`) started it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Its working directory.
    #[serde(with = "crate::folder")]
    pub directory: PathBuf,
    /// Process id of `agentfs wrap`, which becomes the program.
    pub wrap_pid: u32,
    /// Process id of the program: `wrap_pid`, or its child (0 until the child is started).
    pub child_pid: u32,
    /// Unix time in milliseconds when it was started.
    pub started_ms: u64,
    /// The `$PORT` that was asked for, so that `restart` sets it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Whether the program's calls are left alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_interpose: bool,
    /// The engine that was asked for, `preload` or `seccomp`, so that `restart` asks for it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
}

/// Identity of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Companion {
    /// App name, a DNS label.
    pub app: String,
    /// Instance name, a DNS label.
    pub instance: String,
    /// Working directory of the first command.
    #[serde(with = "crate::folder")]
    pub directory: PathBuf,
    /// Folder of the checkout (git root), if any.
    #[serde(default, with = "crate::folder::optional")]
    pub checkout: Option<PathBuf>,
    /// Whether the checkout is a linked worktree or a copy, that is, not the main checkout.
    pub fork: bool,
    /// Branch that was checked out, if known.
    pub branch: Option<String>,
    /// The first command and its arguments.
    pub command: Vec<String>,
    /// Process id of the `agentfs wrap` that started the instance. With `started_ms` it identifies this life of the
    /// instance, also after that command has ended.
    pub wrap_pid: u32,
    /// Process id of the first command's program: `wrap_pid`, or its child (`agentfs trace -- COMMAND`; 0 until the
    /// child is started).
    pub child_pid: u32,
    /// Unix time in milliseconds when the instance was started.
    pub started_ms: u64,
    /// Version of agentfs that wrote the file.
    pub version: String,
    /// Its rules; absent in files of older versions.
    #[serde(default)]
    pub rules: Rules,
    /// The port that the instance's host name means, if `wrap --main` or agentfs.toml says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main: Option<u16>,
    /// The secret with which processes of another user prove that they belong to the instance. Only instances of
    /// root have one: only their processes can change their user. So only the owner may read the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
    /// Every command of the instance, oldest first, also ended ones that left something behind. Empty in files of
    /// older versions, which know only the first ([`Companion::started`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Started>,
    /// The folder that the instance belongs to where that is neither `checkout` nor `directory`: the one with
    /// `agentfs.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::folder::optional")]
    pub root: Option<PathBuf>,
    /// Git's folder of the linked worktree, `.git/worktrees/NAME` of the main checkout. It stays when the worktree
    /// is moved.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::folder::optional")]
    pub worktree: Option<PathBuf>,
    /// The name that the checkout gives to its instances, if this instance was named by it: `main` of `main` and
    /// `main-2`. It goes on when the branch changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem: Option<String>,
    /// Whether only `--instance` and commands inside the instance join it (`--new`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
}

// === impl Rules ===

impl Rules {
    /// Whether a port may be one of the instance.
    pub fn covers(&self, port: u16) -> bool {
        !self.except.contains(&port) && (self.only.is_empty() || port == 0 || self.only.contains(&port))
    }

    /// Whether a port without a listener of the instance is refused.
    pub fn isolates(&self, port: u16) -> bool {
        (self.isolate || self.isolated.contains(&port)) && !self.allow_host.contains(&port)
    }
}

// === impl Companion ===

impl Companion {
    /// The folder that the instance belongs to. Nobody else's commands join the instance.
    pub fn folder(&self) -> &Path {
        self.root.as_deref().or(self.checkout.as_deref()).unwrap_or(&self.directory)
    }

    /// Its commands, also in files of older versions.
    pub fn started(&self) -> Vec<Started> {
        if !self.commands.is_empty() {
            return self.commands.clone();
        }
        vec![Started {
            command: self.command.clone(),
            directory: self.directory.clone(),
            wrap_pid: self.wrap_pid,
            child_pid: self.child_pid,
            started_ms: self.started_ms,
            ..Started::default()
        }]
    }

    /// The processes of its commands, each with the time (Unix milliseconds) when it was started.
    pub fn processes(&self) -> Vec<(u32, u64)> {
        let first = (self.wrap_pid, self.child_pid, self.started_ms);
        let others = self.commands.iter().map(|one| (one.wrap_pid, one.child_pid, one.started_ms));
        let mut processes: Vec<(u32, u64)> = [first]
            .into_iter()
            .chain(others)
            .flat_map(|(wrap, child, started_ms)| [(wrap, started_ms), (child, started_ms)])
            .filter(|(pid, _)| *pid != 0)
            .collect();
        processes.sort_unstable();
        processes.dedup();
        processes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_companion_without_rules_is_read() {
        let text = r#"{"app":"a","instance":"b","directory":"/","checkout":null,"fork":false,"branch":null,
            "command":[],"wrap_pid":7,"child_pid":8,"started_ms":9,"version":"0.1.0"}"#;
        let companion: Companion = serde_json::from_str(text).unwrap();
        assert_eq!((&companion.rules, companion.secret), (&Rules::default(), None));
        let rules = Rules { isolate: true, only: vec![80], ..Rules::default() };
        let text = serde_json::to_string(&Companion { rules: rules.clone(), ..companion.clone() }).unwrap();
        assert!(!text.contains("secret"), "{text}");
        assert!(text.contains(r#""rules":{"isolate":true,"only":[80],"except":[]}"#), "{text}");
        assert_eq!(serde_json::from_str::<Companion>(&text).unwrap().rules, rules);
        let secret = Secret::parse("000102030405060708090a0b0c0d0e0f");
        assert!(companion.main.is_none() && !text.contains("main"), "{text}");
        let text = serde_json::to_string(&Companion { main: Some(5173), ..companion.clone() }).unwrap();
        assert!(text.contains(r#""main":5173"#), "{text}");
        let text = serde_json::to_string(&Companion { secret, ..companion }).unwrap();
        assert!(text.ends_with(r#""secret":"000102030405060708090a0b0c0d0e0f"}"#), "{text}");
        let read: Companion = serde_json::from_str(&text).unwrap();
        assert_eq!(read.secret, secret);
        assert!(!format!("{read:?}").contains("0001"), "{read:?}");
    }

    /// "Walk the matrix": an older reader ignores what it does not know, an older file has one command.
    #[test]
    fn several_commands_are_read_beside_the_fields_of_old() {
        let text = r#"{"app":"a","instance":"b","directory":"/w","checkout":"/","fork":false,"branch":null,
            "command":["x"],"wrap_pid":7,"child_pid":8,"started_ms":9,"version":"0.1.0"}"#;
        let old: Companion = serde_json::from_str(text).unwrap();
        let first = Started {
            command: vec!["x".to_owned()],
            directory: "/w".into(),
            wrap_pid: 7,
            child_pid: 8,
            started_ms: 9,
            ..Started::default()
        };
        assert_eq!((old.started(), old.processes()), (vec![first], vec![(7, 9), (8, 9)]));
        assert_eq!((old.folder(), old.closed), (Path::new("/"), false));
        let second = Started {
            command: vec!["y".to_owned()],
            directory: "/w".into(),
            wrap_pid: 17,
            child_pid: 17,
            started_ms: 19,
            ..Started::default()
        };
        let mut new = old.clone();
        new.commands = [old.started(), vec![second]].concat();
        let text = serde_json::to_string(&new).unwrap();
        assert!(text.contains(r#""wrap_pid":7,"child_pid":8,"started_ms":9,"#), "{text}");
        assert!(
            text.ends_with(
                r#"{"command":["y"],"directory":"/w","wrap_pid":17,"child_pid":17,"started_ms":19}]}"#
            ),
            "{text}"
        );
        let read: Companion = serde_json::from_str(&text).unwrap();
        assert_eq!(read.processes(), [(7, 9), (8, 9), (17, 19)]);
        let own = Started { port: Some(3000), no_interpose: true, ..Started::default() };
        let text = serde_json::to_string(&own).unwrap();
        assert!(text.ends_with(r#""started_ms":0,"port":3000,"no_interpose":true}"#), "{text}");
        assert_eq!(serde_json::from_str::<Started>(&text).unwrap(), own);
        assert_eq!(read.started(), new.commands);
    }
}
