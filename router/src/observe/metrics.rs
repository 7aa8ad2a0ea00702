//! Counters of the router, and their Prometheus text. Never per path: the number of series is fixed.
use crate::observe::access::BUCKETS_US;
use crate::table::{HandedOver, Table, Upstream};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, or a gauge that is added to and taken from.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

/// What the router counts. Shared with the hub, which may show it elsewhere too.
#[derive(Debug, Default)]
pub struct RouterMetrics {
    /// Connections accepted.
    pub connections: Counter,
    /// Connections open now.
    pub open_connections: Counter,
    /// Idle connections closed to make room for others.
    pub let_go: Counter,
    /// Connections that there was no room for.
    pub turned_away: Counter,
    /// Requests, by the first digit of the status answered (1 to 5).
    pub responses: [Counter; 6],
    /// Connections made to listeners.
    pub connects: Counter,
    /// Requests sent again on a fresh connection since a kept one had been closed.
    pub retries: Counter,
    /// Connects refused by a listener.
    pub refused: Counter,
    /// Connections that changed their protocol (WebSocket and the like).
    pub upgrades: Counter,
    /// TLS handshakes that failed.
    pub failed_handshakes: Counter,
    /// Requests refused because they were malformed or broke a limit.
    pub malformed: Counter,
    /// What others have to say on the same page.
    pub others: Others,
}

/// Renders the metrics of other parts, once somebody has set how.
#[derive(Default)]
pub struct Others(OnceLock<Box<dyn Fn() -> String + Send + Sync>>);

/// The counters of all upstreams with the same labels.
#[derive(Debug, Default)]
struct Series {
    requests: u64,
    responses: [u64; 6],
    bytes: u64,
    buckets: [u64; BUCKETS_US.len() + 1],
    time_us: u64,
}

// === impl Counter ===

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes `count` off a gauge.
    pub fn subtract(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

// === impl Others ===

impl Others {
    /// Sets what renders them; the first to come stays.
    pub fn set(&self, render: impl Fn() -> String + Send + Sync + 'static) {
        // A second one would be a mistake of the caller's without harm.
        let _ = self.0.set(Box::new(render));
    }
}

impl fmt::Debug for Others {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Others").field(&self.0.get().is_some()).finish()
    }
}

// === impl RouterMetrics ===

impl RouterMetrics {
    /// Counts one answer.
    pub(crate) fn answered(&self, status: u16) {
        if let Some(counter) = self.responses.get(usize::from(status / 100)) {
            counter.add(1);
        }
    }

    /// All of it in Prometheus' text format, with the requests of each listener in `table`, after what others say.
    pub fn render(&self, table: &Table) -> String {
        let mut text = self.others.0.get().map_or_else(String::new, |render| render());
        for (name, kind, help, counter) in [
            ("connections_total", "counter", "Connections accepted.", &self.connections),
            ("connections_open", "gauge", "Connections open now.", &self.open_connections),
            ("connections_let_go_total", "counter", "Idle connections closed to make room.", &self.let_go),
            (
                "connections_turned_away_total",
                "counter",
                "Connections refused for want of room.",
                &self.turned_away,
            ),
            ("upstream_connects_total", "counter", "Connections made to listeners.", &self.connects),
            (
                "upstream_retries_total",
                "counter",
                "Requests sent again on a fresh connection.",
                &self.retries,
            ),
            ("upstream_refused_total", "counter", "Connects that a listener refused.", &self.refused),
            ("upgrades_total", "counter", "Connections that changed their protocol.", &self.upgrades),
            ("tls_failures_total", "counter", "TLS handshakes that failed.", &self.failed_handshakes),
            ("malformed_total", "counter", "Requests refused as malformed or too large.", &self.malformed),
        ] {
            let name = format!("agentfs_router_{name}");
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {}", counter.get());
        }
        text.push_str(
            "# HELP agentfs_router_responses_total Answers, by class of status.\n# TYPE agentfs_router_responses_total counter\n",
        );
        for (class, counter) in self.responses.iter().enumerate().skip(1) {
            let _ = writeln!(text, "agentfs_router_responses_total{{class=\"{class}xx\"}} {}", counter.get());
        }
        text.push_str(
            "# HELP agentfs_requests_total Requests sent to a listener.\n# TYPE agentfs_requests_total counter\n",
        );
        let series = Series::of(table);
        for (labels, series) in &series {
            let _ = writeln!(text, "agentfs_requests_total{{{labels}}} {}", series.requests);
        }
        render_usage(&mut text, &series);
        render_handed_over(&mut text, table);
        text
    }
}

// === impl Series ===

impl Series {
    /// The sums by labels: workers that share a port, and addresses of one port, are one listener to whoever
    /// reads them.
    fn of(table: &Table) -> BTreeMap<String, Self> {
        let mut upstreams: Vec<_> = table.routes().flat_map(|route| &route.entry.upstreams).collect();
        upstreams.sort_by_key(|upstream| std::ptr::from_ref(upstream.as_ref()));
        upstreams.dedup_by_key(|upstream| std::ptr::from_ref(upstream.as_ref()));
        let mut series = BTreeMap::<String, Self>::new();
        for upstream in upstreams {
            series.entry(labels(upstream)).or_default().add(upstream);
        }
        series
    }

    fn add(&mut self, upstream: &Upstream) {
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let usage = &upstream.usage;
        self.requests += number(&upstream.requests);
        self.bytes += number(&usage.bytes);
        self.time_us += number(&usage.time_us);
        for (sum, counter) in self.responses.iter_mut().zip(&usage.responses) {
            *sum += number(counter);
        }
        for (sum, counter) in self.buckets.iter_mut().zip(&usage.buckets) {
            *sum += number(counter);
        }
    }
}

/// What became of the requests to each listener; nothing about those that had none.
fn render_usage(text: &mut String, series: &BTreeMap<String, Series>) {
    let used: Vec<_> =
        series.iter().filter(|(_, series)| series.buckets.iter().any(|count| *count > 0)).collect();
    text.push_str(
        "# HELP agentfs_responses_total Answers of a listener, by class of status.\n# TYPE agentfs_responses_total counter\n",
    );
    for (labels, series) in &used {
        for (class, count) in series.responses.iter().enumerate().skip(1).filter(|(_, count)| **count > 0) {
            let _ = writeln!(text, "agentfs_responses_total{{{labels},class=\"{class}xx\"}} {count}");
        }
    }
    text.push_str(
        "# HELP agentfs_response_bytes_total Bytes of their bodies.\n# TYPE agentfs_response_bytes_total counter\n",
    );
    for (labels, series) in &used {
        let _ = writeln!(text, "agentfs_response_bytes_total{{{labels}}} {}", series.bytes);
    }
    text.push_str(
        "# HELP agentfs_request_seconds From a request's head to the end of its answer.\n# TYPE agentfs_request_seconds histogram\n",
    );
    for (labels, series) in &used {
        let mut sum = 0;
        for (index, bucket) in series.buckets.iter().enumerate() {
            sum += bucket;
            let end = BUCKETS_US.get(index).map_or_else(|| "+Inf".to_owned(), |end| seconds(*end));
            let _ = writeln!(text, "agentfs_request_seconds_bucket{{{labels},le=\"{end}\"}} {sum}");
        }
        let time = seconds(series.time_us);
        let _ = writeln!(
            text,
            "agentfs_request_seconds_sum{{{labels}}} {time}\nagentfs_request_seconds_count{{{labels}}} {sum}"
        );
    }
}

/// Microseconds as seconds.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Connections on names whose application may have them, for each such name.
fn render_handed_over(text: &mut String, table: &Table) {
    let mut routes: Vec<_> = table
        .routes()
        .filter_map(|route| Some((route.entry.host.as_str(), route.entry.handoff.as_ref()?)))
        .collect();
    routes.sort_by_key(|(host, _)| *host);
    for (name, help, counter) in [
        (
            "agentfs_handed_over_total",
            "Connections that the application got itself.",
            (|counters| &counters.taken) as fn(&HandedOver) -> &AtomicU64,
        ),
        (
            "agentfs_handover_passed_total",
            "Connections that the application did not take; their requests went through the router.",
            |counters| &counters.passed,
        ),
    ] {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
        for (host, counters) in &routes {
            let count = counter(counters).load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}{{route=\"{}\"}} {count}", label(host));
        }
    }
}

fn labels(upstream: &Upstream) -> String {
    let (app, instance) = (label(&upstream.app), label(&upstream.instance));
    if upstream.app.is_empty() {
        // A route by hand to a foreign place: that place is its name.
        let target = label(&upstream.socket.to_string());
        return format!("app=\"\",instance=\"\",port=\"0\",target=\"{target}\"");
    }
    format!("app=\"{app}\",instance=\"{instance}\",port=\"{}\"", upstream.port)
}

/// `text` within the quotes of a label's value.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
