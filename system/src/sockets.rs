//! What is said of TCP sockets.
use std::net::SocketAddr;

/// A socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Where.
    pub address: SocketAddr,
    /// The user who created it.
    pub uid: u32,
    /// Its inode number: the socket's own for as long as it is listed.
    pub inode: u64,
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The other end.
    pub peer: SocketAddr,
    /// Ours.
    pub here: SocketAddr,
}

/// The socket at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerSocket {
    /// Its inode number; 0 if no process holds it any more.
    pub inode: u32,
    /// The user who created it. Not valid if no process holds it: then the kernel reports root.
    pub uid: u32,
}
