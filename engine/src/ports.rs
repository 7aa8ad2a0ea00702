//! The ports of an instance: a port space where the system has a network name space for us, else stand-ins.
use crate::facts::{self, Tcp};
use crate::port_space::PortSpace;
use crate::stand_ins::{self, StandIns};
use crate::sys::options;
use agentfs_wire::address::Endpoint;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Where an instance's sockets are.
#[derive(Debug)]
pub(crate) enum Ports {
    /// In a network of the instance's own.
    Space(PortSpace),
    /// On the host's loopback, under other numbers.
    StandIns(StandIns),
}

// === impl Ports ===

impl Ports {
    /// A fresh TCP socket of the instance.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn socket(&mut self, v6: bool) -> io::Result<OwnedFd> {
        match self {
            Self::Space(space) => space.socket(v6),
            Self::StandIns(_) => stand_ins::socket(v6),
        }
    }

    /// Whether a program's socket is one of the instance.
    pub(crate) fn has(&self, socket: impl AsFd, tcp: Tcp) -> bool {
        match self {
            Self::Space(space) => space.has(tcp.network),
            Self::StandIns(_) => stand_ins::is_one(socket),
        }
    }

    /// Binds a socket to the address of the instance that a program spelled. `is_free`: nobody of the instance has that port.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn bind(&mut self, socket: &OwnedFd, bytes: &[u8], is_free: bool) -> io::Result<()> {
        match self {
            Self::Space(_) => options::bind(socket, bytes),
            Self::StandIns(stand_ins) => stand_ins.bind(socket, bytes, is_free),
        }
    }

    /// The name of a socket of the instance, as programs see it.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn name(&self, socket: impl AsFd) -> io::Result<Endpoint> {
        facts::name(socket).map(|name| match self {
            Self::Space(_) => name,
            Self::StandIns(stand_ins) => Endpoint { port: stand_ins.of_instance(name.port), ..name },
        })
    }

    /// Where a socket of the instance finds a port of the instance.
    pub(crate) fn at(&self, to: Endpoint) -> Endpoint {
        match self {
            Self::Space(_) => to,
            Self::StandIns(stand_ins) => stand_ins.at(to),
        }
    }

    /// The process that a port space needs.
    pub(crate) fn helper(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Space(space) => Some(space.helper()),
            Self::StandIns(_) => None,
        }
    }

    /// Nobody needs it any more.
    pub(crate) fn end(&self) {
        if let Self::Space(space) = self {
            space.end();
        }
    }
}
