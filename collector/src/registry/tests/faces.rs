//! Which listener of an instance has its name, and what is learned from answers.
use super::*;
use crate::limits::{FACE_FOLDERS, FACE_PORTS};
use agentfs_wire::limits::EPHEMERAL_FIRST;
use agentfs_wire::speaks::{FolderPorts, Speaks};

const HOST: &str = "k3f9.shop.localhost";

fn file(port: u16) -> String {
    format!("shop-k3f9.{port}.l.sock")
}

fn listening(ports: &[u16]) -> Registry {
    let mut registry = registry();
    for port in ports {
        see(&mut registry, &file(*port), LISTENS);
    }
    registry
}

fn speak(registry: &mut Registry, port: u16, speaks: Speaks) -> Vec<Effect> {
    registry.apply(2000, Event::Spoke { file: file(port), speaks })
}

/// The instance `k3f9` of `/main`, with the face that a person declared.
fn declare(registry: &mut Registry, main: Option<u16>) {
    let FileState::Companion { mut companion, written_ms } = companion("k3f9", 7, "/main") else {
        unreachable!()
    };
    companion.main = main;
    see(registry, "shop-k3f9.json", FileState::Companion { companion, written_ms });
}

/// The port that the name means: 0 for a socket made by hand.
fn face(registry: &Registry) -> Option<u16> {
    registry.route_of(HOST)?.ends.first().map(|end| end.port)
}

fn undecided(registry: &Registry) -> bool {
    registry.route_of(HOST).unwrap().undecided
}

fn starting(registry: &Registry) -> Option<u64> {
    registry.route_of(HOST).unwrap().starting
}

#[test]
fn the_face_is_guessed_by_its_port() {
    for (ports, expected) in [
        (&[9000, 8080, 5173][..], 5173),
        (&[5001, 5000], 5000),
        (&[9001, 9000], 9000),
        (&[5432, 9000], 9000),
        (&[EPHEMERAL_FIRST, EPHEMERAL_FIRST - 1], EPHEMERAL_FIRST - 1),
        (&[EPHEMERAL_FIRST, 9229], 9229),
    ] {
        assert_eq!(face(&listening(ports)), Some(expected), "{ports:?}");
        let reversed: Vec<u16> = ports.iter().rev().copied().collect();
        assert_eq!(face(&listening(&reversed)), Some(expected), "{reversed:?}");
    }
    for unlikely in
        [22, 25, 4369, 5005, 5678, 9222, 9229, 9239, 1433, 3306, 5432, 6379, 2181, EPHEMERAL_FIRST]
    {
        assert_eq!(face(&listening(&[unlikely, 30_000])), Some(30_000), "{unlikely}");
    }
    for likely in [21, 81, 5006, 9228, 9240, EPHEMERAL_FIRST - 1] {
        assert!(undecided(&listening(&[likely, 30_000])), "{likely}");
    }
}

#[test]
fn answers_tell_more_than_ports() {
    for (ports, port, speaks, expected) in [
        (&[3000, 9001][..], 9001, Speaks::Pages, Some(9001)),
        (&[3000, 9001], 3000, Speaks::NoPages, Some(9001)),
        (&[3000, 9001], 3000, Speaks::Other, Some(9001)),
        (&[3000, 9001], 9001, Speaks::Other, Some(3000)),
        (&[3000, 9001], 9001, Speaks::Http, Some(3000)),
        (&[9000], 9000, Speaks::Other, None),
        (&[9000], 9000, Speaks::NoPages, Some(9000)),
        (&[5432, 9222], 9222, Speaks::Http, Some(9222)),
        (&[5432, 9222], 5432, Speaks::NoPages, Some(5432)),
    ] {
        let mut registry = listening(ports);
        speak(&mut registry, port, speaks);
        assert_eq!(face(&registry), expected, "{ports:?}: {port} speaks {speaks:?}");
    }
}

#[test]
fn one_strange_answer_of_an_http_server_is_its_mistake() {
    let mut registry = listening(&[3000, 9001]);
    speak(&mut registry, 3000, Speaks::Http);
    speak(&mut registry, 3000, Speaks::Other);
    assert_eq!(face(&registry), Some(3000));
    // Another listener of that port says what it speaks itself.
    see(&mut registry, &file(3000), FileState::Gone);
    see(&mut registry, &file(3000), LISTENS);
    speak(&mut registry, 3000, Speaks::Other);
    assert_eq!(face(&registry), Some(9001));
    speak(&mut registry, 3000, Speaks::Pages);
    speak(&mut registry, 3000, Speaks::Other);
    assert_eq!(face(&registry), Some(3000));
}

#[test]
fn nobody_is_asked_where_it_is_clear() {
    for (ports, expected) in
        [(&[9000][..], false), (&[9000, 9001], true), (&[9000, 9001, 9002], true), (&[9000, 5432], false)]
    {
        assert_eq!(undecided(&listening(ports)), expected, "{ports:?}");
    }
    let mut registry = listening(&[9000, 9001]);
    speak(&mut registry, 9001, Speaks::Pages);
    assert!(!undecided(&registry), "one has pages");
    let mut registry = listening(&[9000, 9001]);
    see(&mut registry, "shop-k3f9.sock", LISTENS);
    assert!(!undecided(&registry) && face(&registry) == Some(0), "one was made by hand");
    let mut registry = listening(&[9000]);
    see(&mut registry, "shop-k3f9.9000.l6.sock", FileState::Socket { inode: 8, accepting: true });
    assert!(!undecided(&registry), "two families of one port");
    let mut registry = listening(&[9000, 9001]);
    declare(&mut registry, Some(9001));
    assert!(!undecided(&registry) && face(&registry) == Some(9001), "declared");
    assert_eq!(registry.route_of(HOST).unwrap().declared, Some(9001));
}

#[test]
fn a_declared_face_is_the_only_one() {
    let mut registry = listening(&[3000, 9001]);
    declare(&mut registry, Some(9001));
    speak(&mut registry, 9001, Speaks::Other);
    assert_eq!(face(&registry), Some(9001), "whatever it speaks");
    see(&mut registry, &file(9001), FileState::Gone);
    assert_eq!(face(&registry), None);
}

#[test]
fn a_face_with_pages_does_not_lend_its_name() {
    let mut registry = listening(&[3000, 9001]);
    declare(&mut registry, None);
    speak(&mut registry, 9001, Speaks::Pages);
    assert_eq!(face(&registry), Some(9001));
    see(&mut registry, &file(9001), FileState::Gone);
    assert_eq!(face(&registry), None, "it restarts");
    see(&mut registry, "shop-k3f9.sock", LISTENS);
    assert_eq!(face(&registry), Some(0), "what was made by hand comes first");
    see(&mut registry, "shop-k3f9.sock", FileState::Gone);
    see(&mut registry, &file(9001), LISTENS);
    assert_eq!(face(&registry), Some(9001));
    declare(&mut registry, Some(3000));
    assert_eq!(face(&registry), Some(3000), "somebody chose");
    see(&mut registry, &file(9001), FileState::Gone);
    assert_eq!(face(&registry), Some(3000));
    // A face without pages lends it.
    let mut registry = listening(&[3000, 9001]);
    see(&mut registry, &file(3000), FileState::Gone);
    assert_eq!(face(&registry), Some(9001));
}

#[test]
fn copies_with_an_ephemeral_face_are_alike() {
    let mut registry = registry();
    for (pid, (name, port)) in
        (10..).zip([("main", EPHEMERAL_FIRST), ("main_2", EPHEMERAL_FIRST + 1), ("main_3", 3000)])
    {
        see(&mut registry, &format!("shop-{name}.json"), companion(&name.replace('_', "-"), pid, "/main"));
        see(&mut registry, &format!("shop-{name}.{port}.sock"), LISTENS);
    }
    let route = registry.route_of("shop.localhost").unwrap();
    let ports: Vec<u16> = route.ends.iter().map(|end| end.port).collect();
    assert_eq!(ports, [EPHEMERAL_FIRST, EPHEMERAL_FIRST + 1]);
}

#[test]
fn a_name_tells_that_its_face_is_starting() {
    let mut registry = registry();
    declare(&mut registry, None);
    assert_eq!(starting(&registry), Some(500));
    see(&mut registry, &file(3000), LISTENS);
    assert_eq!(starting(&registry), None);
    see(&mut registry, &file(3000), FileState::Gone);
    assert_eq!(starting(&registry), None, "it restarts");
    // The declared face starts later than the rest.
    see(&mut registry, &file(3000), LISTENS);
    declare(&mut registry, Some(9001));
    assert_eq!(starting(&registry), Some(500));
    see(&mut registry, &file(9001), LISTENS);
    assert_eq!(starting(&registry), None);
    declare(&mut registry, Some(9002));
    see(&mut registry, &file(9001), FileState::Gone);
    assert_eq!(starting(&registry), None, "one that was declared has been there");
    // Nobody started it with us: it may listen or not.
    let mut registry = super::registry();
    see(&mut registry, &file(3000), FileState::Socket { inode: 7, accepting: false });
    assert_eq!(starting(&registry), None);
}

#[test]
fn a_face_that_listens_already_was_shown() {
    let mut registry = listening(&[3000]);
    declare(&mut registry, Some(3000));
    see(&mut registry, &file(3000), FileState::Gone);
    assert_eq!(starting(&registry), None);
}

#[test]
fn what_a_port_speaks_is_known_in_its_folder() {
    let mut registry = listening(&[3000, 9001]);
    declare(&mut registry, None);
    for (instance, folder) in [("near", "/main"), ("far", "/other")] {
        see(&mut registry, &format!("shop-{instance}.json"), companion(instance, 17, folder));
        for port in [3000, 9001] {
            see(&mut registry, &format!("shop-{instance}.{port}.sock"), LISTENS);
        }
    }
    let port = |registry: &Registry, instance: &str| {
        registry.route_of(&format!("{instance}.shop.localhost")).unwrap().ends[0].port
    };
    let effects = speak(&mut registry, 9001, Speaks::Pages);
    assert!(effects.contains(&Effect::StoreFaces));
    assert_eq!(
        [port(&registry, "k3f9"), port(&registry, "near"), port(&registry, "far")],
        [9001, 9001, 3000]
    );
    assert_eq!(speak(&mut registry, 9001, Speaks::Pages), [], "it is known");
    // What comes later knows it too, also after a restart of the collector.
    let stored: Vec<FolderPorts> = registry.learned_folders().cloned().collect();
    assert_eq!((stored.len(), &stored[0].ports), (1, &[(9001, Speaks::Pages)].into()));
    let mut registry = super::registry();
    assert_eq!(registry.apply(1, Event::Recalled { folders: stored }), []);
    for port in [3000, 9001] {
        see(&mut registry, &file(port), LISTENS);
    }
    assert_eq!(face(&registry), Some(3000));
    declare(&mut registry, None);
    assert_eq!(face(&registry), Some(9001));
}

#[test]
fn what_says_nothing_new_is_not_stored() {
    for (port, speaks, stored) in [
        (3000, Speaks::Http, false),
        (3000, Speaks::NoPages, true),
        (3000, Speaks::Other, true),
        (9229, Speaks::Http, true),
        (EPHEMERAL_FIRST - 1, Speaks::Pages, true),
        (EPHEMERAL_FIRST, Speaks::Pages, false),
    ] {
        let mut registry = listening(&[port]);
        declare(&mut registry, None);
        assert_eq!(
            speak(&mut registry, port, speaks).contains(&Effect::StoreFaces),
            stored,
            "{port} {speaks:?}"
        );
        assert_eq!(registry.learned_folders().count(), usize::from(stored), "{port} {speaks:?}");
    }
    // What was thought of it before is wrong.
    let mut registry = listening(&[3000]);
    declare(&mut registry, None);
    speak(&mut registry, 3000, Speaks::Other);
    assert!(speak(&mut registry, 3000, Speaks::Http).contains(&Effect::StoreFaces));
}

#[test]
fn what_is_learned_has_its_limits() {
    let mut faces = crate::registry::faces::Faces::default();
    let place = |number: usize| ("shop".to_owned(), std::path::PathBuf::from(format!("/{number}")));
    for number in 0..FACE_FOLDERS {
        assert!(faces.learn(1000 + number as u64, place(number), 80, Speaks::Pages));
    }
    // The first one is learned of again, so the second is the oldest.
    assert!(!faces.learn(9000, place(0), 80, Speaks::Pages));
    assert_eq!(faces.folders.len(), FACE_FOLDERS);
    assert!(faces.learn(9001, place(FACE_FOLDERS), 80, Speaks::Pages));
    assert_eq!(faces.folders.len(), FACE_FOLDERS);
    assert!(faces.folders.contains_key(&place(0)) && !faces.folders.contains_key(&place(1)));
    let ports = |from: usize| (from..).map(|port| u16::try_from(port).unwrap());
    for port in ports(81).take(FACE_PORTS - 1) {
        assert!(faces.learn(9002, place(0), port, Speaks::Http));
    }
    assert!(!faces.learn(9002, place(0), 7000, Speaks::Http), "no room");
    assert!(faces.learn(9002, place(0), 81, Speaks::Pages), "it has room");
    assert_eq!(faces.folders[&place(0)].ports.len(), FACE_PORTS);
    let some = faces.folders[&place(0)].clone();
    let many = (0..=FACE_FOLDERS).map(|number| FolderPorts { folder: place(number).1, ..some.clone() });
    let many = many.collect();
    assert_eq!(crate::registry::faces::Faces::of(many).folders.len(), FACE_FOLDERS);
}
