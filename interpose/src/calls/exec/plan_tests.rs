//! What is found out about environments.
use super::*;

const OURS: Ours<'static> =
    Ours { library: b"/h/lib/ours.so", instance: b"main", run: b"/h/run", has_secret: true };

fn examined(reach: Reach, entries: &[&str]) -> Plan {
    examine(OURS, reach, entries.iter().map(|entry| entry.as_bytes()))
}

/// The variable that loads libraries.
fn preload(value: &str) -> String {
    format!("{}={value}", crate::environment::PRELOAD)
}

fn ours() -> String {
    preload("/h/lib/ours.so")
}

fn plan(length: usize, preload: Preload) -> Plan {
    Plan { length, preload, variables: false, secret: false, options: false }
}

#[test]
fn what_is_lacking_is_added() {
    let all = Plan { variables: true, ..plan(1, Preload::Add) };
    assert_eq!(examined(Reach::Full, &["A=1"]), all);
    assert!(all.restores() && !all.changes_nothing());
    assert_eq!(examined(Reach::Full, &[&ours(), "AGENTFS_INSTANCE=main"]), plan(2, Preload::Leave));
    assert!(plan(2, Preload::Leave).changes_nothing() && !plan(2, Preload::Leave).restores());
}

#[test]
fn of_several_entries_the_last_counts() {
    let given = [&ours(), &preload("/x.so"), "AGENTFS_INSTANCE=main"];
    assert_eq!(examined(Reach::Full, &given), plan(3, Preload::Merge(1)));
    let given = [&preload("/x.so"), &ours(), "AGENTFS_INSTANCE=main"];
    assert_eq!(examined(Reach::Full, &given), plan(3, Preload::Leave));
}

#[test]
fn libraries_are_told_apart_by_their_whole_path() {
    for (value, wanted) in [
        ("/x.so:/h/lib/ours.so", Preload::Leave),
        ("/h/lib/ours.so /x.so", Preload::Leave),
        ("/h/lib/ours.so.1", Preload::Merge(0)),
        ("ours.so", Preload::Merge(0)),
        ("", Preload::Merge(0)),
    ] {
        let entry = preload(value);
        assert_eq!(examined(Reach::Full, &[&entry, "AGENTFS_INSTANCE=main"]), plan(2, wanted), "{value}");
    }
}

#[test]
fn the_secret_goes_with_the_run_dir_and_the_instance() {
    let with = Plan { secret: true, ..plan(3, Preload::Leave) };
    assert_eq!(examined(Reach::Full, &[&ours(), "AGENTFS_INSTANCE=main", "AGENTFS_RUN=/h/run"]), with);
    let other = [&ours(), "AGENTFS_INSTANCE=main", "AGENTFS_RUN=/h/run2"];
    assert_eq!(examined(Reach::Full, &other), plan(3, Preload::Leave));
    let none = Ours { has_secret: false, ..OURS };
    let ours = ours();
    let given = [&ours, "AGENTFS_INSTANCE=main", "AGENTFS_RUN=/h/run"].map(str::as_bytes);
    assert_eq!(examine(none, Reach::Full, given.into_iter()), plan(3, Preload::Leave));
}

#[test]
fn another_instance_wins_wherever_it_stands() {
    assert_eq!(examined(Reach::Full, &["A=1", "AGENTFS_INSTANCE=other"]), plan(2, Preload::Leave));
    assert_eq!(examined(Reach::Full, &["AGENTFS_NO_INTERPOSE=1", "A=1"]), plan(2, Preload::Leave));
}

#[test]
fn out_of_reach_the_library_is_stripped_and_nothing_comes_in() {
    assert_eq!(examined(Reach::None, &[&ours()]), plan(1, Preload::Strip));
    assert_eq!(examined(Reach::None, &["A=1", "AGENTFS_INSTANCE=other"]), plan(2, Preload::Leave));
}

#[test]
fn room_is_for_everything_that_may_come_in() {
    assert_eq!(examined(Reach::Full, &["A=1"]).needed(2), 1 + 2 + 3);
}
