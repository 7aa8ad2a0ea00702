//! Checkouts that change while they run, look alike, or cannot be read: an instance belongs to one folder.
use crate::joining::{NAMES, asked, client, companion, named, serve};
use crate::names::{git, repository};
use agentfs_tests::{Home, skip};
use std::path::Path;

/// "a branch switched or a worktree moved or removed while running"
#[test]
fn a_living_instance_keeps_its_name_and_its_folder() {
    let home = Home::new();
    let (main, cart) = repository(&home);
    let _running = serve(&home, &cart, 5000, "cart");
    home.listener("shop", "feature-cart", 5000);
    git(&home, &cart, &["checkout", "-q", "-b", "fix/cart"]);
    assert_eq!(named(&home, &cart, &[]), "shop/feature-cart");
    let told = home.agentfs(&["wrap", "--"]).args(NAMES).directory(&cart).speaking().output().success();
    let _ = told.names(&["shop/feature-cart", "shop/fix-cart"]);
    git(&home, &main, &["worktree", "move", "../cart", "../moved"]);
    let moved = home.work().join("moved");
    assert_eq!(asked(&home, &moved, 5000), "cart");
    let checkout = companion(&home, "shop-feature_cart.json").checkout.unwrap();
    assert_eq!(checkout, moved.canonicalize().unwrap());
    // Another worktree takes the branch: it has a name of its own.
    git(&home, &main, &["worktree", "add", "-q", "../second", "feature/cart"]);
    let second = home.work().join("second");
    assert_eq!(named(&home, &second, &[]), "shop/feature-cart-second");
    // The folder is gone: its instance still runs, and nobody else gets its name.
    git(&home, &main, &["worktree", "remove", "--force", "../moved"]);
    assert_eq!(named(&home, &second, &[]), "shop/feature-cart-second");
    assert_eq!(home.exec("shop/feature-cart", &[&client(), "5000"]).text(), "cart");
}

/// A worktree that was removed and made again has the old one's folder, and git gives it the old one's name. What still runs
/// of the old one is another fork's copy.
#[test]
fn a_worktree_that_was_made_again_is_another_one() {
    let home = Home::new();
    let (main, _) = repository(&home);
    let [first, second] = ["a/tree", "b/tree"].map(|name| home.work().join(name));
    let add = |options: &[&str]| git(&home, &main, &[&["worktree", "add", "-q"], options].concat());
    add(&["-b", "one", "../a/tree"]);
    let _running = serve(&home, &first, 5000, "one");
    home.listener("shop", "one", 5000);
    git(&home, &main, &["worktree", "remove", "--force", "../a/tree"]);
    add(&["-b", "two", "../b/tree"]);
    let link = |folder: &Path| std::fs::read_to_string(folder.join(".git")).unwrap();
    assert!(link(&second).trim().ends_with("/worktrees/tree"), "the name of the first: {}", link(&second));
    assert_eq!(named(&home, &second, &[]), "shop/two");
    let asked = home.agentfs(&["wrap", "--", &client(), "5000"]).directory(&second).output();
    assert!(!asked.status.success(), "{}", asked.explain());
    let exec = home.agentfs(&["exec", "--", &client(), "5000"]).directory(&second).output().code(125);
    let _ = exec.names(&["no instance is running", "shop/one"]);
    // The same folder, and the same branch.
    add(&["../a/tree", "one"]);
    let told = home.agentfs(&["wrap", "--"]).args(NAMES).directory(&first).speaking().output().success();
    assert!(told.stdout.starts_with("shop/one-x"), "{}", told.explain());
    let _ =
        told.names(&["shop/one belongs to a worktree that was removed from", &first.display().to_string()]);
    let restart = home.agentfs(&["restart", "shop/one"]).directory(&first).output().code(1);
    let _ = restart.names(&["was removed", &first.display().to_string(), "still running"]);
    for command in ["url", "stop"] {
        let _ = home.agentfs(&[command]).directory(&first).output().code(3).names(&["shop/one"]);
    }
    assert_eq!(home.exec("shop/one", &[&client(), "5000"]).text(), "one");
}

/// An agentfs.toml above two checkouts makes them one app with one instance. They may be two forks, so it is told.
#[test]
fn checkouts_below_one_agentfs_toml_share_an_instance_and_are_told() {
    let home = Home::new();
    home.write("agentfs.toml", "name = 'kit'\n");
    let [first, second] = ["a", "b"].map(|name| {
        home.write(&format!("{name}/readme"), "");
        git(&home, &home.work().join(name), &["init", "-q", "-b", "main"]);
        home.work().join(name)
    });
    let _running = serve(&home, &first, 5000, "a");
    home.listener("kit", "main", 5000);
    let word = "joined kit/main, which was started in";
    for (folder, is_told) in [(&second, true), (&first, false), (&second, true)] {
        let told = home.agentfs(&["wrap", "--"]).args(NAMES).directory(folder).speaking().output().success();
        assert_eq!(
            (told.stdout.as_str(), told.stderr.contains(word)),
            ("kit/main", is_told),
            "{}",
            told.explain()
        );
    }
}

/// The pointer of a linked worktree leads nowhere once its repository was moved. The worktree is told, and stays what it was:
/// also one inside the main checkout does not become a part of that.
#[test]
fn a_worktree_without_its_repository_is_told_and_no_part_of_another_checkout() {
    let home = Home::new();
    let (main, cart) = repository(&home);
    git(&home, &main, &["worktree", "add", "-q", "-b", "inner", ".trees/inner"]);
    let moved = home.work().join("elsewhere");
    std::fs::rename(&main, &moved).unwrap();
    home.write("elsewhere/agentfs.toml", "name = 'shop'\n");
    let _running = serve(&home, &moved, 5000, "main");
    home.listener("shop", "main", 5000);
    for (folder, name) in [(&cart, "shop/cart"), (&moved.join(".trees/inner"), "shop/inner")] {
        let told = home.agentfs(&["wrap", "--"]).args(NAMES).directory(folder).speaking().output().success();
        assert_eq!(told.stdout, name, "{}", told.explain());
        let _ = told.names(&["cannot read", "/worktrees/", "git worktree repair"]);
        let _ = home.agentfs(&["exec", "--", "true"]).directory(folder).output().code(125);
    }
    git(&home, &moved, &["worktree", "repair", "../cart"]);
    assert_eq!(named(&home, &cart, &[]), "shop/feature-cart");
}

/// "two checkouts with equal names": of different repositories. They never share an instance.
#[test]
fn two_checkouts_with_equal_names_never_share_an_instance() {
    let home = Home::new();
    for folder in ["a", "b"] {
        home.write(&format!("{folder}/shop/readme"), "");
        git(&home, &home.work().join(folder).join("shop"), &["init", "-q", "-b", "main"]);
    }
    let (first, second) = (home.work().join("a/shop"), home.work().join("b/shop"));
    let running = serve(&home, &first, 5000, "a");
    home.listener("shop", "main", 5000);
    let told = home.agentfs(&["wrap", "--"]).args(NAMES).directory(&second).speaking().output().success();
    assert_eq!(told.stdout, "shop/main-b");
    let _ = told.names(&["shop/main-b", &first.display().to_string()]);
    let _second = serve(&home, &second, 5000, "b");
    home.listener("shop", "main-b", 5000);
    assert_eq!((asked(&home, &first, 5000), asked(&home, &second, 5000)), ("a".into(), "b".into()));
    // It keeps that name when the other one has gone.
    let _ = running.terminate();
    home.gone("shop", "main");
    assert_eq!(named(&home, &second, &[]), "shop/main-b");
    assert_eq!(named(&home, &first, &[]), "shop/main");
}

/// Branches whose names become one label: `feature/cart` and `feature-cart`.
#[test]
fn branches_that_look_alike_have_instances_of_their_own() {
    let home = Home::new();
    let (main, cart) = repository(&home);
    git(&home, &main, &["worktree", "add", "-q", "-b", "feature-cart", "../cart2"]);
    let _running = serve(&home, &cart, 5000, "slash");
    home.listener("shop", "feature-cart", 5000);
    assert_eq!(named(&home, &home.work().join("cart2"), &[]), "shop/feature-cart-cart2");
}

/// "a folder without permission": what cannot be read gives no name.
#[test]
fn a_folder_without_permission_gives_no_names() {
    if !skip::is_root() {
        return;
    }
    let home = Home::of_user("nobody");
    let folder = home.work().join("closed/inner");
    home.write("closed/inner/readme", "");
    home.write("closed/agentfs.toml", "name = \"hidden\"\n");
    let mode = |path: &Path, mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&home.work().join("closed/agentfs.toml"), 0o600);
    let told = home.agentfs(&["wrap", "--"]).args(NAMES).directory(&folder).speaking().output().success();
    assert_eq!(told.stdout, "inner/main", "{}", told.explain());
    let _ = told.names(&["cannot read", "agentfs.toml"]);
    mode(&folder, 0o000);
    let told = home.agentfs(&["wrap", "--"]).args(NAMES).directory(&home.work()).output().success();
    assert_eq!(told.stdout, "work/main");
    mode(&folder, 0o700);
}

/// A command that is started in a folder that was removed runs; no other one joins it.
#[test]
fn a_removed_folder_has_no_instance() {
    let home = Home::new();
    let folder = home.work().join("gone");
    std::fs::create_dir(&folder).unwrap();
    let agentfs = home.agentfs_path().display().to_string();
    let script = "rmdir \"$PWD\"; \"$0\" wrap --app shop -- tail -f /dev/null & \
        until \"$0\" ps | grep -q shop; do :; done; \
        \"$0\" wrap --app shop -- sh -c 'echo $AGENTFS_INSTANCE'";
    let mut running =
        home.program("sh").args(["-c", script, &agentfs]).directory(&folder).open_input().spawn();
    running.wait_for("main-x");
    assert!(home.instance("shop", "main").is_some(), "the first one has the usual name");
}
