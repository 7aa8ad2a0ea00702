//! The companion file `{app}-{instance}.json`: facts about an instance that its name does not contain. The
//! command that starts the instance writes it once. It is created exclusively, so it is also the claim on the
//! name. It is removed with the instance.
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

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
    /// The `$PORT` that was asked for, so that `restart` sets it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Whether the program's calls are left alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_interpose: bool,
}

/// Identity of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Companion {
    /// App name, a DNS label.
    pub app: String,
    /// Instance name, a DNS label.
    pub instance: String,
    /// Working directory of the command.
    #[serde(with = "crate::folder")]
    pub directory: PathBuf,
    /// Folder of the checkout (git root), if any. Instances of one checkout are replicas.
    #[serde(default, with = "crate::folder::optional")]
    pub checkout: Option<PathBuf>,
    /// Whether the checkout is a linked worktree or a copy, that is, not the main checkout.
    pub fork: bool,
    /// Branch that was checked out, if known.
    pub branch: Option<String>,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Process id of `agentfs wrap`, which becomes the program.
    pub wrap_pid: u32,
    /// Process id of the wrapped program: `wrap_pid`, or its child (`agentfs trace -- COMMAND`; 0 until the
    /// child is started).
    pub child_pid: u32,
    /// Unix time in milliseconds when the instance was started.
    pub started_ms: u64,
    /// Version of agentfs that wrote the file.
    pub version: String,
    /// Its rules; absent in files of older versions.
    #[serde(default)]
    pub rules: Rules,
    /// The secret with which processes of another user prove that they belong to the instance. Only instances of
    /// root have one: only their processes can change their user. So only the owner may read the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Secret>,
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
        let rules = Rules { isolate: true, only: vec![80], except: Vec::new(), ..Rules::default() };
        let text = serde_json::to_string(&Companion { rules: rules.clone(), ..companion.clone() }).unwrap();
        assert!(!text.contains("secret"), "{text}");
        assert!(text.contains(r#""rules":{"isolate":true,"only":[80],"except":[]}"#), "{text}");
        assert_eq!(serde_json::from_str::<Companion>(&text).unwrap().rules, rules);
        let secret = Secret::parse("000102030405060708090a0b0c0d0e0f");
        let text = serde_json::to_string(&Companion { secret, ..companion }).unwrap();
        assert!(text.ends_with(r#""secret":"000102030405060708090a0b0c0d0e0f"}"#), "{text}");
        let read: Companion = serde_json::from_str(&text).unwrap();
        assert_eq!(read.secret, secret);
        assert!(!format!("{read:?}").contains("0001"), "{read:?}");
    }
}
