//! Searches all processes for members of instances, by their environment (`/proc/PID/environ`, as it
//! was when the program started). Needed for processes that nobody reported: a program that went to the
//! background before it bound anything, or all processes after a restart of the collector. Root can read every
//! environment, but every user can set his own. So a process of another user must have the instance's secret in its
//! environment. On systems without `/proc` it finds nothing, and an instance ends with the processes that are known.
use crate::registry::Key;
use crate::secret;
use agentfs_system::process;
use agentfs_wire::environ::membership;
use std::collections::HashSet;
use std::path::Path;

/// The processes of the run dir `run` that belong to one of `asked`. Takes milliseconds: call it only where
/// blocking is allowed.
pub(crate) fn survey(run: &Path, asked: &[Key]) -> Vec<(Key, u32)> {
    let mut living = Vec::new();
    let asked: HashSet<&Key> = asked.iter().collect();
    for pid in process::numbers() {
        let Some(environment) = process::environment(pid) else { continue };
        let Some(member) = membership(&environment, run) else { continue };
        let key = Key { app: member.app.to_owned(), instance: member.instance.to_owned() };
        if !asked.contains(&key) {
            continue;
        }
        if process::is_ours(pid) || proves(member.secret, &key, run) {
            living.push((key, pid));
        }
    }
    living
}

/// Whether a process of another user has the secret of the instance that it names.
fn proves(claimed: Option<&str>, key: &Key, run: &Path) -> bool {
    claimed.zip(secret::of(&key.app, &key.instance, run)).is_some_and(|(claimed, secret)| secret.is(claimed))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use agentfs_wire::env;

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
