//! Body framing: how many of the bytes at hand belong to a message. Pure.
//!
//! Chunked bodies are checked strictly and passed on in their own framing, without the trailers that may not be any;
//! for clients that do not know it, [`Body::data`] tells framing from data.
use crate::limits::TRAILER_BYTES;

/// The framing is wrong: what must not be passed on, since the next hop may read it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// What is left of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// All until the stream ends.
    UntilClose,
}

/// What becomes of the bytes at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// This many are passed as they are.
    Pass(usize),
    /// This many are of the trailers: they were put aside, to be sorted once the body is finished.
    Trailers(usize),
}

/// Where a chunked body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunked {
    state: State,
    /// Size of the chunk whose line is read, or what is left of its data.
    left: u64,
    /// Bytes of extensions or trailers so far.
    extra: u32,
    /// Whether trailers were seen.
    trailing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first digit.
    Size,
    /// Behind at least one digit.
    SizeMore,
    /// In an extension.
    Extension,
    /// Behind the CR of a size line.
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    /// At the start of a trailer line, or of the last line.
    Trailer,
    /// In a trailer's name.
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    /// Behind the CR of the last line.
    LastLineFeed,
    Finished,
}

// === impl Body ===

impl Body {
    /// No body at all.
    pub(crate) const NONE: Self = Self::Length(0);

    /// A chunked body, from its first byte.
    pub(crate) const CHUNKED: Self =
        Self::Chunked(Chunked { state: State::Size, left: 0, extra: 0, trailing: false });

    /// Whether nothing more belongs to it.
    pub(crate) fn is_finished(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.state == State::Finished,
            Self::UntilClose => false,
        }
    }

    /// Bytes that are known to come.
    pub(crate) fn expected(&self) -> u64 {
        match self {
            Self::Length(left) => *left,
            Self::Chunked(chunked) => chunked.left,
            Self::UntilClose => 0,
        }
    }

    /// What becomes of the front of `bytes`, which is counted as passed. Framing passes as it is; each byte of the
    /// trailers is told to `trailer`, for they may have to be left out.
    pub(crate) fn take(&mut self, bytes: &[u8], trailer: impl FnMut(u8)) -> Result<Part, Malformed> {
        let Self::Chunked(chunked) = self else { return Ok(Part::Pass(self.take_plain(bytes.len()))) };
        let mut taken = 0;
        while !chunked.trailing {
            taken += chunked.framing(bytes.get(taken..).unwrap_or_default(), true, |_| {})?;
            let data = chunked.data(bytes.len() - taken);
            taken += data;
            if data == 0 && (taken > 0 || !chunked.trailing) {
                return Ok(Part::Pass(taken));
            }
        }
        Ok(Part::Trailers(chunked.framing(bytes, false, trailer)?))
    }

    /// As [`Self::take`], but apart: first framing to leave out, then data behind it.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> Result<(usize, usize), Malformed> {
        self.data_and_trailers(bytes, |_| {})
    }

    /// As [`Self::data`], and calls `trailer` with each byte of the trailer lines.
    pub(crate) fn data_and_trailers(
        &mut self,
        bytes: &[u8],
        trailer: impl FnMut(u8),
    ) -> Result<(usize, usize), Malformed> {
        let Self::Chunked(chunked) = self else { return Ok((0, self.take_plain(bytes.len()))) };
        let framing = chunked.framing(bytes, false, trailer)?;
        Ok((framing, chunked.data(bytes.len() - framing)))
    }

    fn take_plain(&mut self, available: usize) -> usize {
        match self {
            Self::Length(left) => {
                let count = usize::try_from(*left).map_or(available, |left| left.min(available));
                *left -= count as u64;
                count
            }
            _ => available,
        }
    }
}

// === impl Chunked ===

impl Chunked {
    /// Bytes at the front of `bytes` that are framing, up to data or the end; or up to the first trailer, if
    /// `before_trailers`.
    fn framing(
        &mut self,
        bytes: &[u8],
        before_trailers: bool,
        mut trailer: impl FnMut(u8),
    ) -> Result<usize, Malformed> {
        for (index, byte) in bytes.iter().enumerate() {
            match self.state {
                State::Data | State::Finished => return Ok(index),
                State::Trailer if before_trailers && *byte != b'\r' => {
                    self.trailing = true;
                    return Ok(index);
                }
                State::Trailer
                | State::TrailerName
                | State::TrailerValue
                | State::TrailerLineFeed
                | State::LastLineFeed => trailer(*byte),
                _ => {}
            }
            self.state = self.step(*byte)?;
        }
        Ok(bytes.len())
    }

    fn data(&mut self, available: usize) -> usize {
        if self.state != State::Data {
            return 0;
        }
        let count = usize::try_from(self.left).map_or(available, |left| left.min(available));
        self.left -= count as u64;
        if self.left == 0 {
            self.state = State::DataReturn;
        }
        count
    }

    fn step(&mut self, byte: u8) -> Result<State, Malformed> {
        Ok(match (self.state, byte) {
            (State::Size | State::SizeMore, digit) if digit.is_ascii_hexdigit() => {
                let digit = char::from(digit).to_digit(16).unwrap_or_default();
                // 60 bits are enough for any body, and leave no way to overflow at a later hop.
                if self.left >> 56 != 0 {
                    return Err(Malformed("chunk size"));
                }
                self.left = self.left << 4 | u64::from(digit);
                State::SizeMore
            }
            (State::SizeMore, b'\r') => State::SizeLineFeed,
            (State::SizeMore, b';') => State::Extension,
            (State::Size | State::SizeMore, _) => return Err(Malformed("chunk size")),
            (State::Extension, b'\r') => State::SizeLineFeed,
            (State::Extension, byte) => self.text(byte, State::Extension)?,
            (State::SizeLineFeed, b'\n') => {
                self.extra = 0;
                if self.left == 0 { State::Trailer } else { State::Data }
            }
            (State::DataReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size,
            (State::Trailer, b'\r') => State::LastLineFeed,
            (State::Trailer | State::TrailerName, byte) if is_token(byte) => {
                self.text(byte, State::TrailerName)?
            }
            (State::TrailerName, b':') => State::TrailerValue,
            (State::Trailer | State::TrailerName, _) => return Err(Malformed("trailer")),
            (State::TrailerValue, b'\r') => State::TrailerLineFeed,
            (State::TrailerValue, byte) => self.text(byte, State::TrailerValue)?,
            (State::TrailerLineFeed, b'\n') => State::Trailer,
            (State::LastLineFeed, b'\n') => State::Finished,
            _ => return Err(Malformed("chunk")),
        })
    }

    fn text(&mut self, byte: u8, state: State) -> Result<State, Malformed> {
        self.extra += 1;
        if self.extra as usize > TRAILER_BYTES || byte.is_ascii_control() && byte != b'\t' {
            return Err(Malformed("chunk extension or trailer"));
        }
        Ok(state)
    }
}

/// Whether `byte` may stand in a header's name (RFC 9110 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left out and what is data of the front of a chunked body.
    fn read(text: &str) -> Result<(usize, usize), Malformed> {
        let mut body = Body::CHUNKED;
        body.data(text.as_bytes())
    }

    /// Bytes taken, bytes passed as they were, data, and whether the body is finished.
    fn take_in_pieces(bytes: &[u8], piece: usize) -> Result<(usize, Vec<u8>, Vec<u8>, bool), Malformed> {
        let mut whole = Body::CHUNKED;
        let mut apart = Body::CHUNKED;
        let (mut taken, mut passed, mut data, mut trailers) = (0, Vec::new(), Vec::new(), Vec::new());
        for part in bytes.chunks(piece) {
            let mut rest = part;
            while !rest.is_empty() {
                let count = match whole.take(rest, |byte| trailers.push(byte))? {
                    Part::Pass(count) => {
                        passed.extend_from_slice(&rest[..count]);
                        count
                    }
                    Part::Trailers(count) => count,
                };
                taken += count;
                rest = &rest[count..];
                if count == 0 {
                    break;
                }
            }
            let mut rest = part;
            loop {
                let (framing, count) = apart.data(rest)?;
                data.extend_from_slice(&rest[framing..framing + count]);
                rest = &rest[framing + count..];
                if framing + count == 0 || rest.is_empty() {
                    break;
                }
            }
        }
        passed.extend_from_slice(&trailers);
        assert_eq!(whole.is_finished(), apart.is_finished());
        Ok((taken, passed, data, whole.is_finished()))
    }

    #[test]
    fn what_is_known_to_come_is_told() {
        assert_eq!(
            (Body::NONE.expected(), Body::Length(7).expected(), Body::UntilClose.expected()),
            (0, 7, 0)
        );
        let mut chunked = Body::CHUNKED;
        assert_eq!(chunked.expected(), 0);
        assert_eq!(chunked.data(b"a\r\n012").unwrap(), (3, 3));
        assert_eq!(chunked.expected(), 7);
        assert!(!chunked.is_finished() && Body::NONE.is_finished());
        assert!(!Body::Length(1).is_finished() && !Body::UntilClose.is_finished());
    }

    #[test]
    fn chunks_read_alike_however_they_are_cut() {
        for end in ["0\r\n\r\n", "0\r\nX-Sum: 1\r\nHost: x\r\n\r\n"] {
            let body = [b"5\r\nhello\r\n6;name=\"v\"\r\n world\r\n", end.as_bytes()].concat();
            let more = [body.as_slice(), b"GET / HTTP/1.1"].concat();
            for piece in 1..more.len() {
                let (taken, passed, data, finished) = take_in_pieces(&more, piece).unwrap();
                assert_eq!(
                    (taken, passed.as_slice(), finished),
                    (body.len(), body.as_slice(), true),
                    "{piece}"
                );
                assert_eq!(data, b"hello world", "{piece}");
            }
        }
    }

    #[test]
    fn trailers_are_put_aside() {
        let (mut body, mut trailers) = (Body::CHUNKED, Vec::new());
        assert_eq!(body.take(b"0\r\nA: b\r\n", |byte| trailers.push(byte)), Ok(Part::Pass(3)));
        assert_eq!(body.take(b"A: b\r\n", |byte| trailers.push(byte)), Ok(Part::Trailers(6)));
        assert!(!body.is_finished());
        assert_eq!(body.take(b"\r\nGET", |byte| trailers.push(byte)), Ok(Part::Trailers(2)));
        assert!(body.is_finished() && trailers == b"A: b\r\n\r\n");
    }

    #[test]
    fn bad_chunks_are_refused() {
        for body in [
            "\r\n",
            " 5\r\n",
            "5 \r\n",
            "5\n",
            "0x5\r\n",
            "-1\r\n",
            "g\r\n",
            "5\r\nhelloX",
            "5\r\nhello\n",
            "5;a\nb",
            "1234567890abcdef0\r\n",
            "0\r\n fold: 1\r\n",
            "0\r\nName\r\n",
            "0\r\nA: b\nC",
            "0\r\nA\0: b",
            "5;a\0\r\n",
            "0\r\n\rX",
            "5\rX",
        ] {
            for piece in [1, 64] {
                assert!(take_in_pieces(body.as_bytes(), piece).is_err(), "{body:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn lengths_count_down() {
        let mut body = Body::Length(5);
        assert_eq!(body.take(b"abc", |_| {}), Ok(Part::Pass(3)));
        assert_eq!(body.take(b"defg", |_| {}), Ok(Part::Pass(2)));
        assert!(body.is_finished());
    }

    #[test]
    fn it_is_said_what_is_malformed() {
        for (bytes, what) in [
            ("g\r\n", "chunk size"),
            ("5 \r\n", "chunk size"),
            ("0\r\n fold: 1\r\n", "trailer"),
            ("0\r\nName\r\n", "trailer"),
            ("5\r\nhelloX", "chunk"),
            ("5;a\0\r\n", "chunk extension or trailer"),
        ] {
            assert_eq!(take_in_pieces(bytes.as_bytes(), 64), Err(Malformed(what)), "{bytes:?}");
        }
    }

    #[test]
    fn sizes_have_up_to_sixty_bits() {
        for (size, count) in [("1a", 26), ("00000000000000000010", 16), ("FFFFFFFFFFFFFFF", u64::MAX >> 4)] {
            let mut body = Body::CHUNKED;
            let line = format!("{size}\r\n");
            assert_eq!(body.data(line.as_bytes()), Ok((line.len(), 0)), "{size}");
            assert_eq!(body.expected(), count, "{size}");
        }
        assert_eq!(read("1000000000000000\r\n"), Err(Malformed("chunk size")));
    }

    #[test]
    fn extensions_and_trailers_end() {
        let extended = |bytes: usize| format!("5;{}\r\n", "x".repeat(bytes));
        let trailed = |bytes: usize| format!("0\r\nA{}\r\n", ":".repeat(bytes));
        for text in [extended(TRAILER_BYTES), trailed(TRAILER_BYTES)] {
            assert_eq!(read(&text), Ok((text.len(), 0)));
        }
        for text in [extended(TRAILER_BYTES + 1), trailed(TRAILER_BYTES + 1)] {
            let refused = Err(Malformed("chunk extension or trailer"));
            assert_eq!(read(&text), refused);
        }
        // Each chunk has its own extension.
        let text = format!("{}hello\r\n{}", extended(TRAILER_BYTES), extended(TRAILER_BYTES));
        assert!(take_in_pieces(text.as_bytes(), text.len()).is_ok());
    }
}
