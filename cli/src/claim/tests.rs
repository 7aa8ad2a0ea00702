//! Claims in a run dir, without a collector.
use super::*;
use crate::checkout::AppName;
use crate::choice::Before;
use std::os::unix::net::UnixListener;

fn home() -> (tempfile::TempDir, Paths) {
    let home = tempfile::tempdir_in("/tmp").unwrap();
    let paths = Paths::new(home.path(), 0);
    fs::create_dir(&paths.run).unwrap();
    (home, paths)
}

fn place(folder: &str) -> Place {
    Place { directory: folder.into(), checkout: None, app: AppName::default() }
}

fn request(folder: &str) -> Request<'_> {
    Request {
        mode: Mode::Usual,
        given: None,
        stem: "blue",
        folder: Path::new(folder),
        inside: None,
        own: &[],
        before: Before::default(),
    }
}

fn wanted(folder: &str, command: &str, wrap_pid: u32) -> Companion {
    Companion {
        app: "shop".to_owned(),
        directory: folder.into(),
        command: vec![command.to_owned()],
        wrap_pid,
        ..Companion::default()
    }
}

fn take(paths: &Paths, folder: &str, command: &str, wrap_pid: u32) -> Claim {
    claim(paths, &place(folder), &request(folder), &wanted(folder, command, wrap_pid)).unwrap()
}

/// The name that a living process gets for `command` in `/w`.
fn name(paths: &Paths, command: &str) -> String {
    take(paths, "/w", command, parent()).companion.instance
}

/// A process that lives as long as we do, and is not us: our own pid never counts as another copy.
fn parent() -> u32 {
    u32::try_from(nix::unistd::getppid().as_raw()).unwrap()
}

fn read(path: &Path) -> Companion {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn commands_of_one_folder_share_an_instance_and_the_same_one_is_a_copy() {
    let (_home, paths) = home();
    assert_eq!(name(&paths, "api"), "blue");
    let path = paths.run.join("shop-blue.json");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it may have a secret");
    assert_eq!(name(&paths, "front"), "blue");
    assert_eq!(read(&path).commands.len(), 2);
    assert_eq!((name(&paths, "api"), name(&paths, "api")), ("blue-2".to_owned(), "blue-3".to_owned()));
    assert_eq!(fs::read_dir(&paths.run).unwrap().count(), 3, "no temporary file is left");
    assert_eq!(take(&paths, "/w/other", "front", parent()).companion.instance, "blue-other");
}

#[test]
fn many_at_one_instant_agree() {
    let (_home, paths) = home();
    let start = std::sync::Barrier::new(8);
    let (start, paths) = (&start, &paths);
    let names: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                scope.spawn(move || {
                    start.wait();
                    let command = ["api", "front", "worker", "api"][number % 4];
                    // Temporary files are named by process, so threads take turns as processes would.
                    name(paths, command)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let of = |number: usize| names.iter().skip(number).step_by(4).cloned().collect::<Vec<_>>();
    let mut api = [of(0), of(3)].concat();
    api.sort();
    assert_eq!(api, ["blue", "blue-2", "blue-3", "blue-4"]);
    for mut pair in [of(1), of(2)] {
        pair.sort();
        assert_eq!(pair, ["blue", "blue-2"]);
    }
}

#[test]
fn a_dead_name_is_taken_over_with_its_leftovers_gone() {
    let (_home, paths) = home();
    let socket = paths.run.join("shop-blue.80.sock");
    drop(UnixListener::bind(&socket).unwrap());
    take(&paths, "/v", "api", u32::MAX);
    assert_eq!(name(&paths, "api"), "blue");
    assert!(!socket.exists());
}

#[test]
fn a_listener_alone_holds_the_name() {
    let (_home, paths) = home();
    let _listener = UnixListener::bind(paths.run.join("shop-blue.sock")).unwrap();
    assert_eq!(name(&paths, "api"), "blue-w");
}

#[test]
fn a_claim_is_told_its_process_and_given_back() {
    let (_home, paths) = home();
    let mut first = take(&paths, "/w", "api", std::process::id());
    let second = take(&paths, "/w", "front", parent());
    first.started(&paths, 4711).unwrap();
    let companion = read(&first.path);
    assert_eq!((companion.child_pid, companion.commands[0].child_pid), (4711, 4711));
    assert_eq!(companion.commands.len(), 2, "what others wrote meanwhile is kept");
    first.release(&paths).unwrap();
    assert_eq!(read(&first.path).commands, std::slice::from_ref(&second.own));
    second.withdraw(&paths);
    assert_eq!(read(&second.path).commands, [], "an instance that was there before stays");
    let alone = take(&paths, "/v", "api", parent());
    alone.withdraw(&paths);
    assert!(!alone.path.exists());
}

#[test]
fn an_instance_with_one_living_process_is_not_taken_over() {
    for (wrap_pid, child_pid) in [(u32::MAX, parent()), (parent(), u32::MAX)] {
        let (_home, paths) = home();
        let wanted = Companion { child_pid, ..wanted("/v", "api", wrap_pid) };
        claim(&paths, &place("/v"), &request("/v"), &wanted).unwrap();
        assert_eq!(name(&paths, "api"), "blue-w", "wrap {wrap_pid}, child {child_pid}");
    }
}

/// "a closed terminal leaves Postgres as `blue`, the next `wrap` silently becomes `blue-fsr8`"
#[test]
fn what_an_ended_command_left_behind_is_joined_by_its_own_folder_only() {
    let (_home, paths) = home();
    take(&paths, "/w", "api", u32::MAX);
    let socket = paths.run.join("shop-blue.5432.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    assert_eq!(take(&paths, "/v", "api", parent()).companion.instance, "blue-v");
    let next = take(&paths, "/w", "api", parent());
    assert_eq!((next.companion.instance.as_str(), next.has_ended_commands), ("blue", true));
    assert!(socket.exists() && next.choice.joins);
}

#[test]
fn a_joined_instance_keeps_its_secret() {
    use agentfs_wire::secret::Secret;
    let (_home, paths) = home();
    let with = |byte| Companion { secret: Some(Secret::of([byte; 16])), ..wanted("/w", "api", parent()) };
    let first = claim(&paths, &place("/w"), &request("/w"), &with(1)).unwrap();
    let second = Companion { command: vec!["front".to_owned()], ..with(2) };
    let second = claim(&paths, &place("/w"), &request("/w"), &second).unwrap();
    assert_eq!(second.companion.secret, first.companion.secret);
}

#[test]
fn an_unreadable_companion_does_not_keep_a_name() {
    let (_home, paths) = home();
    fs::write(paths.run.join("shop-blue.json"), "{").unwrap();
    assert_eq!(name(&paths, "api"), "blue");
}

/// A companion of an older version says nothing of folders' names, but it has a folder.
#[test]
fn an_instance_of_an_older_version_is_joined() {
    let (_home, paths) = home();
    let old = format!(
        r#"{{"app":"shop","instance":"blue","directory":"/w","checkout":null,"fork":false,"branch":null,
        "command":["api"],"wrap_pid":{0},"child_pid":{0},"started_ms":{1},"version":"0.1.0"}}"#,
        parent(),
        duration::now_ms()
    );
    fs::write(paths.run.join("shop-blue.json"), old).unwrap();
    assert_eq!((name(&paths, "front"), name(&paths, "api")), ("blue".to_owned(), "blue-2".to_owned()));
    let joined = read(&paths.run.join("shop-blue.json"));
    assert_eq!(
        joined.commands.iter().map(|one| one.command[0].as_str()).collect::<Vec<_>>(),
        ["api", "front"]
    );
}

#[test]
fn of_many_copies_only_the_first_is_listed_where_one_is_enough() {
    let (_home, paths) = home();
    for expected in ["blue", "blue-2", "blue-3"] {
        assert_eq!(name(&paths, "api"), expected);
    }
    let given = Request { given: Some("red"), ..request("/w") };
    claim(&paths, &place("/w"), &given, &wanted("/w", "api", parent())).unwrap();
    let (here, command) = (place("/w"), ["api".to_owned()]);
    let names =
        |own: Vec<(String, Option<String>)>| own.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let census = Census::new(&paths, &here, "shop", &command);
    assert_eq!(names(census.own()), ["blue", "blue-2", "blue-3", "red"]);
    assert_eq!(names(census.own_by_stem("blue")), ["blue", "red"]);
    fs::remove_file(paths.run.join("shop-blue.json")).unwrap();
    let census = Census::new(&paths, &here, "shop", &command);
    assert_eq!(names(census.own_by_stem("blue")), ["blue-2", "red"]);
    assert_eq!(name(&paths, "api"), "blue", "the lowest free name");
}

#[test]
fn a_copy_among_many_gets_the_lowest_free_name() {
    let (_home, paths) = home();
    for number in 1..=50 {
        assert_eq!(name(&paths, "api"), crate::naming::numbered("blue", number));
    }
    let path = file(&paths, "shop", "blue-20").unwrap();
    let mut dead = read(&path);
    (dead.wrap_pid, dead.commands[0].wrap_pid) = (u32::MAX, u32::MAX);
    rewrite(&path, &dead).unwrap();
    assert_eq!(name(&paths, "api"), "blue-20");
    assert_eq!(name(&paths, "api"), "blue-51");
    assert_eq!(name(&paths, "front"), "blue", "joined");
}
