//! Who reads a page of ours, and what it may see. Everybody on this machine can connect to the router; folders, command
//! lines and paths are for the collector's own user and for root.
use crate::io::owner::Ends;
use crate::pages::Sees;
use tokio::net::TcpStream;

/// Whoever is at the other end of a connection. Looked up only where a page is made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reader<'connection> {
    /// Of this connection.
    Of(&'connection TcpStream),
    /// Of the connection with these ends.
    At(Option<Ends>),
}

// === impl Reader ===

impl Reader<'_> {
    /// What it may see. In doubt, names only.
    pub(crate) fn sees(self) -> Sees {
        let ends = match self {
            Self::Of(stream) => Ends::of(stream),
            Self::At(ends) => ends,
        };
        let own = nix::unistd::geteuid().as_raw();
        match ends.and_then(Ends::peer_user) {
            Some(user) if user == own || user == 0 => Sees::Everything,
            _ => Sees::Names,
        }
    }
}
