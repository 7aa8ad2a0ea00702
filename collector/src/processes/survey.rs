//! Searches all processes for members of instances, by their environment (`/proc/PID/environ`, as it
//! was when the program started). Needed for those that nobody told of: a program that went to the
//! background before it bound anything, or everything after the collector was restarted. On systems
//! without `/proc` it finds nothing, and instances end with the processes that are known.
use crate::registry::Key;
use agentfs_wire::env;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The processes of the run dir `run` that belong to one of `asked`. Takes milliseconds: call it where
/// blocking is allowed.
pub(crate) fn survey(run: &Path, asked: &[Key]) -> Vec<(Key, u32)> {
    let mut living = Vec::new();
    let asked: HashSet<&Key> = asked.iter().collect();
    let Ok(processes) = fs::read_dir("/proc") else { return living };
    for entry in processes.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid else { continue };
        // Processes of others cannot be read, and those that ended meanwhile are gone.
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        if let Some(key) = member(&environment, run).filter(|key| asked.contains(key)) {
            living.push((key, pid));
        }
    }
    living
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
        let found = survey(run, std::slice::from_ref(&key));
        let pid = child.id();
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(found, [(key, pid)]);
    }
}
