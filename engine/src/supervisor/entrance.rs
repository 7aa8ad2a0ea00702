//! Programs that start: each asks whether there is a port space, installs its filter, and sends its descriptor.
use super::passing::{Full, next_of};
use super::{Source, Supervisor};
use crate::limits::MESSAGE_BYTES;
use crate::process::Caller;
use crate::protocol::{Answer, Ask};
use nix::sys::epoll::EpollFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

impl Supervisor {
    /// Accepts everybody who waits. The folder of the socket is the user's alone.
    pub(super) fn let_in(&mut self) {
        loop {
            let connection = match next_of(&self.entrance, 0) {
                Ok(Some(connection)) => connection,
                Ok(None) => return,
                Err(Full) => return self.rest(Source::Entrance),
            };
            let which = self.last + 1;
            if self.wait_for(&connection, Source::Entering(which), EpollFlags::EPOLLIN).is_ok() {
                self.entering.insert(which, connection);
            }
        }
    }

    /// Hears one message, and answers.
    pub(super) fn hear(&mut self, which: u64, token: u64) {
        let Some(connection) = self.entering.remove(&which) else { return };
        self.has_begun = true;
        match self.answer_to(&connection) {
            Ok(true) => {
                self.entering.insert(which, connection);
            }
            Ok(false) | Err(_) => self.forget(token),
        }
    }

    /// Whether the connection goes on.
    fn answer_to(&mut self, connection: &OwnedFd) -> io::Result<bool> {
        let mut message = vec![0; MESSAGE_BYTES];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = match recvmsg(connection, &mut [IoSliceMut::new(&mut message)], &mut control, flags) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(true),
            result => result?.bytes,
        };
        if received == 0 {
            return Ok(false);
        }
        let filter = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
            _ => None,
        });
        let ask = serde_json::from_slice::<Ask>(message.get(..received).unwrap_or(&[]));
        let errno = match (ask, filter) {
            (Ok(Ask::Hello), _) => self.ports.as_ref().err().copied(),
            (Ok(Ask::Serve { member, network }), Some(filter))
                if (&member.app, &member.instance) == (&self.places.app, &self.places.instance) =>
            {
                let added = self.add_filter(filter, member, network);
                added.err().map(|error| error.raw_os_error().unwrap_or(libc::EIO))
            }
            (Ok(Ask::Foreign), _) => {
                self.has_foreigners = true;
                None
            }
            _ => Some(libc::EINVAL),
        };
        let unreadable = rustix::net::sockopt::socket_peercred(connection).ok().and_then(|peer| {
            let caller = Caller(peer.pid.as_raw_nonzero().get().unsigned_abs());
            caller.is_readable().err().and_then(|error| error.raw_os_error())
        });
        let answer = Answer {
            errno,
            sockets: self.sockets(),
            makes_sockets: self.copies.is_needed(),
            pid: std::process::id().cast_signed(),
            unreadable,
        };
        let answer = serde_json::to_vec(&answer)?;
        send(connection, &answer, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
        Ok(true)
    }
}
