//! Ports of the host that instances must not reach, because another fork is behind them. Owns the page that the library
//! reads ([`agentfs_wire::barred`]); `hub` and `forward` say what is barred. A change is on disk when the call returns,
//! so whoever is told of a forward finds its port barred.
use crate::limits::BARRED_OWN_PORTS;
use crate::log;
use crate::registry::Key;
use agentfs_home::barred::read;
use agentfs_home::{Durable, replace};
use agentfs_wire::barred::{Bar, MAGIC, Row};
use agentfs_wire::paths::Paths;
use agentfs_wire::peer::space;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The barred ports of one home, shared by those who bar them.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    page: PathBuf,
    run: PathBuf,
    rows: Arc<Mutex<Rows>>,
}

#[derive(Debug, Default)]
struct Rows {
    /// By instance: the ports whose listener is gone, the oldest first.
    own: BTreeMap<u64, VecDeque<u16>>,
    /// By listening address: port and instance of a forward.
    held: BTreeMap<String, (u16, Key)>,
    /// Ports that another checkout's program holds, and the instance that must not reach it.
    others: BTreeSet<(u16, u64)>,
    /// Whether the file is older than this.
    changed: bool,
    /// The file as we wrote it: what it is, its length and its time.
    written: Option<Stamp>,
}

/// What tells a file from one that was put in its place, cut short or written into: device, inode, bytes, time.
type Stamp = (u64, u64, u64, i64, i64);

// === impl Bars ===

impl Bars {
    /// The barred ports of a home. Of what an earlier collector wrote, ports that were an instance's own stay.
    pub(crate) fn open(paths: &Paths) -> Self {
        let mut rows = Rows { changed: true, ..Rows::default() };
        for row in read(&paths.barred).unwrap_or_default() {
            if row.bar == Bar::OwnPort {
                rows.own.entry(row.instance).or_default().push_back(row.port);
            }
        }
        let (page, run) = (paths.barred.clone(), paths.run.clone());
        Self { page, run, rows: Arc::new(Mutex::new(rows)) }
    }

    /// A listener of an instance is gone.
    pub(crate) fn gone(&self, key: &Key, port: u16) {
        let mut rows = self.lock();
        let ports = rows.own.entry(self.number(key)).or_default();
        if !ports.contains(&port) {
            ports.push_back(port);
            if ports.len() > BARRED_OWN_PORTS {
                ports.pop_front();
            }
            rows.changed = true;
        }
    }

    /// An instance has ended.
    pub(crate) fn ended(&self, key: &Key) {
        let (number, mut rows) = (self.number(key), self.lock());
        let held = rows.held.len();
        rows.held.retain(|_, (_, instance)| instance != key);
        rows.changed |= rows.own.remove(&number).is_some() || rows.held.len() != held;
    }

    /// A new instance has an old name: it has had no port yet.
    pub(crate) fn renewed(&self, key: &Key) {
        let (number, mut rows) = (self.number(key), self.lock());
        rows.changed |= rows.own.remove(&number).is_some();
    }

    /// Only these instances live.
    pub(crate) fn retain(&self, living: impl Iterator<Item = Key>) {
        let living: BTreeSet<u64> = living.map(|key| self.number(&key)).collect();
        let mut rows = self.lock();
        let before = rows.own.len();
        rows.own.retain(|number, _| living.contains(number));
        rows.changed |= rows.own.len() != before;
    }

    /// `listen` of the host is now a way into an instance.
    pub(crate) fn hold(&self, listen: &str, port: u16, key: &Key) {
        let mut rows = self.lock();
        rows.held.insert(listen.to_owned(), (port, key.clone()));
        rows.changed = true;
        drop(rows);
        self.write();
    }

    /// It is no longer.
    pub(crate) fn release(&self, listen: &str) {
        let mut rows = self.lock();
        rows.changed |= rows.held.remove(listen).is_some();
        drop(rows);
        self.write();
    }

    /// The instance that agentfs holds a port of the host for, other than `key`.
    pub(crate) fn holder(&self, port: u16, key: &Key) -> Option<Key> {
        let rows = self.lock();
        let mut held = rows.held.values().filter(|(held, of)| *held == port && of != key);
        held.next().map(|(_, of)| of.clone())
    }

    /// The ports that programs of other checkouts hold, with the instances that must not reach them.
    pub(crate) fn set_others(&self, others: impl Iterator<Item = (u16, Key)>) {
        let others = others.map(|(port, key)| (port, self.number(&key))).collect();
        let mut rows = self.lock();
        rows.changed |= rows.others != others;
        rows.others = others;
    }

    /// Writes the page if something changed.
    pub(crate) fn write(&self) {
        let mut rows = self.lock();
        if rows.changed {
            self.replace(&mut rows);
        }
    }

    /// Writes the page again if the file is not the one that we wrote: it was removed, cut short or replaced.
    pub(crate) fn restore(&self) {
        let mut rows = self.lock();
        if rows.written.is_some() && rows.written != stamp(&self.page) {
            self.replace(&mut rows);
        }
    }

    fn replace(&self, rows: &mut Rows) {
        match replace(&self.page, &rows.encode(|key| self.number(key)), Durable::No) {
            Ok(()) => (rows.changed, rows.written) = (false, stamp(&self.page)),
            // The next change tries again; until then the old page holds.
            Err(error) => log::warning!("cannot write {}: {error}", self.page.display()),
        }
    }

    /// Leaves what holds without a collector: nothing of the host's is known any more.
    pub(crate) fn close(&self) {
        let mut rows = self.lock();
        rows.held.clear();
        rows.others.clear();
        rows.changed = true;
        drop(rows);
        self.write();
    }

    fn number(&self, key: &Key) -> u64 {
        space(self.run.as_os_str().as_bytes(), &key.app, &key.instance)
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Rows ===

impl Rows {
    fn encode(&self, number: impl Fn(&Key) -> u64) -> Vec<u8> {
        let own = self.own.iter().flat_map(|(instance, ports)| {
            ports.iter().map(|port| Row { port: *port, bar: Bar::OwnPort, instance: *instance })
        });
        let held = self.held.values().map(|(port, key)| (Bar::HeldFor, *port, number(key)));
        let others = self.others.iter().map(|(port, instance)| (Bar::OtherCheckout, *port, *instance));
        let more = held.chain(others).map(|(bar, port, instance)| Row { port, bar, instance });
        let mut bytes = MAGIC.to_vec();
        own.chain(more).for_each(|row| bytes.extend(row.encode()));
        bytes
    }
}

fn stamp(page: &Path) -> Option<Stamp> {
    let file = fs::symlink_metadata(page).ok()?;
    Some((file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn key(instance: &str) -> Key {
        Key { app: "shop".to_owned(), instance: instance.to_owned() }
    }

    /// What the page bars for an instance.
    fn barred(bars: &Bars, instance: &str) -> Vec<(u16, Bar)> {
        bars.write();
        let number = bars.number(&key(instance));
        let rows = read(&bars.page).unwrap();
        let mut barred: Vec<_> = (0..100)
            .flat_map(|port| rows.iter().filter_map(move |row| Some((port, row.bars(number, port)?))))
            .collect();
        barred.sort();
        barred
    }

    #[test]
    fn what_is_barred_is_on_disk_and_ends_with_its_cause() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let paths = Paths::new(home.path(), 0);
        let bars = Bars::open(&paths);
        bars.gone(&key("a"), 3);
        bars.gone(&key("a"), 3);
        bars.hold("127.0.0.1:4", 4, &key("a"));
        assert_eq!((bars.holder(4, &key("b")), bars.holder(4, &key("a"))), (Some(key("a")), None));
        bars.set_others([(5, key("a"))].into_iter());
        assert_eq!(barred(&bars, "a"), [(3, Bar::OwnPort), (5, Bar::OtherCheckout)]);
        assert_eq!(barred(&bars, "b"), [(4, Bar::HeldFor)]);
        // Another collector knows only what the programs did.
        let next = Bars::open(&paths);
        assert_eq!((barred(&next, "a"), barred(&next, "b")), (vec![(3, Bar::OwnPort)], vec![]));
        next.retain([key("b")].into_iter());
        assert_eq!(barred(&next, "a"), []);
        bars.release("127.0.0.1:4");
        assert_eq!(barred(&bars, "b"), []);
        bars.hold("127.0.0.1:4", 4, &key("a"));
        bars.renewed(&key("a"));
        assert_eq!(
            (barred(&bars, "a"), barred(&bars, "b")),
            (vec![(5, Bar::OtherCheckout)], vec![(4, Bar::HeldFor)])
        );
        bars.ended(&key("a"));
        assert_eq!((barred(&bars, "a"), barred(&bars, "b")), (vec![(5, Bar::OtherCheckout)], vec![]));
        bars.close();
        assert_eq!(barred(&bars, "a"), []);
    }

    #[test]
    fn a_page_that_is_not_ours_any_more_is_written_again() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let paths = Paths::new(home.path(), 0);
        let bars = Bars::open(&paths);
        bars.hold("127.0.0.1:4", 4, &key("a"));
        let whole = fs::read(&bars.page).unwrap();
        let spoil: [fn(&Path) -> io::Result<()>; 4] = [
            |page| fs::remove_file(page),
            |page| fs::write(page, "torn"),
            |page| fs::OpenOptions::new().write(true).open(page)?.set_len(3),
            |page| fs::remove_file(page).and_then(|()| std::os::unix::fs::symlink("/nowhere", page)),
        ];
        for spoil in spoil {
            spoil(&bars.page).unwrap();
            bars.restore();
            assert_eq!(fs::read(&bars.page).unwrap(), whole);
        }
    }

    #[test]
    fn the_ports_of_an_instance_are_bounded_and_a_foreign_page_is_nothing() {
        let home = tempfile::tempdir_in("/tmp").unwrap();
        let paths = Paths::new(home.path(), 0);
        fs::write(&paths.barred, "something else").unwrap();
        let bars = Bars::open(&paths);
        (0..2 * BARRED_OWN_PORTS).for_each(|port| bars.gone(&key("a"), u16::try_from(port).unwrap()));
        bars.write();
        let rows = read(&bars.page).unwrap();
        assert_eq!(rows.len(), BARRED_OWN_PORTS);
        assert!(rows.iter().all(|row| usize::from(row.port) >= BARRED_OWN_PORTS));
    }
}
