//! The host names of apps, instances and listeners. Pure. Everything that shows or exports a name or a URL uses these
//! functions, so a listener has one URL everywhere.
//!
//! | listener of | host name |
//! |---|---|
//! | the instance `main` | `APP.localhost` |
//! | another instance | `INSTANCE.APP.localhost` |
//! | either, on a port that is not its face | `PORT.` and that |

/// The instance that the name of an app means.
pub const MAIN: &str = "main";

/// The app whose name is agentfs's own: `agentfs.localhost` has the list of all apps.
pub const OWN_APP: &str = "agentfs";

/// `APP.localhost`
pub fn app_host(app: &str) -> String {
    format!("{app}.localhost")
}

/// `INSTANCE.APP.localhost`: always that instance.
pub fn instance_host(app: &str, instance: &str) -> String {
    format!("{instance}.{app}.localhost")
}

/// The host name that is shown for an instance. `is_free`: whether the name of the app still means the app, that is, no
/// route added by hand has it.
pub fn shown_host(app: &str, instance: &str, is_free: bool) -> String {
    // `80.shop.localhost` is port 80 of `shop`. Only a socket made by hand can be named so.
    if is_free && (instance == MAIN || is_port_label(instance)) {
        app_host(app)
    } else {
        instance_host(app, instance)
    }
}

/// The host name of a listener. `host` is that of its instance. `port` is `None` for the instance's face and for a
/// socket without a port.
pub fn listener_host(host: &str, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{port}.{host}"))
}

/// Which copy an instance is: 1 for `main`, 2 for `main-2` and so on. `None`: it is named in another way.
pub fn copy_number(instance: &str) -> Option<u32> {
    let rest = instance.strip_prefix(MAIN)?;
    if rest.is_empty() {
        return Some(1);
    }
    let digits = rest.strip_prefix('-').filter(|digits| !digits.starts_with('0') && is_port_label(digits))?;
    digits.parse().ok().filter(|number| *number > 1)
}

/// Whether a label consists of digits. In a host name it is a port, so it cannot be the name of an instance.
pub fn is_port_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_has_one_host_name() {
        assert_eq!(shown_host("shop", "main", true), "shop.localhost");
        assert_eq!(shown_host("shop", "main", false), "main.shop.localhost");
        assert_eq!(shown_host("shop", "main-2", true), "main-2.shop.localhost");
        assert_eq!(shown_host("shop", "blue", true), "blue.shop.localhost");
        assert_eq!(shown_host("shop", "80", true), "shop.localhost");
        assert_eq!(listener_host("blue.shop.localhost", Some(81)), "81.blue.shop.localhost");
        assert_eq!(listener_host("shop.localhost", None), "shop.localhost");
    }

    #[test]
    fn copies_are_numbered() {
        let numbers = [("main", Some(1)), ("main-2", Some(2)), ("main-17", Some(17))];
        let others = ["main-1", "main-0", "main-02", "main-x", "main-", "maine", "blue-2", "2", ""];
        for (name, number) in numbers.into_iter().chain(others.map(|name| (name, None))) {
            assert_eq!(copy_number(name), number, "{name}");
        }
    }
}
