//! The metrics as Prometheus' text: the counters of the router, and those of the listeners in a table.
use crate::counters::{BUCKETS_US, RouterMetrics};
use crate::table::{HandedOver, Table};
use crate::upstream::listener::Upstream;
use crate::upstream::target::Target;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of all upstreams with the same labels.
#[derive(Debug, Default)]
struct Series {
    requests: u64,
    responses: [u64; 6],
    bytes: u64,
    buckets: [u64; BUCKETS_US.len() + 1],
    time_us: u64,
}

impl RouterMetrics {
    /// All of it in Prometheus' text format, with the requests of each listener in `table`, after what others say.
    /// `with_paths`: the reader may see the paths of sockets that routes were added for by hand.
    pub fn render(&self, table: &Table, with_paths: bool) -> String {
        let mut text = self.others.render();
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
        let series = Series::of(table, with_paths);
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
    fn of(table: &Table, with_paths: bool) -> BTreeMap<String, Self> {
        let mut upstreams: Vec<_> = table.routes().flat_map(|route| &route.entry.upstreams).collect();
        upstreams.sort_by_key(|upstream| std::ptr::from_ref(upstream.as_ref()));
        upstreams.dedup_by_key(|upstream| std::ptr::from_ref(upstream.as_ref()));
        let mut series = BTreeMap::<String, Self>::new();
        for upstream in upstreams {
            series.entry(labels(upstream, with_paths)).or_default().add(upstream);
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
        "# HELP agentfs_response_bytes_total Bytes of response bodies.\n# TYPE agentfs_response_bytes_total counter\n",
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

fn labels(upstream: &Upstream, with_paths: bool) -> String {
    let (app, instance) = (label(&upstream.app), label(&upstream.instance));
    if upstream.app.is_empty() {
        // A route by hand to a foreign place: that place is its name.
        let target = match &upstream.socket {
            Target::Unix(_) if !with_paths => String::new(),
            socket => label(&socket.to_string()),
        };
        return format!("app=\"\",instance=\"\",port=\"0\",target=\"{target}\"");
    }
    format!("app=\"{app}\",instance=\"{instance}\",port=\"{}\"", upstream.port)
}

/// `text` within the quotes of a label's value.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
