//! The file of forwards, so that a collector that starts opens again what the last one had open. If it is damaged, its
//! forwards are lost, but the collector starts.
use crate::stored;
use agentfs_wire::control::ForwardParams;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// A forward on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptForward {
    /// What it was asked for, with the address that it listens on.
    pub params: ForwardParams,
    /// Which life of the instance it is for: Unix milliseconds when that was started. Absent: the instance was made by
    /// hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<u64>,
}

/// What the file holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    forwards: Vec<KeptForward>,
}

/// Reads the forwards, and what is wrong with the file, if anything.
pub fn load(path: &Path) -> (Vec<KeptForward>, Option<String>) {
    let (stored, trouble) = stored::load::<Stored>(path);
    (stored.forwards, trouble)
}

/// Writes the forwards.
///
/// # Errors
/// What the system says; the old file is unchanged then.
pub fn save(path: &Path, forwards: Vec<KeptForward>) -> io::Result<()> {
    stored::save(path, &Stored { forwards })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_survive_and_a_torn_file_does_not_hurt() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("forwards.json");
        assert_eq!(load(&path), (Vec::new(), None));
        let params = ForwardParams {
            app: "shop".to_owned(),
            instance: "blue".to_owned(),
            port: Some(5432),
            listen: Some("127.0.0.1:15432".to_owned()),
            handoff: None,
            lan: false,
        };
        let kept = vec![
            KeptForward { params: params.clone(), started_ms: Some(7) },
            KeptForward { params: ForwardParams { port: None, listen: None, ..params }, started_ms: None },
        ];
        save(&path, kept.clone()).unwrap();
        assert_eq!(load(&path), (kept, None));
        std::fs::write(&path, "{\"forwards\":[{").unwrap();
        let (none, trouble) = load(&path);
        assert!(none.is_empty() && trouble.unwrap().contains("moved to"));
        assert!(!path.exists());
    }
}
