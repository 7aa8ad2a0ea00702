//! The rules of the table, one by one.
use super::*;
use crate::upstream::target::Target;

fn entry(host: &str, wildcard: bool, sockets: &[&str]) -> Entry {
    let upstreams = sockets.iter().map(|path| {
        Arc::new(Upstream::new(Target::Unix(path.into()), "shop".to_owned(), "main".to_owned(), 80))
    });
    Entry { wildcard, upstreams: upstreams.collect(), ..Entry::new(host.to_owned()) }
}

fn found(table: &Table, host: &str) -> String {
    match table.lookup(host) {
        Lookup::Found(route) => route.entry.host.clone(),
        other => format!("{other:?}"),
    }
}

#[test]
fn names_match_as_the_rules_say() {
    let table = Table::new(
        vec![
            entry("shop.localhost", false, &["/a"]),
            entry("cart.shop.localhost", false, &["/b"]),
            entry("wild.localhost", true, &["/c"]),
            entry("exact.wild.localhost", false, &["/d"]),
            entry("deep.wild.localhost", true, &["/e"]),
            entry("by-hand.example", false, &["/f"]),
        ],
        4280,
    );
    for (host, expected) in [
        ("shop.localhost", "shop.localhost"),
        ("shop.localhost:4280", "shop.localhost"),
        ("shop.localhost:", "shop.localhost"),
        ("SHOP.LocalHost.", "shop.localhost"),
        ("shop.localhost.:80", "shop.localhost"),
        ("cart.shop.localhost", "cart.shop.localhost"),
        ("other.shop.localhost", "Unknown"),
        ("wild.localhost", "wild.localhost"),
        ("a.b.wild.localhost", "wild.localhost"),
        ("exact.wild.localhost", "exact.wild.localhost"),
        ("x.exact.wild.localhost", "wild.localhost"),
        ("x.deep.wild.localhost", "deep.wild.localhost"),
        ("by-hand.example", "by-hand.example"),
        ("evil-shop.localhost", "Unknown"),
        ("shop.localhost.evil.com", "Foreign"),
        ("example.com", "Foreign"),
        ("127.0.0.1:80", "Foreign"),
        ("[::1]:80", "Foreign"),
        ("2130706433", "Foreign"),
        ("agentfs.localhost", "Control"),
        ("localhost:80", "Index"),
        ("shop.localhost..", "Unknown_"),
        ("", "Invalid"),
        ("a b", "Invalid"),
        ("user@shop.localhost", "Invalid"),
        ("shop.localhost/x", "Invalid"),
        ("shop.localhost,evil", "Invalid"),
        ("shop.localhost:8x", "Invalid"),
        ("shop.localhost:80:80", "Invalid"),
        ("[::1]x", "Invalid"),
        ("[::1", "Invalid"),
    ] {
        if expected == "Unknown_" {
            assert!(!found(&table, host).contains("shop"), "{host}");
        } else {
            assert_eq!(found(&table, host), expected, "{host}");
        }
    }
}

#[test]
fn a_table_with_changes_shares_the_rest() {
    let table =
        Table::new(vec![entry("a.localhost", false, &["/a"]), entry("b.localhost", false, &["/b"])], 80);
    let wild = entry("w.localhost", true, &["/w"]);
    let changes = vec![("B.localhost.".to_owned(), None), ("w.localhost".to_owned(), Some(wild))];
    let changed = table.with_https(Some(443)).with(changes);
    for (host, expected) in
        [("a.localhost", "a.localhost"), ("b.localhost", "Unknown"), ("x.w.localhost", "w.localhost")]
    {
        assert_eq!(found(&changed, host), expected, "{host}");
    }
    assert_eq!(changed.url("a.localhost"), "https://a.localhost");
    let again = changed.with(vec![("w.localhost".to_owned(), None)]);
    let route = |table: &Table| match table.lookup("a.localhost") {
        Lookup::Found(route) => route,
        other => panic!("{other:?}"),
    };
    assert!(Arc::ptr_eq(&route(&changed), &route(&again)));
    assert_eq!(found(&again, "x.w.localhost"), "Unknown");
}

#[test]
fn round_robin_prefers_those_that_answer() {
    let table = Table::new(vec![entry("a.localhost", false, &["/1", "/2", "/3"])], 80);
    let Lookup::Found(route) = table.lookup("a.localhost") else { panic!("not found") };
    let firsts: Vec<_> = (0..4).map(|_| route.candidates().next().expect("three").socket.clone()).collect();
    assert_eq!(firsts[0], firsts[3]);
    assert_ne!(firsts[0], firsts[1]);
    route.entry.upstreams[0].set_refused(true);
    for _ in 0..6 {
        let order: Vec<_> = route.candidates().map(|upstream| upstream.socket.clone()).collect();
        assert_eq!(order.len(), 3);
        assert_eq!(order[2], Target::Unix("/1".into()));
    }
}

/// The order of each of the next picks, as numbers of the sockets.
fn orders(route: &Route, picks: usize) -> Vec<Vec<usize>> {
    let number = |upstream: &Arc<Upstream>| {
        route.entry.upstreams.iter().position(|other| Arc::ptr_eq(other, upstream)).unwrap()
    };
    (0..picks).map(|_| route.candidates().map(number).collect()).collect()
}

fn route(policy: Policy, sockets: &[&str]) -> Route {
    Route::new(Entry { policy, ..entry("a.localhost", false, sockets) })
}

#[test]
fn each_policy_has_its_order() {
    let all = ["/0", "/1", "/2"];
    assert_eq!(orders(&route(Policy::First, &all), 2), [[0, 1, 2], [0, 1, 2]]);
    let turns = [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]];
    assert_eq!(orders(&route(Policy::RoundRobin, &all), 4), turns);
    let two = [[0, 1], [1, 0], [0, 1]];
    assert_eq!(orders(&route(Policy::RoundRobin, &all[..2]), 3), two);
    // With equal loads the turn decides, else the load does, whatever the turn.
    let least = route(Policy::LeastConnections, &all);
    assert_eq!(orders(&least, 4), turns);
    let _two = [least.entry.upstreams[0].busy(), least.entry.upstreams[0].busy()];
    let _one = least.entry.upstreams[1].busy();
    assert_eq!(orders(&least, 4), [[2, 0, 1]; 4]);
    let _more = [least.entry.upstreams[2].busy(), least.entry.upstreams[2].busy()];
    assert_eq!(orders(&least, 3), [[1, 2, 0]; 3]);
    // Two of three are as good: the next in turn.
    let _as_many = least.entry.upstreams[1].busy();
    let firsts: Vec<usize> = orders(&least, 3).iter().map(|order| order[0]).collect();
    assert_eq!(firsts, [2, 0, 1]);
}

#[test]
fn where_none_answers_the_order_is_that_of_the_table() {
    for policy in [Policy::First, Policy::RoundRobin, Policy::LeastConnections] {
        let refusing = route(policy, &["/0", "/1"]);
        refusing.entry.upstreams.iter().for_each(|upstream| upstream.set_refused(true));
        assert_eq!(orders(&refusing, 2), [[0, 1], [0, 1]]);
        assert_eq!(orders(&route(policy, &[]), 2), [[0; 0]; 2]);
    }
}

/// Whatever somebody adds by hand: an address of an interface is not a name of ours.
#[test]
fn addresses_are_never_names() {
    let table = Table::new(
        vec![entry("127.0.0.1", false, &["/a"]), entry("[::1]", false, &["/b"]), entry("1", true, &["/c"])],
        80,
    );
    for host in ["127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:80", "1", "127.1"] {
        assert_eq!(found(&table, host), "Foreign", "{host}");
    }
    assert!(matches!(table.lookup("a.1"), Lookup::Found(_)));
}

#[test]
fn links_lead_to_the_port_for_tls_where_there_is_one() {
    for (https, port, secure, expected) in [
        (None, 80, false, "http://a.localhost"),
        (None, 4280, false, "http://a.localhost:4280"),
        (Some(443), 80, true, "https://a.localhost"),
        (Some(4443), 80, true, "https://a.localhost:4443"),
    ] {
        let table = Table::new(Vec::new(), port).with_https(https);
        assert_eq!((table.has_https(), table.url("a.localhost").as_str()), (secure, expected));
    }
}

#[test]
fn a_pick_that_was_made_stays() {
    let table = Table::new(vec![entry("shop.localhost", false, &["/a", "/b", "/c"])], 80);
    let Lookup::Found(route) = table.lookup("shop.localhost") else { panic!("no route") };
    let picked = &route.entry.upstreams[1];
    for _ in 0..4 {
        let order: Vec<_> = route.candidates_after(Some(picked)).collect();
        assert!(Arc::ptr_eq(order[0], picked) && order.len() == 3);
    }
    let other = entry("other.localhost", false, &["/b"]);
    assert_eq!(route.candidates_after(other.upstreams.first()).count(), 3);
}

#[test]
fn whether_any_name_hands_over_is_known() {
    let handle = TableHandle::new(Table::new(vec![entry("a.localhost", false, &["/a"])], 80));
    assert!(!handle.hands_over());
    let handed = Entry { handoff: Some(Arc::default()), ..entry("b.localhost", false, &["/b"]) };
    handle.store(Table::new(vec![entry("a.localhost", false, &["/a"]), handed], 80));
    assert!(handle.hands_over());
    handle.store(Table::new(Vec::new(), 80));
    assert!(!handle.hands_over());
}

#[test]
fn everybody_who_waits_for_a_table_is_woken() {
    use std::sync::atomic::AtomicU32;
    use std::task::Wake;
    #[derive(Default)]
    struct Woken(AtomicU32);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let handle = TableHandle::new(Table::new(Vec::new(), 80));
    let seen = handle.load();
    let waiting: [Arc<Woken>; 3] = std::array::from_fn(|_| Arc::default());
    for woken in &waiting {
        let waker = Waker::from(Arc::clone(woken));
        let mut context = Context::from_waker(&waker);
        // Polled for another reason as well: woken once all the same.
        assert!(handle.poll_other(&seen, &mut context).is_pending());
        assert!(handle.poll_other(&seen, &mut context).is_pending());
    }
    handle.store(Table::new(Vec::new(), 80));
    assert!(waiting.iter().all(|woken| woken.0.load(Ordering::Relaxed) == 1));
    assert!(handle.poll_other(&seen, &mut Context::from_waker(Waker::noop())).is_ready());
}
