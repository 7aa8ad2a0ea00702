//! Ports of the host. A connect to a port without a listener of the instance goes to the host, but never to another
//! fork: the collector keeps a page of ports that are barred for an instance ([`agentfs_wire::barred`]). It is read, never
//! waited for; without it nothing is barred.
use crate::config::Config;
use crate::names;
use crate::notify::{self, News};
use crate::rawaddr::UnixName;
use crate::rewrite;
use crate::rundir;
use crate::sys;
use agentfs_wire::address::Endpoint;
use agentfs_wire::barred::{Bar, MAGIC, ROW_BYTES, Row};
use agentfs_wire::name::Kind;
use agentfs_wire::notice::{Call, Outcome, Why};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
    if config.isolates(to.port) {
        return Some(Why::Isolated);
    }
    if config.allows(to.port) || !config.covers(to.port) {
        return None;
    }
    let is_localhost = matches!(to.ip, IpAddr::V4(Ipv4Addr::LOCALHOST | Ipv4Addr::UNSPECIFIED))
        || matches!(to.ip, IpAddr::V6(Ipv6Addr::LOCALHOST | Ipv6Addr::UNSPECIFIED));
    if is_localhost && listens_beside(config, to) {
        return Some(Why::OwnPort);
    }
    match barred(config, to.port)? {
        Bar::OwnPort => Some(Why::OwnPort),
        Bar::OtherCheckout => Some(Why::OtherCheckout),
        // Forwards listen on localhost; another address of 127/8 is somebody's own.
        Bar::HeldFor => is_localhost.then_some(Why::HeldForOther),
    }
}

/// Whether the instance listens on the port, but only at the other of `127.0.0.1` and `::1`: `localhost` means both, and
/// which one a program tries first differs. A process that changed its user cannot see it.
fn listens_beside(config: &Config, to: Endpoint) -> bool {
    let other = match to.ip {
        IpAddr::V4(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    rewrite::candidates(other).into_iter().any(|scope| {
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
