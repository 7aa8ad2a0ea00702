//! Splits Rust sources into words: names, `::` and single characters, without comments, strings and tests. That is
//! enough to read imports; the rest of the language is not parsed.

/// The words of a source.
pub(crate) fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = blank(rest).unwrap_or_else(|| {
            let length = word(rest);
            words.push(&rest[..length]);
            length
        });
        debug_assert!(length >= first.len_utf8());
        rest = &rest[length..];
    }
    without_tests(&words)
}

/// Whether a word is a name.
pub(crate) fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Bytes of the space, comment, string or character at the start of a source.
fn blank(text: &str) -> Option<usize> {
    let until = |end: &str| text.find(end).map_or(text.len(), |at| at + end.len());
    if text.starts_with(char::is_whitespace) {
        return Some(text.len() - text.trim_start().len());
    }
    if text.starts_with("//") {
        return Some(until("\n"));
    }
    if text.starts_with("/*") {
        return Some(until("*/"));
    }
    let prefix = text.len() - text.trim_start_matches(['b', 'c']).len();
    let literal = &text[prefix.min(1)..];
    let length = match literal.strip_prefix('r').filter(|raw| raw.starts_with(['"', '#'])) {
        Some(raw) => {
            let signs = raw.len() - raw.trim_start_matches('#').len();
            let inner = raw[signs..].strip_prefix('"')?;
            let end = format!("\"{}", "#".repeat(signs));
            text.len() - inner.len() + inner.find(&end).map_or(inner.len(), |at| at + end.len())
        }
        None if literal.starts_with('"') => prefix.min(1) + quoted(literal, '"'),
        None if literal.starts_with('\'') && !is_lifetime(literal) => prefix.min(1) + quoted(literal, '\''),
        None => return None,
    };
    Some(length)
}

/// Bytes of a literal between quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            letter if letter == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A lifetime, `'a`, as opposed to a character, `'a'`.
fn is_lifetime(text: &str) -> bool {
    let mut letters = text.chars().skip(1);
    letters.next().is_some_and(|first| first.is_alphabetic() || first == '_') && letters.next() != Some('\'')
}

/// Bytes of the word at the start of a source.
fn word(text: &str) -> usize {
    let name = |letter: char| letter.is_alphanumeric() || letter == '_';
    if text.starts_with("::") {
        return 2;
    }
    match text.find(|letter| !name(letter)) {
        Some(0) => text.chars().next().map_or(1, char::len_utf8),
        end => end.unwrap_or(text.len()),
    }
}

/// The words without items that exist only for tests.
fn without_tests<'a>(words: &[&'a str]) -> Vec<&'a str> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < words.len() {
        if words[at..].starts_with(&MARK) {
            at += MARK.len() + item(&words[at + MARK.len()..]);
        } else {
            kept.push(words[at]);
            at += 1;
        }
    }
    kept
}

/// The number of words in the first item: up to its `;` or its closing brace.
fn item(words: &[&str]) -> usize {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate() {
        match *word {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && matches!(*word, ";" | "}") {
            return at + 1;
        }
    }
    words.len()
}

#[test]
fn comments_texts_and_tests_are_no_words() {
    let text = r##"
        use a::b; // use c::d;
        /* use e; */ const X: &'static str = "use \" f;"; let y = (b"g", r#"h " i"#, '"', '\'', b'x');
        #[cfg(test)] mod tests { fn t() { j::k() } }
        #[cfg(test)] use l::m;
        fn last() {}
    "##;
    let words = words(text);
    assert_eq!(words[..5], ["use", "a", "::", "b", ";"]);
    for name in ["c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "tests", "x"] {
        assert!(!words.contains(&name), "{name} in {words:?}");
    }
    assert!(words.contains(&"static") && words.contains(&"last"), "{words:?}");
}
