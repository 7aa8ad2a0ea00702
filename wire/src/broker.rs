//! The protocol by which a process that changed its user asks the collector to use the run dir for it.
//!
//! A server that root starts and that drops its privileges (nginx, `su postgres -c …`) can no longer enter
//! the run dir, which only its owner can enter. It sends one [`Request`] over a `SOCK_SEQPACKET` connection
//! to the abstract socket [`socket_name`]. It gets one [`Answer`], with a descriptor (`SCM_RIGHTS`) if it
//! asked for a socket. The collector serves only a process that knows the secret of the instance that the
//! request names ([`crate::secret`]). Linux only.
use crate::text::Text;
use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{BorrowDecode, Decode, Encode};

/// First byte of requests and answers.
pub const VERSION: u8 = 2;

/// Bytes of the longest request.
pub const REQUEST_BYTES: usize = 512;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<REQUEST_BYTES>> =
    bincode::config::standard().with_fixed_int_encoding().with_limit();

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub enum Ask<'a> {
    /// Whether a stream socket is bound to the file: errno 0, ECONNREFUSED (stale) or ENOENT.
    Probe {
        /// File name in the run dir.
        file: &'a str,
    },
    /// A stream socket bound to the file; a stale file is removed first. EADDRINUSE if the file is in use.
    Bind {
        /// File name in the run dir.
        file: &'a str,
        /// Whether the path is spelled with a double slash (see `name`).
        mapped: bool,
    },
    /// A stream socket bound to the abstract name and connected to the file.
    Connect {
        /// File name in the run dir.
        file: &'a str,
        /// Name of the client end (see `peer`), with its leading NUL.
        name: &'a [u8],
    },
}

/// One request.
#[derive(Clone, Copy, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Request<'a> {
    /// The app that the process belongs to.
    pub app: &'a str,
    /// The instance that the process belongs to.
    pub instance: &'a str,
    /// The instance's secret, as proof. Empty if the process has none.
    pub secret: &'a str,
    /// What to do.
    pub ask: Ask<'a>,
}

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Answer {
    /// 0, or what went wrong.
    pub errno: i32,
}

/// Name of the abstract socket, with its leading NUL. Each folder with a run dir has its own.
pub fn socket_name(base: &[u8]) -> Text<32> {
    let mut name = Text::new();
    name.push("\0afs1/B/");
    name.push_hex(crate::peer::space(base, "", ""), 16);
    name
}

fn write(value: impl Encode, buffer: &mut [u8]) -> Option<usize> {
    let (version, rest) = buffer.split_first_mut()?;
    *version = VERSION;
    bincode::encode_into_slice(value, rest, CONFIG).ok()?.checked_add(1)
}

fn read<'a, T: BorrowDecode<'a, ()>>(message: &'a [u8]) -> Option<T> {
    let (version, rest) = message.split_first()?;
    if *version != VERSION {
        return None;
    }
    let (value, length) = bincode::borrow_decode_from_slice(rest, CONFIG).ok()?;
    (length == rest.len()).then_some(value)
}

// === impl Request ===

impl<'a> Request<'a> {
    /// Writes the request. Returns its length, or `None` if it does not fit.
    pub fn encode(&self, buffer: &mut [u8]) -> Option<usize> {
        write(self, buffer)
    }

    /// Reads a request; `None` if it is malformed or of another version.
    pub fn decode(message: &'a [u8]) -> Option<Self> {
        read(message)
    }
}

impl core::fmt::Debug for Request<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { app, instance, secret: _, ask } = self;
        formatter
            .debug_struct("Request")
            .field("app", app)
            .field("instance", instance)
            .field("ask", ask)
            .finish_non_exhaustive()
    }
}

// === impl Answer ===

impl Answer {
    /// Writes the answer. Returns its length, or `None` if it does not fit.
    pub fn encode(&self, buffer: &mut [u8]) -> Option<usize> {
        write(self, buffer)
    }

    /// Reads an answer; `None` if it is malformed or of another version.
    pub fn decode(message: &[u8]) -> Option<Self> {
        read(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A collector of another build must be found.
    #[test]
    fn each_folder_has_a_broker_of_its_own() {
        assert_eq!(socket_name(b"/h").as_str(), "\0afs1/B/907476fae7f715f6");
        assert_ne!(socket_name(b"/h").as_str(), socket_name(b"/i").as_str());
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let answer = Answer { errno: 1 };
        assert_eq!(answer.encode(&mut []), None);
        assert_eq!(answer.encode(&mut [0; 4]), None);
        let mut room = [0; 5];
        assert_eq!((answer.encode(&mut room), room), (Some(5), [VERSION, 1, 0, 0, 0]));
        let debug =
            format!("{:?}", Request { app: "a", instance: "b", secret: "c", ask: Ask::Probe { file: "d" } });
        assert!(
            ["app: \"a\"", "instance: \"b\"", "Probe"].iter().all(|word| debug.contains(word)),
            "{debug}"
        );
    }

    #[test]
    fn requests_and_answers_read_back() {
        let mut buffer = [0; REQUEST_BYTES];
        for ask in [
            Ask::Probe { file: "a-b.80.sock" },
            Ask::Bind { file: "a-b.80.l.sock", mapped: true },
            Ask::Connect { file: "a-b.80.sock", name: b"\0afs1/C/x" },
        ] {
            let request = Request { app: "a", instance: "b", secret: "0011", ask };
            assert!(!format!("{request:?}").contains("0011"), "{request:?}");
            let length = request.encode(&mut buffer).unwrap();
            assert_eq!(Request::decode(&buffer[..length]), Some(request));
            assert_eq!(Request::decode(&buffer[..length - 1]), None);
        }
        let length = Answer { errno: 98 }.encode(&mut buffer).unwrap();
        assert_eq!(Answer::decode(&buffer[..length]), Some(Answer { errno: 98 }));
    }

    /// What an interposer sends, byte by byte: a collector of another build must be able to read it.
    #[test]
    fn a_request_is_these_bytes() {
        let request =
            Request { app: "a", instance: "b", secret: "c", ask: Ask::Bind { file: "d", mapped: true } };
        let mut buffer = [0; REQUEST_BYTES];
        let length = request.encode(&mut buffer).unwrap();
        let text = |byte| [1, 0, 0, 0, 0, 0, 0, 0, byte];
        let expected =
            [&[2][..], &text(b'a'), &text(b'b'), &text(b'c'), &[1, 0, 0, 0], &text(b'd'), &[1]].concat();
        assert_eq!(&buffer[..length], expected);
    }

    proptest! {
        #[test]
        fn decoding_never_panics(mut message: Vec<u8>) {
            let _ = (Request::decode(&message), Answer::decode(&message));
            if let Some(first) = message.first_mut() {
                *first = VERSION;
            }
            let _ = (Request::decode(&message), Answer::decode(&message));
        }
    }
}
