//! Names of apps and instances: from the folder, the project files, the branch; and which host name
//! means which instance.
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process, artifact};
use agentfs_wire::control::InstanceInfo;
use std::collections::BTreeSet;
use std::path::Path;

const PORT: u16 = 5000;

pub(crate) fn git(home: &Home, folder: &Path, arguments: &[&str]) {
    let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.invalid"];
    let _ = home.program("git").args(identity).args(arguments).directory(folder).output().success();
}

/// A repository `shop` with one commit and a worktree of branch `feature/cart` beside it.
pub(crate) fn repository(home: &Home) -> (std::path::PathBuf, std::path::PathBuf) {
    home.write("shop/readme", "a shop\n");
    let main = home.work().join("shop");
    git(home, &main, &["init", "-q", "-b", "main"]);
    git(home, &main, &["add", "readme"]);
    git(home, &main, &["commit", "-q", "-m", "first"]);
    git(home, &main, &["worktree", "add", "-q", "-b", "feature/cart", "../cart"]);
    (main, home.work().join("cart"))
}

/// `agentfs wrap -- fixture-wait` in a folder, nothing else said.
fn plain_wrap<'home>(home: &'home Home, folder: &Path, body: &str) -> Process<'home> {
    let server = artifact::binary("fixture-wait");
    home.agentfs(&["wrap", "--"]).arg(server).directory(folder).body(body).spawn()
}

fn wait_instances(home: &Home, count: usize) -> Vec<InstanceInfo> {
    until(&format!("{count} instances listen"), || {
        let instances = home.snapshot()?.instances;
        (instances.iter().filter(|info| !info.listeners.is_empty()).count() == count).then_some(instances)
    })
}

/// The example of the README: a checkout and a worktree of it.
#[test]
fn a_worktree_is_named_by_its_branch() {
    let home = Home::new();
    let (main, cart) = repository(&home);
    let _worktree = plain_wrap(&home, &cart, "cart");
    home.listener("shop", "feature-cart", PORT);
    let _main = plain_wrap(&home, &main, "main");
    let instances = wait_instances(&home, 2);
    assert!(instances.iter().all(|info| info.app == "shop"), "{instances:?}");
    home.expect_body("feature-cart.shop.localhost", "cart");
    // The main checkout has the short name although the worktree is older.
    home.expect_body("shop.localhost", "main");
    let client = artifact::binary("fixture-client").display().to_string();
    for (instance, body) in [("shop/feature-cart", "cart"), ("feature-cart.shop", "cart")] {
        assert_eq!(home.exec(instance, &[&client, "5000"]).text(), body, "{instance}");
    }
}

/// "detached: its folder"
#[test]
fn a_detached_worktree_is_named_by_its_folder() {
    let home = Home::new();
    let (main, _) = repository(&home);
    git(&home, &main, &["worktree", "add", "-q", "--detach", "../Bisect_1"]);
    let _running = plain_wrap(&home, &home.work().join("Bisect_1"), "bisect");
    home.listener("shop", "bisect-1", PORT);
    home.expect_body("bisect-1.shop.localhost", "bisect");
}

#[test]
fn project_files_name_the_app() {
    let home = Home::new();
    let files = [
        ("node/package.json", r#"{"name": "@acme/Web_App"}"#, "acme-web-app"),
        ("rust/Cargo.toml", "[package]\nname = \"till\"\n", "till"),
        ("python/pyproject.toml", "[project]\nname = \"ledger\"\n", "ledger"),
        ("both/agentfs.toml", "name = \"chosen\"\n", "chosen"),
        ("both/package.json", r#"{"name": "other"}"#, "chosen"),
        ("broken/package.json", "{ not json", "broken"),
    ];
    for (file, content, _) in files {
        home.write(file, content);
    }
    let mut folders = BTreeSet::new();
    for (file, _, app) in files {
        let folder = home.work().join(file).parent().unwrap().to_owned();
        if !folders.insert(folder.clone()) {
            continue;
        }
        let text =
            home.agentfs(&["wrap", "--", "sh", "-c", "printf %s $AGENTFS_APP"]).directory(&folder).text();
        // Without a name in a readable file it is the folder's.
        assert_eq!(text, app, "{file}");
    }
}

/// "instances started from the same folder are replicas and are balanced (round robin)"
#[test]
fn replicas_of_one_folder_share_its_name() {
    let home = Home::new();
    let (main, cart) = repository(&home);
    let _replicas = [plain_wrap(&home, &main, "first"), plain_wrap(&home, &main, "second")];
    let _fork = plain_wrap(&home, &cart, "fork");
    wait_instances(&home, 3);
    let bodies: BTreeSet<String> = (0..6).map(|_| home.get("shop.localhost").body).collect();
    assert_eq!(bodies, BTreeSet::from(["first".to_owned(), "second".to_owned()]));
}

/// `myapp.PORT` forms: a port of the app's instance, and of a named one.
#[test]
fn a_port_in_the_host_name_chooses_the_listener() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let script = "FIXTURE_PORT=7001 FIXTURE_BODY=admin \"$0\" & exec \"$0\"";
    let _running = home.wrap("shop", "one", &["sh", "-c", script, &server]).body("main").spawn();
    home.listener("shop", "one", PORT);
    home.listener("shop", "one", 7001);
    for (host, body) in [
        ("7001.shop.localhost", "admin"),
        ("7001.one.shop.localhost", "admin"),
        ("5000.shop.localhost", "main"),
        ("5000.one.shop.localhost", "main"),
    ] {
        home.expect_body(host, body);
    }
}
