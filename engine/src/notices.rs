//! Notices to the collector about the calls of programs, as the library sends them.
use crate::limits::TOLD_PORTS;
use crate::process::Caller;
use agentfs_wire::limits::NOTICE_BYTES;
pub(crate) use agentfs_wire::notice::News;
use agentfs_wire::notice::{Notice, Outcome};
use agentfs_wire::paths::Paths;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// The sender.
#[derive(Debug)]
pub(crate) struct Notices {
    to: PathBuf,
    page: PathBuf,
    mapped: Option<File>,
    app: String,
    instance: String,
    dropped: u32,
    /// Ports of the host that were told once: for which command, and whether they were refused.
    told: BTreeSet<(String, u16, bool)>,
}

// === impl Notices ===

impl Notices {
    /// A sender for an instance.
    pub(crate) fn new(paths: &Paths, app: &str, instance: &str) -> Self {
        Self {
            to: paths.notice.clone(),
            page: paths.trace_page.clone(),
            mapped: None,
            app: app.to_owned(),
            instance: instance.to_owned(),
            dropped: 0,
            told: BTreeSet::new(),
        }
    }

    /// Sends a notice about a process.
    pub(crate) fn tell(&mut self, pid: u32, program: &str, news: News<'_>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let notice = Notice {
            call: news.call,
            outcome: news.outcome,
            why: news.why,
            errno: news.errno,
            fd: news.fd,
            pid,
            time_ns: u64::try_from(now.as_nanos()).unwrap_or(0),
            dropped: self.dropped,
            address: news.address.map(Into::into),
            peer: news.peer.map(Into::into),
            app: &self.app,
            instance: &self.instance,
            file: news.file,
            program,
        };
        let mut datagram = [0; NOTICE_BYTES];
        let length = notice.encode_on_behalf(&mut datagram);
        let datagram = length.and_then(|length| datagram.get(..length));
        let sent = datagram.is_some_and(|datagram| {
            let socket = UnixDatagram::unbound();
            socket.is_ok_and(|socket| {
                socket.set_nonblocking(true).is_ok() && socket.send_to(datagram, &self.to).is_ok()
            })
        });
        self.dropped = if sent { 0 } else { self.dropped.saturating_add(1) };
    }

    /// Sends a notice about a caller.
    pub(crate) fn tell_of(&mut self, caller: Caller, news: News<'_>) {
        self.tell(caller.leader(), &caller.name(), news);
    }

    /// Sends a notice about a caller, but only while somebody traces.
    pub(crate) fn trace(&mut self, caller: Caller, news: News<'_>) {
        if self.is_traced() {
            self.tell_of(caller, news);
        }
    }

    /// Tells of a connect to a port of the host: always the first time, then only while somebody traces.
    pub(crate) fn tell_host(&mut self, caller: Caller, news: News<'_>) {
        if self.told.len() >= TOLD_PORTS {
            self.told.clear();
        }
        let port = news.address.map_or(0, |address| address.port);
        if self.told.insert((news.file.to_owned(), port, news.outcome == Outcome::Refused)) {
            self.tell_of(caller, news);
        } else {
            self.trace(caller, news);
        }
    }

    /// Whether somebody traces: the first byte of the page says so.
    fn is_traced(&mut self) -> bool {
        let mut byte = [0];
        let is_whole = |file: &File| file.metadata().is_ok_and(|metadata| metadata.nlink() > 0);
        if !self.mapped.as_ref().is_some_and(is_whole) {
            self.mapped = File::open(&self.page).ok();
        }
        let read = self.mapped.as_ref().and_then(|file| file.read_at(&mut byte, 0).ok());
        read == Some(1) && byte == [1]
    }
}
