//! Reads the text of a shell as far as commands can be told apart with certainty. It does not execute or expand
//! anything. Where it meets a construct that it does not know, it stops: what follows is left as it is.
use super::words::{Word, assigned};

/// Words of one command that are kept. Those behind them are not looked at.
const WORDS: usize = 24;
/// Substitutions within substitutions. The scan stops at a deeper one.
const DEPTH: usize = 6;

/// Words after which another command begins.
const BEFORE_COMMANDS: [&[u8]; 10] =
    [b"then", b"do", b"else", b"elif", b"if", b"while", b"until", b"!", b"{", b"fi"];
/// Words that end a group of commands. What follows them is an operator or a redirection.
const ENDS: [&[u8]; 2] = [b"done", b"}"];
/// Words with a syntax of their own.
const OTHER_SYNTAX: [&[u8]; 7] = [b"case", b"esac", b"select", b"function", b"coproc", b"[[", b"repeat"];

/// A word of the text.
#[derive(Clone, Copy, Debug)]
struct Token {
    /// Where it stands.
    start: usize,
    end: usize,
    /// Its value, if that is part of the text.
    value: Option<(usize, usize)>,
}

/// A text that is read command by command.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    words: [Token; WORDS],
    count: usize,
    /// Whether the text is more than one simple command: operators, redirections, keywords, comments, substitutions.
    pub(super) is_more: bool,
    /// Whether it assigned to PATH.
    pub(super) assigns_path: bool,
    /// Whether the rest of the text is not understood.
    stopped: bool,
}

// === impl Scan ===

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        let words = [Token { start: 0, end: 0, value: None }; WORDS];
        Self { text, at: 0, words, count: 0, is_more: false, assigns_path: false, stopped: false }
    }

    /// Reads the next command that has a word. `false`: there is none.
    pub(super) fn next_command(&mut self) -> bool {
        self.count = 0;
        while !self.stopped {
            self.skip_blanks();
            let Some(byte) = self.peek(0) else { break };
            let ends = match byte {
                b'\n' | b';' | b'&' | b'|' | b'(' | b')' => {
                    if byte == b'&' && self.peek(1) == Some(b'>') {
                        self.at += 1;
                        self.redirection();
                        continue;
                    }
                    self.is_more = true;
                    self.stopped = match byte {
                        // A function's name, arithmetic; the end of a pattern.
                        b'(' => self.count > 0 || self.peek(1) == Some(b'('),
                        b';' => matches!(self.peek(1), Some(b';' | b'&')),
                        _ => false,
                    };
                    if self.stopped && byte == b'(' {
                        self.count = 0;
                    }
                    self.at += 1;
                    true
                }
                b'<' | b'>' => {
                    self.redirection();
                    false
                }
                b'#' => {
                    self.is_more = true;
                    while self.peek(0).is_some_and(|byte| byte != b'\n') {
                        self.at += 1;
                    }
                    false
                }
                _ => {
                    self.word();
                    false
                }
            };
            if ends && self.count > 0 {
                return true;
            }
        }
        self.is_more |= self.stopped;
        self.count > 0
    }

    /// A word of the command.
    pub(super) fn word_at(&self, index: usize) -> Word<'a> {
        let Some(token) = self.words.get(..self.count).and_then(|words| words.get(index)) else {
            // Of a command that was not read to its end, nobody knows where it ends.
            let is_cut = self.count == WORDS || self.stopped;
            return if is_cut { Word::Unknown(b"") } else { Word::End };
        };
        match token.value.and_then(|(start, end)| self.text.get(start..end)) {
            Some(value) => Word::Is(value),
            None => Word::Unknown(self.text.get(token.start..token.end).unwrap_or(&[])),
        }
    }

    /// Where a word of the command begins and ends in the text.
    pub(super) fn place(&self, index: usize) -> Option<(usize, usize)> {
        self.words.get(..self.count)?.get(index).map(|token| (token.start, token.end))
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at.checked_add(ahead)?).copied()
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.peek(0) {
                Some(b' ' | b'\t') => self.at += 1,
                Some(b'\\') if self.peek(1) == Some(b'\n') => self.at += 2,
                _ => return,
            }
        }
    }

    /// Skips a redirection and its file. A text that follows in the next lines is not looked for.
    fn redirection(&mut self) {
        self.is_more = true;
        let operator = self.at;
        while matches!(self.peek(0), Some(b'<' | b'>' | b'&' | b'|')) {
            self.at += 1;
        }
        let operator = self.text.get(operator..self.at).unwrap_or(&[]);
        if operator.starts_with(b"<<") || matches!(self.peek(0), Some(b'(')) || operator.len() > 2 {
            self.stopped = true;
            return;
        }
        self.skip_blanks();
        let start = self.at;
        let _ = self.skip_word();
        self.stopped |= self.at == start;
    }

    /// Takes a word.
    fn word(&mut self) {
        let start = self.at;
        let is_literal = self.skip_word();
        let end = self.at;
        // `2>file`: the number is part of the redirection.
        let text = self.text.get(start..end).unwrap_or(&[]);
        if matches!(self.peek(0), Some(b'<' | b'>')) && text.iter().all(u8::is_ascii_digit) {
            return;
        }
        let value = if is_literal { self.value(start, end) } else { None };
        if self.count == 0 && !self.stopped {
            if let Some(name) = assigned(text) {
                self.assigns_path |= name == b"PATH";
                return;
            }
            // Quoted, they are no keywords.
            if BEFORE_COMMANDS.contains(&text) {
                self.is_more = true;
                return;
            }
            if ENDS.contains(&text) {
                self.is_more = true;
            }
            if OTHER_SYNTAX.contains(&text) || text == b"for" {
                self.is_more = true;
                self.stopped = text != b"for";
                if self.stopped {
                    return;
                }
            }
        }
        if self.stopped && self.count == 0 {
            return;
        }
        if let Some(token) = self.words.get_mut(self.count) {
            *token = Token { start, end, value };
            self.count += 1;
        }
    }

    /// The value of a word without expansions: all of it, or what is between its quotes.
    fn value(&self, start: usize, end: usize) -> Option<(usize, usize)> {
        let text = self.text.get(start..end)?;
        let inner = |quote: u8| {
            let inner = text.strip_prefix(&[quote])?.strip_suffix(&[quote])?;
            (!inner.contains(&quote)).then_some((start + 1, end - 1))
        };
        match text.first()? {
            b'\'' => inner(b'\''),
            b'"' => inner(b'"').filter(|_| !text.iter().any(|byte| matches!(byte, b'$' | b'\\' | b'`'))),
            _ => text.iter().all(|byte| is_plain(*byte)).then_some((start, end)),
        }
    }

    /// Skips a word. `false`: it has expansions, or the scan stopped in it.
    fn skip_word(&mut self) -> bool {
        let mut is_literal = true;
        while let Some(byte) = self.peek(0) {
            match byte {
                b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b')' => break,
                b'(' => {
                    // `name()`, or a pattern.
                    self.stopped = true;
                    return false;
                }
                b'\'' | b'"' => {}
                byte => is_literal &= is_plain(byte) || byte == b'\'' || byte == b'"',
            }
            if !self.skip_part(0) {
                self.stopped = true;
                return false;
            }
        }
        is_literal
    }

    /// Skips a byte of a word, or what is quoted or substituted there. `false`: it has no end.
    fn skip_part(&mut self, depth: usize) -> bool {
        let Some(byte) = self.peek(0) else { return false };
        if depth > DEPTH {
            return false;
        }
        self.at += 1;
        match byte {
            b'\\' => {
                self.at += 1;
                self.at <= self.text.len()
            }
            b'\'' => self.skip_to(b'\'', false),
            b'`' => {
                self.is_more = true;
                self.skip_to(b'`', true)
            }
            b'"' => self.skip_double(depth),
            b'$' => match self.peek(0) {
                Some(b'\'') => {
                    self.at += 1;
                    self.skip_to(b'\'', true)
                }
                Some(b'(') => {
                    self.is_more = true;
                    self.at += 1;
                    self.skip_group(b')', depth)
                }
                Some(b'{') => {
                    self.is_more = true;
                    self.at += 1;
                    self.skip_group(b'}', depth)
                }
                _ => true,
            },
            _ => true,
        }
    }

    /// Skips to a closing quote.
    fn skip_to(&mut self, quote: u8, has_escapes: bool) -> bool {
        while let Some(byte) = self.peek(0) {
            self.at += if has_escapes && byte == b'\\' { 2 } else { 1 };
            if byte == quote {
                return true;
            }
        }
        false
    }

    fn skip_double(&mut self, depth: usize) -> bool {
        while let Some(byte) = self.peek(0) {
            match byte {
                b'"' => {
                    self.at += 1;
                    return true;
                }
                // A single quote is nothing special here.
                b'\'' => self.at += 1,
                _ if !self.skip_part(depth + 1) => return false,
                _ => {}
            }
        }
        false
    }

    /// Skips a substitution to the parenthesis or brace that ends it.
    fn skip_group(&mut self, end: u8, depth: usize) -> bool {
        let mut open = 1_usize;
        while let Some(byte) = self.peek(0) {
            if byte == end {
                self.at += 1;
                open -= 1;
                if open == 0 {
                    return true;
                }
                continue;
            }
            match byte {
                b'(' if end == b')' => {
                    open += 1;
                    self.at += 1;
                }
                // Comments, texts of the next lines and patterns have quotes and parentheses that pair with nothing.
                b'#' | b'<' => return false,
                b'c' if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(b"case")) => {
                    return false;
                }
                _ if !self.skip_part(depth + 1) => return false,
                _ => {}
            }
        }
        false
    }
}

/// Whether a byte of a word means itself, in every shell.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&byte) || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands of a text, `?` for words with expansions; then `+` if it is more than one simple command.
    fn commands(text: &str) -> String {
        let mut scan = Scan::new(text.as_bytes());
        let mut found = Vec::new();
        while scan.next_command() {
            let words = (0..scan.count).map(|index| match scan.word_at(index) {
                Word::Is(value) => std::str::from_utf8(value).unwrap().to_owned(),
                _ => "?".to_owned(),
            });
            found.push(words.collect::<Vec<_>>().join(" "));
        }
        format!("{}{}", found.join(" | "), if scan.is_more { " +" } else { "" })
    }

    #[test]
    fn simple_commands_are_told_apart() {
        for (text, expected) in [
            ("vite", "vite"),
            ("  vite --port 80 ", "vite --port 80"),
            ("A=1 B='x y' vite a", "vite a"),
            ("'a b' \"c d\" e'f'", "a b c d ?"),
            ("a $x \"$y\" $'z\\'' *.js ~ {a,b}", "a ? ? ? ? ? ?"),
            ("a && b || c; d & e | f\ng", "a | b | c | d | e | f | g +"),
            ("a > f 2>&1 < g b", "a b +"),
            ("a &> f b", "a b +"),
            (">f a", "a +"),
            ("(a; b) && { c; }", "a | b | c | ? +"),
            ("if a; then b; else c; fi; d", "a | b | c | d +"),
            ("for x in 1 2; do a; done; b", "for x in 1 2 | a | done | b +"),
            ("while ! a; do b; done", "a | b | done +"),
            ("# why\na", "a +"),
            ("a # b; c", "a +"),
            ("a#b", "?"),
            ("a \\\n b", "a b"),
            ("a \\; b", "a ? b"),
            ("a $(b; c) d", "a ? d +"),
            ("a \"$(b \"c)\" ')')\" d", "a ? d +"),
            ("a `b` c; d", "a ? c | d +"),
            ("a ${b:-c d} e; f", "a ? e | f +"),
            ("A=$(b) c", "c +"),
            ("", ""),
            (" \n", " +"),
            ("A=1", ""),
        ] {
            assert_eq!(commands(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_ends_the_scan() {
        for (text, expected) in [
            ("a; f() { b; }; c", "a +"),
            ("a; case x in b) c;; esac", "a +"),
            ("a <<E\nb\nE\nc", "a +"),
            ("a <(b) c", "a +"),
            ("a; ((b)); c", "a +"),
            ("a; [[ b ]] && c", "a +"),
            ("a 'b", "a ? +"),
            ("a $(b # )\n) c", "a ? +"),
            ("a $(case b in c) d;; esac) e", "a ? +"),
            ("a;; b", "a +"),
            ("function f { a; }", " +"),
            ("f () { a; }", " +"),
        ] {
            assert_eq!(commands(text), expected, "{text}");
        }
        let deep = format!("a {}b{} c; d", "$(".repeat(40), ")".repeat(40));
        assert_eq!(commands(&deep), "a ? +");
    }
}
