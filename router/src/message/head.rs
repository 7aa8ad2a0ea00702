//! Finds the end of a message head, line by line, as its bytes arrive. Pure.

/// First bytes of a frame of HTTP/2: length (3), type, flags, stream (4) (RFC 9113 4.1).
pub(crate) const FRAME_HEAD: usize = 9;

/// Type of the frame that each side begins with (RFC 9113 3.4).
const SETTINGS: u8 = 4;

/// Whether an answer begins as HTTP/2 does. No answer of HTTP/1 begins with a zero.
pub(crate) fn is_http2(bytes: &[u8]) -> bool {
    bytes.len() >= FRAME_HEAD && bytes[0] == 0 && bytes[3..FRAME_HEAD] == [SETTINGS, 0, 0, 0, 0, 0]
}

/// How far a head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    /// Its last line is not there yet.
    Partial,
    /// It ends after this many bytes.
    Complete(usize),
    /// A line ends without CR.
    BareLineFeed,
}

/// Remembers what was looked at, so that a dripped head costs no more than one in a piece.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scanner {
    /// Bytes that hold no line end after `line`.
    seen: usize,
    /// Where the current line begins.
    line: usize,
    /// Lines that ended.
    lines: usize,
    /// Bytes of the first line, its end included.
    first_line: usize,
}

impl Scanner {
    /// Looks at `bytes`, which begin where they began at the last call. `strict` refuses lines that
    /// end in a bare LF; else they count as ended.
    pub(crate) fn scan(&mut self, bytes: &[u8], strict: bool) -> Head {
        while let Some(offset) = bytes.iter().skip(self.seen).position(|byte| *byte == b'\n') {
            let end = self.seen + offset;
            let line = &bytes[self.line..end];
            let bare = line.last() != Some(&b'\r');
            if bare && strict {
                return Head::BareLineFeed;
            }
            self.seen = end + 1;
            self.line = end + 1;
            self.lines += 1;
            if self.lines == 1 {
                self.first_line = end + 1;
            }
            if line.len() == usize::from(!bare) {
                return Head::Complete(end + 1);
            }
        }
        self.seen = bytes.len();
        Head::Partial
    }

    /// Whether the first line is still incomplete.
    pub(crate) fn in_first_line(&self) -> bool {
        self.lines == 0
    }

    /// Bytes of the first line, its end included, once it is there.
    pub(crate) fn first_line(&self) -> Option<usize> {
        (self.lines > 0).then_some(self.first_line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_however_it_is_cut() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        for cut in 1..head.len() {
            let mut scanner = Scanner::default();
            let first = scanner.scan(&head[..cut], true);
            if cut < 27 {
                assert_eq!(first, Head::Partial, "{cut}");
                assert_eq!(scanner.scan(head, true), Head::Complete(27), "{cut}");
            } else {
                assert_eq!(first, Head::Complete(27), "{cut}");
            }
        }
    }

    #[test]
    fn the_first_line_is_measured_once_it_is_there() {
        let mut scanner = Scanner::default();
        assert_eq!((scanner.in_first_line(), scanner.first_line()), (true, None));
        assert_eq!(scanner.scan(b"GET / HTTP/1.1\r", true), Head::Partial);
        assert_eq!((scanner.in_first_line(), scanner.first_line()), (true, None));
        assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\nHost: a\r\nB", true), Head::Partial);
        assert_eq!((scanner.in_first_line(), scanner.first_line()), (false, Some(16)));
        assert_eq!(scanner.scan(b"GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n", true), Head::Complete(33));
        assert_eq!(scanner.first_line(), Some(16));
    }

    #[test]
    fn the_first_frame_tells() {
        assert!(is_http2(b"\0\0\0\x04\0\0\0\0\0"));
        assert!(is_http2(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64"));
        for other in [b"HTTP/1.1 200 OK\r\n".as_slice(), b"\0\0\0\x04\0\0\0\0", b"\0\0\0\x07\0\0\0\0\0", b""]
        {
            assert!(!is_http2(other), "{other:?}");
        }
    }

    #[test]
    fn bare_line_feeds() {
        assert_eq!(Scanner::default().scan(b"GET / HTTP/1.1\nHost: a\r\n\r\n", true), Head::BareLineFeed);
        assert_eq!(Scanner::default().scan(b"HTTP/1.1 200 OK\nA: b\n\nx", false), Head::Complete(22));
    }
}
