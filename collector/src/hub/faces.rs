//! Stores what ports of folders were seen to speak, and reads it when the collector starts.
use super::drive::Hub;
use crate::registry::Event;
use agentfs_home::stored;

// === impl Hub ===

impl Hub {
    /// Tells the registry what earlier collectors learned.
    pub(super) fn recall_faces(&mut self) {
        let (folders, trouble) = stored::load(&self.files.paths.faces);
        if let Some(trouble) = trouble {
            self.warn(&format!("{trouble}; the ports of apps are learned again"));
        }
        self.tell(vec![Event::Recalled { folders }]);
    }

    /// Writes what is known, if anything was learned since.
    pub(super) fn store_faces(&mut self) {
        if self.naming.faces_at.take().is_none() {
            return;
        }
        let folders: Vec<_> = self.registry.learned_folders().cloned().collect();
        if let Err(error) = stored::save(&self.files.paths.faces, &folders) {
            self.warn(&format!("cannot write {}: {error}", self.files.paths.faces.display()));
        }
    }
}
