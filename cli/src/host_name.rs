//! What a host name below `.localhost` means, by the rules of the router: an app's name is its instance `main`, and never
//! another fork. Pure.
use crate::pasted::port_label;
use agentfs_wire::control::{InstanceInfo, RouteInfo};
use agentfs_wire::host::{MAIN, copy_number};

/// What a host name means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Meaning<'a> {
    /// A route added by hand.
    Route(&'a RouteInfo),
    /// These instances, which share the name; of each the port, if the name begins with one.
    Instances(Vec<&'a InstanceInfo>, Option<u16>),
    /// The instance `main` of this app, which is not running.
    NoMain(String),
    /// Nothing that is running.
    Nothing,
}

/// What `name`, without `.localhost` and in lower case, means.
pub(crate) fn meaning<'a>(name: &str, routes: &'a [RouteInfo], all: &'a [InstanceInfo]) -> Meaning<'a> {
    let by_hand = |name: &str| {
        let host = format!("{name}.localhost");
        routes.iter().find(|route| route.host == host)
    };
    if let Some(route) = by_hand(name) {
        return Meaning::Route(route);
    }
    let (rest, port) = port_label(name);
    let known = match rest.split_once('.') {
        None => {
            let found = of_app(rest, all);
            if found.is_empty() { None } else { Some(Meaning::Instances(found, port)) }
        }
        Some((instance, app)) => {
            let of = |info: &&InstanceInfo| info.app == app && info.instance == instance;
            all.iter().find(of).map(|info| Meaning::Instances(vec![info], port))
        }
    };
    if let Some(known) = known {
        return known;
    }
    // A wildcard route takes what nothing else has.
    let mut above = name.split_once('.');
    while let Some((_, parent)) = above {
        if let Some(route) = by_hand(parent).filter(|route| route.wildcard) {
            return Meaning::Route(route);
        }
        above = parent.split_once('.');
    }
    match rest.contains('.') {
        false if all.iter().any(|info| info.app == rest) => Meaning::NoMain(rest.to_owned()),
        _ => Meaning::Nothing,
    }
}

/// The instances that `APP.localhost` means: `main` and its copies, or sockets made by hand.
pub(crate) fn of_app<'a>(app: &str, all: &'a [InstanceInfo]) -> Vec<&'a InstanceInfo> {
    // An older collector does not say.
    let is_by_hand = |info: &InstanceInfo| info.command.is_empty() && info.directory.is_none();
    let leads = |info: &&InstanceInfo| {
        info.has_app_name.unwrap_or_else(|| copy_number(&info.instance).is_some() || is_by_hand(info))
    };
    let is_main = |info: &&InstanceInfo| info.instance == MAIN;
    let of_app: Vec<&InstanceInfo> = all.iter().filter(|info| info.app == app).collect();
    let mut found: Vec<&InstanceInfo> =
        of_app.into_iter().filter(|info| is_main(info) || leads(info)).collect();
    found.sort_by_key(|info| !is_main(info));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::tests::{info, started};

    fn names(meaning: &Meaning<'_>) -> Vec<String> {
        match meaning {
            Meaning::Instances(found, _) => found.iter().map(|info| info.instance.clone()).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn the_host_name_of_an_app_is_never_another_fork() {
        let forks = [started("blue")];
        assert_eq!(meaning("shop", &[], &forks), Meaning::NoMain("shop".to_owned()));
        assert_eq!(meaning("5000.shop", &[], &forks), Meaning::NoMain("shop".to_owned()));
        assert_eq!(meaning("none", &[], &forks), Meaning::Nothing);
        assert_eq!(meaning("red.shop", &[], &forks), Meaning::Nothing);
        let all = [started("blue"), started("main-2"), started("main"), info("shop", "by-hand")];
        assert_eq!(names(&meaning("shop", &[], &all)), ["main", "main-2", "by-hand"]);
        assert_eq!(meaning("5173.shop", &[], &all[2..3]), Meaning::Instances(vec![&all[2]], Some(5173)));
        assert_eq!(meaning("5173.blue.shop", &[], &all), Meaning::Instances(vec![&all[0]], Some(5173)));
        // The collector knows better than the name: another command of another folder.
        let other = InstanceInfo { has_app_name: Some(false), ..started("main-2") };
        assert_eq!(meaning("shop", &[], &[other]), Meaning::NoMain("shop".to_owned()));
    }

    #[test]
    fn a_route_by_hand_wins_and_a_wildcard_takes_what_is_left() {
        let route = |host: &str, wildcard| {
            let text = format!(r#"{{"host":"{host}","target":"/s","wildcard":{wildcard}}}"#);
            serde_json::from_str::<RouteInfo>(&text).unwrap()
        };
        let routes = [route("shop.localhost", false), route("wild.localhost", true)];
        let all = [started("main"), info("wild", "one")];
        assert_eq!(meaning("shop", &routes, &all), Meaning::Route(&routes[0]));
        assert_eq!(names(&meaning("main.shop", &routes, &all)), ["main"]);
        assert_eq!(meaning("x.y.wild", &routes, &all), Meaning::Route(&routes[1]));
        assert_eq!(names(&meaning("one.wild", &routes, &all)), ["one"]);
        assert_eq!(meaning("x.shop", &routes, &all), Meaning::Nothing);
    }
}
