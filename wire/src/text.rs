//! Text that needs care: a small string in a fixed buffer, for code that must not allocate; splitting that cannot
//! panic; text from outside with control characters escaped.
use core::fmt;

/// Up to `N` bytes of UTF-8 text. Text that does not fit is not written, and the text stays unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

// === impl Text ===

impl<const N: usize> Text<N> {
    /// An empty text.
    pub const fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    /// A copy of `text`, or `None` if it is longer than `N` bytes.
    pub fn of(text: &str) -> Option<Self> {
        let mut new = Self::new();
        new.push(text).then_some(new)
    }

    /// Appends `text`; `false` (and nothing appended) if it does not fit.
    pub fn push(&mut self, text: &str) -> bool {
        let Some(end) = self.length.checked_add(text.len()) else { return false };
        let Some(room) = self.bytes.get_mut(self.length..end) else { return false };
        for (to, from) in room.iter_mut().zip(text.as_bytes()) {
            *to = *from;
        }
        self.length = end;
        true
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..self.length).unwrap_or(&[]);
        core::str::from_utf8(bytes).unwrap_or("")
    }

    /// The text's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }

    /// Appends a number in decimal.
    pub fn push_number(&mut self, number: u64) -> bool {
        let mut digits = [0_u8; 20];
        let mut rest = number;
        let mut used = 0;
        for slot in digits.iter_mut().rev() {
            *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            used += 1;
            if rest == 0 {
                break;
            }
        }
        let start = digits.len() - used;
        self.push(core::str::from_utf8(digits.get(start..).unwrap_or(&[])).unwrap_or(""))
    }

    /// Appends the low `digits` hexadecimal digits of a number.
    pub fn push_hex(&mut self, number: u64, digits: u32) -> bool {
        let mut all = true;
        for place in (0..digits).rev() {
            let nibble = u8::try_from((number >> (place * 4)) & 15).unwrap_or(0);
            let digit = [if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }];
            all &= self.push(core::str::from_utf8(&digit).unwrap_or(""));
        }
        all
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.push(text) { Ok(()) } else { Err(fmt::Error) }
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

/// Parses at most `digits` hexadecimal digits (lower case, all of `text`).
pub fn parse_hex(text: &str, digits: usize) -> Option<u64> {
    if text.len() != digits {
        return None;
    }
    let mut value = 0_u64;
    for byte in text.bytes() {
        let nibble = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        value = value.checked_shl(4)? | u64::from(nibble);
    }
    Some(value)
}

/// Parses a decimal number up to `max`, without sign, leading zeros or blanks.
pub fn parse_number(text: &str, max: u64) -> Option<u64> {
    if text.is_empty() || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    let mut value = 0_u64;
    for byte in text.bytes() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            _ => return None,
        };
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (value <= max).then_some(value)
}

/// The text before and after the first `byte` (ASCII). Unlike `str::split_once` it has no panic path, even if
/// the optimiser does not see that it cannot panic: the interposer must not have one.
pub fn cut(text: &str, byte: u8) -> Option<(&str, &str)> {
    let at = text.bytes().position(|one| one == byte)?;
    Some((text.get(..at)?, text.get(at.checked_add(1)?..)?))
}

/// The text before and after the last `byte` (ASCII).
pub fn cut_last(text: &str, byte: u8) -> Option<(&str, &str)> {
    let after = text.bytes().rev().position(|one| one == byte)?;
    let at = text.len().checked_sub(after)?.checked_sub(1)?;
    Some((text.get(..at)?, text.get(at.checked_add(1)?..)?))
}

/// The parts of a text between `byte`s (ASCII); at least one.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    rest: Option<&'a str>,
    byte: u8,
}

/// Splits a text at every `byte` (ASCII).
pub fn parts(text: &str, byte: u8) -> Parts<'_> {
    Parts { rest: Some(text), byte }
}

// === impl Parts ===

impl<'a> Iterator for Parts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.take()?;
        match cut(rest, self.byte) {
            Some((part, rest)) => {
                self.rest = Some(rest);
                Some(part)
            }
            None => Some(rest),
        }
    }
}

/// Text from outside, safe to print on a terminal or a page.
#[derive(Clone, Copy, Debug)]
pub struct Visible<'a>(&'a str);

/// `text` as one line that cannot control a terminal: control characters (ESC, newlines…) and characters that change
/// the direction of text are escaped as in Rust, `\u{1b}`. Folders, commands and names come from outside, so all text
/// that people read passes through here. JSON keeps them unchanged.
pub fn visible(text: &str) -> Visible<'_> {
    Visible(text)
}

/// Whether a character acts on the text instead of being visible.
fn acts(character: char) -> bool {
    // Marks, embeddings, overrides and isolates of the bidirectional algorithm (UAX #9), line and paragraph ends, the
    // byte order mark.
    let directs = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
    );
    directs || character.is_control()
}

// === impl Visible ===

impl fmt::Display for Visible<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(acts) {
            let (before, from) = rest.split_at(at);
            formatter.write_str(before)?;
            let mut characters = from.chars();
            if let Some(character) = characters.next() {
                write!(formatter, "{}", character.escape_default())?;
            }
            rest = characters.as_str();
        }
        formatter.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_that_acts_is_left() {
        for (text, seen) in [
            ("", ""),
            ("shöp → 🛒 ~/a b", "shöp → 🛒 ~/a b"),
            ("a\x1b[2Jb\x07", "a\\u{1b}[2Jb\\u{7}"),
            ("two\nlines\r\tand", "two\\nlines\\r\\tand"),
            ("\u{9b}31m\x7f", "\\u{9b}31m\\u{7f}"),
            ("gpj.\u{202e}exe\u{2066}\u{200f}\u{2029}", "gpj.\\u{202e}exe\\u{2066}\\u{200f}\\u{2029}"),
        ] {
            assert_eq!(visible(text).to_string(), seen);
        }
    }

    #[test]
    fn a_text_takes_what_fits_and_nothing_of_the_rest() {
        let mut text = Text::<4>::new();
        assert!(text.push("ab") && !text.push("cde") && text.push("cd") && text.push("") && !text.push("x"));
        assert_eq!((text.as_str(), text.as_bytes()), ("abcd", &b"abcd"[..]));
        assert_eq!((format!("{text}"), format!("{text:?}")), ("abcd".to_owned(), "\"abcd\"".to_owned()));
        assert_eq!(Text::<4>::of("abcd"), Some(text));
        assert_eq!(Text::<4>::of("abcde"), None);
        assert_eq!(Text::<4>::default().as_str(), "");
        use core::fmt::Write;
        assert!(write!(text, "x").is_err());
        let mut room = Text::<4>::new();
        assert!(write!(room, "{}", 12).is_ok() && room.as_str() == "12");
    }

    #[test]
    fn numbers_are_written_and_read_in_one_way() {
        let decimal = |number: u64| {
            let mut text = Text::<20>::new();
            assert!(text.push_number(number));
            text.as_str().to_owned()
        };
        for number in [0, 7, 9, 10, 99, 100, 1234, 65535, u64::MAX] {
            assert_eq!(decimal(number), number.to_string());
            assert_eq!(parse_number(&number.to_string(), number), Some(number));
            assert_eq!(parse_number(&number.to_string(), u64::MAX), Some(number));
        }
        assert_eq!(parse_number("8", 7), None);
        for other in
            ["", "00", "07", "+7", "-7", " 7", "7 ", "0x7", "18446744073709551616", "99999999999999999999"]
        {
            assert_eq!(parse_number(other, u64::MAX), None, "{other}");
        }
        assert!(!Text::<2>::new().push_number(100));
    }

    #[test]
    fn hexadecimal_digits_are_written_and_read_in_one_way() {
        for (number, digits, expected) in [
            (0, 1, "0"),
            (0x9a, 2, "9a"),
            (0x1f_80, 4, "1f80"),
            (0xabc, 2, "bc"),
            (u64::MAX, 16, "ffffffffffffffff"),
        ] {
            let mut text = Text::<16>::new();
            assert!(text.push_hex(number, digits));
            assert_eq!(text.as_str(), expected);
        }
        let mut short = Text::<2>::new();
        assert!(!short.push_hex(0xabc, 3));
        assert_eq!(parse_hex("1f80", 4), Some(0x1f80));
        assert_eq!(parse_hex("09af", 4), Some(0x09af));
        assert_eq!(parse_hex("ffffffffffffffff", 16), Some(u64::MAX));
        for other in ["", "1f8", "1f800", "1F80", "1g80", "/f80", ":f80", "`f80"] {
            assert_eq!(parse_hex(other, 4), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_visible_stays_so(text: String) {
            let seen = visible(&text).to_string();
            prop_assert!(!seen.contains(acts));
            prop_assert_eq!(visible(&seen).to_string(), seen);
        }

        #[test]
        fn cuts_are_what_str_does(text in "[a.é]{0,12}") {
            prop_assert_eq!(cut(&text, b'.'), text.split_once('.'));
            prop_assert_eq!(cut_last(&text, b'.'), text.rsplit_once('.'));
            prop_assert_eq!(parts(&text, b'.').collect::<Vec<_>>(), text.split('.').collect::<Vec<_>>());
        }
    }
}
