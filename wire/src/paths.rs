//! Where the files of one AGENTFS_HOME are. Pure: the caller supplies home and user.
use crate::limits::RUN_DIR_BYTES;
use std::path::{Path, PathBuf};

/// The places of one AGENTFS_HOME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `AGENTFS_HOME` itself, absolute.
    pub home: PathBuf,
    /// Folder of all sockets: `home`, or a short one below `/tmp` if the path of `home` is too long for
    /// sockets (then `home/run` is a link to the run dir).
    pub base: PathBuf,
    /// The run dir: `base/run`.
    pub run: PathBuf,
    /// Second names of the files in the run dir, `base/keep`.
    pub keep: PathBuf,
    /// Control socket of the collector, `base/collector.sock`.
    pub control: PathBuf,
    /// Datagram socket for notices, `base/collector.notice`.
    pub notice: PathBuf,
    /// One page shared with wrapped processes, `base/trace.page`: byte 0 is 1 while somebody traces.
    pub trace_page: PathBuf,
    /// The host's ports that instances must not reach, `base/barred.page` ([`crate::barred`]).
    pub barred: PathBuf,
    /// Lock that the one collector holds, `home/collector.lock`.
    pub lock: PathBuf,
    /// Lock for removing stale sockets of the run dir, `base/run.lock`.
    pub run_lock: PathBuf,
    /// Log of a collector that was started in the background, `home/collector.log`.
    pub log: PathBuf,
    /// The previous log, `home/collector.log.1` (see `limits::LOG_BYTES`).
    pub old_log: PathBuf,
    /// Routes added by hand, `home/routes.json`: written under another name, then renamed.
    pub routes: PathBuf,
    /// What ports of folders were seen to speak, `home/faces.json`: written likewise.
    pub faces: PathBuf,
    /// Forwards, `home/forwards.json`: written in the same way.
    pub forwards: PathBuf,
    /// Ports that the router had last, where it was to take any, `home/router.json`: written in the same way.
    pub router: PathBuf,
    /// Unpacked interposers, `home/lib`.
    pub lib: PathBuf,
}

// === impl Paths ===

impl Paths {
    /// The places of `home` (absolute, canonical) for user `uid`.
    pub fn new(home: &Path, uid: u32) -> Self {
        let base = if home.as_os_str().len() + "/run".len() <= RUN_DIR_BYTES {
            home.to_owned()
        } else {
            let key = crate::label::hash5(&home.to_string_lossy());
            PathBuf::from(format!("/tmp/agentfs-{uid}/{key}"))
        };
        Self {
            home: home.to_owned(),
            run: base.join("run"),
            keep: base.join("keep"),
            control: base.join("collector.sock"),
            notice: base.join("collector.notice"),
            trace_page: base.join("trace.page"),
            barred: base.join("barred.page"),
            run_lock: base.join("run.lock"),
            lock: home.join("collector.lock"),
            log: home.join("collector.log"),
            old_log: home.join("collector.log.1"),
            routes: home.join("routes.json"),
            faces: home.join("faces.json"),
            forwards: home.join("forwards.json"),
            router: home.join("router.json"),
            lib: home.join("lib"),
            base,
        }
    }

    /// Whether the sockets had to move below `/tmp`.
    pub fn is_short(&self) -> bool {
        self.base != self.home
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deep_home_gets_a_short_base() {
        let near = Paths::new(Path::new("/home/ada/.agentfs"), 1000);
        assert!(!near.is_short());
        // The longest that needs none, and one byte more.
        for (length, short) in [(RUN_DIR_BYTES - 4, false), (RUN_DIR_BYTES - 3, true)] {
            let home = format!("/{}", "h".repeat(length - 1));
            assert_eq!(Paths::new(Path::new(&home), 1000).is_short(), short, "{length} bytes");
        }
        assert_eq!(near.run, Path::new("/home/ada/.agentfs/run"));
        let deep = Paths::new(Path::new("/home/ada/a/very/deep/folder/for/a/home/of/agentfs"), 1000);
        assert!(deep.is_short() && deep.run.as_os_str().len() <= RUN_DIR_BYTES);
        assert!(deep.run.starts_with("/tmp/agentfs-1000"));
        assert_eq!(deep.lock, deep.home.join("collector.lock"));
    }
}
