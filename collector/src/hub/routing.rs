//! Turns the registry's names into the router's table, and keeps the counters of a listener alive from
//! one table to the next.
use crate::registry::{End, LastSeen, Route, Target};
use crate::router;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The upstreams of the table in force.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    by_end: BTreeMap<(Target, String, String, u16), Arc<router::Upstream>>,
}

// === impl Upstreams ===

impl Upstreams {
    /// Builds the table of `routes`. Upstreams that no route leads to are forgotten with their counts.
    pub(super) fn table(&mut self, routes: Vec<Route>, http_port: u16) -> router::Table {
        let mut old = std::mem::take(&mut self.by_end);
        let entries = routes.into_iter().map(|route| self.entry(route, &mut old)).collect();
        router::Table::new(entries, http_port)
    }

    /// Requests that the router sent to a target.
    pub(super) fn requests(&self, target: &Target) -> u64 {
        let first = (target.clone(), String::new(), String::new(), 0);
        let same = self.by_end.range(first..).take_while(|((other, ..), _)| other == target);
        same.map(|(_, upstream)| upstream.requests.load(Ordering::Relaxed)).sum()
    }

    fn entry(
        &mut self,
        route: Route,
        old: &mut BTreeMap<(Target, String, String, u16), Arc<router::Upstream>>,
    ) -> router::Entry {
        let upstreams = route.ends.into_iter().map(|end| self.upstream(end, old)).collect();
        router::Entry {
            host: route.host,
            wildcard: route.wildcard,
            upstreams,
            dead: route.dead.map(last_seen),
            starting: route.starting,
            title: route.title,
        }
    }

    fn upstream(
        &mut self,
        end: End,
        old: &mut BTreeMap<(Target, String, String, u16), Arc<router::Upstream>>,
    ) -> Arc<router::Upstream> {
        let key = (end.target.clone(), end.app.clone(), end.instance.clone(), end.port);
        let kept = old.remove(&key);
        let upstream = self.by_end.entry(key).or_insert_with(|| {
            let target = match end.target {
                Target::Unix(path) => router::Target::Unix(path),
                Target::Tcp(address) => router::Target::Tcp(address),
            };
            kept.unwrap_or_else(|| Arc::new(router::Upstream::new(target, end.app, end.instance, end.port)))
        });
        Arc::clone(upstream)
    }
}

/// The file of the run dir that a socket path of the router names.
pub(super) fn file_of(socket: &Path, run: &Path) -> Option<String> {
    (socket.parent() == Some(run)).then(|| socket.file_name()?.to_str().map(str::to_owned)).flatten()
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

    fn route(host: &str, sockets: &[&str]) -> Route {
        let end = |socket: &&str| End {
            target: Target::Unix(socket.into()),
            app: "shop".into(),
            instance: "k3f9".into(),
            port: 80,
        };
        let ends = sockets.iter().map(end).collect();
        Route { host: host.into(), wildcard: false, ends, dead: None, starting: None, title: String::new() }
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
        assert_eq!(upstreams.requests(&Target::Unix("/a".into())), 2);
        assert_eq!(upstreams.requests(&Target::Unix("/b".into())), 0);
        assert_eq!(upstreams.by_end.len(), 1);
    }

    #[test]
    fn commands_can_be_pasted() {
        let command = ["npm", "run", "dev server", "it's", ""].map(str::to_owned);
        assert_eq!(command_line(&command), r"npm run 'dev server' 'it'\''s' ''");
    }
}
