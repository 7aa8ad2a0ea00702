//! Turns the registry's names into the router's table, and keeps the counters of a listener alive from
//! one table to the next.
use crate::registry::{End, LastSeen, Route, Target};
use agentfs_router as router;
use agentfs_wire::name::{Kind, SocketName};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Rates are those of the last one to two of these.
const RATE_PERIOD: Duration = Duration::from_secs(5);

/// What tells one end from another.
type Name = (Target, String, String, u16);

/// The upstreams of the table in force.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    /// The run dir: listeners in it are the library's.
    run: PathBuf,
    by_end: BTreeMap<Name, Kept>,
    /// By host: the connections of routes that hand them over.
    handed: BTreeMap<String, Arc<router::HandedOver>>,
    /// Those that no route leads to any more, while requests to them may be in progress.
    leaving: Vec<Arc<router::Upstream>>,
}

/// An upstream, and what is remembered of it.
#[derive(Debug)]
struct Kept {
    upstream: Arc<router::Upstream>,
    /// Which listener of its name it is.
    generation: u64,
    /// Its requests at two moments, the earlier first, about [`RATE_PERIOD`] apart.
    marks: [(Instant, u64); 2],
}

// === impl Upstreams ===

impl Upstreams {
    /// None yet. `run` is the run dir.
    pub(super) fn new(run: PathBuf) -> Self {
        Self { run, ..Self::default() }
    }

    /// Builds the table of `routes`. Upstreams that no route leads to are forgotten with their counts.
    pub(super) fn table(&mut self, routes: Vec<Route>, http_port: u16) -> router::Table {
        let mut old = std::mem::take(&mut self.by_end);
        let mut handed = std::mem::take(&mut self.handed);
        let entries = routes.into_iter().map(|route| self.entry(route, &mut old, &mut handed)).collect();
        self.leaving.retain(|upstream| Arc::strong_count(upstream) > 1);
        self.leaving.extend(old.into_values().map(|kept| kept.upstream));
        router::Table::new(entries, http_port)
    }

    /// Requests that the router sent to a target, and how many a second of late.
    pub(super) fn usage(&self, target: &Target) -> (u64, f64) {
        let first = (target.clone(), String::new(), String::new(), 0);
        let same = self.by_end.range(first..).take_while(|((other, ..), _)| other == target);
        let now = Instant::now();
        same.fold((0, 0.0), |(requests, rate), (_, kept)| (requests + kept.requests(), rate + kept.rate(now)))
    }

    /// Requests in progress at an instance, without those that have no end of their own.
    pub(super) fn finite_in_flight(&mut self, app: &str, instance: &str) -> usize {
        // Whoever looked the upstream up and has not connected yet holds it too.
        self.leaving.retain(|upstream| Arc::strong_count(upstream) > 1);
        let known = self.by_end.values().map(|kept| &kept.upstream).chain(&self.leaving);
        let of_it = known.filter(|upstream| upstream.app == app && upstream.instance == instance);
        of_it.map(|upstream| upstream.finite_in_flight()).sum()
    }

    /// Remembers counts for the rates. Called about once a second.
    pub(super) fn sample(&mut self, now: Instant) {
        for kept in self.by_end.values_mut() {
            let [_, later] = kept.marks;
            if now.duration_since(later.0) >= RATE_PERIOD {
                kept.marks = [later, (now, kept.requests())];
            }
        }
    }

    fn entry(
        &mut self,
        route: Route,
        old: &mut BTreeMap<Name, Kept>,
        handed: &mut BTreeMap<String, Arc<router::HandedOver>>,
    ) -> router::Entry {
        let handoff = route.handoff.then(|| {
            let counters = handed.remove(&route.host).unwrap_or_default();
            self.handed.insert(route.host.clone(), Arc::clone(&counters));
            counters
        });
        let upstreams = route.ends.into_iter().map(|end| self.upstream(end, old)).collect();
        router::Entry {
            host: route.host,
            wildcard: route.wildcard,
            upstreams,
            policy: route.policy,
            handoff,
            rewrite_host: route.rewrite_host,
            dead: route.dead.map(last_seen),
            starting: route.starting,
            title: route.title,
        }
    }

    fn upstream(&mut self, end: End, old: &mut BTreeMap<Name, Kept>) -> Arc<router::Upstream> {
        let name = (end.target.clone(), end.app.clone(), end.instance.clone(), end.port);
        let generation = end.generation;
        let known = old.remove(&name);
        let run = &self.run;
        let kept = self.by_end.entry(name).or_insert_with(|| known.unwrap_or_else(|| Kept::new(end, run)));
        if std::mem::replace(&mut kept.generation, generation) != generation {
            // It listens anew: what it refused before, and the connections to what it was, are past.
            kept.upstream.renew();
        }
        Arc::clone(&kept.upstream)
    }
}

// === impl Kept ===

impl Kept {
    fn new(end: End, run: &Path) -> Self {
        let of_library = matches!(&end.target, Target::Unix(path) if is_listener(path, run));
        let target = match end.target {
            Target::Unix(path) => router::Target::Unix(path),
            Target::Tcp(address) => router::Target::Tcp(address),
        };
        let upstream = router::Upstream::new(target, end.app, end.instance, end.port);
        let upstream = Arc::new(if of_library { upstream.naming_clients() } else { upstream });
        Self { upstream, generation: end.generation, marks: [(Instant::now(), 0); 2] }
    }

    fn requests(&self) -> u64 {
        self.upstream.requests.load(Ordering::Relaxed)
    }

    /// Requests a second since the earlier mark. The first second of a listener is counted as whole.
    fn rate(&self, now: Instant) -> f64 {
        let (since, before) = self.marks[0];
        let seconds = now.duration_since(since).as_secs_f64().max(1.0);
        // More requests than an f64 holds exactly would take a century.
        let requests = u32::try_from(self.requests() - before).unwrap_or(u32::MAX);
        f64::from(requests) / seconds
    }
}

/// The file of the run dir that a socket path of the router names.
pub(super) fn file_of(socket: &Path, run: &Path) -> Option<String> {
    (socket.parent() == Some(run)).then(|| socket.file_name()?.to_str().map(str::to_owned)).flatten()
}

/// Whether `socket` is the file of a listener that the library made.
pub(super) fn is_listener(socket: &Path, run: &Path) -> bool {
    file_of(socket, run)
        .and_then(|file| SocketName::parse(&file).ok().map(|name| matches!(name.kind, Kind::Listener { .. })))
        .unwrap_or(false)
}

fn last_seen(seen: LastSeen) -> router::LastSeen {
    router::LastSeen {
        socket: seen.socket,
        command: command_line(&seen.command),
        directory: seen.directory,
        when_ms: seen.when_ms,
    }
}

/// A command as a person would type it.
fn command_line(command: &[String]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,@+%^".contains(&byte);
    let words = command.iter().map(|word| match !word.is_empty() && word.bytes().all(plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentfs_wire::control::Policy;

    fn route(host: &str, sockets: &[&str]) -> Route {
        let end = |socket: &&str| End {
            target: Target::Unix(socket.into()),
            app: "shop".into(),
            instance: "k3f9".into(),
            port: 80,
            generation: 1,
        };
        let ends = sockets.iter().map(end).collect();
        Route {
            host: host.into(),
            wildcard: false,
            ends,
            policy: Policy::default(),
            handoff: false,
            rewrite_host: false,
            dead: None,
            starting: None,
            title: String::new(),
        }
    }

    #[test]
    fn counters_survive_a_new_table() {
        let mut upstreams = Upstreams::default();
        let table =
            upstreams.table(vec![route("a.localhost", &["/a", "/b"]), route("b.localhost", &["/a"])], 80);
        for route in table.routes() {
            route.entry.upstreams[0].requests.fetch_add(1, Ordering::Relaxed);
        }
        upstreams.table(vec![route("a.localhost", &["/a"])], 80);
        assert_eq!(upstreams.usage(&Target::Unix("/a".into())).0, 2);
        assert_eq!(upstreams.usage(&Target::Unix("/b".into())).0, 0);
        assert_eq!(upstreams.by_end.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_that_of_the_last_seconds() {
        let mut upstreams = Upstreams::default();
        let table = upstreams.table(vec![route("a.localhost", &["/a"])], 80);
        let upstream = Arc::clone(&table.routes().next().unwrap().entry.upstreams[0]);
        let rate = |upstreams: &Upstreams| upstreams.usage(&Target::Unix("/a".into())).1;
        upstream.requests.fetch_add(20, Ordering::Relaxed);
        assert!((rate(&upstreams) - 20.0).abs() < 0.1, "{}", rate(&upstreams));
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(1)).await;
            upstreams.sample(Instant::now());
        }
        assert!((rate(&upstreams) - 4.0).abs() < 0.1, "{}", rate(&upstreams));
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(1)).await;
            upstreams.sample(Instant::now());
        }
        assert!(rate(&upstreams) < 0.01 && upstreams.usage(&Target::Unix("/a".into())).0 == 20);
    }

    #[test]
    fn a_request_in_progress_is_known_after_its_route_is_gone() {
        let mut upstreams = Upstreams::default();
        let table = upstreams.table(vec![route("a.localhost", &["/a"])], 80);
        upstreams.table(Vec::new(), 80);
        assert_eq!((upstreams.finite_in_flight("shop", "k3f9"), upstreams.leaving.len()), (0, 1));
        drop(table);
        assert_eq!((upstreams.finite_in_flight("shop", "k3f9"), upstreams.leaving.len()), (0, 0));
    }

    #[test]
    fn counts_of_connections_survive_a_new_table() {
        let mut upstreams = Upstreams::default();
        let handed = || Route { handoff: true, ..route("a.localhost", &["/a"]) };
        let counters = |table: &router::Table| table.routes().next().unwrap().entry.handoff.clone();
        let first = counters(&upstreams.table(vec![handed()], 80)).unwrap();
        let second = counters(&upstreams.table(vec![handed()], 80)).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert!(counters(&upstreams.table(vec![route("a.localhost", &["/a"])], 80)).is_none());
    }

    #[test]
    fn a_listener_is_known_by_its_file() {
        let run = Path::new("/home/run");
        assert!(is_listener(Path::new("/home/run/shop-k3f9.8080.sock"), run));
        for other in ["/home/run/shop-k3f9.sock", "/home/shop-k3f9.8080.sock", "/home/run/x.sock"] {
            assert!(!is_listener(Path::new(other), run), "{other}");
        }
    }

    #[test]
    fn commands_can_be_pasted() {
        let command = ["npm", "run", "dev server", "it's", ""].map(str::to_owned);
        assert_eq!(command_line(&command), r"npm run 'dev server' 'it'\''s' ''");
    }
}
