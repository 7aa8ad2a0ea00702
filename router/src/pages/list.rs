//! Lists of names that answer, for pages. Pure.
use crate::limits::PAGE_NAMES;
use crate::table::{Entry, Lookup, Route, Table};
use agentfs_wire::host::is_port_label;
use serde_json::{Value, json};
use std::sync::Arc;

/// What the reader of a page may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sees {
    /// Names, and whether they answer: every user of this machine.
    Names,
    /// Also folders, command lines and paths: the collector's own user and root.
    Everything,
}

/// Live names for a page.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Name, URL and title.
    pub(super) names: Vec<(String, String, String)>,
    /// How many there are besides.
    pub(super) more: usize,
}

// === impl Live ===

impl Live {
    /// Everything that runs.
    pub(super) fn of(table: &Table, sees: Sees) -> Self {
        Self::matching(table, sees, |entry| !is_said_twice(table, entry))
    }

    /// The instances of an app. `host`: the app's name.
    pub(super) fn instances(table: &Table, sees: Sees, host: &str) -> Self {
        Self::matching(table, sees, |entry| {
            below(&entry.host, host).is_some_and(|label| !label.contains('.') && !is_port_label(label))
        })
    }

    /// The ports that have names of their own below `host`.
    pub(super) fn ports(table: &Table, sees: Sees, host: &str) -> Self {
        Self::matching(table, sees, |entry| below(&entry.host, host).is_some_and(is_port_label))
    }

    /// The ports beside a name that gave no answer.
    pub(super) fn siblings(table: &Table, sees: Sees, entry: &Entry) -> Self {
        let of_port = entry.host.split_once('.').filter(|(label, _)| is_port_label(label));
        let host = of_port.map_or(entry.host.as_str(), |(_, host)| host);
        let failed = |other: &Entry| {
            let first = entry.upstreams.first().zip(other.upstreams.first());
            first.is_some_and(|(ours, theirs)| Arc::ptr_eq(ours, theirs))
        };
        Self::matching(table, sees, |other| {
            below(&other.host, host).is_some_and(is_port_label) && !failed(other)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    fn matching(table: &Table, sees: Sees, is_meant: impl Fn(&Entry) -> bool) -> Self {
        let live = |route: &&Route| !route.entry.upstreams.is_empty() && is_meant(&route.entry);
        let mut routes: Vec<_> = table.routes().filter(live).collect();
        // Ports in the order of their numbers.
        routes.sort_by_cached_key(|route| {
            let host = route.entry.host.clone();
            let port = host.split('.').next().and_then(|label| label.parse::<u16>().ok());
            (port.is_none(), port, host)
        });
        let more = routes.len().saturating_sub(PAGE_NAMES);
        routes.truncate(PAGE_NAMES);
        let names = routes.into_iter().map(|route| {
            let Entry { host, title, command, .. } = &route.entry;
            let url = format!("{}/", table.url(host));
            // It may be a path.
            let title = match (sees, command) {
                (Sees::Names, _) => String::new(),
                (Sees::Everything, Some(command)) => format!("{title}  {command}"),
                (Sees::Everything, None) => title.clone(),
            };
            (host.clone(), url, title)
        });
        Self { names: names.collect(), more }
    }

    /// A list of one name.
    #[cfg(test)]
    pub(super) fn of_one(host: &str, url: &str, title: &str) -> Self {
        Self { names: vec![(host.to_owned(), url.to_owned(), title.to_owned())], more: 0 }
    }

    pub(super) fn json(&self) -> Value {
        self.names
            .iter()
            .map(|(host, url, title)| json!({ "host": host, "url": url, "title": title }))
            .collect()
    }
}

/// The labels of `host` before `above`, if it is a name below it.
fn below<'host>(host: &'host str, above: &str) -> Option<&'host str> {
    host.strip_suffix(above)?.strip_suffix('.')
}

/// Whether `PORT.NAME` leads where `NAME` does, so that a list need not have both.
fn is_said_twice(table: &Table, entry: &Entry) -> bool {
    let Some((port, name)) = entry.host.split_once('.') else { return false };
    if port.parse::<u16>().is_err() {
        return false;
    }
    let Lookup::Found(other) = table.lookup(name) else { return false };
    let (ours, theirs) = (&entry.upstreams, &other.entry.upstreams);
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| Arc::ptr_eq(ours, theirs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::listener::Upstream;

    #[test]
    fn a_list_has_no_second_name_of_the_same() {
        let upstream = |name: &str| {
            Arc::new(Upstream::new(
                crate::upstream::target::Target::Unix(name.into()),
                "shop".into(),
                "one".into(),
                80,
            ))
        };
        let entry = |host: &str, upstream: &Arc<Upstream>| Entry {
            upstreams: vec![Arc::clone(upstream)],
            ..Entry::new(host.to_owned())
        };
        let (main, other) = (upstream("/main"), upstream("/other"));
        let hosts = ["shop.localhost", "80.shop.localhost", "81.shop.localhost", "82.gone.localhost"];
        let entries =
            hosts.iter().zip([&main, &main, &other, &other]).map(|(host, upstream)| entry(host, upstream));
        let names = Live::of(&Table::new(entries.collect(), 80), Sees::Names).names;
        let names: Vec<_> = names.iter().map(|(host, ..)| host.as_str()).collect();
        assert_eq!(names, ["81.shop.localhost", "82.gone.localhost", "shop.localhost"]);
    }
}
