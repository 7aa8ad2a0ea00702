use super::{PLACES, SLOTS, get, key, places, set};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use libc::c_int;
use std::thread;

const OPTION: (c_int, c_int) = (libc::IPPROTO_TCP, libc::TCP_NODELAY);

/// What the tests keep for a socket: a value that says whose it is.
fn own_value(inode: u64) -> c_int {
    c_int::try_from(inode).unwrap()
}

fn is_own_or_forgotten(inode: u64) {
    if let Some(value) = get(inode, OPTION) {
        assert_eq!(value, own_value(inode), "the value of another socket");
    }
}

/// Inodes that no other test uses: each has a range, and later ones push out earlier ones.
fn range(test: u64) -> core::ops::Range<u64> {
    test * 10_000_000..test * 10_000_000 + 400_000
}

#[test]
fn what_is_kept_reads_back_for_that_socket_and_option_alone() {
    let inode = 90_000_000;
    set(inode, OPTION, 1);
    set(inode, (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL), 33);
    set(inode, OPTION, 2);
    assert_eq!(get(inode, OPTION), Some(2));
    assert_eq!(get(inode, (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL)), Some(33));
    assert_eq!(get(inode, (libc::IPPROTO_IP, libc::TCP_NODELAY)), None);
    assert_eq!(get(inode + 1, OPTION), None);
}

#[test]
fn the_oldest_socket_gives_way_when_all_places_are_taken() {
    let start = |inode| core::ptr::from_ref(places(key(inode, OPTION)).next().unwrap());
    let first = start(80_000_000);
    let alike: Vec<u64> =
        (80_000_000..80_900_000).filter(|inode| start(*inode) == first).take(PLACES + 1).collect();
    assert_eq!(alike.len(), PLACES + 1, "fewer than one in {SLOTS} sockets has the same places");
    for inode in &alike {
        set(*inode, OPTION, own_value(*inode));
    }
    assert_eq!(get(*alike.last().unwrap(), OPTION), Some(own_value(*alike.last().unwrap())));
    alike.iter().for_each(|inode| is_own_or_forgotten(*inode));
}

/// A slot changes hands while it is read: a reader finds its own value or none.
#[test]
fn a_reader_never_gets_the_value_of_another_socket() {
    let (at, done) = (AtomicU64::new(range(1).start), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let newest = at.load(Ordering::Relaxed);
                (newest.saturating_sub(64)..newest + 4).for_each(is_own_or_forgotten);
            }
        });
        for inode in range(1) {
            set(inode, OPTION, own_value(inode));
            at.store(inode, Ordering::Relaxed);
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// Two threads take slots at the same time: no slot ends with the key of one and the value of the other.
#[test]
fn two_writers_do_not_mix_key_and_value() {
    thread::scope(|scope| {
        for odd in 0..2 {
            scope.spawn(move || {
                for inode in range(2).filter(|inode| inode % 2 == odd) {
                    set(inode, OPTION, own_value(inode));
                    is_own_or_forgotten(inode);
                    is_own_or_forgotten(inode + 1);
                }
            });
        }
    });
    range(2).for_each(is_own_or_forgotten);
}
