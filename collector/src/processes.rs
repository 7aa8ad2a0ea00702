//! Watches processes until they end. Owns one descriptor (`exit`) and one task for each, so a later process
//! with the same number is never mistaken for it. If there is no such descriptor (old kernels, too many
//! processes), kill(pid, 0) checks the process once a second, which can mistake a later process for it. Called
//! by `hub`.

#[cfg(target_os = "linux")]
mod birth;
mod command;
mod exit;
mod held;
mod survey;

pub(crate) use command::command;
pub(crate) use held::held;
pub(crate) use survey::survey;

use crate::limits::{COMMAND_CHARACTERS, EXIT_QUEUE, WATCHED_PROCESSES};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// The processes that are watched.
#[derive(Debug)]
pub(crate) struct Processes {
    /// By number: the task that waits, or nothing for a process that is checked by kill.
    watched: BTreeMap<u32, Option<AbortHandle>>,
    /// Number of processes that are checked by kill.
    asked: usize,
    /// processes --exited pid--> hub
    exit_tx: mpsc::Sender<u32>,
}

// === impl Processes ===

impl Processes {
    /// Starts without processes. Also returns the receiver of exits.
    pub(crate) fn new() -> (Self, mpsc::Receiver<u32>) {
        let (exit_tx, exit_rx) = mpsc::channel(EXIT_QUEUE);
        (Self { watched: BTreeMap::new(), asked: 0, exit_tx }, exit_rx)
    }

    /// Watches a process. `false` if it is not alive, or was born after `born_before_ms` and so is another
    /// process.
    pub(crate) fn watch(&mut self, pid: u32, born_before_ms: Option<u64>) -> bool {
        if self.watched.contains_key(&pid) {
            return true;
        }
        let handle = match self.open(pid) {
            Ok(handle) => handle,
            Err(Errno::ESRCH) => return false,
            Err(_) if !lives(pid) => return false,
            Err(_) => None,
        };
        #[cfg(target_os = "linux")]
        if born_before_ms.is_some_and(|limit| birth::is_younger(pid, limit)) {
            if let Some(handle) = handle {
                handle.abort();
            }
            return false;
        }
        #[cfg(not(target_os = "linux"))]
        let _ = born_before_ms;
        self.asked += usize::from(handle.is_none());
        self.watched.insert(pid, handle);
        true
    }

    /// Stops watching a process.
    pub(crate) fn forget(&mut self, pid: u32) {
        match self.watched.remove(&pid) {
            Some(Some(handle)) => handle.abort(),
            Some(None) => self.asked -= 1,
            None => {}
        }
    }

    /// Whether there are processes whose end the system does not report.
    pub(crate) fn must_be_asked(&self) -> bool {
        self.asked > 0
    }

    /// The processes without a descriptor that are no longer alive.
    pub(crate) fn ended(&self) -> Vec<u32> {
        if self.asked == 0 {
            return Vec::new();
        }
        let asked = self.watched.iter().filter(|(_, handle)| handle.is_none());
        asked.map(|(pid, _)| *pid).filter(|pid| !lives(*pid)).collect()
    }

    fn open(&self, pid: u32) -> Result<Option<AbortHandle>, Errno> {
        use tokio::io::Interest;
        use tokio::io::unix::AsyncFd;
        if self.watched.len() >= WATCHED_PROCESSES {
            return Ok(None);
        }
        let raw = i32::try_from(pid).ok().filter(|raw| *raw > 0).ok_or(Errno::ESRCH)?;
        let descriptor = exit::descriptor(raw)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for descriptors that may be closed while registered; \
                      an OwnedFd that the AsyncFd owns is not, and we have no unsafe code"
        )]
        let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE).map_err(|_| Errno::EMFILE)?;
        let exit_tx = self.exit_tx.clone();
        let task = tokio::spawn(async move {
            // If a descriptor cannot be waited for, this is reported as an exit too: the check that follows
            // finds out what is still alive.
            let _ = descriptor.readable().await;
            let _ = exit_tx.send(pid).await;
        });
        Ok(Some(task.abort_handle()))
    }
}

/// A process for people: `node api.js (pid 812)`. On a system without `/proc`, only its number.
pub(crate) fn described(pid: u32) -> String {
    let command = command(pid).unwrap_or_default().join(" ");
    let shown: String =
        agentfs_wire::text::visible(command.trim()).to_string().chars().take(COMMAND_CHARACTERS).collect();
    if shown.is_empty() { format!("pid {pid}") } else { format!("{shown} (pid {pid})") }
}

/// Whether a process with that number exists.
fn lives(pid: u32) -> bool {
    match i32::try_from(pid) {
        Ok(pid) if pid > 0 => kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn an_exit_is_told() {
        let (mut processes, mut exit_rx) = Processes::new();
        let mut child =
            tokio::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id().unwrap();
        assert!(processes.watch(pid, None));
        drop(child.stdin.take());
        let told = tokio::time::timeout(Duration::from_secs(10), exit_rx.recv()).await.unwrap();
        assert_eq!(told, Some(pid));
        child.wait().await.unwrap();
        processes.forget(pid);
        assert!(!processes.watch(pid, None));
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_process_born_too_late_is_another_one() {
        let (mut processes, _exit_rx) = Processes::new();
        let own = std::process::id();
        assert!(!processes.watch(own, Some(1_000_000)));
        assert!(processes.watch(own, Some(crate::clock::now_ms())));
        assert!(!processes.watch(0, None) && !processes.watch(u32::MAX, None));
    }
}
