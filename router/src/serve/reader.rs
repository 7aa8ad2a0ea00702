//! The reader of one of our pages, and what it may see. Every user of this machine can connect to the router, but only
//! the collector's own user and root may see folders, command lines and paths.
use crate::io::owner;
use crate::pages::Sees;
use agentfs_system::tcp::{self, Ends};
use tokio::net::TcpStream;

/// The client at the other end of a connection. Its user is looked up only when a page is made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reader<'connection> {
    /// The client of this connection.
    Of(&'connection TcpStream),
    /// The client of the connection with these ends.
    At(Option<Ends>),
}

// === impl Reader ===

impl Reader<'_> {
    /// What it may see. If its user is unknown, names only.
    pub(crate) fn sees(self) -> Sees {
        let ends = match self {
            Self::Of(stream) => owner::ends(stream),
            Self::At(ends) => ends,
        };
        let own = nix::unistd::geteuid().as_raw();
        match ends.and_then(tcp::peer_user) {
            Some(user) if user == own || user == 0 => Sees::Everything,
            _ => Sees::Names,
        }
    }
}
