//! Sends notices to the collector. It never waits for the collector and keeps nothing open.
//!
//! A notice is one datagram: socket, sendto, close. A notice that cannot be sent is dropped, and the next one says
//! how many were. Notices about listeners and about ports that are in use are always sent, all others only while
//! somebody traces.
mod page;

use crate::config::Config;
use crate::rawaddr::UnixName;
use crate::sys;
use agentfs_wire::limits::{NOTICE_BYTES, NOTICE_QUIET_MS};
pub(crate) use agentfs_wire::notice::News;
use agentfs_wire::notice::Notice;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Notices that were dropped since the last one that was sent.
static DROPPED: AtomicU32 = AtomicU32::new(0);
/// The listener of the last notice, and its time: the upper half of its file's fingerprint, then milliseconds.
static LAST_LISTENER: AtomicU64 = AtomicU64::new(0);
/// The part of it that is the file's.
const LISTENER: u64 = !0xffff_ffff;

/// Whether somebody traces.
pub(crate) fn tracing(config: &Config) -> bool {
    page::tracing(config)
}

/// Sends a notice, but only while somebody traces.
pub(crate) fn trace(config: &Config, news: News<'_>) {
    if tracing(config) {
        tell(config, news);
    }
}

/// Sends a notice about a listener, unless the last one was about the same listener a moment ago. A program that opens
/// and closes one port again and again pays for it once. The watcher sees the new file anyway.
pub(crate) fn tell_listener(config: &Config, news: News<'_>) {
    let listener = crate::rundir::fingerprint(news.file.as_bytes());
    if has_told(config, listener) {
        return;
    }
    LAST_LISTENER.store(listener & LISTENER | sys::coarse_ms() & !LISTENER, Ordering::Relaxed);
    tell(config, news);
}

/// Whether a notice about the listener whose file has this fingerprint would not be sent, because the last one was
/// about it, a moment ago, and nobody traces.
pub(crate) fn has_told(config: &Config, listener: u64) -> bool {
    let last = LAST_LISTENER.load(Ordering::Relaxed);
    let age = sys::coarse_ms().wrapping_sub(last) & !LISTENER;
    last & LISTENER == listener & LISTENER && age < NOTICE_QUIET_MS && !tracing(config)
}

/// Sends a notice.
pub(crate) fn tell(config: &Config, news: News<'_>) {
    let mut name = [0_u8; 32];
    let notice = Notice {
        call: news.call,
        outcome: news.outcome,
        why: news.why,
        errno: news.errno,
        fd: news.fd,
        pid: sys::process_id(),
        time_ns: sys::now_ns(),
        dropped: DROPPED.load(Ordering::Relaxed),
        address: news.address.map(Into::into),
        peer: news.peer.map(Into::into),
        app: config.app.as_str(),
        instance: config.instance.as_str(),
        file: news.file,
        program: sys::program_name(&mut name),
    };
    let mut datagram = [0_u8; NOTICE_BYTES];
    let sent = notice.encode(&mut datagram).is_some_and(|length| {
        let to = UnixName::path(&[config.base(), b"/collector.notice"]);
        send(datagram.get(..length).unwrap_or(&[]), &to)
    });
    if sent {
        DROPPED.fetch_sub(notice.dropped, Ordering::Relaxed);
    } else {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

fn send(datagram: &[u8], to: &UnixName) -> bool {
    let Ok(fd) = sys::unix_socket(libc::SOCK_DGRAM) else { return false };
    sys::send_to(fd.number(), datagram, to.bytes()).is_ok()
}
