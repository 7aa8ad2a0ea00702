//! Single steps of the registry, without a world around it.
use super::state::Registry;
use super::*;
use agentfs_wire::companion::{Companion, Started};
use agentfs_wire::event::EventKind;
use agentfs_wire::url::UrlStyle;

mod faces;
mod view;

const LISTENS: FileState = FileState::Socket { inode: 7, accepting: true };

fn registry() -> Registry {
    Registry::new("/run".into())
}

fn key() -> Key {
    Key { app: "shop".into(), instance: "k3f9".into() }
}

fn see(registry: &mut Registry, file: &str, state: FileState) -> Vec<Effect> {
    registry.apply(1000, Event::Seen { file: file.into(), state })
}

fn companion(instance: &str, wrap_pid: u32, folder: &str) -> FileState {
    let companion = Companion {
        app: "shop".into(),
        instance: instance.into(),
        directory: folder.into(),
        checkout: Some(folder.into()),
        fork: folder != "/main",
        branch: None,
        command: vec!["serve".into()],
        wrap_pid,
        child_pid: 0,
        started_ms: 500,
        version: "1".into(),
        ..Companion::default()
    };
    FileState::Companion { companion: Box::new(companion), written_ms: 600 }
}

fn hosts(registry: &Registry) -> Vec<String> {
    let live = registry.routes().into_iter().filter(|route| !route.ends.is_empty());
    live.map(|route| route.host).collect()
}

fn kinds(effects: &[Effect]) -> Vec<EventKind> {
    let published = effects.iter().filter_map(|effect| match effect {
        Effect::Publish(what) => Some(what.kind()),
        _ => None,
    });
    published.collect()
}

#[test]
fn a_bound_socket_is_looked_at_again_and_routed_once_it_listens() {
    let mut registry = registry();
    let file = "shop-k3f9.80.sock";
    let bound = FileState::Socket { inode: 7, accepting: false };
    let companion = Effect::Look { file: "shop-k3f9.json".into(), after_ms: 0 };
    assert_eq!(registry.apply(1000, Event::Told { key: key(), pid: 9, file: None })[0], companion);
    for after_ms in crate::limits::LOOK_AGAIN_MS {
        let effects = see(&mut registry, file, bound.clone());
        assert_eq!(effects, [Effect::Look { file: file.into(), after_ms }]);
    }
    assert_eq!(see(&mut registry, file, bound), []);
    assert!(hosts(&registry).is_empty());
    let effects = see(&mut registry, file, LISTENS);
    assert_eq!(kinds(&effects), [EventKind::InstanceStarted, EventKind::ListenerUp]);
    assert!(effects.contains(&Effect::Link {
        file: "shop-k3f9.sock".into(),
        target: file.into(),
        instead_of: None
    }));
    assert_eq!(effects.last(), Some(&Effect::Routes));
    assert_eq!(
        hosts(&registry),
        ["80.k3f9.shop.localhost", "80.shop.localhost", "k3f9.shop.localhost", "shop.localhost"]
    );
    assert_eq!(see(&mut registry, file, LISTENS), [], "the same again changes nothing");
}

#[test]
fn another_socket_of_the_same_name_is_another_listener() {
    let mut registry = registry();
    see(&mut registry, "shop-k3f9.80.sock", LISTENS);
    let effects = see(&mut registry, "shop-k3f9.80.sock", FileState::Socket { inode: 8, accepting: true });
    assert_eq!(kinds(&effects), [EventKind::ListenerDown, EventKind::ListenerUp]);
}

#[test]
fn an_instance_ends_only_after_a_survey() {
    let mut registry = registry();
    see(&mut registry, "shop-k3f9.80.sock", LISTENS);
    let effects = see(&mut registry, "shop-k3f9.80.sock", FileState::Stale);
    assert!(effects.contains(&Effect::RemoveStale { file: "shop-k3f9.80.sock".into() }));
    assert!(effects.contains(&Effect::Survey { key: key() }));
    let effects = registry.apply(2000, Event::Surveyed { asked: vec![key()], living: vec![(key(), 42)] });
    // One that lives has a better claim to the app's name.
    assert_eq!(effects, [Effect::Watch { pid: 42, born_before_ms: None }, Effect::Routes]);
    let effects = registry.apply(3000, Event::ProcessExited { pid: 42 });
    assert!(effects.contains(&Effect::Survey { key: key() }));
    let effects = registry.apply(4000, Event::Surveyed { asked: vec![key()], living: Vec::new() });
    assert_eq!(kinds(&effects), [EventKind::InstanceEnded]);
    let route = registry.routes().into_iter().find(|route| route.host == "shop.localhost").unwrap();
    assert_eq!((route.ends.len(), route.dead.unwrap().socket.as_str()), (0, "/run/shop-k3f9.80.sock"));
}

#[test]
fn a_companion_of_the_dead_is_cleared_without_a_word() {
    let mut registry = registry();
    let effects = see(&mut registry, "shop-k3f9.json", companion("k3f9", 7, "/main"));
    assert_eq!(effects[0], Effect::Watch { pid: 7, born_before_ms: Some(600) });
    assert_eq!(kinds(&effects), []);
    let effects = registry.apply(1, Event::ProcessExited { pid: 7 });
    assert_eq!(effects, [Effect::Survey { key: key() }, Effect::Forget { pid: 7 }]);
    let effects = registry.apply(2, Event::Surveyed { asked: vec![key()], living: Vec::new() });
    let FileState::Companion { companion, .. } = companion("k3f9", 7, "/main") else { unreachable!() };
    let removal = Effect::RemoveCompanion { file: "shop-k3f9.json".into(), companion };
    assert_eq!(effects, [removal, Effect::Routes]);
}

#[test]
fn wraps_own_pid_does_not_count_once_its_program_has_ended() {
    let mut registry = registry();
    see(&mut registry, "shop-k3f9.json", companion("k3f9", 7, "/main"));
    registry.apply(1, Event::ProcessLives { pid: 7 });
    let effects = registry.apply(2, Event::Ended { key: key(), wrap_pid: Some(7) });
    assert_eq!(effects, [Effect::Forget { pid: 7 }, Effect::Survey { key: key() }]);
    // Its last write of the companion may be seen only now.
    let effects = see(&mut registry, "shop-k3f9.json", companion("k3f9", 7, "/main"));
    assert_eq!(effects, []);
    let effects = registry.apply(3, Event::Surveyed { asked: vec![key()], living: Vec::new() });
    assert!(kinds(&effects).contains(&EventKind::InstanceEnded));
}

/// A command that joins: the instance lives as long as one of them.
#[test]
fn an_instance_lives_as_long_as_one_of_its_commands() {
    let FileState::Companion { companion: first, .. } = companion("k3f9", 7, "/main") else { unreachable!() };
    let second =
        Started { command: vec!["front".into()], wrap_pid: 17, started_ms: 900, ..Started::default() };
    let both = Companion { commands: [first.started(), vec![second]].concat(), ..*first.clone() };
    let mut registry = registry();
    see(&mut registry, "shop-k3f9.json", FileState::Companion { companion: first, written_ms: 600 });
    registry.apply(1, Event::ProcessLives { pid: 7 });
    let joined = FileState::Companion { companion: Box::new(both.clone()), written_ms: 1000 };
    let effects = see(&mut registry, "shop-k3f9.json", joined.clone());
    assert_eq!(effects[0], Effect::Watch { pid: 17, born_before_ms: Some(1000) });
    assert_eq!(kinds(&effects), [], "the instance goes on");
    let list = |registry: &Registry| {
        let urls = UrlStyle { http_port: 80, https_port: None };
        registry.snapshot(0, urls, &|_| (0, 0.0)).instances.pop().unwrap()
    };
    assert_eq!(list(&registry).commands.len(), 2);
    registry.apply(2, Event::Ended { key: key(), wrap_pid: Some(7) });
    let left = list(&registry);
    assert_eq!((left.wrap_pid, left.command), (Some(17), vec!["front".to_owned()]));
    assert_eq!(see(&mut registry, "shop-k3f9.json", joined), [], "the ended one is not watched again");
    let effects = registry.apply(3, Event::ProcessExited { pid: 17 });
    assert!(effects.contains(&Effect::Survey { key: key() }));
    let effects = registry.apply(4, Event::Surveyed { asked: vec![key()], living: Vec::new() });
    let removal = Effect::RemoveCompanion { file: "shop-k3f9.json".into(), companion: Box::new(both) };
    assert!(effects.contains(&removal));
}

#[test]
fn a_link_is_a_second_name_not_a_second_listener() {
    let mut registry = registry();
    let link = |target: &str| FileState::Link { file: Some(target.into()), end: Box::new(LISTENS) };
    see(&mut registry, "shop-k3f9.80.sock", LISTENS);
    see(&mut registry, "shop-k3f9.81.sock", FileState::Socket { inode: 9, accepting: true });
    see(&mut registry, "shop-k3f9.sock", link("shop-k3f9.81.sock"));
    let snapshot = registry.snapshot(0, UrlStyle { http_port: 80, https_port: None }, &|_| (0, 0.0));
    let ports: Vec<_> = snapshot.instances[0].listeners.iter().map(|listener| listener.port).collect();
    assert_eq!(ports, [80, 81], "the link does not decide which is the main one: it follows");
    // A link to another instance's socket is a listener made by hand.
    see(&mut registry, "blog-one.sock", link("shop-k3f9.81.sock"));
    assert!(hosts(&registry).contains(&"blog.localhost".to_owned()));
}

#[test]
fn a_debugger_gives_the_name_to_the_program() {
    let mut registry = registry();
    let link = |target: &str| FileState::Link { file: Some(target.into()), end: Box::new(LISTENS) };
    see(&mut registry, "shop-k3f9.9229.l.sock", LISTENS);
    see(&mut registry, "shop-k3f9.sock", link("shop-k3f9.9229.l.sock"));
    let effects = see(&mut registry, "shop-k3f9.3000.sock", FileState::Socket { inode: 9, accepting: true });
    let relinked = effects.iter().any(|effect| match effect {
        Effect::Link { target, .. } => target == "shop-k3f9.3000.sock",
        _ => false,
    });
    assert!(relinked, "{effects:?}");
    let snapshot = registry.snapshot(0, UrlStyle { http_port: 80, https_port: None }, &|_| (0, 0.0));
    assert_eq!(snapshot.instances[0].listeners[0].port, 3000);
}

#[test]
fn a_dangling_link_out_of_the_run_dir_starts_nothing() {
    let mut registry = registry();
    let link = FileState::Link { file: None, end: Box::new(FileState::Gone) };
    assert_eq!(see(&mut registry, "shop-k3f9.sock", link), []);
    assert!(!registry.knows(&key()));
}

#[test]
fn replicas_share_the_name_and_forks_do_not() {
    let mut registry = registry();
    for (number, (instance, folder)) in
        [("fork", "/fork"), ("main", "/main"), ("main-2", "/main"), ("main-3", "/other")]
            .into_iter()
            .enumerate()
    {
        let state = companion(instance, 10 + u32::try_from(number).unwrap(), folder);
        see(&mut registry, &format!("shop-{}.json", instance.replace('-', "_")), state);
        see(&mut registry, &format!("shop-{}.80.sock", instance.replace('-', "_")), LISTENS);
    }
    let route = registry.routes().into_iter().find(|route| route.host == "shop.localhost").unwrap();
    let instances: Vec<_> = route.ends.iter().map(|end| end.instance.as_str()).collect();
    assert_eq!(instances, ["main", "main-2"]);
    let host = |instance: &str| registry.host_of(&Key { app: "shop".into(), instance: instance.into() });
    assert_eq!(
        [host("main"), host("main-2"), host("fork")].map(|host| host.replace(".localhost", "")),
        ["shop", "main-2.shop", "fork.shop"]
    );
}

#[test]
fn members_of_a_group_are_balanced_and_families_are_not() {
    let mut registry = registry();
    let files = ["shop-k3f9.80.w0.sock", "shop-k3f9.80.w1.sock", "shop-k3f9.80.l6.sock"];
    for (inode, file) in (1..).zip(files) {
        see(&mut registry, file, FileState::Socket { inode, accepting: true });
    }
    for route in registry.routes() {
        let targets: Vec<_> = route.ends.iter().map(|end| end.target.clone()).collect();
        let member = |file: &str| Target::Unix(format!("/run/{file}").into());
        assert_eq!(targets, [member(files[0]), member(files[1])], "{}", route.host);
    }
}

#[test]
fn a_route_by_hand_wins() {
    let mut registry = registry();
    see(&mut registry, "shop-k3f9.80.sock", LISTENS);
    let params = agentfs_wire::control::RouteParams {
        host: "shop.localhost".into(),
        target: "127.0.0.1:3000".into(),
        wildcard: false,
        replace: true,
        policy: agentfs_wire::control::Policy::default(),
        handoff: false,
        rewrite_host: false,
    };
    registry.apply(1, Event::RouteAdded { route: HandRoute::parse(&params).unwrap() });
    let route = registry.routes().into_iter().find(|route| route.host == "shop.localhost").unwrap();
    assert_eq!(route.ends[0].target, Target::Tcp("127.0.0.1:3000".parse().unwrap()));
    assert_eq!(registry.host_of(&key()), "k3f9.shop.localhost");
}

#[test]
fn a_listener_that_comes_back_has_its_process_until_that_ends() {
    let mut registry = registry();
    let file = "shop-k3f9.80.sock";
    let owner = |registry: &Registry| {
        let instance = registry.instances.get(&key()).unwrap();
        instance.listeners.get(file).and_then(|listener| listener.pid)
    };
    registry.apply(1000, Event::Told { key: key(), pid: 7, file: Some(file.into()) });
    see(&mut registry, file, LISTENS);
    see(&mut registry, file, FileState::Socket { inode: 8, accepting: true });
    assert_eq!(owner(&registry), Some(7), "bound anew");
    see(&mut registry, file, FileState::Gone);
    see(&mut registry, file, FileState::Socket { inode: 9, accepting: true });
    assert_eq!(owner(&registry), Some(7), "bound anew, and seen in between");
    see(&mut registry, file, FileState::Gone);
    registry.apply(1000, Event::ProcessExited { pid: 7 });
    see(&mut registry, file, FileState::Socket { inode: 10, accepting: true });
    assert_eq!(owner(&registry), None, "somebody else's");
}

/// Instances of one app, each with a port that all have and one of its own: copies of `main`, or forks.
fn many(count: usize, copies: bool) -> Registry {
    let mut registry = registry();
    for number in 0..count {
        let (name, folder) = match number {
            0 if copies => ("main".to_owned(), "/main".to_owned()),
            _ if copies => (format!("main-{}", number + 1), "/main".to_owned()),
            _ => (format!("f{number}"), format!("/fork-{number}")),
        };
        let pid = 10 + u32::try_from(number).unwrap();
        let file = name.replace('-', "_");
        see(&mut registry, &format!("shop-{file}.json"), companion(&name, pid, &folder));
        for (port, inode) in [(80, 1), (1000 + number, 2)] {
            let state = FileState::Socket { inode, accepting: true };
            see(&mut registry, &format!("shop-{file}.{port}.sock"), state);
        }
    }
    registry
}

/// Names and ends that the hub is told.
fn told(registry: &mut Registry) -> (usize, usize) {
    let changes = registry.take_changes();
    let ends = changes.iter().flat_map(|(_, route)| route).map(|route| route.ends.len());
    (changes.len(), ends.sum())
}

#[test]
fn names_grow_as_their_instances_do() {
    for count in [100, 1000] {
        let mut replicas = many(count, true);
        // Three names of each, one of the app for each own port, and two of the app that lead to all.
        assert_eq!(told(&mut replicas), (4 * count + 2, 6 * count));
        let mut forks = many(count, false);
        let (hosts, ends) = told(&mut forks);
        assert!(hosts <= 4 * count + 2 && ends <= 3 * count + 3, "{hosts} names, {ends} ends");
    }
}

#[test]
fn a_change_is_told_without_those_that_did_not_change() {
    for count in [100, 1000] {
        let mut replicas = many(count, true);
        let mut forks = many(count, false);
        for (registry, name) in [(&mut replicas, "main_51"), (&mut forks, "f50")] {
            told(registry);
            see(registry, &format!("shop-{name}.80.sock"), FileState::Gone);
        }
        // Its own name, two ports of it, and the app's: those lead to all replicas, as names must.
        assert_eq!(told(&mut replicas).0, 6);
        let (hosts, ends) = told(&mut forks);
        assert!(hosts <= 6 && ends <= 5, "{hosts} names, {ends} ends of {count} forks");
        assert_eq!(told(&mut forks), (0, 0), "once");
    }
}

#[test]
fn a_drain_of_many_is_one_change_and_ends_by_itself() {
    let mut registry = many(1000, true);
    told(&mut registry);
    let keys: Vec<Key> = registry.keys().collect();
    let drained = Event::Drained { keys: keys.clone(), until_ms: 5000 };
    assert_eq!(registry.apply(1000, drained), [Effect::Routes]);
    assert_eq!((told(&mut registry).1, registry.next_drain_end()), (0, Some(5000)));
    let again = Event::Drained { keys: keys[..1].to_vec(), until_ms: 9000 };
    assert_eq!(registry.apply(2000, again), [], "it is out of the routes already");
    assert_eq!(registry.apply(4999, Event::Tick), []);
    assert_eq!(registry.apply(5000, Event::Tick), [Effect::Routes]);
    assert!(told(&mut registry).1 > 999);
    assert_eq!(registry.next_drain_end(), Some(9000), "the one that was drained again stays out");
}

#[test]
fn a_dead_process_is_named_nowhere() {
    let mut registry = registry();
    let file = "shop-k3f9.80.sock";
    let named = |registry: &Registry| {
        let instance = registry.instances.get(&key()).unwrap();
        let owner = instance.listeners.get(file).and_then(|listener| listener.pid);
        (instance.pids.contains(&7), owner)
    };
    // Another listener keeps the instance, and a process that inherited the socket keeps this one.
    see(&mut registry, "shop-k3f9.90.sock", LISTENS);
    registry.apply(1000, Event::Told { key: key(), pid: 7, file: Some(file.into()) });
    see(&mut registry, file, LISTENS);
    assert_eq!(named(&registry), (true, Some(7)));
    registry.apply(1000, Event::ProcessExited { pid: 7 });
    see(&mut registry, file, LISTENS);
    assert_eq!(named(&registry), (false, None), "it listened");
    // It said that it would listen, and ended: whoever is seen there next is another process.
    see(&mut registry, file, FileState::Gone);
    registry.apply(1000, Event::Told { key: key(), pid: 7, file: Some(file.into()) });
    registry.apply(1000, Event::ProcessExited { pid: 7 });
    see(&mut registry, file, FileState::Socket { inode: 8, accepting: true });
    assert_eq!(named(&registry), (false, None), "it was about to listen");
}

/// `agentfs stop X && agentfs wrap … --instance X`: the new program is routed at once.
#[test]
fn a_name_taken_again_ends_the_drain_of_its_predecessor() {
    let mut registry = registry();
    let drain = |registry: &mut Registry| {
        registry.apply(1000, Event::Drained { keys: vec![key()], until_ms: 9000 });
        assert_eq!(registry.next_drain_end(), Some(9000));
    };
    see(&mut registry, "shop-k3f9.json", companion("k3f9", 7, "/main"));
    see(&mut registry, "shop-k3f9.80.sock", LISTENS);
    drain(&mut registry);
    // The same companion once more says nothing new.
    see(&mut registry, "shop-k3f9.json", companion("k3f9", 7, "/main"));
    assert_eq!(registry.next_drain_end(), Some(9000));
    told(&mut registry);
    see(&mut registry, "shop-k3f9.json", companion("k3f9", 70, "/main"));
    see(&mut registry, "shop-k3f9.80.sock", FileState::Socket { inode: 8, accepting: true });
    assert_eq!(registry.next_drain_end(), None);
    assert!(told(&mut registry).1 > 0, "it is routed");
}

/// "`APP.localhost` is the instance `main` and its copies of the same command": as `wrap` names them, also of a command
/// that joined `main` later. `--new` makes something else, and a copy with another face does not answer in place of it.
#[test]
fn copies_that_wrap_named_share_the_name_where_they_have_the_same_face() {
    let mut registry = registry();
    let instances =
        [("main", "api", false), ("main-2", "web", false), ("main-3", "api", false), ("main-4", "web", true)];
    for (number, (name, command, closed)) in instances.into_iter().enumerate() {
        let file = name.replace('-', "_");
        let FileState::Companion { mut companion, written_ms } =
            companion(name, 10 + u32::try_from(number).unwrap(), "/main")
        else {
            panic!("not a companion")
        };
        companion.command = vec![command.into()];
        companion.stem = Some("main".into());
        companion.closed = closed;
        see(&mut registry, &format!("shop-{file}.json"), FileState::Companion { companion, written_ms });
        let ports: &[u16] = match name {
            "main" => &[5173, 9000],
            "main-3" => &[9000],
            _ => &[5173],
        };
        for (inode, port) in (1..).zip(ports) {
            let state = FileState::Socket { inode, accepting: true };
            see(&mut registry, &format!("shop-{file}.{port}.sock"), state);
        }
    }
    let ends = |registry: &Registry, host: &str| {
        let route = registry.routes().into_iter().find(|route| route.host == host).unwrap();
        route.ends.iter().map(|end| format!("{}:{}", end.instance, end.port)).collect::<Vec<_>>()
    };
    assert_eq!(ends(&registry, "shop.localhost"), ["main:5173", "main-2:5173"]);
    assert_eq!(ends(&registry, "9000.shop.localhost"), ["main:9000", "main-3:9000"]);
    for port in [5173, 9000] {
        see(&mut registry, &format!("shop-main.{port}.sock"), FileState::Gone);
    }
    see(&mut registry, "shop-main_2.5173.sock", FileState::Gone);
    assert_eq!(ends(&registry, "shop.localhost"), ["main-3:9000"]);
}
