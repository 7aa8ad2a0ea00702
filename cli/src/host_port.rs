//! What a person is told when an instance asks for a port of the host. Pure.
use agentfs_wire::event::Call;

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
    let by = holder.map(|holder| format!(", {holder}")).unwrap_or_default();
    let reach = format!("; `wrap --allow-host {port}` reaches the host's");
    let refused = |why: &str| News {
        port,
        is_refused: true,
        text: format!("localhost:{port} is refused: {why}{reach}"),
    };
    Some(match call.why.as_deref()? {
        "no_listener" => {
            News { port, is_refused: false, text: format!("localhost:{port} is the host's: {}", holder?) }
        }
        "own_port" => refused("the port is this instance's own, and nothing of it listens at that address"),
        "held_for_other" => refused("agentfs holds it for another instance"),
        "other_checkout" => refused(&format!("a program of another checkout holds it{by}")),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentfs_wire::event::Who;

    fn call(call: &str, why: Option<&str>, holder: Option<&str>) -> Call {
        Call {
            of: Who { app: "shop".to_owned(), instance: "blue".to_owned() },
            pid: None,
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
        for why in ["own_port", "held_for_other", "other_checkout"] {
            let refused = news(&call("connect", Some(why), holder)).unwrap();
            assert!(refused.is_refused && refused.text.contains("--allow-host 5432"), "{}", refused.text);
        }
        let other = news(&call("connect", Some("other_checkout"), holder)).unwrap();
        assert!(other.text.contains("another checkout holds it, postgres (pid 812)"), "{}", other.text);
        // Nobody is there, it is another call, or there is nothing to explain.
        assert_eq!(news(&call("connect", Some("no_listener"), None)), None);
        assert_eq!(news(&call("bind", Some("own_port"), holder)), None);
        assert_eq!(news(&call("connect", Some("isolated"), holder)), None);
        assert_eq!(news(&call("connect", None, holder)), None);
    }
}
