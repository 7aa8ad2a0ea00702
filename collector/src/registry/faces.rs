//! What the ports of an app's folder speak, learned from answers. Kept while the app and the collector restart.
use crate::limits::{FACE_FOLDERS, FACE_PORTS};
use agentfs_wire::speaks::{FolderPorts, Speaks};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// All folders.
#[derive(Debug, Default)]
pub(super) struct Faces {
    pub(super) folders: BTreeMap<(String, PathBuf), FolderPorts>,
}

// === impl Faces ===

impl Faces {
    /// What was stored.
    pub(super) fn of(folders: Vec<FolderPorts>) -> Self {
        let folders = folders.into_iter().take(FACE_FOLDERS);
        let keyed = folders.map(|folder| ((folder.app.clone(), folder.folder.clone()), folder));
        Self { folders: keyed.collect() }
    }

    /// Learns what a port of a folder speaks. Returns whether that is new. If there is no room for another folder, the one
    /// about which nothing was learned for the longest time is forgotten.
    pub(super) fn learn(&mut self, now: u64, place: (String, PathBuf), port: u16, speaks: Speaks) -> bool {
        if !self.folders.contains_key(&place)
            && self.folders.len() >= FACE_FOLDERS
            && let Some(oldest) = self
                .folders
                .iter()
                .min_by_key(|(_, folder)| folder.learned_ms)
                .map(|(place, _)| place.clone())
        {
            self.folders.remove(&oldest);
        }
        let (app, path) = place.clone();
        let folder = self.folders.entry(place).or_insert_with(|| FolderPorts {
            app,
            folder: path,
            learned_ms: now,
            ports: BTreeMap::new(),
        });
        if folder.ports.len() >= FACE_PORTS && !folder.ports.contains_key(&port) {
            return false;
        }
        let known = folder.ports.get(&port).copied();
        let after = Speaks::after(known, speaks);
        folder.learned_ms = now;
        folder.ports.insert(port, after) != Some(after)
    }
}
