//! What is told of the registry: lists, names, owners, what ended.
use super::*;
use agentfs_wire::control::{InstanceInfo, Policy, RouteParams};

fn named(instance: &str) -> Key {
    Key { app: "shop".into(), instance: instance.into() }
}

fn by_hand(host: &str, target: &str) -> RouteParams {
    RouteParams { host: host.into(), target: target.into(), ..RouteParams::default() }
}

fn add(registry: &mut Registry, params: &RouteParams) -> Vec<Effect> {
    registry.apply(1, Event::RouteAdded { route: HandRoute::parse(params).unwrap() })
}

/// Ends an instance: its socket goes, its process ends, and a search finds no other process of it.
fn end(registry: &mut Registry, instance: &str, pid: u32) {
    let file = instance.replace('-', "_");
    see(registry, &format!("shop-{file}.80.sock"), FileState::Gone);
    registry.apply(1000, Event::ProcessExited { pid });
    registry.apply(1000, Event::Surveyed { asked: vec![named(instance)], living: Vec::new() });
}

fn start(registry: &mut Registry, instance: &str, pid: u32, folder: &str) {
    let file = instance.replace('-', "_");
    see(registry, &format!("shop-{file}.json"), companion(instance, pid, folder));
    registry.apply(1000, Event::ProcessLives { pid });
    see(registry, &format!("shop-{file}.80.sock"), LISTENS);
}

fn list(registry: &Registry) -> Vec<InstanceInfo> {
    registry.snapshot(0, UrlStyle { http_port: 80, https_port: None }, &|_| (0, 0.0)).instances
}

fn ends(registry: &Registry, host: &str) -> Vec<String> {
    let route = registry.route_of(host);
    route.iter().flat_map(|route| &route.ends).map(|end| end.instance.clone()).collect()
}

#[test]
fn routes_by_hand_are_told_as_they_were_given() {
    let mut registry = registry();
    see(&mut registry, "shop-k3f9.80.sock", LISTENS);
    let params =
        RouteParams { wildcard: true, rewrite_host: true, ..by_hand("a.localhost", "127.0.0.1:3000") };
    assert!(add(&mut registry, &params).contains(&Effect::Routes));
    let policy = RouteParams { policy: Policy::First, handoff: true, ..by_hand("b.localhost", "shop") };
    add(&mut registry, &policy);
    add(&mut registry, &by_hand("c.localhost", "blog/one"));
    let route = |host: &str| registry.route_of(host).unwrap();
    assert!(route("a.localhost").wildcard && route("a.localhost").rewrite_host);
    assert!(!route("b.localhost").wildcard && !route("b.localhost").rewrite_host);
    assert_eq!((route("b.localhost").policy, route("b.localhost").handoff), (Policy::First, true));
    assert_eq!(ends(&registry, "b.localhost"), ["k3f9"]);
    assert!(route("a.localhost").dead.is_none() && route("b.localhost").dead.is_none());
    assert_eq!(route("c.localhost").dead.map(|dead| dead.socket), Some(String::new()), "never seen");
    let infos = registry.route_infos(UrlStyle { http_port: 80, https_port: None });
    let hosts: Vec<_> = infos.iter().map(|info| info.host.as_str()).collect();
    assert_eq!((hosts, registry.hand_routes()), (vec!["a.localhost", "b.localhost", "c.localhost"], 3));
    assert!(registry.has_hand_route("a.localhost") && !registry.has_hand_route("d.localhost"));
    let owner = |host: &str| registry.owner_of(host);
    assert_eq!(owner("a.localhost").as_deref(), Some("127.0.0.1:3000 (by hand)"));
    assert_eq!(owner("c.localhost").as_deref(), Some("blog/one (by hand)"), "even if it leads nowhere");
    assert_eq!(owner("k3f9.shop.localhost").as_deref(), Some("shop/k3f9"));
    assert_eq!(owner("d.localhost"), None);
    let removed = |host: &str| Event::RouteRemoved { host: host.into() };
    assert_eq!(registry.apply(2, removed("d.localhost")), []);
    let effects = registry.apply(2, removed("a.localhost"));
    assert_eq!((kinds(&effects), effects.last()), (vec![EventKind::RouteRemoved], Some(&Effect::Routes)));
    assert_eq!(registry.hand_routes(), 2);
}

#[test]
fn a_name_that_leads_nowhere_has_no_owner() {
    let mut registry = registry();
    see(&mut registry, "shop-main.json", companion("main", 7, "/main"));
    assert_eq!(registry.owner_of("main.shop.localhost"), None);
    assert_eq!(registry.route_of("shop.localhost").unwrap().starting, Some(500));
    assert_eq!(registry.route_of("shop.localhost").unwrap().title, "shop/main");
}

#[test]
fn instances_and_listeners_are_counted() {
    let mut registry = registry();
    assert_eq!(registry.counts(), (0, 0));
    assert!(registry.forks("shop").is_empty());
    let bound = FileState::Socket { inode: 3, accepting: false };
    for (file, state) in [
        ("shop-k3f9.80.sock", FileState::Socket { inode: 1, accepting: true }),
        ("shop-k3f9.81.sock", FileState::Socket { inode: 2, accepting: true }),
        ("shop-k3f9.82.sock", bound),
    ] {
        see(&mut registry, file, state);
    }
    assert_eq!((registry.counts(), registry.forks("shop")), ((1, 2), vec!["shop/k3f9".to_owned()]));
    assert_eq!(registry.only_fork("shop"), Some(key()));
    see(&mut registry, "shop-two.80.sock", LISTENS);
    assert_eq!((registry.counts(), registry.forks("shop").len()), ((2, 3), 2));
    assert!(registry.only_fork("shop").is_none());
    assert!(registry.forks("sho").is_empty() && registry.forks("shoq").is_empty());
    assert!(registry.knows(&key()) && !registry.knows(&named("three")));
    let accepting = |file: &str, inode| registry.is_accepting(file, inode);
    assert_eq!(accepting("shop-k3f9.80.sock", 1), Some(true));
    assert_eq!(accepting("shop-k3f9.82.sock", 3), Some(false));
    assert_eq!([accepting("shop-k3f9.80.sock", 2), accepting("shop-k3f9.83.sock", 1)], [None; 2]);
    assert!(registry.has_living("shop-k3f9.99.sock") && !registry.has_living("shop-three.80.sock"));
    assert!(registry.is_living(&key()) && !registry.is_living(&named("three")));
}

#[test]
fn lives_of_one_name_are_told_apart() {
    let mut registry = registry();
    see(&mut registry, "shop-k3f9.80.sock", LISTENS);
    assert_eq!(registry.life_of(&key()), None);
    see(&mut registry, "shop-k3f9.json", companion("k3f9", 7, "/main"));
    assert_eq!(registry.life_of(&key()), Some((7, 500)));
    assert_eq!(registry.folders().collect::<Vec<_>>(), [(key(), "/main".into())]);
}

#[test]
fn the_files_that_are_there_are_known() {
    let mut registry = registry();
    let link = FileState::Link { file: Some("shop-k3f9.80.sock".into()), end: Box::new(LISTENS) };
    for (file, state) in [
        ("shop-k3f9.80.sock", LISTENS),
        ("shop-k3f9.80.group", FileState::Mark),
        ("shop-k3f9.sock", link),
        ("shop-k3f9.json", companion("k3f9", 7, "/main")),
    ] {
        see(&mut registry, file, state);
    }
    let files = |registry: &Registry| registry.files().into_iter().collect::<Vec<_>>();
    assert_eq!(
        files(&registry),
        ["shop-k3f9.80.group", "shop-k3f9.80.sock", "shop-k3f9.json", "shop-k3f9.sock"]
    );
    see(&mut registry, "shop-k3f9.json", FileState::Gone);
    see(&mut registry, "shop-k3f9.80.group", FileState::Gone);
    assert_eq!(files(&registry), ["shop-k3f9.80.sock", "shop-k3f9.sock"]);
}

#[test]
fn a_list_has_the_face_first_then_the_order_of_start() {
    let mut registry = registry();
    for port in [9003, 9002, 9001] {
        let effects = see(&mut registry, &format!("shop-k3f9.{port}.l.sock"), LISTENS);
        assert!(kinds(&effects).contains(&EventKind::ListenerUp));
    }
    see(&mut registry, "blog-one.sock", LISTENS);
    let listed = list(&registry);
    let listeners: Vec<_> = listed[1]
        .listeners
        .iter()
        .map(|listener| (listener.address.as_str(), listener.main, listener.url.clone().unwrap_or_default()))
        .collect();
    assert_eq!(
        listeners,
        [
            ("127.0.0.1:9001", true, "http://k3f9.shop.localhost".to_owned()),
            ("127.0.0.1:9003", false, "http://9003.k3f9.shop.localhost".to_owned()),
            ("127.0.0.1:9002", false, "http://9002.k3f9.shop.localhost".to_owned()),
        ]
    );
    let made = &listed[0].listeners[0];
    assert_eq!((made.address.as_str(), made.url.as_deref()), ("", Some("http://one.blog.localhost")));
    assert_eq!(registry.listener_host_of(&named("gone"), "x"), "gone.shop.localhost");
}

#[test]
fn what_listens_is_published_with_its_address() {
    let address = |file: &str| {
        let effects = see(&mut registry(), file, LISTENS);
        effects.into_iter().find_map(|effect| match effect {
            Effect::Publish(what) => match *what {
                agentfs_wire::event::What::ListenerUp(listener) => Some(listener.address),
                _ => None,
            },
            _ => None,
        })
    };
    assert_eq!(address("shop-k3f9.80.sock"), Some(Some("0.0.0.0:80".to_owned())));
    assert_eq!(address("shop-k3f9.sock"), Some(None));
}

#[test]
fn wrap_is_a_process_of_the_instance_where_it_became_the_program() {
    for (child_pid, pids) in [(0, vec![8]), (8, vec![8]), (7, vec![7, 8])] {
        let mut registry = registry();
        let FileState::Companion { mut companion, written_ms } = companion("k3f9", 7, "/main") else {
            unreachable!()
        };
        companion.child_pid = child_pid;
        see(&mut registry, "shop-k3f9.json", FileState::Companion { companion, written_ms });
        for pid in [7, 8] {
            registry.apply(1, Event::Told { key: key(), pid, file: None });
        }
        assert_eq!(list(&registry)[0].pids, pids, "{child_pid}");
    }
}

#[test]
fn a_listener_belongs_to_the_process_that_said_so() {
    let mut registry = registry();
    let file = "shop-k3f9.80.sock";
    see(&mut registry, file, LISTENS);
    let told = |registry: &mut Registry, pid| {
        registry.apply(1, Event::Told { key: key(), pid, file: Some(file.into()) })
    };
    assert!(told(&mut registry, 7).contains(&Effect::Routes));
    assert_eq!(list(&registry)[0].listeners[0].pid, Some(7));
    assert_eq!(told(&mut registry, 7), [], "the same again");
    assert!(told(&mut registry, 8).contains(&Effect::Routes));
    assert_eq!(registry.route_of("80.k3f9.shop.localhost").unwrap().owner, Some(8));
}

#[test]
fn files_of_nobody_open_nothing() {
    let mut registry = registry();
    let file = "shop-k3f9.80.sock";
    assert_eq!(see(&mut registry, file, FileState::Gone), []);
    assert_eq!(see(&mut registry, file, FileState::Stale), [Effect::RemoveStale { file: file.into() }]);
    assert!(!registry.knows(&key()));
}

#[test]
fn a_link_to_a_listener_that_is_bound_anew_stays() {
    let mut registry = registry();
    see(&mut registry, "shop-k3f9.80.sock", LISTENS);
    let bound = FileState::Socket { inode: 8, accepting: false };
    let effects = see(&mut registry, "shop-k3f9.80.sock", bound);
    assert!(!effects.contains(&Effect::RemoveLink { file: "shop-k3f9.sock".into() }), "{effects:?}");
}

#[test]
fn sockets_by_hand_of_one_moment_share_the_name() {
    let mut registry = registry();
    for instance in ["two", "one"] {
        registry.apply(1000, Event::Told { key: named(instance), pid: 7, file: None });
    }
    for instance in ["one", "two"] {
        see(&mut registry, &format!("shop-{instance}.80.sock"), LISTENS);
    }
    assert_eq!(ends(&registry, "shop.localhost"), ["two", "one"], "in the order of first sight");
    let title = |registry: &Registry| registry.route_of("shop.localhost").unwrap().title;
    assert_eq!(title(&registry), "shop/two");
    registry.apply(1000, Event::ProcessExited { pid: 7 });
    see(&mut registry, "shop-two.80.sock", FileState::Gone);
    assert_eq!(title(&registry), "shop/one", "one that lives has a better claim");
}

#[test]
fn what_ended_is_remembered_by_its_name() {
    let mut registry = registry();
    for (instance, pid) in [("main", 7), ("fork", 8)] {
        start(&mut registry, instance, pid, if instance == "main" { "/main" } else { "/fork" });
    }
    add(&mut registry, &by_hand("hand.localhost", "shop/fork"));
    told(&mut registry);
    end(&mut registry, "main", 7);
    let changes = registry.take_changes();
    assert!(changes.iter().any(|(host, route)| host == "80.main.shop.localhost" && route.is_none()));
    let app = |registry: &Registry| registry.route_of("shop.localhost").unwrap();
    let socket = |route: &Route| route.dead.as_ref().map(|dead| dead.socket.clone()).unwrap_or_default();
    assert!(app(&registry).forks_only);
    assert_eq!(socket(&app(&registry)), "/run/shop-main.80.sock");
    // It restarts its listener.
    see(&mut registry, "shop-fork.80.sock", FileState::Gone);
    assert_eq!(socket(&registry.route_of("fork.shop.localhost").unwrap()), "/run/shop-fork.80.sock");
    end(&mut registry, "fork", 8);
    for instance in ["main", "fork"] {
        let route = registry.route_of(&format!("{instance}.shop.localhost")).unwrap();
        assert_eq!(socket(&route), format!("/run/shop-{instance}.80.sock"));
    }
    assert!(!app(&registry).forks_only, "nothing is running");
    assert_eq!(socket(&registry.route_of("hand.localhost").unwrap()), "/run/shop-fork.80.sock");
    // The same name once more is one memory.
    start(&mut registry, "main", 9, "/main");
    end(&mut registry, "main", 9);
    let remembered: Vec<_> = registry.dead.iter().map(|dead| dead.key.instance.as_str()).collect();
    assert_eq!(remembered, ["fork", "main"]);
}

#[test]
fn a_fork_that_ended_leaves_the_name_of_the_app_alone() {
    let mut registry = registry();
    start(&mut registry, "fork", 8, "/fork");
    assert!(registry.route_of("shop.localhost").unwrap().forks_only);
    end(&mut registry, "fork", 8);
    assert_eq!(registry.route_of("shop.localhost"), None);
}

#[test]
fn an_app_that_ended_leaves_its_name_to_the_next_program() {
    let mut registry = registry();
    start(&mut registry, "main", 7, "/main");
    end(&mut registry, "main", 7);
    let FileState::Companion { mut companion, written_ms } = companion("main-2", 8, "/other") else {
        unreachable!()
    };
    companion.fork = false;
    see(&mut registry, "shop-main_2.json", FileState::Companion { companion, written_ms });
    see(&mut registry, "shop-main_2.80.sock", LISTENS);
    assert_eq!(ends(&registry, "shop.localhost"), ["main-2"]);
    // `main` comes back: a copy of another program does not share its name, nor takes it over.
    start(&mut registry, "main", 9, "/main");
    assert_eq!(ends(&registry, "shop.localhost"), ["main"]);
    end(&mut registry, "main", 9);
    assert_eq!(ends(&registry, "shop.localhost"), [""; 0]);
}

#[test]
fn what_is_drained_is_not_undecided() {
    let mut registry = registry();
    for port in [9000, 9001] {
        see(&mut registry, &format!("shop-k3f9.{port}.sock"), LISTENS);
    }
    registry.apply(1000, Event::Drained { keys: vec![key()], until_ms: 5000 });
    let route = registry.route_of("k3f9.shop.localhost").unwrap();
    assert!(route.ends.is_empty() && !route.undecided);
    registry.apply(4999, Event::Drained { keys: vec![key()], until_ms: 6000 });
    assert_eq!(registry.next_drain_end(), Some(6000));
    assert_eq!(registry.apply(5999, Event::Tick), []);
    assert_eq!(registry.apply(6000, Event::Tick), [Effect::Routes]);
    assert!(registry.route_of("k3f9.shop.localhost").unwrap().undecided);
}

#[test]
fn hosts_and_targets_have_limits() {
    let host = |bytes: usize| {
        let rest = bytes - ".localhost".len();
        let labels = "a.".repeat(rest / 2) + if rest % 2 == 1 { "b" } else { "" };
        format!("{}.localhost", labels.trim_end_matches('.'))
    };
    assert_eq!(host(253).len(), 253);
    assert!(HandRoute::parse(&by_hand(&host(253), "shop")).is_ok());
    assert!(HandRoute::parse(&by_hand(&host(255), "shop")).is_err());
    for target in ["./a", "../a", "a.sock"] {
        let refused = HandRoute::parse(&by_hand("a.localhost", target)).unwrap_err();
        assert!(refused.message.contains("absolute"), "{refused}");
    }
}

#[test]
fn labels_of_digits_are_ports_only_as_they_are_written() {
    let mut registry = registry();
    see(&mut registry, "shop-k3f9.80.sock", LISTENS);
    for (label, known) in [("80", true), ("080", false), ("81", false), ("+80", false), ("0", false)] {
        for host in [format!("{label}.shop.localhost"), format!("{label}.k3f9.shop.localhost")] {
            assert_eq!(registry.route_of(&host).is_some(), known, "{host}");
        }
    }
}

#[test]
fn a_listener_is_renamed_where_another_is_the_face() {
    let mut registry = registry();
    let renamed = |effects: Vec<Effect>| {
        kinds(&effects).iter().filter(|kind| **kind == EventKind::ListenerRenamed).count()
    };
    for (file, state, count) in [
        ("shop-k3f9.9000.sock", LISTENS, 0),
        ("shop-k3f9.9001.sock", LISTENS, 0),
        ("shop-k3f9.3000.sock", LISTENS, 1),
        ("shop-k3f9.3000.sock", FileState::Gone, 1),
        ("shop-k3f9.sock", LISTENS, 1),
        ("shop-k3f9.5173.sock", LISTENS, 0),
        ("shop-k3f9.9000.sock", FileState::Gone, 0),
        ("shop-k3f9.sock", FileState::Gone, 1),
    ] {
        assert_eq!(renamed(see(&mut registry, file, state)), count, "{file}");
    }
}

#[test]
fn a_drained_instance_that_ends_leaves_the_others_drained() {
    let mut registry = registry();
    start(&mut registry, "main", 7, "/main");
    start(&mut registry, "fork", 8, "/fork");
    for (instance, until_ms) in [("main", 5000), ("fork", 6000)] {
        registry.apply(1000, Event::Drained { keys: vec![named(instance)], until_ms });
    }
    end(&mut registry, "main", 7);
    assert_eq!(registry.next_drain_end(), Some(6000));
}
