//! Turns the registry's names into the router's table, and keeps the counters of a listener alive from
//! one table to the next.
use crate::processes;
use crate::registry::{End, Key, LastSeen, Registry, Route, Target};
use agentfs_router::{self as router, TableHandle};
use agentfs_wire::name::{Kind, SocketName};
use agentfs_wire::url::UrlStyle;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Rates are those of the last one to two of these.
const RATE_PERIOD: Duration = Duration::from_secs(5);

/// Samples in a row without a request after which sampling stops.
const QUIET_SAMPLES: u32 = 3;

/// The router's table, as the hub keeps it.
#[derive(Debug)]
pub(super) struct Naming {
    /// The current table.
    pub(super) table: TableHandle,
    pub(super) upstreams: Upstreams,
    pub(super) urls: UrlStyle,
    /// Whether names changed since the table was made.
    pub(super) dirty: bool,
    /// When to take the next sample of the counts; nothing while no requests come.
    pub(super) sample_at: Option<Instant>,
    /// When to store what was learned of ports; nothing if nothing was learned.
    pub(super) faces_at: Option<Instant>,
    /// Samples since the last request.
    quiet: u32,
}

/// The current names and their upstreams.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    /// The run dir: listeners in it are the library's.
    run: PathBuf,
    /// The upstreams by target. A target has several only if routes added by hand lead to it as well.
    by_target: HashMap<Target, Vec<Kept>>,
    /// Where each host name leads.
    names: BTreeMap<String, Named>,
    /// Those that no route leads to any more, while requests to them may be in progress.
    leaving: Vec<Arc<router::Upstream>>,
}

/// An upstream, and what is remembered of it.
#[derive(Debug)]
struct Kept {
    upstream: Arc<router::Upstream>,
    /// Which listener of its name it is.
    generation: u64,
    /// How many names lead to it.
    uses: usize,
    /// Its requests at two moments, the earlier first, about [`RATE_PERIOD`] apart.
    marks: [(Instant, u64); 2],
}

/// Where one host name leads.
#[derive(Debug)]
struct Named {
    route: Route,
    /// One for each of the route's ends.
    upstreams: Vec<Arc<router::Upstream>>,
    /// Counts of the connections that were handed over, if they are.
    handoff: Option<Arc<router::HandedOver>>,
    /// The command of the process that listens.
    command: Option<String>,
}

// === impl Naming ===

impl Naming {
    /// An empty table. `run` is the run dir.
    pub(super) fn new(run: PathBuf, urls: UrlStyle) -> Self {
        let table = router::Table::new(Vec::new(), urls.http_port).with_https(urls.https_port);
        Self {
            table: TableHandle::new(table),
            upstreams: Upstreams::new(run),
            urls,
            dirty: false,
            sample_at: None,
            faces_at: None,
            quiet: 0,
        }
    }

    /// Takes the changed names of the registry into the table. Returns whether anything changed.
    pub(super) fn store(&mut self, registry: &mut Registry) -> bool {
        if !std::mem::take(&mut self.dirty) {
            return false;
        }
        let changed = self.upstreams.apply(registry.take_changes());
        if !changed.is_empty() {
            let names = &self.upstreams.names;
            let entries = changed.into_iter().map(|host| {
                let entry = names.get(&host).map(Named::entry);
                (host, entry)
            });
            self.table.store(self.table.load().with(entries));
        }
        true
    }

    /// Makes the table again, for other ports in the URLs.
    pub(super) fn put(&self) {
        self.table.store(self.upstreams.table(self.urls.http_port).with_https(self.urls.https_port));
    }

    /// The router answers requests again, since at most `before` ago.
    pub(super) fn busy(&mut self, now: Instant, before: Duration) {
        self.quiet = 0;
        if self.sample_at.is_none() {
            self.upstreams.wake(now.checked_sub(before).unwrap_or(now));
            self.sample_at = Some(now + RATE_PERIOD);
        }
    }

    /// Takes a sample of the counts, for the rates.
    pub(super) fn sample(&mut self, now: Instant) {
        self.upstreams.sample(now);
        self.quiet += 1;
        self.sample_at = (self.quiet < QUIET_SAMPLES).then(|| now + RATE_PERIOD);
    }
}

// === impl Upstreams ===

impl Upstreams {
    /// None yet. `run` is the run dir.
    pub(super) fn new(run: PathBuf) -> Self {
        Self { run, ..Self::default() }
    }

    /// Applies changes of names. Returns those that are different. Upstreams that no name leads to any more are
    /// forgotten, with their counts.
    pub(super) fn apply(&mut self, changes: Vec<(String, Option<Route>)>) -> Vec<String> {
        let mut changed = Vec::new();
        let mut released = Vec::new();
        for (host, route) in changes {
            let old = self.names.remove(&host);
            let Some(route) = route else {
                if old.is_some() {
                    changed.push(host);
                }
                released.extend(old.into_iter().flat_map(|old| old.route.ends));
                continue;
            };
            if old.as_ref().is_none_or(|old| old.route != route) {
                changed.push(host.clone());
            }
            let named = self.named(route, old, &mut released);
            self.names.insert(host, named);
        }
        for end in released {
            self.release(&end);
        }
        self.leaving.retain(|upstream| Arc::strong_count(upstream) > 1);
        changed
    }

    /// The table of all names.
    pub(super) fn table(&self, http_port: u16) -> router::Table {
        router::Table::new(self.names.values().map(Named::entry).collect(), http_port)
    }

    /// Requests that the router sent to a target, and how many a second of late.
    pub(super) fn usage(&self, target: &Target) -> (u64, f64) {
        let now = Instant::now();
        let same = self.by_target.get(target).into_iter().flatten();
        same.fold((0, 0.0), |(requests, rate), kept| (requests + kept.requests(), rate + kept.rate(now)))
    }

    /// Requests in progress at instances, without those that have no end of their own.
    pub(super) fn finite_in_flight(&mut self, keys: &BTreeSet<Key>) -> usize {
        // Whoever looked the upstream up and has not connected yet holds it too.
        self.leaving.retain(|upstream| Arc::strong_count(upstream) > 1);
        let known = self.by_target.values().flatten().map(|kept| &kept.upstream).chain(&self.leaving);
        let busy =
            known.map(|upstream| (upstream, upstream.finite_in_flight())).filter(|(_, count)| *count > 0);
        let is_meant = |upstream: &router::Upstream| {
            let key = Key { app: upstream.app.clone(), instance: upstream.instance.clone() };
            keys.contains(&key)
        };
        busy.filter(|(upstream, _)| is_meant(upstream)).map(|(_, count)| count).sum()
    }

    /// Takes a sample of the counts, for the rates. Called while requests come.
    pub(super) fn sample(&mut self, now: Instant) {
        for kept in self.by_target.values_mut().flatten() {
            let [_, later] = kept.marks;
            if now.duration_since(later.0) >= RATE_PERIOD {
                kept.marks = [later, (now, kept.requests())];
            }
        }
    }

    /// Requests come again after a pause. The first came after `since`.
    pub(super) fn wake(&mut self, since: Instant) {
        for kept in self.by_target.values_mut().flatten() {
            let [_, (at, requests)] = kept.marks;
            kept.marks = [(at.max(since), requests); 2];
        }
    }

    /// Where a route leads. Only the difference to the old route is handled: an app's name may lead to a thousand
    /// replicas, and one of them is new.
    fn named(&mut self, route: Route, old: Option<Named>, released: &mut Vec<Arc<End>>) -> Named {
        let (old_ends, mut upstreams, handoff, old_command) = match old {
            Some(old) => (old.route.ends, old.upstreams, old.handoff, (old.route.owner, old.command)),
            None => (Vec::new(), Vec::new(), None, (None, None)),
        };
        let command = match route.owner {
            Some(pid) if old_command.0 != Some(pid) => {
                processes::command(pid).map(|words| command_line(&words))
            }
            Some(_) => old_command.1,
            None => None,
        };
        let same = |(one, other): &(&Arc<End>, &Arc<End>)| Arc::ptr_eq(one, other);
        let before = old_ends.iter().zip(&route.ends).take_while(same).count();
        let (old_rest, rest) = (&old_ends[before..], &route.ends[before..]);
        let after = old_rest.iter().rev().zip(rest.iter().rev()).take_while(same).count();
        let fresh: Vec<_> = rest[..rest.len() - after].iter().map(|end| self.hold(end)).collect();
        upstreams.splice(before..old_ends.len() - after, fresh);
        released.extend_from_slice(&old_rest[..old_rest.len() - after]);
        let handoff = route.handoff.then(|| handoff.unwrap_or_default());
        Named { route, upstreams, handoff, command }
    }

    /// The upstream of an end, for one more name.
    fn hold(&mut self, end: &Arc<End>) -> Arc<router::Upstream> {
        let same = self.by_target.entry(end.target.clone()).or_default();
        let at = same.iter().position(|kept| kept.is_of(end)).unwrap_or_else(|| {
            same.push(Kept::new(end, &self.run));
            same.len() - 1
        });
        let kept = &mut same[at];
        kept.uses += 1;
        if std::mem::replace(&mut kept.generation, end.generation) != end.generation {
            // It listens anew: what it refused before, and the connections to what it was, are past.
            kept.upstream.renew();
        }
        Arc::clone(&kept.upstream)
    }

    /// One name fewer leads to an end.
    fn release(&mut self, end: &End) {
        let Some(same) = self.by_target.get_mut(&end.target) else { return };
        let Some(at) = same.iter().position(|kept| kept.is_of(end)) else { return };
        same[at].uses -= 1;
        if same[at].uses == 0 {
            self.leaving.push(same.swap_remove(at).upstream);
        }
        if same.is_empty() {
            self.by_target.remove(&end.target);
        }
    }
}

// === impl Named ===

impl Named {
    fn entry(&self) -> router::Entry {
        router::Entry {
            host: self.route.host.clone(),
            wildcard: self.route.wildcard,
            upstreams: self.upstreams.clone(),
            policy: self.route.policy,
            handoff: self.handoff.clone(),
            rewrite_host: self.route.rewrite_host,
            dead: self.route.dead.as_ref().map(last_seen),
            starting: self.route.starting,
            forks_only: self.route.forks_only,
            undecided: self.route.undecided,
            declared: self.route.declared,
            command: self.command.clone(),
            title: self.route.title.clone(),
        }
    }
}

// === impl Kept ===

impl Kept {
    fn new(end: &End, run: &Path) -> Self {
        let of_library = matches!(&end.target, Target::Unix(path) if is_listener(path, run));
        let target = match &end.target {
            Target::Unix(path) => router::Target::Unix(path.clone()),
            Target::Tcp(address) => router::Target::Tcp(*address),
        };
        let upstream = router::Upstream::new(target, end.app.clone(), end.instance.clone(), end.port);
        let upstream = Arc::new(if of_library { upstream.naming_clients() } else { upstream });
        Self { upstream, generation: end.generation, uses: 0, marks: [(Instant::now(), 0); 2] }
    }

    /// Whether it is the upstream of an end, of any generation.
    fn is_of(&self, end: &End) -> bool {
        let Self { upstream, .. } = self;
        (&*upstream.app, &*upstream.instance, upstream.port) == (&*end.app, &*end.instance, end.port)
    }

    fn requests(&self) -> u64 {
        self.upstream.requests.load(Ordering::Relaxed)
    }

    /// Requests a second since the earlier mark. The first second of a listener is counted as whole.
    fn rate(&self, now: Instant) -> f64 {
        let (since, before) = self.marks[0];
        // Marks are older only if no request has come since.
        let since = now.checked_sub(RATE_PERIOD * 2).map_or(since, |earliest| since.max(earliest));
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

fn last_seen(seen: &LastSeen) -> router::LastSeen {
    router::LastSeen {
        socket: seen.socket.clone(),
        command: command_line(&seen.command),
        directory: seen.directory.clone(),
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
        let ends = sockets.iter().map(end).map(Arc::new).collect();
        Route {
            host: host.into(),
            wildcard: false,
            ends,
            policy: Policy::default(),
            handoff: false,
            rewrite_host: false,
            dead: None,
            starting: None,
            forks_only: false,
            undecided: false,
            declared: None,
            owner: None,
            title: String::new(),
        }
    }

    /// A table with only these routes.
    fn table(upstreams: &mut Upstreams, routes: Vec<Route>) -> router::Table {
        let mut changes: BTreeMap<_, _> = upstreams.names.keys().map(|host| (host.clone(), None)).collect();
        changes.extend(routes.into_iter().map(|route| (route.host.clone(), Some(route))));
        upstreams.apply(changes.into_iter().collect());
        upstreams.table(80)
    }

    fn in_flight(upstreams: &mut Upstreams) -> (usize, usize) {
        let keys = BTreeSet::from([Key { app: "shop".into(), instance: "k3f9".into() }]);
        (upstreams.finite_in_flight(&keys), upstreams.leaving.len())
    }

    #[test]
    fn one_replica_more_changes_nothing_else() {
        let mut upstreams = Upstreams::default();
        let sockets: Vec<String> = (0..100).map(|number| format!("/{number:02}")).collect();
        let sockets: Vec<&str> = sockets.iter().map(String::as_str).collect();
        let whole = route("a.localhost", &sockets);
        let mut part = Route { ends: whole.ends.clone(), ..route("a.localhost", &[]) };
        part.ends.remove(50);
        table(&mut upstreams, vec![part]);
        let change = |route: &Route| vec![("a.localhost".to_owned(), Some(route.clone()))];
        assert_eq!(upstreams.apply(change(&whole)), ["a.localhost"]);
        assert!(upstreams.apply(change(&whole)).is_empty(), "the same again changes nothing");
        let upstreams_of = |upstreams: &Upstreams| upstreams.names["a.localhost"].upstreams.clone();
        let targets: Vec<_> =
            upstreams_of(&upstreams).iter().map(|upstream| upstream.socket.clone()).collect();
        let expected: Vec<_> = sockets.iter().map(|path| router::Target::Unix(path.into())).collect();
        assert_eq!(targets, expected);
        assert!(upstreams.by_target.values().flatten().all(|kept| kept.uses == 1));
        upstreams.apply(vec![("a.localhost".to_owned(), None)]);
        assert!(upstreams.by_target.is_empty() && upstreams.names.is_empty());
    }

    #[test]
    fn counters_survive_a_new_table() {
        let mut upstreams = Upstreams::default();
        let routes = vec![route("a.localhost", &["/a", "/b"]), route("b.localhost", &["/a"])];
        for route in table(&mut upstreams, routes).routes() {
            route.entry.upstreams[0].requests.fetch_add(1, Ordering::Relaxed);
        }
        table(&mut upstreams, vec![route("a.localhost", &["/a"])]);
        assert_eq!(upstreams.usage(&Target::Unix("/a".into())).0, 2);
        assert_eq!(upstreams.usage(&Target::Unix("/b".into())).0, 0);
        assert_eq!(upstreams.by_target.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_that_of_the_last_seconds() {
        let mut upstreams = Upstreams::default();
        let table = table(&mut upstreams, vec![route("a.localhost", &["/a"])]);
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
        let table = table(&mut upstreams, vec![route("a.localhost", &["/a"])]);
        upstreams.apply(vec![("a.localhost".to_owned(), None)]);
        assert_eq!(in_flight(&mut upstreams), (0, 1));
        drop(table);
        assert_eq!(in_flight(&mut upstreams), (0, 0));
    }

    #[test]
    fn counts_of_connections_survive_a_new_table() {
        let mut upstreams = Upstreams::default();
        let handed = || Route { handoff: true, ..route("a.localhost", &["/a"]) };
        let counters = |table: &router::Table| table.routes().next().unwrap().entry.handoff.clone();
        let first = counters(&table(&mut upstreams, vec![handed()])).unwrap();
        let second = counters(&table(&mut upstreams, vec![handed()])).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert!(counters(&table(&mut upstreams, vec![route("a.localhost", &["/a"])])).is_none());
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
