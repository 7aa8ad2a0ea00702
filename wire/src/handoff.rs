//! How the collector hands an accepted TCP connection into the app: the protocol between its forwarder and the
//! accept hook.
//!
//! ```text
//! collector                                             the app's accept
//! connects, named `\0afs1/H/…` (see `peer`)  ─────────►  sees the name
//!                                            ◄─────────  [`HELLO`], where nothing is there yet
//! [`MESSAGE`] + connection + token           ─────────►  reads one byte of the token: the connection is its own
//!                                            ◄─────────  closes the carrier
//! ```
//!
//! The **token** is the reading end of a pipe with a single byte in it. Whoever reads that byte owns the
//! connection, so it has one owner at any time: an app that is too late finds the pipe empty and accepts the
//! next one, and the collector, which took the byte, passes bytes over a second connection (`P`). Nobody
//! reads from the TCP connection before it owns it; nothing can be lost or come twice.
//!
//! The collector sends the message at once only where a [`HELLO`] came from that listener before. An accept
//! that goes past the library (`io_uring`, a static program that inherited the listener) says none and never
//! sees a byte that is not the client's.

/// What the accept hook sends where it finds no message: it is there and waits.
pub const HELLO: &[u8] = b"\0afs1/hello\n";

/// The bytes that go with the two descriptors, connection and token.
pub const MESSAGE: &[u8] = b"H";

/// Permission bit of a socket in the run dir that is a front of the seccomp engine (the sticky bit, which means nothing on a
/// socket). There, a connection with the name of a hand-off asks for the reverse: one byte comes, and with it the descriptor of
/// a TCP connection to the program, in the client's name.
pub const FRONT: u32 = 0o1000;
