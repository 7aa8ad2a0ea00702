//! Answers to questions about names under `localhost`, in the format of DNS (RFC 1035). RFC 6761 6.3 says that all of them
//! are this machine, but the resolvers of many systems do not know it. Pure: bytes in, bytes out, without allocation.

/// UDP port of 127.0.0.1 on which the collector answers, unless `AGENTFS_DNS` says otherwise. `agentfs names install` writes
/// it into the system's settings, so it does not change.
pub const PORT: u16 = 4253;

/// Bytes of a question that is read and of an answer: messages over UDP without extensions (RFC 1035 4.2.1).
pub const MESSAGE_BYTES: usize = 512;

/// Seconds that an answer may be kept.
const TIME_TO_LIVE: [u8; 4] = 300_u32.to_be_bytes();

/// Bytes of a message's header.
const HEADER_BYTES: usize = 12;

/// Bytes of a name at most (RFC 1035 3.1), its lengths included.
const NAME_BYTES: usize = 255;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;
const CLASS_ANY: u16 = 255;

/// What an answer says of how it went (RFC 1035 4.1.1).
#[derive(Clone, Copy)]
enum Code {
    Done = 0,
    FormatError = 1,
    NotImplemented = 4,
    Refused = 5,
}

/// Writes the answer to a message, and returns its length. `None`: there is nothing to answer.
pub fn answer(message: &[u8], reply: &mut [u8; MESSAGE_BYTES]) -> Option<usize> {
    let header = message.get(..HEADER_BYTES)?;
    let (flags, more) = (*header.get(2)?, *header.get(3)?);
    // Never an answer to an answer: two servers could go on like this.
    if flags & 0x80 != 0 {
        return None;
    }
    // The question comes back with the answer.
    let question = if number(header, 4) == Some(1) { Question::read(message) } else { None };
    let (code, address) = match &question {
        _ if flags & 0x78 != 0 => (Code::NotImplemented, None),
        None => (Code::FormatError, None),
        Some(question) if !question.is_localhost => (Code::Refused, None),
        Some(question) => (Code::Done, question.address()),
    };
    let mut writer = Writer { reply, length: 0 };
    writer.put(header.get(..2)?)?;
    // Answer, the opcode of the question, authoritative, recursion as asked for and not offered.
    writer.put(&[0x80 | (flags & 0x79) | 0x04, (more & 0x10) | code as u8])?;
    writer.put(&u16::from(question.is_some()).to_be_bytes())?;
    writer.put(&u16::from(address.is_some()).to_be_bytes())?;
    writer.put(&[0; 4])?;
    if let Some(question) = question {
        writer.put(message.get(HEADER_BYTES..question.end)?)?;
    }
    if let Some((kind, address)) = address {
        // A pointer to the name of the question.
        writer.put(&[0xc0, 12])?;
        writer.put(&kind.to_be_bytes())?;
        writer.put(&CLASS_IN.to_be_bytes())?;
        writer.put(&TIME_TO_LIVE)?;
        writer.put(&u16::try_from(address.len()).ok()?.to_be_bytes())?;
        writer.put(address)?;
    }
    Some(writer.length)
}

/// The one question of a message.
struct Question {
    is_localhost: bool,
    kind: u16,
    class: u16,
    /// Where it ends in the message.
    end: usize,
}

// === impl Question ===

impl Question {
    fn read(message: &[u8]) -> Option<Self> {
        let mut at = HEADER_BYTES;
        let mut is_localhost = false;
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            // The two high bits would make it a pointer. A question has nothing to point to.
            if length > 63 || at + length - HEADER_BYTES > NAME_BYTES {
                return None;
            }
            let label = message.get(at..at + length)?;
            is_localhost = label.eq_ignore_ascii_case(b"localhost");
            at += length;
        }
        Some(Self { is_localhost, kind: number(message, at)?, class: number(message, at + 2)?, end: at + 4 })
    }

    /// The record that answers it, if there is one.
    fn address(&self) -> Option<(u16, &'static [u8])> {
        if !matches!(self.class, CLASS_IN | CLASS_ANY) {
            return None;
        }
        match self.kind {
            TYPE_A | TYPE_ANY => Some((TYPE_A, &[127, 0, 0, 1])),
            TYPE_AAAA => Some((TYPE_AAAA, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])),
            _ => None,
        }
    }
}

/// An answer that is being written.
struct Writer<'a> {
    reply: &'a mut [u8; MESSAGE_BYTES],
    length: usize,
}

// === impl Writer ===

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.length.checked_add(bytes.len())?;
        self.reply.get_mut(self.length..end)?.copy_from_slice(bytes);
        self.length = end;
        Some(())
    }
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&CLASS_IN.to_be_bytes());
        message
    }

    fn answered(message: &[u8]) -> Option<Vec<u8>> {
        let mut reply = [0; MESSAGE_BYTES];
        answer(message, &mut reply).map(|length| reply[..length].to_vec())
    }

    /// The code, and the address if there is one.
    fn result(message: &[u8]) -> (u8, Vec<u8>) {
        let reply = answered(message).unwrap();
        assert_eq!(reply[..2], message[..2]);
        let address = if reply[7] == 1 { reply[message.len() + 12..].to_vec() } else { Vec::new() };
        (reply[3] & 0x0f, address)
    }

    #[test]
    fn names_under_localhost_are_this_machine() {
        let mut six = [0; 16];
        six[15] = 1;
        for name in ["localhost", "shop.localhost", "a.b.LocalHost", "agentfs-7.localhost."] {
            assert_eq!(result(&question(name, TYPE_A)), (0, vec![127, 0, 0, 1]), "{name}");
            assert_eq!(result(&question(name, TYPE_AAAA)), (0, six.to_vec()), "{name}");
            // HTTPS, as browsers ask: the name is there, but has no such record.
            assert_eq!(result(&question(name, 65)), (0, vec![]), "{name}");
        }
        for name in ["", "example.com", "localhost.example.com", "xlocalhost"] {
            assert_eq!(result(&question(name, TYPE_A)), (5, vec![]), "{name}");
        }
    }

    /// Byte by byte, so that a resolver reads it.
    #[test]
    fn an_answer_has_its_form() {
        let mut expected = question("x.localhost", TYPE_A);
        expected[2..4].copy_from_slice(&[0x85, 0x00]);
        expected[7] = 1;
        expected.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 127, 0, 0, 1]);
        assert_eq!(answered(&question("x.localhost", TYPE_A)).unwrap(), expected);
        // What follows the question, for instance EDNS, does not come back.
        let mut extended = question("x.localhost", TYPE_A);
        extended[11] = 1;
        extended.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        assert_eq!(answered(&extended).unwrap(), expected);
    }

    #[test]
    fn what_is_not_a_question_gets_no_address() {
        let good = question("x.localhost", TYPE_A);
        let with = |at: usize, byte: u8| {
            let mut message = good.clone();
            message[at] = byte;
            message
        };
        assert_eq!(answered(&with(2, 0x81)), None, "an answer");
        assert_eq!(answered(&good[..11]), None);
        assert_eq!(result(&with(2, 0x10)).0, 4, "another operation");
        for message in [with(5, 0), with(5, 2), with(12, 0xc0), with(12, 63), good[..good.len() - 1].to_vec()]
        {
            assert_eq!(answered(&message).unwrap()[3] & 0x0f, 1, "{message:?}");
        }
        let long = ["a".repeat(63).as_str()].repeat(4).join(".");
        assert_eq!(answered(&question(&format!("{long}.localhost"), TYPE_A)).unwrap()[3] & 0x0f, 1);
    }

    proptest! {
        #[test]
        fn any_message_is_read(message in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(reply) = answered(&message) {
                prop_assert!(reply.len() >= HEADER_BYTES && reply[2] & 0x80 != 0);
                // It is never much longer than the question: nobody can be flooded by it.
                prop_assert!(reply.len() <= message.len() + 28);
            }
        }
    }
}
