//! What a name means is the same everywhere: in a host name, as the INSTANCE of a command, and for `who`. Nobody meets
//! another fork's copy without being told.
use crate::names::{git, repository};
use agentfs_tests::http::Exchange;
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process, artifact};
use serde_json::Value;
use std::net::TcpListener;

/// Port of `fixture-wait`.
const PORT: u16 = 5000;

fn server() -> String {
    artifact::binary("fixture-wait").display().to_string()
}

fn start<'home>(home: &'home Home, copy: &str) -> Process<'home> {
    let running = home.wrap("shop", copy, &[server()]).body(copy).spawn();
    home.listener("shop", copy, PORT);
    running
}

/// "`agentfs who http://APP.localhost` names a fork where the router itself answers 503": nobody answers, and the forks
/// that run are listed.
#[test]
fn who_says_of_a_host_name_what_the_router_does() {
    let home = Home::new();
    let blue = start(&home, "blue");
    let router = home.router_port();
    let url = |host: &str| format!("http://{host}:{router}/x");
    for place in [url("shop.localhost"), "shop.localhost".to_owned(), "http://shop.localhost/".to_owned()] {
        assert_eq!(home.get("shop.localhost").status, 503);
        let nobody = home.agentfs(&["who", &place]).output().code(3);
        let nobody = nobody.names(&["nobody answers at shop.localhost", "http://blue.shop.localhost:"]);
        assert_eq!(nobody.stdout, "");
    }
    let own = home.agentfs(&["who", "http://agentfs.localhost/"]).text();
    assert!(own.contains("is the router of agentfs"), "{own}");
    let port = home.agentfs(&["who", &url("5000.shop.localhost")]).output().code(3);
    assert_eq!(home.get("5000.shop.localhost").status, 404);
    let _ = port.names(&["nobody answers"]);
    let said = home.agentfs(&["who", &url("5000.blue.shop.localhost")]).text();
    assert!(said.contains(&format!("(pid {}) of shop/blue, through the router", blue.pid())), "{said}");
    let _ = home.agentfs(&["who", &url("5001.blue.shop.localhost")]).output().code(3).names(&["5001"]);
    // What shares the name answers in turn: all of it is named. Another command's copy is not among it.
    let copies = ["main", "main-2"].map(|copy| start(&home, copy));
    let other = home.wrap("shop", "main-3", &["python3", "-m", "http.server", "5000"]).spawn();
    home.listener("shop", "main-3", PORT);
    let said = home.agentfs(&["who", &url("shop.localhost")]).text();
    assert_eq!(said.lines().count(), 2, "{said}");
    for copy in &copies {
        assert!(said.contains(&format!("(pid {})", copy.pid())), "{said}");
    }
    drop((copies, other));
    // Routes by hand, wildcards too.
    let _ = home.agentfs(&["route", "shop", "shop/blue", "--replace"]).output().success();
    let _ = home.agentfs(&["route", "wild", "shop/blue", "--wildcard"]).output().success();
    for host in ["shop.localhost", "a.b.wild.localhost"] {
        home.expect_body(host, "blue");
        let said = home.agentfs(&["who", &url(host)]).text();
        assert!(said.contains("of shop/blue, through a route"), "{said}");
    }
}

/// "`exec shop -- curl` reaches blue while `http://shop.localhost` answers 503, and `url shop` calls ambiguous what
/// shop.localhost answers."
#[test]
fn an_app_alone_is_its_main_for_every_command() {
    let home = Home::new();
    let blue = start(&home, "blue");
    let said = |arguments: &[&str], code| {
        let output = home.agentfs(arguments).output().code(code);
        let again =
            arguments.iter().map(|word| word.replace("shop", "shop/blue")).collect::<Vec<_>>().join(" ");
        let command = format!("`agentfs {again}`");
        let _ =
            output.names(&["no instance `shop/main` is running", "running: shop/blue, shop/green", &command]);
    };
    // The only fork is taken, and that is told.
    let client = artifact::binary("fixture-client").display().to_string();
    let told = ["warning: shop/main is not running", "`shop` is taken as shop/blue"];
    let asked = home.exec("shop", &[&client, "5000"]).speaking().output().success().names(&told);
    assert_eq!(asked.stdout, "blue");
    let _ = home.agentfs(&["url", "shop"]).speaking().output().success().names(&told);
    let waited = home.agentfs(&["wait", "shop", "--timeout", "100ms"]).output().code(124);
    let _ = waited.names(&["`shop/main`", "shop/blue"]);
    let _ = home.agentfs(&["route", "preview", "shop"]).speaking().output().success().names(&told);
    // Of several, none is.
    let green = start(&home, "green");
    said(&["exec", "shop", "--", "true"], 125);
    said(&["url", "shop"], 3);
    said(&["restart", "shop"], 3);
    said(&["forward", "shop:5000"], 3);
    let route = home.agentfs(&["route", "other", "shop"]).output().code(3);
    let _ = route.names(&["instance main", "shop/blue, shop/green"]);
    let _ = home.agentfs(&["stop", "shop/green"]).output().success();
    drop(green.finish());
    let url = format!("http://shop.localhost:{}/", home.router_port());
    let _ = home.agentfs(&["exec", &url, "--", "true"]).output().code(125).names(&["shop/blue"]);
    // Beside forks and copies, it is main.
    let waiting = home.agentfs(&["wait", "shop"]).spawn();
    let [main, copy] = ["main", "main-2"].map(|copy| start(&home, copy));
    let _ = waiting.finish().success();
    for name in ["shop", "shop.localhost", &url] {
        assert_eq!(home.exec(name, &[&client, "5000"]).text(), "main", "{name}");
    }
    let shown = home.agentfs(&["url", "shop"]).text();
    assert_eq!(Some(shown.trim()), home.instance("shop", "main").unwrap().url.as_deref());
    let _ = home.agentfs(&["stop", "shop/main"]).output().success();
    home.gone("shop", "main");
    assert!(home.instance("shop", "blue").is_some() && home.instance("shop", "main-2").is_some());
    assert_eq!(home.exec("shop", &[&client, "5000"]).text(), "main-2", "as its host name");
    home.expect_body("shop.localhost", "main-2");
    let _ = home.agentfs(&["stop", "shop"]).output().success();
    for running in [blue, main, copy] {
        drop(running.finish());
    }
    let _ = home.agentfs(&["stop", "shop"]).output().code(3);
    // Made by hand, its only socket is the app's.
    let by_hand = std::os::unix::net::UnixListener::bind(home.paths().run.join("hand-made.sock")).unwrap();
    until("the socket made by hand", || home.instance("hand", "made"));
    let url = home.agentfs(&["url", "hand"]).text();
    assert_eq!(url, home.agentfs(&["url", "hand/made"]).text());
    drop(by_hand);
}

/// "`who PORT` inside an instance must say what a connect from inside would meet": its own listener, the host's process,
/// or a refusal and why.
#[test]
fn who_says_inside_what_a_connect_would_meet() {
    let home = Home::new();
    let (main, cart) = repository(&home);
    git(&home, &main, &["worktree", "add", "-q", "-b", "red", "../red"]);
    let agentfs = home.agentfs_path().display().to_string();
    let server = server();
    let wrap = |folder: &std::path::Path, more: &[&str]| {
        let words = [&["wrap"], more, &["--", &server]].concat();
        home.agentfs(&words).directory(folder).spawn()
    };
    let _cart = wrap(&cart, &[]);
    let _red = wrap(&home.work().join("red"), &["--isolate"]);
    home.listener("shop", "feature-cart", PORT);
    home.listener("shop", "red", PORT);
    let who = |instance: &str, port: u16| {
        home.exec(&format!("shop/{instance}"), &[&agentfs, "who", &port.to_string()]).output()
    };
    assert!(who("feature-cart", PORT).success().stdout.contains("of shop/feature-cart"));
    // A program of the host that belongs to no fork.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let host = who("feature-cart", port).success().stdout;
    assert!(host.contains(&format!("(pid {})", std::process::id())) && host.contains("the host's"), "{host}");
    let isolated =
        who("red", port).code(3).names(&["is refused: the instance is isolated", "on the host, port"]);
    assert_eq!(isolated.stdout, "");
    let url = format!("http://feature-cart.shop.localhost:{}/", home.router_port());
    let at = |instance: &str| home.exec(instance, &[&agentfs, "who", &url]).output();
    assert!(at("shop/feature-cart").success().stdout.contains("through the router"));
    let _ = at("shop/red").code(3).names(&["is refused: the instance is isolated", "the router of agentfs"]);
    // One of another checkout of the repository.
    let script = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print('PORT', s.getsockname()[1], flush=True); exec('while 1: s.accept()')";
    let mut fork = home.program("python3").args(["-c", script]).directory(&main).spawn();
    fork.wait_for("PORT");
    let taken: u16 = fork.stdout().trim().strip_prefix("PORT ").unwrap().parse().unwrap();
    let refused = who("feature-cart", taken).code(3);
    let _ = refused
        .names(&["is refused: a program of another checkout holds it", &format!("pid {}", fork.pid())]);
    // One that agentfs holds for another instance: it is named.
    let address = home.agentfs(&["forward", "shop/red:5000"]).text();
    let forwarded: u16 = address.trim().rsplit_once(':').unwrap().1.parse().unwrap();
    let _ = who("feature-cart", forwarded).code(3).names(&["is refused: agentfs holds it for shop/red"]);
    // Nobody.
    drop(listener);
    let _ = who("feature-cart", port).code(3).names(&["neither in this instance nor on the host"]);
}

/// "A pasted URL without `http://` but with port or path is not understood where an instance is expected; and a URL whose
/// port is not the router's is accepted as an instance."
#[test]
fn a_pasted_url_is_an_instance_only_with_the_routers_port() {
    let home = Home::new();
    let _blue = start(&home, "blue");
    let router = home.router_port();
    let url = home.agentfs(&["url", "shop/blue"]).text();
    let host = "blue.shop.localhost";
    for text in [
        format!("{host}:{router}/x"),
        format!("{host}:{router}"),
        format!("{host}/x?y#z"),
        format!("https://{host}:{router}"),
        format!("http://{host}"),
        host.to_owned(),
    ] {
        assert_eq!(home.agentfs(&["url", &text]).text(), url, "{text}");
    }
    let by_port = format!("5000.{host}:{router}/x");
    let _ = home.agentfs(&["wait", &by_port, "--timeout", "30s"]).output().success();
    let forward = home.agentfs(&["forward", &by_port]).text();
    // localhost is the instance that answers there.
    for text in [forward.trim().to_owned(), format!("http://{}/x", forward.trim())] {
        assert_eq!(home.agentfs(&["url", &text]).text(), url, "{text}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = listener.local_addr().unwrap().port();
    let own = format!("(pid {})", std::process::id());
    for text in [format!("http://{host}:{other}/"), format!("{host}:{other}/x"), format!("localhost:{other}")]
    {
        let refused = home.agentfs(&["url", &text]).output().code(2).names(&[&text, &own]);
        assert_eq!(refused.stdout, "");
        let said = home.agentfs(&["who", &text]).text();
        assert!(said.contains(&own), "{said}");
    }
    let refused = home.agentfs(&["wait", &format!("http://{host}:{other}/")]).output().code(2);
    let _ = refused.names(&[&format!("port {other} is not the router's"), &format!("port {router}")]);
    let route = home.agentfs(&["route", "x", &format!("{host}:{other}/x")]).output().code(2);
    let _ = route.names(&["not the router's"]);
    let _ = home.agentfs(&["route", "x", &format!("{host}:{router}/x")]).output().success();
    home.expect_body("x.localhost", "blue");
    let _ = home
        .agentfs(&["url", &format!("localhost:{router}")])
        .output()
        .code(2)
        .names(&["the router of agentfs"]);
}

/// "`did you mean` for a mistyped instance name in commands"
#[test]
fn a_mistyped_name_is_answered_with_what_was_meant() {
    let home = Home::new();
    let _blue = start(&home, "blue");
    for (typed, meant) in [("shop/bleu", "shop/blue"), ("bleu.shop", "blue.shop"), ("blue", "shop/blue")] {
        let meant = format!("did you mean `{meant}`?");
        let _ = home.agentfs(&["url", typed]).output().code(3).names(&[&meant]);
    }
    let _ = home.agentfs(&["stop", "shop/bleu"]).output().code(3).names(&["did you mean `shop/blue`?"]);
}

/// "a page to curl says \"this page reloads itself\" (true only in a browser)"
#[test]
fn only_a_browser_is_told_that_the_page_reloads_itself() {
    let home = Home::new();
    let _blue = start(&home, "blue");
    let page = |accept: &str| {
        let more = format!("Accept: {accept}\r\nConnection: close\r\n");
        let sent = Exchange::send(home.router_port(), "GET", "shop.localhost", "/", &more, b"");
        sent.unwrap().answer().unwrap().body
    };
    assert!(page("text/html").contains("reloads itself"));
    let text = page("*/*");
    assert!(!text.contains("reloads") && text.contains("blue.shop.localhost"), "{text}");
    let json: Value = serde_json::from_str(&page("application/json")).unwrap();
    assert!(!json.to_string().contains("reloads"));
}
