//! Secrets of instances, read from their companions. With the secret, a process of another user proves that it belongs
//! to an instance. Called by `broker`, and by `processes` for processes of other users.
use crate::limits::COMPANION_BYTES;
use agentfs_wire::companion::Companion;
use agentfs_wire::name::{Kind, SocketName, app_name, instance_name};
use agentfs_wire::secret::Secret;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The secret of an instance, from a companion that only we can read and write.
pub(crate) fn of(app: &str, instance: &str, run: &Path) -> Option<Secret> {
    let name = SocketName { app: app_name(app)?, instance: instance_name(instance)?, kind: Kind::Companion };
    // A link is not followed, and a pipe does not make us wait.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let path = run.join(name.format().as_str());
    let file = File::options().read(true).custom_flags(flags.bits()).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    let private = metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o077 == 0;
    if !metadata.is_file() || !private || metadata.len() > COMPANION_BYTES {
        return None;
    }
    let mut text = Vec::new();
    file.take(COMPANION_BYTES).read_to_end(&mut text).ok()?;
    let companion: Companion = serde_json::from_slice(&text).ok()?;
    ((companion.app.as_str(), companion.instance.as_str()) == (app, instance)).then_some(companion.secret)?
}
