//! What became of each request: counters for each listener always, a record for whoever follows along.
//!
//! Records are made only while somebody wants them, go to the hub through a bounded queue, and are
//! counted where they do not fit: the router never waits for a reader.
use crate::counters::RouterMetrics;
use crate::message::request::Request;
use crate::upstream::listener::Upstream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Bytes of a path that a record keeps; the rest is cut off.
const PATH_BYTES: usize = 1024;

/// The way of records to the hub.
#[derive(Clone, Debug)]
pub struct RequestLog {
    /// How many want records. Counted by whoever lets them subscribe.
    wanted: Arc<AtomicUsize>,
    /// router --records--> hub
    record_tx: mpsc::Sender<RequestRecord>,
    /// Records that did not fit.
    missed: Arc<AtomicU64>,
}

/// One request and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// Method.
    pub method: String,
    /// Host name as the client wrote it.
    pub host: String,
    /// Path and query, cut short where it is long.
    pub path: String,
    /// Status answered; 0 when the client left before. `None`: the application got the connection itself, and
    /// nothing more is known of it.
    pub status: Option<u16>,
    /// From the request's head to the end of the answer.
    pub duration: Duration,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// App and instance that answered; `None` for a page of ours.
    pub by: Option<(String, String)>,
}

/// Where requests are counted and told.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    pub(crate) metrics: Arc<RouterMetrics>,
    /// Who follows along.
    pub(crate) log: RequestLog,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Access {
    start: Instant,
    line: Option<Box<Line>>,
}

/// What a record repeats of a request.
#[derive(Debug)]
struct Line {
    method: String,
    host: String,
    path: String,
}

// === impl RequestLog ===

impl RequestLog {
    /// A log that writes while `wanted` is above 0. Records that do not fit are added to `missed`.
    pub fn new(
        wanted: Arc<AtomicUsize>,
        record_tx: mpsc::Sender<RequestRecord>,
        missed: Arc<AtomicU64>,
    ) -> Self {
        Self { wanted, record_tx, missed }
    }

    /// A log that nobody reads.
    pub fn none() -> Self {
        Self::new(Arc::default(), mpsc::channel(1).0, Arc::default())
    }

    fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    fn write(&self, record: RequestRecord) {
        if self.record_tx.try_send(record).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// === impl Access ===

impl Access {
    /// A request that begins now.
    pub(crate) fn begin() -> Self {
        Self { start: Instant::now(), line: None }
    }

    /// Keeps what a record needs, where one is wanted.
    pub(crate) fn note(&mut self, observer: &Observer, request: &Request<'_>) {
        if observer.log.is_wanted() {
            let path = request.path();
            let cut = path.floor_char_boundary(PATH_BYTES);
            self.line = Some(Box::new(Line {
                method: request.method().to_owned(),
                host: request.host.to_owned(),
                path: path[..cut].to_owned(),
            }));
        }
    }

    /// Counts the end of a request. `by` answered it; `None` is a page of ours.
    pub(crate) fn end(self, observer: &Observer, by: Option<&Upstream>, status: u16, bytes: u64) {
        observer.metrics.answered(status);
        if by.is_none() && self.line.is_none() {
            return;
        }
        let duration = self.start.elapsed();
        if let Some(upstream) = by {
            upstream.usage.count(status, bytes, duration);
        }
        if let Some(line) = self.line {
            let Line { method, host, path } = *line;
            // A target given by hand is no instance.
            let by = by.filter(|upstream| !upstream.app.is_empty());
            let by = by.map(|upstream| (upstream.app.clone(), upstream.instance.clone()));
            let status = Some(status);
            observer.log.write(RequestRecord { method, host, path, status, duration, bytes, by });
        }
    }

    /// The request was refused, which is counted elsewhere.
    pub(crate) fn refused(self, observer: &Observer, status: u16) {
        if let Some(line) = self.line {
            let Line { method, host, path } = *line;
            let (status, duration) = (Some(status), self.start.elapsed());
            observer.log.write(RequestRecord { method, host, path, status, duration, bytes: 0, by: None });
        }
    }

    /// The connection was handed to `upstream` with this request unread.
    pub(crate) fn handed_over(self, observer: &Observer, upstream: &Upstream) {
        if let Some(line) = self.line {
            let Line { method, host, path } = *line;
            let by = Some((upstream.app.clone(), upstream.instance.clone()));
            let duration = self.start.elapsed();
            observer.log.write(RequestRecord { method, host, path, status: None, duration, bytes: 0, by });
        }
    }
}
