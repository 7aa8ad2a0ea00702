//! Environments as programs pass them, and what a child gets.
use super::*;
use crate::calls::exec::plan::{Reach, examine};
use crate::calls::exec::texts::TEXT_BYTES;
use crate::calls::exec::variables::Ours;

const OURS: Ours<'static> =
    Ours { library: b"/h/lib/ours.so", instance: b"main", run: b"/h/run", has_secret: true };
const OWN_PRELOAD: &CStr = c"LD_PRELOAD=/h/lib/ours.so";
const SECRET: &CStr = c"AGENTFS_SECRET=s";
const KEPT: [&CStr; 2] = [c"AGENTFS_APP=shop", c"AGENTFS_INSTANCE=main"];

/// What a child gets; `None` where the environment is passed on as it is.
fn completed(reach: Reach, given: &[&CStr]) -> Option<Vec<String>> {
    let bytes = || given.iter().map(|entry| entry.to_bytes());
    let plan = examine(OURS, reach, bytes());
    if plan.changes_nothing() {
        return None;
    }
    let texts = Texts::of(plan, OURS, bytes());
    let array: Vec<_> = given.iter().map(|entry| entry.as_ptr()).chain([core::ptr::null()]).collect();
    let own = Own { preload: OWN_PRELOAD, kept: KEPT.into_iter(), secret: Some(SECRET) };
    let mut new = vec![core::ptr::null(); plan.needed(KEPT.len())];
    // SAFETY: the array holds the strings that the plan was made of, and ends in NULL.
    unsafe { write(plan, array.as_ptr(), &texts, own, &mut new) };
    assert!(new.last().unwrap().is_null(), "the array ends in NULL");
    // SAFETY: the new array ends in NULL, and its strings live.
    Some(unsafe { entries(new.as_ptr()) }.map(|entry| entry.to_str().unwrap().to_owned()).collect())
}

fn texts(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn an_empty_environment_gets_all() {
    let all = texts(&["LD_PRELOAD=/h/lib/ours.so", "AGENTFS_APP=shop", "AGENTFS_INSTANCE=main"]);
    assert_eq!(completed(Reach::Full, &[]), all);
}

#[test]
fn a_complete_environment_is_left_alone() {
    assert_eq!(completed(Reach::Full, &[OWN_PRELOAD, c"AGENTFS_INSTANCE=main", c"A=1"]), None);
    assert_eq!(completed(Reach::Full, &[c"LD_PRELOAD=/x.so /h/lib/ours.so", c"AGENTFS_INSTANCE=main"]), None);
}

#[test]
fn a_secret_that_was_left_out_comes_back() {
    let given = [OWN_PRELOAD, c"AGENTFS_RUN=/h/run", c"AGENTFS_INSTANCE=main"];
    let mut wanted: Vec<_> = given.iter().map(|entry| entry.to_str().unwrap()).collect();
    wanted.push("AGENTFS_SECRET=s");
    assert_eq!(completed(Reach::Full, &given), texts(&wanted));
    assert_eq!(completed(Reach::Full, &[OWN_PRELOAD, c"AGENTFS_RUN=/x/run", c"AGENTFS_INSTANCE=main"]), None);
    let own = [OWN_PRELOAD, c"AGENTFS_RUN=/h/run", c"AGENTFS_INSTANCE=main", c"AGENTFS_SECRET=t"];
    assert_eq!(completed(Reach::Full, &own), None);
}

#[test]
fn another_instance_and_none_are_left_alone() {
    assert_eq!(completed(Reach::Full, &[c"AGENTFS_INSTANCE=other"]), None);
    assert_eq!(completed(Reach::Full, &[c"AGENTFS_NO_INTERPOSE=1", c"LD_PRELOAD=/x.so"]), None);
    assert!(completed(Reach::Full, &[c"AGENTFS_NO_INTERPOSE=0"]).is_some());
}

#[test]
fn the_programs_own_libraries_come_first() {
    let given = [c"A=1", c"LD_PRELOAD=/x.so:/y.so", c"AGENTFS_INSTANCE=main", c"B"];
    let wanted = texts(&["A=1", "LD_PRELOAD=/x.so:/y.so:/h/lib/ours.so", "AGENTFS_INSTANCE=main", "B"]);
    assert_eq!(completed(Reach::Full, &given), wanted);
    let wanted = texts(&["LD_PRELOAD=/h/lib/ours.so", "AGENTFS_INSTANCE=main"]);
    assert_eq!(completed(Reach::Full, &[c"LD_PRELOAD=", c"AGENTFS_INSTANCE=main"]), wanted);
}

#[test]
fn a_name_that_only_begins_like_ours_means_nothing() {
    let given = [c"LD_PRELOAD_32=/x.so", c"AGENTFS_INSTANCES=other", OWN_PRELOAD, c"AGENTFS_INSTANCE=main"];
    assert_eq!(completed(Reach::Full, &given), None);
}

#[test]
fn out_of_reach_our_library_goes_and_the_variables_stay() {
    let given = [c"LD_PRELOAD=/x.so:/h/lib/ours.so /y.so", c"AGENTFS_INSTANCE=main"];
    let wanted = texts(&["LD_PRELOAD=/x.so:/y.so", "AGENTFS_INSTANCE=main"]);
    assert_eq!(completed(Reach::None, &given), wanted);
    assert_eq!(completed(Reach::None, &[OWN_PRELOAD, c"A=1"]), texts(&["A=1"]));
    assert_eq!(completed(Reach::None, &[c"A=1"]), None);
}

#[test]
fn the_sanitizers_options_get_one_more() {
    let own = [OWN_PRELOAD, c"ASAN_OPTIONS=detect_leaks=0", c"AGENTFS_INSTANCE=main"];
    let wanted = [
        OWN_PRELOAD.to_str().unwrap(),
        "AGENTFS_INSTANCE=main",
        "ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0",
    ];
    assert_eq!(completed(Reach::Sanitized, &own), texts(&wanted));
    assert_eq!(completed(Reach::Full, &own), None);
}

#[test]
fn what_does_not_fit_stays_as_it_was() {
    let long = std::ffi::CString::new(format!("LD_PRELOAD=/{}", "x".repeat(TEXT_BYTES))).unwrap();
    let new = completed(Reach::Full, &[&long, c"AGENTFS_INSTANCE=main"]).unwrap();
    assert_eq!(new.first().unwrap(), long.to_str().unwrap());
    let long = std::ffi::CString::new(format!("ASAN_OPTIONS={}", "x".repeat(TEXT_BYTES))).unwrap();
    let new = completed(Reach::Sanitized, &[&long, OWN_PRELOAD, c"AGENTFS_INSTANCE=main"]).unwrap();
    assert_eq!(new.len(), 3);
    assert_eq!(new.first().unwrap(), long.to_str().unwrap());
}
