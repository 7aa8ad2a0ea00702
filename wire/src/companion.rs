//! The companion file `{app}-{instance}.json`: what a name cannot say. Written once by whoever starts
//! the instance (created exclusively, so it is also the claim on the name), removed with the instance.
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Which ports are an instance's own, and whether the host's are reached: what its programs were started with, so
/// that a program that joins it later goes by the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rules {
    /// Whether ports without a listener of the instance are refused.
    pub isolate: bool,
    /// Ports that alone are the instance's; empty: all of them.
    pub only: Vec<u16>,
    /// Ports that stay the host's.
    pub except: Vec<u16>,
}

/// Who an instance is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Companion {
    /// App name, a DNS label.
    pub app: String,
    /// Instance name, a DNS label.
    pub instance: String,
    /// Working directory of the command.
    pub directory: PathBuf,
    /// Folder of the checkout (git root), where there is one. Instances of one checkout are replicas.
    pub checkout: Option<PathBuf>,
    /// Whether the checkout is a linked worktree or a copy, that is, not the main checkout.
    pub fork: bool,
    /// Branch that was checked out, where known.
    pub branch: Option<String>,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Process id of `agentfs wrap`, which becomes the program.
    pub wrap_pid: u32,
    /// Process id of the wrapped program: `wrap_pid`, or a child of it (`agentfs trace -- COMMAND`), then 0
    /// until it was started.
    pub child_pid: u32,
    /// Unix time in milliseconds when the instance was started.
    pub started_ms: u64,
    /// Version of agentfs that wrote the file.
    pub version: String,
    /// Its rules; absent in files of older versions.
    #[serde(default)]
    pub rules: Rules,
    /// What its processes prove with that they are its own, where they may change their user: only root's can. The file
    /// is therefore for its owner's eyes only.
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
        let rules = Rules { isolate: true, only: vec![80], except: Vec::new() };
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
