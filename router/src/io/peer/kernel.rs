//! Whether the socket at the other end of a connection is still held by a process: one question for one socket
//! (`owner`), and if the kernel refuses that, its list of all sockets, which another thread reads.
use crate::io::owner::ends;
use agentfs_system::tcp::{Ends, peer_inode_listed, peer_socket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::net::TcpStream;

/// A question to the list of all sockets that may be under way.
#[derive(Debug, Default)]
pub(super) struct Lookup(Option<Arc<AtomicU8>>);

/// What came of it so far.
const PENDING: u8 = 0;
const HELD: u8 = 1;
const ORPHAN: u8 = 2;

// === impl Lookup ===

impl Lookup {
    /// Whether no process holds the other end of `stream` any more. Where that has to be looked up elsewhere, the
    /// answer is that of the last time.
    pub(super) fn is_orphan(&mut self, stream: &TcpStream) -> bool {
        let Some(ends) = ends(stream) else { return true };
        match peer_socket(ends) {
            Ok(socket) => socket.is_none_or(|socket| socket.inode == 0),
            Err(_) => self.is_listed_orphan(ends),
        }
    }

    fn is_listed_orphan(&mut self, ends: Ends) -> bool {
        let known = self.0.as_ref().map(|asked| asked.load(Ordering::Relaxed));
        match known {
            Some(PENDING) => false,
            Some(ORPHAN) => true,
            _ => {
                let asked = Arc::new(AtomicU8::new(PENDING));
                self.0 = Some(Arc::clone(&asked));
                // The list may be long: it is not read where connections are served.
                tokio::task::spawn_blocking(move || {
                    let orphan =
                        peer_inode_listed(ends).is_ok_and(|inode| inode.is_none_or(|inode| inode == 0));
                    asked.store(if orphan { ORPHAN } else { HELD }, Ordering::Relaxed);
                });
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the kernel takes no question.
    #[tokio::test]
    async fn the_list_is_read_aside() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        let ends = ends(&ours).unwrap();
        let mut lookup = Lookup::default();
        assert!(!lookup.is_listed_orphan(ends));
        drop(client);
        while !lookup.is_listed_orphan(ends) {
            tokio::task::yield_now().await;
        }
    }
}
