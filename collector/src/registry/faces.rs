//! What the ports of an app's folder speak, learned from answers. Kept while the app and the collector restart.
use super::effect::Effect;
use super::face::is_unlikely;
use super::key::Key;
use super::state::Registry;
use crate::limits::{FACE_FOLDERS, FACE_PORTS};
use agentfs_wire::limits::EPHEMERAL_FIRST;
use agentfs_wire::name::{Kind, SocketName};
use agentfs_wire::speaks::{FolderPorts, Speaks};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// All folders.
#[derive(Debug, Default)]
pub(super) struct Faces {
    folders: BTreeMap<(String, PathBuf), FolderPorts>,
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
    fn learn(&mut self, now: u64, place: (String, PathBuf), port: u16, speaks: Speaks) -> bool {
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

// === impl Registry ===

impl Registry {
    /// Everything that is worth storing.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &FolderPorts> {
        self.faces.folders.values()
    }

    /// An instance gets what is known of its folder.
    pub(super) fn recall(&mut self, key: &Key) {
        let Some(instance) = self.instances.get_mut(key) else { return };
        let Some(folder) = instance.folder() else { return };
        if let Some(known) = self.faces.folders.get(&(key.app.clone(), folder.to_owned())) {
            for (port, speaks) in &known.ports {
                instance.speaks.entry(*port).or_insert(*speaks);
            }
        }
    }

    /// An answer of a listener shows what it speaks.
    pub(super) fn spoke(&mut self, now: u64, file: &str, speaks: Speaks) {
        let Ok(name) = SocketName::parse(file) else { return };
        let Kind::Listener { port, .. } = name.kind else { return };
        let key = Key::of(&name);
        let Some(instance) = self.instances.get_mut(&key) else { return };
        let Some(listener) = instance.listeners.get_mut(file) else { return };
        // One answer that is not HTTP, of a listener that has answered HTTP, is a mistake of the program.
        if speaks == Speaks::Other && listener.answered {
            return;
        }
        listener.answered |= speaks != Speaks::Other;
        // Of most ports that is what was thought anyway.
        if speaks == Speaks::Http && !instance.speaks.contains_key(&port) && !is_unlikely(port) {
            return;
        }
        let folder = instance.folder().map(PathBuf::from);
        let mut of_folder = vec![key.clone()];
        // An ephemeral port means something else with each start.
        if let Some(folder) = folder.filter(|_| port < EPHEMERAL_FIRST) {
            if self.faces.learn(now, (key.app.clone(), folder.clone()), port, speaks) {
                self.effects.push(Effect::StoreFaces);
            }
            let first = Key { app: key.app.clone(), instance: String::new() };
            let of_app = self.instances.range(first..).take_while(|(other, _)| other.app == key.app);
            let alike = of_app
                .filter(|(other, instance)| **other != key && instance.folder() == Some(folder.as_path()));
            of_folder.extend(alike.map(|(other, _)| other.clone()));
        }
        for key in of_folder {
            let Some(instance) = self.instances.get_mut(&key) else { continue };
            let known = instance.speaks.get(&port).copied();
            let after = Speaks::after(known, speaks);
            if known != Some(after) {
                instance.speaks.insert(port, after);
                self.mark(&key);
                self.settle(&key);
            }
        }
    }
}
