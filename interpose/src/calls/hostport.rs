//! Ports of the host. A connect to a port without a listener of the instance goes to the host, but never to another
//! fork: the collector keeps a page of ports that are barred for an instance ([`agentfs_wire::barred`]). It is read, never
//! waited for; without it nothing is barred.
use crate::config::Config;
use crate::names;
use crate::notify::{self, News};
use crate::rawaddr::UnixName;
use crate::rewrite::{self, HostPort};
use crate::rundir;
use crate::sys;
use agentfs_wire::address::Endpoint;
use agentfs_wire::barred::{Bar, MAGIC, ROW_BYTES, Row};
use agentfs_wire::name::Kind;
use agentfs_wire::notice::{Call, Outcome, Why};
use core::sync::atomic::{AtomicU64, Ordering};
use libc::c_int;

/// Rows that are read at once.
const ROWS: usize = 64;

/// Words of [`TOLD`].
const WORDS: usize = 65_536 / 64;

/// One bit for each port: whether this process has told the collector that it asked the host for it.
static TOLD: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];

/// Why a connect to `to`, where the instance has no listener, must not reach the host.
pub(super) fn refused(config: &Config, to: Endpoint) -> Option<Why> {
    let rules = HostPort {
        isolated: config.isolates(to.port),
        allowed: config.allows(to.port),
        covered: config.covers(to.port),
    };
    rewrite::host_refused(to, rules, || listens_beside(config, to), || barred(config, to.port))
}

/// Whether the instance listens on the port, but only at the other of `127.0.0.1` and `::1`: `localhost` means both, and
/// which one a program tries first differs. A process that changed its user cannot see it.
fn listens_beside(config: &Config, to: Endpoint) -> bool {
    rewrite::candidates(rewrite::other_localhost(to.ip)).into_iter().any(|scope| {
        let file = names::own_file(config, Kind::Listener { port: to.port, scope, worker: None });
        sys::exists(names::path_of(config, file.as_bytes(), false).c_path())
    }) || sys::exists(rundir::group_mark(config, to.port).c_path())
}

/// What the page says about a port.
fn barred(config: &Config, port: u16) -> Option<Bar> {
    let path = UnixName::path(&[config.base(), b"/barred.page"]);
    let page = sys::open(path.c_path(), libc::O_RDONLY, 0).ok()?;
    let mut magic = [0; MAGIC.len()];
    sys::read(page.number(), &mut magic).ok()?;
    if magic != MAGIC {
        return None;
    }
    loop {
        let mut rows = [0; ROWS * ROW_BYTES];
        let count = sys::read(page.number(), &mut rows).ok()?;
        let read = rows.get(..count)?.chunks_exact(ROW_BYTES).filter_map(Row::decode);
        if let Some(bar) = read.filter_map(|row| row.bars(config.space, port)).next() {
            return Some(bar);
        }
        if count < rows.len() {
            return None;
        }
    }
}

/// Tells of a connect to a port of the host: always the first time, then only while somebody traces.
pub(super) fn tell(config: &Config, fd: c_int, to: Endpoint, outcome: Outcome, why: Why, errno: c_int) {
    let file = config.command.as_str();
    let news = News { errno, fd, address: Some(to), file, ..News::of(Call::Connect, outcome, why) };
    let bit = 1 << (to.port % 64);
    let word = TOLD.get(usize::from(to.port / 64));
    if word.is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0) {
        notify::tell(config, news);
    } else {
        notify::trace(config, news);
    }
}
