//! Searches all processes for members of instances, by their environment (`/proc/PID/environ`, as it
//! was when the program started). Needed for processes that nobody reported: a program that went to the
//! background before it bound anything, or all processes after a restart of the collector. Root can read every
//! environment, but every user can set his own. So a process of another user must have the instance's secret in its
//! environment. On systems without `/proc` it finds nothing, and an instance ends with the processes that are known.
use crate::registry::Key;
use crate::secret;
use agentfs_wire::env;
use nix::unistd::geteuid;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The processes of the run dir `run` that belong to one of `asked`. Takes milliseconds: call it only where
/// blocking is allowed.
pub(crate) fn survey(run: &Path, asked: &[Key]) -> Vec<(Key, u32)> {
    let mut living = Vec::new();
    let asked: HashSet<&Key> = asked.iter().collect();
    let Ok(processes) = fs::read_dir("/proc") else { return living };
    for entry in processes.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid else { continue };
        // Processes of other users cannot be read, and some have ended meanwhile.
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        let Some(key) = member(&environment, run).filter(|key| asked.contains(key)) else { continue };
        // proc(5): a process that changed its user but has not executed a program still belongs to root here.
        let is_ours = entry.metadata().is_ok_and(|process| process.uid() == geteuid().as_raw());
        if is_ours || proves(&environment, &key, run) {
            living.push((key, pid));
        }
    }
    living
}

/// Whether an environment contains the secret of the instance that it names.
fn proves(environment: &[u8], key: &Key, run: &Path) -> bool {
    let secret = |variable| std::str::from_utf8(variable).ok()?.strip_prefix(env::SECRET)?.strip_prefix('=');
    let claimed = environment.split(|byte| *byte == 0).find_map(secret);
    claimed.zip(secret::of(&key.app, &key.instance, run)).is_some_and(|(claimed, secret)| secret.is(claimed))
}

/// The instance that a process with this environment belongs to, if its run dir is ours.
fn member(environment: &[u8], run: &Path) -> Option<Key> {
    let (mut app, mut instance, mut folder) = (None, None, None);
    for variable in environment.split(|byte| *byte == 0) {
        let equals = variable.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (variable.get(..equals)?, variable.get(equals + 1..)?);
        match std::str::from_utf8(name) {
            Ok(env::APP) => app = Some(value),
            Ok(env::INSTANCE) => instance = Some(value),
            Ok(env::RUN) => folder = Some(PathBuf::from(OsStr::from_bytes(value))),
            _ => {}
        }
        if let (Some(app), Some(instance), Some(folder)) = (app, instance, folder.as_deref()) {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
            return (folder == run).then_some(Key { app: text(app)?, instance: text(instance)? });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_known_by_their_environment() {
        let run = Path::new("/home/ada/.agentfs/run");
        let of = |text: &[u8]| member(text, run).map(|key| key.to_string());
        let whole =
            b"PATH=/bin\0AGENTFS_RUN=/home/ada/.agentfs/run\0AGENTFS_APP=shop\0AGENTFS_INSTANCE=k3f9\0";
        assert_eq!(of(whole).as_deref(), Some("shop/k3f9"));
        assert_eq!(of(b"AGENTFS_RUN=/other\0AGENTFS_APP=shop\0AGENTFS_INSTANCE=k3f9\0"), None);
        assert_eq!(of(b"AGENTFS_APP=shop\0"), None);
        assert_eq!(of(b"\0nginx: master process\0"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_living_member_is_found() {
        let run = Path::new("/nowhere/run");
        let mut child = std::process::Command::new("cat")
            .env(env::RUN, run)
            .env(env::APP, "shop")
            .env(env::INSTANCE, "k3f9")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let key = Key { app: "shop".into(), instance: "k3f9".into() };
        let pid = child.id();
        // The kernel lets the parent go on when the child has begun to execute; a moment later it has an environment.
        let start = std::time::Instant::now();
        let mut found = Vec::new();
        while found.is_empty() && start.elapsed() < std::time::Duration::from_secs(20) {
            found = survey(run, std::slice::from_ref(&key));
        }
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(found, [(key, pid)]);
    }
}
