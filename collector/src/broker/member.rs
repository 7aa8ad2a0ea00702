//! Whether a process belongs to an instance: found out from the kernel, never from the process.
use agentfs_wire::companion::Companion;
use agentfs_wire::env;
use agentfs_wire::name::{Kind, SocketName, app_name, instance_name};
use std::fs;
use std::path::Path;

/// Generations that are looked back. A deeper process is no member.
const GENERATIONS: usize = 64;

/// Whether `pid`, or a process that it descends from, is the instance's: the wrapped program itself, or one
/// that was started with the instance's variables.
pub(super) fn belongs(pid: i32, app: &str, instance: &str, run: &Path) -> bool {
    let (Some(app_label), Some(instance_label)) = (app_name(app), instance_name(instance)) else {
        return false;
    };
    let file = SocketName { app: app_label, instance: instance_label, kind: Kind::Companion }.format();
    let companion: Option<Companion> =
        fs::read(run.join(file.as_str())).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let program = companion.map_or(0, |companion| companion.child_pid);
    let run = run.to_string_lossy();
    let wanted = [(env::APP, app), (env::INSTANCE, instance), (env::RUN, &*run)];
    let mut pid = u32::try_from(pid).unwrap_or(0);
    for _ in 0..GENERATIONS {
        if pid <= 1 {
            return false;
        }
        if pid == program || was_started_with(pid, &wanted) {
            return true;
        }
        pid = parent(pid).unwrap_or(0);
    }
    false
}

/// Whether a process was started with these variables (proc(5), `/proc/PID/environ`).
fn was_started_with(pid: u32, wanted: &[(&str, &str)]) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    wanted.iter().all(|(name, value)| {
        let entry = format!("{name}={value}");
        environment.split(|byte| *byte == 0).any(|own| own == entry.as_bytes())
    })
}

/// The parent of a process (proc(5), `/proc/PID/stat`, fourth field; the second may hold anything but ends
/// with the last parenthesis).
fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = status.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentfs_wire::companion::Rules;

    #[test]
    fn a_stranger_is_no_member() {
        let run = tempfile::tempdir().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!belongs(own, "shop", "main", run.path()));
        assert!(!belongs(own, "Not A Label", "main", run.path()));
    }

    #[test]
    fn the_program_and_what_it_starts_are_members() {
        let run = tempfile::tempdir().unwrap();
        let parent = std::os::unix::process::parent_id();
        let companion = Companion {
            app: "shop".to_owned(),
            instance: "main".to_owned(),
            directory: "/".into(),
            checkout: None,
            fork: false,
            branch: None,
            command: Vec::new(),
            wrap_pid: 0,
            child_pid: parent,
            started_ms: 0,
            version: String::new(),
            rules: Rules::default(),
        };
        fs::write(run.path().join("shop-main.json"), serde_json::to_vec(&companion).unwrap()).unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(belongs(own, "shop", "main", run.path()));
        assert!(!belongs(own, "shop", "other", run.path()));
    }
}
