//! Ports of the private ephemeral range.
use crate::sys;
use agentfs_wire::limits::{EPHEMERAL_COUNT, EPHEMERAL_FIRST};
use core::sync::atomic::{AtomicU64, Ordering};

/// A port of the private ephemeral range. Each process goes through the range in its own order, so processes that bind
/// at the same time seldom try the same port. If they do, the file decides.
pub(crate) fn random_port() -> u16 {
    static STATE: AtomicU64 = AtomicU64::new(0);
    let mut seed = STATE.fetch_add(1, Ordering::Relaxed);
    seed ^= u64::from(sys::process_id()) << 32;
    seed ^= sys::monotonic_ns() << 8;
    // splitmix64 (Steele, Lea, Flood 2014): every bit of the seed reaches every bit of the result.
    seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^= seed >> 31;
    EPHEMERAL_FIRST + u16::try_from(seed % u64::from(EPHEMERAL_COUNT)).unwrap_or(0)
}
