//! Answers questions about names under `localhost` on a UDP port of this machine, for resolvers that do not know them.
//! `agentfs names install` tells the system of it. [`agentfs_wire::dns`] decides; every collector answers the same, so it
//! does not matter whose answers.
use crate::end::ended;
use crate::limits::{DNS_RETRY, RETRY};
use crate::log;
use agentfs_wire::dns::{MESSAGE_BYTES, answer};
use std::io;
use std::net::SocketAddr;
use tokio::net::UdpSocket;
use tokio::sync::watch;

/// The socket, or the address that somebody else has.
#[derive(Debug)]
pub(crate) struct Responder {
    socket: Option<UdpSocket>,
    address: SocketAddr,
}

// === impl Responder ===

impl Responder {
    /// Takes the address if it is free.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).await;
        if let Err(error) = &socket {
            log::info!("cannot answer for names on {address}: {error}");
        }
        Self { socket: socket.ok(), address }
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.socket.as_ref()?.local_addr().ok()
    }

    /// Answers until the collector ends.
    pub(crate) async fn run(self, mut end_rx: watch::Receiver<bool>) {
        tokio::select! {
            () = self.answer() => {}
            () = ended(&mut end_rx) => {}
        }
    }

    async fn answer(self) {
        let socket = match self.socket {
            Some(socket) => socket,
            None => free(self.address).await,
        };
        let (mut message, mut reply) = ([0; MESSAGE_BYTES], [0; MESSAGE_BYTES]);
        loop {
            // An error here is that of an earlier answer whose reader is gone.
            let Ok((length, from)) = socket.recv_from(&mut message).await else {
                tokio::time::sleep(RETRY).await;
                continue;
            };
            let message = message.get(..length).unwrap_or(&[]);
            if let Some(reply) = answer(message, &mut reply).and_then(|length| reply.get(..length)) {
                let _: io::Result<usize> = socket.try_send_to(reply, from);
            }
        }
    }
}

/// Waits until the address is free: the collector of another home may have it.
async fn free(address: SocketAddr) -> UdpSocket {
    loop {
        tokio::time::sleep(DNS_RETRY).await;
        if let Ok(socket) = UdpSocket::bind(address).await {
            return socket;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a.localhost`, A.
    const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x09localhost\0\0\x01\0\x01";

    async fn asks(address: SocketAddr) -> Vec<u8> {
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(b"?", address).await.unwrap();
        client.send_to(QUESTION, address).await.unwrap();
        let mut reply = [0; 600];
        let length = client.recv(&mut reply).await.unwrap();
        reply[..length].to_vec()
    }

    #[tokio::test]
    async fn a_question_is_answered_also_after_one_that_is_none() {
        let responder = Responder::open("127.0.0.1:0".parse().unwrap()).await;
        let address = responder.address().unwrap();
        let (end_tx, end_rx) = watch::channel(false);
        let running = tokio::spawn(responder.run(end_rx));
        assert!(asks(address).await.ends_with(&[0, 4, 127, 0, 0, 1]));
        end_tx.send(true).unwrap();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_becomes_free_is_taken() {
        let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = other.local_addr().unwrap();
        let responder = Responder::open(address).await;
        assert_eq!(responder.address(), None);
        drop(other);
        let (_end_tx, end_rx) = watch::channel(false);
        let running = tokio::spawn(responder.run(end_rx));
        tokio::time::sleep(DNS_RETRY * 2).await;
        assert!(asks(address).await.ends_with(&[0, 4, 127, 0, 0, 1]));
        running.abort();
    }
}
