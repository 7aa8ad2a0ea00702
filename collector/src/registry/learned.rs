//! Learns from answers what listeners speak, and tells who has another host name because of that.
use super::effect::Effect;
use super::face::is_unlikely;
use super::key::Key;
use super::state::Registry;
use agentfs_wire::event::What;
use agentfs_wire::limits::EPHEMERAL_FIRST;
use agentfs_wire::name::{Kind, SocketName};
use agentfs_wire::speaks::{FolderPorts, Speaks};
use std::path::PathBuf;

// === impl Registry ===

impl Registry {
    /// Everything that is worth storing.
    pub(crate) fn learned_folders(&self) -> impl Iterator<Item = &FolderPorts> {
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

    /// Tells the journal which listeners have other host names, since another one is the face. `fresh` was told just now.
    pub(super) fn note_face(&mut self, key: &Key, fresh: Option<&str>) {
        let Some(instance) = self.instances.get_mut(key) else { return };
        let face = instance.main().map(|(_, face)| face.port());
        instance.last_face = face.or(instance.last_face);
        let mut renamed = Vec::new();
        for (file, listener) in instance.listeners.iter_mut().filter(|(_, listener)| listener.accepting) {
            let is_face = face == Some(listener.port());
            let told = std::mem::replace(&mut listener.told_as_face, is_face);
            if told != is_face && listener.port() != 0 && fresh != Some(file) {
                renamed.push(file.clone());
            }
        }
        for file in renamed {
            self.publish_listener(What::ListenerRenamed, key, &file);
        }
    }
}
