//! Takes in who holds the listeners that were there before this collector. Pure.
use super::effect::Effect;
use super::event::Held;
use super::key::Key;
use super::state::Registry;
use agentfs_wire::name::{Kind, SocketName};

// === impl Registry ===

impl Registry {
    /// The listener has been there since that time, and is that process's, if it is not known whose it is.
    pub(super) fn held(&mut self, held: Held) {
        let Ok(name) = SocketName::parse(&held.file) else { return };
        let key = Key::of(&name);
        let Some(listener) =
            self.instances.get_mut(&key).and_then(|instance| instance.listeners.get_mut(&held.file))
        else {
            return;
        };
        listener.since_ms = listener.since_ms.min(held.since_ms);
        // A socket made by hand lives and ends by itself, whatever else its process does.
        let is_ours = matches!(name.kind, Kind::Listener { .. }) && listener.pid.is_none();
        let Some(pid) = held.pid.filter(|_| is_ours) else { return };
        listener.pid = Some(pid);
        self.mark(&key);
        if self.join(&key, pid) {
            self.effects.push(Effect::Watch { pid, born_before_ms: None });
        }
        self.reclaim(&key);
    }
}
