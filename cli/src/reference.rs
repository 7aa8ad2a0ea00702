//! How people name instances: `APP/INSTANCE`, `INSTANCE.APP`, `APP`, which is its instance `main`, or a URL of one. And
//! what they are told where a name is wrong. Pure.
use crate::exit::Exit;
use crate::hint::Failure;
use crate::host_name::{Meaning, meaning, of_app};
use agentfs_wire::control::{InstanceInfo, ListenerInfo, RouteInfo};
use std::collections::BTreeSet;

/// Candidates that an error message lists.
const LISTED: usize = 8;

/// Words of a command line that a hint repeats after the instance.
const WORDS: usize = 6;

/// Bytes of such a word; from a longer one on, nothing is repeated.
const WORD_BYTES: usize = 60;

/// Letters in which a name may differ from what was typed, to be proposed.
const EDITS: usize = 2;

/// How alike (0 to 1) they must be: two letters of three are another name.
const LIKENESS: f64 = 0.6;

/// The failure for `text`, or for no name, if nothing is running.
pub(crate) fn nothing_runs(text: Option<&str>) -> Failure {
    let message = match text {
        Some(text) => format!("no instance `{text}` is running"),
        None => "nothing is running".to_owned(),
    };
    Failure::new(Exit::NotFound, message)
        .hint("nothing is running; start something with `agentfs wrap -- COMMAND`")
}

/// The one instance that a name means: `APP/INSTANCE`, `INSTANCE.APP` or `APP`. `line` is our command line, for the
/// commands that an error proposes.
///
/// # Errors
/// [`Exit::NotFound`] if there is none, [`Exit::Usage`] if there are several.
pub(crate) fn one<'a>(
    text: &str,
    line: &[String],
    all: &'a [InstanceInfo],
) -> Result<&'a InstanceInfo, Failure> {
    let name = text.to_ascii_lowercase();
    let pair = name.split_once('/').or_else(|| name.rsplit_once('.').map(|(instance, app)| (app, instance)));
    let Some((app, instance)) = pair else {
        return match of_app(&name, all).as_slice() {
            [] => Err(no_main(text, &name, line, all)),
            found => only(text, found),
        };
    };
    let found = all.iter().find(|info| info.app == app && info.instance == instance);
    found.ok_or_else(|| unknown(text, all))
}

/// The only running instance of an app whose `main` is not running, where `text` is that app and nothing else.
pub(crate) fn only_fork<'a>(text: &str, all: &'a [InstanceInfo]) -> Option<&'a InstanceInfo> {
    let app = text.to_ascii_lowercase();
    let mut forks = all.iter().filter(|info| info.app == app);
    let first = forks.next()?;
    (forks.next().is_none() && of_app(&app, all).is_empty()).then_some(first)
}

/// The one instance that a host name means. `name` is the host without `.localhost`, `text` what was typed.
///
/// # Errors
/// As for [`one`]; also where a route added by hand leads to something else.
pub(crate) fn by_host<'a>(
    text: &str,
    name: &str,
    line: &[String],
    routes: &'a [RouteInfo],
    all: &'a [InstanceInfo],
) -> Result<&'a InstanceInfo, Failure> {
    match meaning(name, routes, all) {
        Meaning::Instances(found, _) => only(text, &found),
        Meaning::NoMain(app) => Err(no_main(text, &app, line, all)),
        Meaning::Nothing => Err(unknown(text, all)),
        Meaning::Route(route) => {
            let target = route.target.as_str();
            let listens = |info: &&InstanceInfo| info.listeners.iter().any(|it| it.socket == target);
            if let Some(info) = all.iter().find(listens) {
                return Ok(info);
            }
            if target.starts_with('/') || target.contains(':') {
                let message = format!("`{text}` is a route to {target}, which is not an instance");
                return Err(Failure::new(Exit::Usage, message).hint("name an instance, as in APP/INSTANCE"));
            }
            one(target.strip_suffix(".localhost").unwrap_or(target), &[], all)
        }
    }
}

/// The only one of those that share a name; `main` stands for its copies.
fn only<'a>(text: &str, found: &[&'a InstanceInfo]) -> Result<&'a InstanceInfo, Failure> {
    match found {
        [only] => Ok(only),
        [main, ..] if main.instance == agentfs_wire::host::MAIN => Ok(main),
        several => {
            let failure =
                Failure::new(Exit::Usage, format_args!("`{text}` matches {} instances", several.len()));
            let list = listed(several.iter().copied()).unwrap_or_default();
            Err(failure.hint(format_args!("choose one of {list}")))
        }
    }
}

/// The name of an app whose `main` is not running. It never means a fork: those that run are listed, with the commands.
fn no_main(text: &str, app: &str, line: &[String], all: &[InstanceInfo]) -> Failure {
    let forks: Vec<&InstanceInfo> = all.iter().filter(|info| info.app == app).collect();
    let Some(list) = listed(forks.iter().copied()) else { return unknown(text, all) };
    let failure = Failure::new(Exit::NotFound, format_args!("no instance `{app}/main` is running"));
    let commands: Vec<String> = forks
        .iter()
        .take(LISTED)
        .filter_map(|info| again(line, text, &format!("{}/{}", info.app, info.instance)))
        .map(|command| format!("`{command}`"))
        .collect();
    let hint = format!("`{text}` means the instance main of {app}; running: {list}");
    failure.hint(if commands.is_empty() { hint } else { format!("{hint}; {}", commands.join(" or ")) })
}

/// The command line with another name of the instance, in its first words.
fn again(line: &[String], text: &str, name: &str) -> Option<String> {
    let is_it =
        |word: &String| word == text || word.strip_prefix(text).is_some_and(|rest| rest.starts_with(':'));
    let at = line.iter().skip(1).position(is_it)? + 1;
    let rest = line.get(at)?.strip_prefix(text)?;
    let before = line.get(1..at)?.join(" ");
    let after = line.get(at + 1..)?;
    let mut words = vec!["agentfs".to_owned(), before, format!("{name}{rest}")];
    let shown: Vec<&String> = after.iter().take(WORDS).take_while(|word| word.len() <= WORD_BYTES).collect();
    let is_cut = shown.len() < after.len();
    words.extend(shown.into_iter().map(|word| quoted(word)));
    words.extend(is_cut.then(|| "…".to_owned()));
    Some(words.join(" "))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:=@%+,-".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A name that nothing has: what was perhaps meant, and what is running.
pub(crate) fn unknown(text: &str, all: &[InstanceInfo]) -> Failure {
    let Some(list) = listed(all.iter()) else { return nothing_runs(Some(text)) };
    let failure = Failure::new(Exit::NotFound, format_args!("no instance `{text}` is running"));
    match alike(text, all) {
        Some(name) => failure.hint(format_args!("did you mean `{name}`? running: {list}")),
        None => failure.hint(format_args!("running: {list}")),
    }
}

/// The running instance whose name is most like `text`, if one is like it, written as `text` is.
fn alike(text: &str, all: &[InstanceInfo]) -> Option<String> {
    let text = text.to_ascii_lowercase();
    // A name, and what to write for it.
    let names = all.iter().flat_map(|info| {
        let (app, instance) = (&info.app, &info.instance);
        let (full, host) = (format!("{app}/{instance}"), format!("{instance}.{app}"));
        match (text.contains('/'), text.contains('.')) {
            (true, _) => vec![(full.clone(), full)],
            (_, true) => vec![(host.clone(), host)],
            // An app alone is one only where its `main` is running, an instance alone never.
            _ if of_app(app, all).is_empty() => vec![(app.clone(), full.clone()), (instance.clone(), full)],
            _ => vec![(app.clone(), app.clone()), (instance.clone(), full)],
        }
    });
    let scored = names.map(|(name, written)| {
        let likeness = strsim::normalized_damerau_levenshtein(&text, &name);
        (strsim::damerau_levenshtein(&text, &name), likeness, written)
    });
    let like = scored.filter(|(edits, likeness, _)| *edits <= EDITS && *likeness >= LIKENESS);
    like.min_by(|one, other| (one.0, &one.2).cmp(&(other.0, &other.2))).map(|(.., written)| written)
}

/// The listener of an instance on `port`; without a port, its main one.
///
/// # Errors
/// [`Exit::NotFound`] if there is none; the hint lists what there is.
pub(crate) fn listener(info: &InstanceInfo, port: Option<u16>) -> Result<&ListenerInfo, Failure> {
    let name = format!("{}/{}", info.app, info.instance);
    let found = match port {
        Some(port) => info.listeners.iter().find(|listener| listener.port == port),
        None => info.listeners.first(),
    };
    found.ok_or_else(|| {
        let ports: BTreeSet<u16> = info.listeners.iter().map(|listener| listener.port).collect();
        let list: Vec<String> = ports.iter().map(u16::to_string).collect();
        match port {
            Some(port) if !list.is_empty() => {
                Failure::new(Exit::NotFound, format_args!("{name} does not listen on port {port}"))
                    .hint(format_args!("it listens on {}", list.join(", ")))
            }
            _ => Failure::new(Exit::NotFound, format_args!("{name} does not listen on any port yet"))
                .hint(format_args!("run `agentfs wait {name}` to wait for it")),
        }
    })
}

/// The names of instances, for a hint; `None` if there are none.
pub(crate) fn listed<'a>(all: impl Iterator<Item = &'a InstanceInfo>) -> Option<String> {
    let mut names: Vec<String> = all.map(|info| format!("{}/{}", info.app, info.instance)).collect();
    names.sort();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    (!names.is_empty()).then(|| names.join(", "))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn info(app: &str, instance: &str) -> InstanceInfo {
        InstanceInfo {
            app: app.to_owned(),
            instance: instance.to_owned(),
            host: String::new(),
            url: None,
            directory: None,
            command: Vec::new(),
            wrap_pid: None,
            commands: Vec::new(),
            pids: Vec::new(),
            started_ms: 0,
            listeners: Vec::new(),
            has_app_name: None,
        }
    }

    pub(crate) fn started(name: &str) -> InstanceInfo {
        InstanceInfo { command: vec!["x".to_owned()], ..info("shop", name) }
    }

    fn all() -> Vec<InstanceInfo> {
        vec![started("blue"), started("feature-cart"), info("api", "k3f9")]
    }

    fn hint(text: &str, line: &[&str], all: &[InstanceInfo]) -> String {
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        one(text, &line, all).unwrap_err().hint.unwrap()
    }

    #[test]
    fn every_form_of_a_name_is_understood() {
        let all = all();
        let found = |text: &str| one(text, &[], &all).unwrap().instance.clone();
        for text in ["shop/feature-cart", "feature-cart.shop", "Shop/Feature-Cart"] {
            assert_eq!(found(text), "feature-cart", "{text}");
        }
        assert_eq!(found("api"), "k3f9", "a socket made by hand");
        let copies = [started("main-2"), started("main"), started("main-3")];
        assert_eq!(one("shop", &[], &copies).unwrap().instance, "main");
        assert_eq!(one("shop", &[], &copies[..1]).unwrap().instance, "main-2");
        let several = [started("main-2"), started("main-3")];
        let several = one("shop", &[], &several).unwrap_err();
        assert_eq!(several.exit, Exit::Usage);
        assert_eq!(several.hint.as_deref(), Some("choose one of shop/main-2, shop/main-3"));
    }

    #[test]
    fn an_app_alone_is_never_a_fork() {
        let all = all();
        assert_eq!(only_fork("Shop", &all[..1]).unwrap().instance, "blue");
        for text in ["shop", "shop/blue", "api", "red"] {
            assert!(only_fork(text, &all).is_none(), "{text}");
        }
        let none = one("shop", &[], &all[..1]).unwrap_err();
        assert_eq!(
            (none.exit, none.message.as_str()),
            (Exit::NotFound, "no instance `shop/main` is running")
        );
        let exec = ["agentfs", "exec", "shop", "--", "curl", "-v", "a", "b", "c", "d", "e"];
        assert_eq!(
            hint("shop", &exec, &all[..1]),
            "`shop` means the instance main of shop; running: shop/blue; `agentfs exec shop/blue -- curl -v a b c …`"
        );
        let script = ["agentfs", "exec", "shop", "sh", "-c", "echo $A 'b'"];
        let quoted = r"`agentfs exec shop/blue sh -c 'echo $A '\''b'\'''`";
        assert!(hint("shop", &script, &all[..1]).ends_with(quoted));
        assert!(
            hint("shop", &["agentfs", "forward", "shop:5432"], &all)
                .ends_with("; `agentfs forward shop/blue:5432` or `agentfs forward shop/feature-cart:5432`")
        );
        let host = |name: &str| by_host("x", name, &[], &[], &all).map(|info| info.instance.clone());
        assert_eq!(host("shop").unwrap_err().message, "no instance `shop/main` is running");
        assert_eq!(host("5000.blue.shop").unwrap(), "blue");
        assert!(host("red.shop").is_err());
    }

    #[test]
    fn a_route_by_hand_may_lead_to_an_instance() {
        let all = all();
        let found = |target: &str| {
            let text = format!(r#"{{"host":"shop.localhost","target":"{target}"}}"#);
            let route: RouteInfo = serde_json::from_str(&text).unwrap();
            by_host("x", "shop", &[], &[route], &all).map(|info| info.instance.clone())
        };
        assert_eq!(found("shop/blue").unwrap(), "blue");
        assert_eq!(found("blue.shop.localhost").unwrap(), "blue");
        assert!(found("127.0.0.1:80").unwrap_err().message.contains("a route to 127.0.0.1:80"));
        assert!(found("/x.sock").is_err());
    }

    #[test]
    fn a_name_that_fails_lists_what_there_is_and_what_was_meant() {
        let all = all();
        let none = one("shop/red", &[], &all).unwrap_err();
        assert_eq!(none.exit, Exit::NotFound);
        assert!(none.hint.unwrap().contains("api/k3f9"));
        assert!(one("x", &[], &[]).unwrap_err().hint.is_some());
        for (typed, meant) in [
            ("shop/bleu", "shop/blue"),
            ("shop/feature-crat", "shop/feature-cart"),
            ("bleu.shop", "blue.shop"),
            ("blue", "shop/blue"),
            ("shp", "shop/blue"),
            ("ap", "api"),
        ] {
            let said = hint(typed, &[], &all);
            assert!(said.starts_with(&format!("did you mean `{meant}`? ")), "{typed}: {said}");
        }
        assert!(hint("elsewhere/none", &[], &all).starts_with("running: "));
    }
}
