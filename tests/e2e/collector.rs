//! The collector as other programs see it: requests in order, subscriptions without gaps.
use agentfs_tests::control::Control;
use agentfs_tests::{Home, artifact};
use agentfs_wire::control::{Subscribed, method};
use agentfs_wire::event::{Event, EventKind};
use serde_json::{Value, json};

#[test]
fn replies_come_in_the_order_of_the_requests() {
    let home = Home::new();
    home.start_daemon();
    let mut control = home.control().unwrap();
    let methods =
        [method::PING, method::LIST, "no.such", method::DAEMON_INFO, method::ROUTE_LIST, method::METRICS];
    let lines: Vec<String> = methods
        .iter()
        .enumerate()
        .map(|(id, method)| json!({"id": format!("n{id}"), "method": method}).to_string() + "\n")
        .collect();
    control.send(lines.concat().as_bytes()).unwrap();
    for (id, method) in methods.iter().enumerate() {
        let reply = control.reply().unwrap();
        assert_eq!(reply.id, Value::from(format!("n{id}")));
        assert_eq!(reply.error.is_some(), *method == "no.such", "{reply:?}");
    }
}

fn subscribe(home: &Home, params: Value) -> (Control, u64) {
    let mut control = home.control().unwrap();
    let reply = control.call(method::SUBSCRIBE, params).unwrap().unwrap();
    let subscribed: Subscribed = serde_json::from_value(reply).unwrap();
    (control, subscribed.sequence)
}

fn until_ended(control: &mut Control) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|event| event.kind() != EventKind::InstanceEnded) {
        events.push(control.event().unwrap_or_else(|error| panic!("{error} after {events:?}")));
    }
    events
}

#[test]
fn a_subscription_has_neither_gaps_nor_doubles() {
    let home = Home::new();
    home.start_daemon();
    let (mut live, first) = subscribe(&home, json!({}));
    let server = artifact::binary("fixture-wait").display().to_string();
    let running = home.wrap("shop", "one", &[&server]).body("one").spawn();
    home.listener("shop", "one", 5000);
    running.terminate();
    let events = until_ended(&mut live);
    for (event, sequence) in events.iter().zip(first + 1..) {
        assert_eq!(event.sequence, sequence, "{events:?}");
    }
    let kinds: Vec<EventKind> = events.iter().map(Event::kind).collect();
    let position = |kind| kinds.iter().position(|other| *other == kind);
    let order = [
        EventKind::InstanceStarted,
        EventKind::ListenerUp,
        EventKind::ListenerDown,
        EventKind::InstanceEnded,
    ];
    let places: Vec<_> = order.into_iter().map(position).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{kinds:?}");
    // The same again from the journal, and nothing but it.
    let (mut again, _) = subscribe(&home, json!({"after": first}));
    assert_eq!(until_ended(&mut again), events);
    let (mut other, _) = subscribe(&home, json!({"after": first, "app": "till"}));
    other.set_patience(std::time::Duration::from_millis(200)).unwrap();
    assert!(other.event().is_err());
}

/// Somebody who subscribes and never reads slows nobody down.
#[test]
fn a_subscriber_that_does_not_read_harms_nobody() {
    let home = Home::new();
    home.start_daemon();
    let _silent = subscribe(&home, json!({"calls": true}));
    let server = artifact::binary("fixture-wait").display().to_string();
    let _running = home.wrap("shop", "one", &[&server]).body("one").spawn();
    home.listener("shop", "one", 5000);
    for _ in 0..200 {
        home.expect_body("one.shop.localhost", "one");
    }
}

/// What is private stays private: nobody else may talk to the collector or into the run dir.
#[test]
fn only_the_owner_gets_in() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    home.start_daemon();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.paths().run), 0o700);
    assert_eq!(mode(&home.paths().control), 0o600);
}

/// "the log file has a size limit while running"
#[test]
fn a_log_that_is_full_is_put_aside_while_the_collector_runs() {
    let home = Home::new();
    let log = home.paths().log.clone();
    std::fs::create_dir_all(&home.paths().home).unwrap();
    let most = usize::try_from(agentfs_wire::limits::LOG_BYTES).unwrap();
    for _ in 0..2 {
        let line = "x".repeat(99) + "\n";
        std::fs::write(&log, line.repeat(most / line.len())).unwrap();
        home.start_daemon();
        let old = std::fs::read_to_string(&home.paths().old_log).unwrap();
        assert!(old.starts_with("xxx") && old.ends_with('\n') && old.len() < most + 1000, "{}", old.len());
        assert!(old.contains("collector"), "the full log has the line that filled it");
        let _ = home.agentfs(&["daemon", "stop"]).output().success();
        let log = std::fs::read_to_string(&log).unwrap();
        assert!(log.ends_with("collector stopped\n") && !log.contains("xxx"), "{log}");
    }
}
