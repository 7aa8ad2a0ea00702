//! Whether a request that failed is sent once more. Pure: one policy, whatever its client and its application speak.
//!
//! What an application may have acted on is not repeated, unless the method allows it. A kept connection may end at
//! the very moment it is used, so its failure says nothing about the application; that of a fresh one does.
use crate::error::Failure;

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It stands: the client is told.
    Never,
    /// The request is sent on a fresh connection.
    Fresh,
    /// As `Fresh`, if the listener turns out to be gone: connections that it had not accepted end with it.
    IfDead,
    /// The request is sent in HTTP/2, if it is still whole: the listener speaks nothing else.
    InHttp2,
}

/// What follows from `failure` before the client got anything of an answer. `reused`: the connection had served a
/// request before. `repeatable`: the request may reach the application twice, and nothing of it is used up.
/// `fresh`: this is a second try already.
pub(crate) fn again(failure: &Failure, reused: bool, repeatable: bool, fresh: bool) -> Again {
    match failure {
        Failure::Undelivered if reused => Again::Fresh,
        Failure::Undelivered => Again::IfDead,
        Failure::Unread | Failure::Silent if reused && repeatable && !fresh => Again::Fresh,
        Failure::Unread if repeatable => Again::IfDead,
        Failure::OtherProtocol => Again::InHttp2,
        Failure::Unread
        | Failure::Silent
        | Failure::Garbage(_)
        | Failure::NotHttp
        | Failure::Truncated
        | Failure::ClientGone
        | Failure::ClientBody(_)
        | Failure::ClientSlow => Again::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_answer() {
        use Again::{Fresh, IfDead, InHttp2, Never};
        // Failure, and what follows on a fresh connection and on a kept one, for a request that may not be repeated;
        // then the same two for one that may, and that one on a kept connection though it is a second try.
        let table = [
            (Failure::Undelivered, [IfDead, Fresh], [IfDead, Fresh], Fresh),
            (Failure::Unread, [Never, Never], [IfDead, Fresh], IfDead),
            (Failure::Silent, [Never, Never], [Never, Fresh], Never),
            (Failure::OtherProtocol, [InHttp2, InHttp2], [InHttp2, InHttp2], InHttp2),
            (Failure::Garbage("head"), [Never, Never], [Never, Never], Never),
            (Failure::NotHttp, [Never, Never], [Never, Never], Never),
            (Failure::Truncated, [Never, Never], [Never, Never], Never),
            (Failure::ClientGone, [Never, Never], [Never, Never], Never),
            (Failure::ClientBody("chunk"), [Never, Never], [Never, Never], Never),
            (Failure::ClientSlow, [Never, Never], [Never, Never], Never),
        ];
        for (failure, once, repeatable, second) in table {
            for (reused, index) in [(false, 0), (true, 1)] {
                assert_eq!(again(&failure, reused, false, false), once[index], "{failure:?}, kept: {reused}");
                let twice = again(&failure, reused, true, false);
                assert_eq!(twice, repeatable[index], "{failure:?}, kept: {reused}, repeatable");
            }
            assert_eq!(again(&failure, true, true, true), second, "{failure:?}, again");
        }
    }
}
