//! What a person is told when an instance asks for a port of the host. Pure.
use agentfs_wire::event::Call;

/// Why a connect is refused, as the trace names it: the instance is isolated from the host.
pub(crate) const ISOLATED: &str = "isolated";

/// The port is the instance's own.
pub(crate) const OWN_PORT: &str = "own_port";

/// agentfs holds the port for another instance.
pub(crate) const HELD_FOR_OTHER: &str = "held_for_other";

/// A program of another checkout holds the port.
pub(crate) const OTHER_CHECKOUT: &str = "other_checkout";

/// What a person is told of a port of the host that an instance asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) port: u16,
    /// Whether the instance does not reach it.
    pub(crate) is_refused: bool,
    pub(crate) text: String,
}

/// What is to be told of a call, if it is one for a port of the host that somebody holds, or that is barred.
pub(crate) fn news(call: &Call) -> Option<News> {
    let port: u16 =
        call.address.as_deref().filter(|_| call.call == "connect")?.rsplit(':').next()?.parse().ok()?;
    let holder = call.file.as_deref();
    match call.why.as_deref()? {
        "no_listener" => Some(News {
            port,
            is_refused: false,
            text: format!("localhost:{port} is the host's: {}", holder?),
        }),
        // The user asked for it.
        ISOLATED => None,
        why => Some(News { port, is_refused: true, text: refused(port, why, holder)? }),
    }
}

/// Why a connect to a port is refused, and what to do. `holder` is who has the port: of a forward, the instance.
pub(crate) fn refused(port: u16, why: &str, holder: Option<&str>) -> Option<String> {
    let why = match why {
        ISOLATED => "the instance is isolated and does not listen there".to_owned(),
        OWN_PORT => "the port is this instance's own, and nothing of it listens at that address".to_owned(),
        HELD_FOR_OTHER => {
            format!("agentfs holds it for {}", holder.unwrap_or("another instance"))
        }
        OTHER_CHECKOUT => {
            let by = holder.map(|holder| format!(", {holder}")).unwrap_or_default();
            format!("a program of another checkout holds it{by}")
        }
        _ => return None,
    };
    Some(format!("localhost:{port} is refused: {why}; `wrap --allow-host {port}` reaches the host's"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentfs_wire::event::Who;

    fn call(call: &str, why: Option<&str>, holder: Option<&str>) -> Call {
        Call {
            of: Who { app: "shop".to_owned(), instance: "blue".to_owned() },
            pid: None,
            command: None,
            program: None,
            call: call.to_owned(),
            fd: None,
            address: Some("127.0.0.1:5432".to_owned()),
            peer: None,
            outcome: "refused".to_owned(),
            why: why.map(str::to_owned),
            errno: None,
            socket: None,
            file: holder.map(str::to_owned),
        }
    }

    #[test]
    fn what_is_reached_and_what_is_refused_is_told() {
        let holder = Some("postgres (pid 812)");
        let reached = news(&call("connect", Some("no_listener"), holder)).unwrap();
        assert_eq!((reached.port, reached.is_refused), (5432, false));
        assert_eq!(reached.text, "localhost:5432 is the host's: postgres (pid 812)");
        for why in [OWN_PORT, HELD_FOR_OTHER, OTHER_CHECKOUT] {
            let refused = news(&call("connect", Some(why), holder)).unwrap();
            assert!(refused.is_refused && refused.text.contains("--allow-host 5432"), "{}", refused.text);
        }
        let other = news(&call("connect", Some(OTHER_CHECKOUT), holder)).unwrap();
        assert!(other.text.contains("another checkout holds it, postgres (pid 812)"), "{}", other.text);
        let held = |holder| news(&call("connect", Some(HELD_FOR_OTHER), holder)).unwrap().text;
        assert!(held(Some("shop/red")).contains("agentfs holds it for shop/red; "));
        assert!(held(None).contains("agentfs holds it for another instance; "));
        // Nobody is there, it is another call, or there is nothing to explain.
        assert_eq!(news(&call("connect", Some("no_listener"), None)), None);
        assert_eq!(news(&call("bind", Some(OWN_PORT), holder)), None);
        assert_eq!(news(&call("connect", Some(ISOLATED), holder)), None);
        assert_eq!(news(&call("connect", None, holder)), None);
    }
}
