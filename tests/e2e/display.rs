//! "`ps` and text pages print folder names raw (ESC, newlines)": what comes from outside is one line and nothing that a
//! terminal obeys, wherever people read it. JSON keeps it as it is.
use agentfs_tests::wait::until;
use agentfs_tests::{Home, artifact, http};
use serde_json::Value;

/// Clears the screen, sets a title, begins a line, changes the direction of text.
const NAME: &str = "a\u{1b}[2J\u{1b}]0;x\u{7}\nFAIL\u{202e}b";

/// The text as shown.
const SEEN: &str = "a\\u{1b}[2J\\u{1b}]0;x\\u{7}\\nFAIL\\u{202e}b";

fn assert_harmless(text: &str) {
    let acts = |character: char| character != '\n' && (character.is_control() || character == '\u{202e}');
    assert!(!text.contains(acts) && !text.contains("\nFAIL"), "{text:?}");
}

#[test]
fn names_from_outside_are_never_obeyed() {
    let home = Home::new();
    let folder = home.work().join(NAME);
    std::fs::create_dir(&folder).unwrap();
    let server = artifact::binary("fixture-wait").display().to_string();
    let wrapped = ["wrap", "-v", "--app", "shop", "--instance", "one", "--", &server, NAME];
    let running = home.agentfs(&wrapped).directory(&folder).spawn();
    home.listener("shop", "one", 5000);
    let plain = |host: &str| http::get(home.router_port(), host, "/").unwrap().body;
    let list = home.agentfs(&["ps"]).text();
    assert!(list.contains(SEEN), "{list}");
    let pages = [plain("agentfs.localhost"), list];
    let json: Value = serde_json::from_str(&home.agentfs(&["ps", "--json"]).text()).unwrap();
    assert!(json[0]["directory"].as_str().unwrap().ends_with(NAME), "{json}");
    assert_eq!(json[0]["command"][1], NAME);
    let failed = home.agentfs(&["wrap", "--", &folder.join("gone").display().to_string()]).output().code(127);
    assert!(failed.stderr.contains(SEEN), "{}", failed.explain());
    let route = home.agentfs(&["route", "by-hand", &folder.join("s.sock").display().to_string()]).output();
    let routes = home.agentfs(&["route", "--list"]).text();
    assert!(routes.contains(SEEN), "{routes}");
    let others = [
        home.agentfs(&["stop", NAME]).output().stderr,
        home.agentfs(&["exec", NAME, "--", "true"]).output().stderr,
        home.agentfs(&["forward", NAME]).output().stderr,
        home.agentfs(&["doctor"]).env("AGENTFS_HOME", folder.join("h")).output().stdout,
        home.agentfs(&["daemon", "status"]).env("AGENTFS_HOME", folder.join("h")).output().stdout,
        home.agentfs(&["wrap", "-v", "--", "/bin/sh", "-c", "true"]).directory(&folder).output().stderr,
        format!("{}{}{}", route.stdout, route.stderr, plain("by-hand.localhost")),
    ];
    let ended = running.terminate();
    home.gone("shop", "one");
    let page = until("the page of what has ended", || {
        Some(plain("one.shop.localhost")).filter(|page| page.contains("wrap"))
    });
    assert!(page.contains(SEEN), "{page}");
    let trace = home.agentfs(&["trace", "--", "sh", "-c", "exit 0", NAME]).directory(&folder).output().stderr;
    let log = std::fs::read_to_string(&home.paths().log).unwrap();
    for text in
        pages.iter().chain(&others).chain([&failed.stderr, &routes, &ended.stderr, &page, &trace, &log])
    {
        assert_harmless(text);
    }
}
