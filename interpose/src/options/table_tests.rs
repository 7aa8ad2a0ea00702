//! The table alone, and with several threads at one slot.
use super::*;
use std::sync::atomic::AtomicBool;

const NODELAY: Key = Key::Option(6, 1);

#[test]
fn what_is_kept_is_found_again() {
    let table = Table::new();
    assert_eq!(table.get(7, NODELAY), None);
    table.set(7, NODELAY, -5);
    table.set(7, Key::HandedOn, 0);
    table.set(8, NODELAY, 9);
    assert_eq!(table.get(7, NODELAY), Some(-5));
    assert_eq!(table.get(7, Key::HandedOn), Some(0));
    assert_eq!(table.get(8, NODELAY), Some(9));
    assert_eq!(table.get(8, Key::HandedOn), None);
    table.set(7, NODELAY, c_int::MAX);
    assert_eq!(table.get(7, NODELAY), Some(c_int::MAX));
}

#[test]
fn keys_of_one_socket_differ() {
    let mut keys = vec![Key::HandedOn.of(3), NODELAY.of(3), Key::Option(1, 6).of(3), NODELAY.of(4)];
    keys.extend((0..4).map(|place| Key::Text(place).of(3)));
    #[cfg(target_os = "linux")]
    keys.push(Key::Ended.of(3));
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

#[test]
fn in_a_full_table_the_oldest_socket_gives_way() {
    let table = Table::new();
    let crowd = crowd(PLACES + 2);
    for inode in &crowd {
        table.set(*inode, NODELAY, 1);
    }
    let kept = crowd.iter().filter(|inode| table.get(**inode, NODELAY).is_some());
    assert!(kept.eq(&crowd[2..]));
}

/// What another thread does to a slot, step by step.
#[test]
fn a_key_beside_a_value_of_another_counts_as_nothing() {
    let table = Table::new();
    table.set(7, NODELAY, 1);
    let (key, other) = (NODELAY.of(7), NODELAY.of(8));
    let (slot, _) = table.place_for(key).unwrap();
    slot.value.store(word(other, 2), Ordering::Relaxed);
    assert_eq!(table.get(7, NODELAY), None);
    slot.value.store(word(key, 3), Ordering::Relaxed);
    assert_eq!(table.get(7, NODELAY), Some(3));
}

#[test]
fn no_reader_sees_the_value_of_another_socket() {
    let table = Table::new();
    // Four times as many as there are places.
    let crowd = crowd(PLACES * 4);
    let own = |inode: u64| c_int::try_from(inode).unwrap();
    let write = |step: usize| {
        for round in 0..300_000 {
            let inode = crowd[round * step % crowd.len()];
            table.set(inode, NODELAY, own(inode));
        }
    };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Acquire) || seen == 0 {
                for inode in &crowd {
                    if let Some(value) = table.get(*inode, NODELAY) {
                        assert_eq!(value, own(*inode));
                        seen += 1;
                    }
                }
            }
        });
        let writer = scope.spawn(|| write(7));
        write(5);
        writer.join().unwrap();
        done.store(true, Ordering::Release);
        reader.join().unwrap();
    });
}

/// What two writers do that come at the same moment, step by step.
#[test]
fn a_slot_has_one_writer_at_a_time() {
    let table = Table::new();
    let crowd = crowd(2);
    let (first, second) = (NODELAY.of(crowd[0]), NODELAY.of(crowd[1]));
    let (slot, present) = table.place_for(first).unwrap();
    assert!(core::ptr::eq(slot, table.place_for(second).unwrap().0));
    assert!(slot.take(present));
    assert!(!slot.take(present), "the other one has to look again");
    table.set(crowd[1], NODELAY, 2);
    assert_eq!((table.get(crowd[0], NODELAY), table.get(crowd[1], NODELAY)), (None, Some(2)));
    slot.fill(first, 1);
    assert_eq!((table.get(crowd[0], NODELAY), table.get(crowd[1], NODELAY)), (Some(1), Some(2)));
}

/// A writer that found its key is overtaken by one that takes the slot.
#[test]
fn a_slot_that_has_gone_to_another_key_is_not_written() {
    let table = Table::new();
    table.set(7, NODELAY, 1);
    let (key, other) = (NODELAY.of(7), NODELAY.of(8));
    let (slot, _) = table.place_for(key).unwrap();
    assert!(slot.exchange(key, 2) && slot.take(key));
    slot.fill(other, 3);
    assert!(!slot.exchange(key, 4));
    assert_eq!(value_in(slot.value.load(Ordering::Relaxed), other), Some(3));
}

/// Sockets whose values are kept in the same places.
fn crowd(count: usize) -> Vec<u64> {
    let place = start(NODELAY.of(1));
    (1..).filter(|inode| start(NODELAY.of(*inode)) == place).take(count).collect()
}
