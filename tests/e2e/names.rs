//! Names of apps and instances: from the folder, the project files, the branch; and which host name
//! means which instance.
use agentfs_tests::http::Exchange;
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

/// `agentfs wrap --instance INSTANCE -- fixture-wait` in a folder.
fn wrap_as<'home>(home: &'home Home, instance: &str, folder: &Path, body: &str) -> Process<'home> {
    let server = artifact::binary("fixture-wait");
    home.agentfs(&["wrap", "--instance", instance, "--"]).arg(server).directory(folder).body(body).spawn()
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
    let _main = wrap_as(&home, "main", &main, "main");
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

/// "the instance `main` and its copies of the same command, balanced"
#[test]
fn copies_of_main_share_its_name() {
    let home = Home::new();
    let (main, cart) = repository(&home);
    let copies = [("main", "first"), ("main-2", "second")];
    let _copies = copies.map(|(instance, body)| wrap_as(&home, instance, &main, body));
    let _fork = plain_wrap(&home, &cart, "fork");
    wait_instances(&home, 3);
    let bodies: BTreeSet<String> = (0..6).map(|_| home.get("shop.localhost").body).collect();
    assert_eq!(bodies, BTreeSet::from(["first".to_owned(), "second".to_owned()]));
}

/// The same, as `wrap` itself names copies: of a command that joined `main` after another one.
#[test]
fn a_copy_that_wrap_named_shares_the_name_of_main() {
    let home = Home::new();
    let (main, _) = repository(&home);
    let _other = home.agentfs(&["wrap", "--", "sleep", "600"]).directory(&main).spawn();
    until("the first command", || home.instance("shop", "main"));
    let _copies = [("main", "first"), ("main-2", "second")].map(|(instance, body)| {
        let running = plain_wrap(&home, &main, body);
        home.listener("shop", instance, PORT);
        running
    });
    let bodies: BTreeSet<String> = (0..6).map(|_| home.get("shop.localhost").body).collect();
    assert_eq!(bodies, BTreeSet::from(["first".to_owned(), "second".to_owned()]));
}

/// `myapp.PORT` forms: a port of the app's instance, and of a named one.
#[test]
fn a_port_in_the_host_name_chooses_the_listener() {
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let script = "FIXTURE_PORT=7001 FIXTURE_BODY=admin \"$0\" & exec \"$0\"";
    let _running = home.wrap("shop", "main", &["sh", "-c", script, &server]).body("main").spawn();
    home.listener("shop", "main", PORT);
    home.listener("shop", "main", 7001);
    for (host, body) in [
        ("7001.shop.localhost", "admin"),
        ("7001.main.shop.localhost", "admin"),
        ("5000.shop.localhost", "main"),
        ("5000.main.shop.localhost", "main"),
    ] {
        home.expect_body(host, body);
    }
}

/// "D2: `APP.localhost` moves: only the worktree runs: it is the worktree; main starts: it is main; main stops: the
/// worktree again. `ps` hands that URL out while `AGENTFS_URL` says another."
#[test]
fn the_name_of_an_app_never_moves() {
    let home = Home::new();
    let (main, cart) = repository(&home);
    let _worktree = plain_wrap(&home, &cart, "cart");
    home.listener("shop", "feature-cart", PORT);
    let absent = || {
        let answer = home.get("shop.localhost");
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.body.contains("http://feature-cart.shop.localhost:"), "{answer:?}");
        assert!(answer.header("retry-after").is_some() && !answer.body.contains("Refresh"), "{answer:?}");
    };
    absent();
    let running = wrap_as(&home, "main", &main, "main");
    home.listener("shop", "main", PORT);
    home.expect_body("shop.localhost", "main");
    let one_url = |instance: &str, host: &str| {
        let url = format!("http://{host}:{}", home.router_port());
        let script = "printf '%s %s' $AGENTFS_URL $AGENTFS_HOSTNAME";
        let exported = home.exec(instance, &["sh", "-c", script]).text();
        assert_eq!(exported, format!("{url} {host}"));
        let (app, name) = instance.split_once('/').unwrap();
        let listed = home.instance(app, name).unwrap();
        assert_eq!((listed.host.as_str(), listed.url.as_ref()), (host, Some(&url)));
        assert_eq!(listed.listeners[0].url.as_ref(), Some(&url));
        assert!(home.agentfs(&["ps"]).text().contains(&format!("{url} ")));
    };
    one_url("shop/main", "shop.localhost");
    one_url("shop/feature-cart", "feature-cart.shop.localhost");
    running.terminate();
    home.gone("shop", "main");
    absent();
    let more = "Accept: application/json\r\nConnection: close\r\n";
    let answer =
        Exchange::send(home.router_port(), "GET", "shop.localhost", "/", more, b"").unwrap().answer();
    let answer = answer.unwrap();
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((answer.status, body["error"].as_str()), (503, Some("main_not_running")), "{body}");
    assert_eq!(body["running"][0]["host"], "feature-cart.shop.localhost", "{body}");
}

/// "With no router (port taken) wrap prints and exports a URL that leads nowhere, once to another home's router, status 0"
#[test]
fn without_a_router_nothing_has_a_url() {
    let other = Home::new();
    let other = other.start_daemon();
    let address = format!("127.0.0.1:{}", other.http_port);
    let home = Home::new();
    let server = artifact::binary("fixture-wait").display().to_string();
    let script = "echo \"url=${AGENTFS_URL-none} host=$AGENTFS_HOSTNAME\"; exec \"$0\"";
    let wrap = ["wrap", "-v", "--app", "shop", "--instance", "main", "--", "sh", "-c", script, &server];
    let running = home.agentfs(&wrap).env("AGENTFS_ROUTER", &address).spawn();
    let listener = home.listener("shop", "main", PORT);
    assert_eq!(listener.url, None);
    until("the announcement", || running.stderr().contains("127.0.0.1:5000").then_some(()));
    let (said, printed) = (running.stderr(), running.stdout());
    assert_eq!(printed, "url=none host=shop.localhost\n");
    assert!(!said.contains("http://"), "{said}");
    for part in ["no URL", "the router does not listen", &other.http_port.to_string()] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let ps = home.agentfs(&["ps", "-v"]).env("AGENTFS_ROUTER", &address).output().success();
    assert!(ps.stdout.contains("127.0.0.1:5000  - ") && !ps.stdout.contains("http://"), "{}", ps.explain());
    assert!(ps.stderr.contains("the router does not listen"), "{}", ps.explain());
    let json = home.agentfs(&["ps", "--json"]).env("AGENTFS_ROUTER", &address).text();
    assert!(!json.contains("\"url\""), "{json}");
    let exec = home.exec("shop/main", &["sh", "-c", "echo ${AGENTFS_URL-none}"]);
    assert_eq!(exec.env("AGENTFS_ROUTER", &address).text(), "none\n");
    let route = home.agentfs(&["route", "-v", "x", "shop/main"]).env("AGENTFS_ROUTER", &address).output();
    assert!(!route.stderr.contains("http://"), "{}", route.explain());
}

/// "An app may not be called `agentfs`, a label of digits is no instance name"
#[test]
fn names_that_mean_something_else_are_refused() {
    let home = Home::new();
    let refused = |arguments: &[&str], words: &[&str]| {
        let output = home.agentfs(&[&["wrap"], arguments, &["--", "true"]].concat()).output().code(2);
        let _ = output.names(words);
    };
    refused(&["--app", "agentfs"], &["`agentfs`"]);
    refused(&["--app", "shop", "--instance", "8080"], &["`8080`", "port"]);
    home.write("package.json", r#"{"name": "agentfs"}"#);
    let named = home.agentfs(&["name"]).text();
    assert!(named.contains("agentfs-app"), "{named}");
    let route = home.agentfs(&["route", "agentfs", "127.0.0.1:80"]).output();
    assert!(!route.status.success() && route.stderr.contains("agentfs.localhost"), "{}", route.explain());
    // A socket that somebody made by hand does not take the name.
    let _socket = std::os::unix::net::UnixListener::bind(home.paths().run.join("agentfs-x.sock")).unwrap();
    until("the socket", || home.instance("agentfs", "x"));
    let index = home.get("agentfs.localhost");
    assert!(index.status == 200 && index.body.contains("What is running"), "{index:?}");
}
