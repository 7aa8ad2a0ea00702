//! Notices as journal events: the words that people and programs read for each call.
use crate::notice::VerifiedNotice;
use agentfs_wire::event::{self, What, Who};
use agentfs_wire::notice::{Call, Outcome, Why};
use nix::errno::Errno;
use std::path::Path;

/// The event of a notice. `run` is the run dir, for whole paths of sockets; `holder` who holds the
/// port of the host that a connect names.
pub(super) fn event(notice: &VerifiedNotice, run: &Path, holder: Option<String>) -> What {
    let file = text(&notice.file);
    let of_host = notice.call == Call::Connect && notice.outcome != Outcome::Rewritten;
    let command = file.as_deref().filter(|_| of_host).and_then(|file| file.parse().ok());
    let (socket, file) = match notice.call {
        Call::Exec | Call::Start => (None, file),
        Call::Connect if of_host => (None, holder),
        _ => (file.map(|file| run.join(file).to_string_lossy().into_owned()), None),
    };
    What::Call(Box::new(event::Call {
        of: Who::new(&notice.key.app, &notice.key.instance),
        pid: Some(notice.pid).filter(|pid| *pid != 0),
        command,
        program: text(&notice.program),
        call: call(notice.call).to_owned(),
        fd: Some(notice.fd).filter(|fd| *fd >= 0),
        address: notice.address.map(|address| address.to_string()),
        peer: notice.peer.map(|peer| peer.to_string()),
        outcome: outcome(notice.outcome).to_owned(),
        why: Some(why(notice.why).to_owned()).filter(|_| notice.why != Why::Rewritten),
        errno: (notice.errno != 0).then(|| errno(notice.errno)),
        socket,
        file,
    }))
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn call(call: Call) -> &'static str {
    match call {
        Call::Bind => "bind",
        Call::Listen => "listen",
        Call::Accept => "accept",
        Call::Connect => "connect",
        Call::Exec => "exec",
        Call::Start => "start",
        Call::Ring => "io_uring_setup",
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Rewritten => "rewritten",
        Outcome::Passed => "passed",
        Outcome::Refused => "refused",
    }
}

fn why(why: Why) -> &'static str {
    match why {
        Why::Rewritten => "rewritten",
        Why::OtherAddress => "other_address",
        Why::NotTcp => "not_tcp",
        Why::NoListener => "no_listener",
        Why::Isolated => "isolated",
        Why::OwnPort => "own_port",
        Why::HeldForOther => "held_for_other",
        Why::OtherCheckout => "other_checkout",
        Why::Excluded => "excluded",
        Why::InUse => "in_use",
        Why::NotAccepting => "not_accepting",
        Why::Failed => "failed",
        Why::Static => "cannot_reach_static",
        Why::Go => "cannot_reach_go",
        Why::OtherMachine => "cannot_reach_machine",
        Why::GainsRights => "cannot_reach_rights",
        Why::OutOfSight => "cannot_reach_out_of_sight",
        Why::EnvironmentRestored => "environment_restored",
        Why::Engine => "engine",
        Why::EngineEnded => "engine_ended",
        Why::Unreadable => "unreadable",
        Why::EngineStandIns => "engine_stand_ins",
        Why::Ring => "io_uring",
    }
}

fn errno(number: i32) -> String {
    match Errno::from_raw(number) {
        Errno::UnknownErrno => format!("errno {number}"),
        errno => format!("{errno:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Key;

    #[test]
    fn a_refused_bind_says_why() {
        let notice = VerifiedNotice {
            key: Key { app: "shop".into(), instance: "k3f9".into() },
            pid: 7,
            call: Call::Bind,
            outcome: Outcome::Refused,
            why: Why::InUse,
            errno: Errno::EADDRINUSE as i32,
            fd: 3,
            address: None,
            peer: None,
            file: "shop-k3f9.80.sock".into(),
            program: "python3".into(),
        };
        let What::Call(call) = event(&notice, Path::new("/run"), None) else {
            panic!("a notice tells of a call")
        };
        assert_eq!(call.why.as_deref(), Some("in_use"));
        assert_eq!(call.errno.as_deref(), Some("EADDRINUSE"));
        assert_eq!(call.socket.as_deref(), Some("/run/shop-k3f9.80.sock"));
    }
}
