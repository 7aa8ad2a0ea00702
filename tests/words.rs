//! The words of messages: plain English. Half of the readers read it as a second language.
#![expect(
    clippy::unwrap_used,
    reason = "all of it is tests; clippy only knows the functions that are marked"
)]
use std::path::{Path, PathBuf};

/// Turns of phrase that are not idiomatic, and what to write instead.
const ODD: &[(&str, &str)] = &[
    (" is no ", "`X` is not a …"),
    (" are no ", "`X` are not …"),
    ("there is no", "cannot find …"),
    ("nothing lives", "no running instance is named …"),
    ("leads there", "is routed to …"),
    ("leads elsewhere", "is already routed to …"),
    ("lead there", "are routed to …"),
    ("lead elsewhere", "are routed to …"),
];

#[test]
fn messages_are_plain_english() {
    let mut odd = Vec::new();
    for package in ["wire", "handoff", "router", "collector", "engine", "launchd", "macos", "cli"] {
        for file in sources(&root().join(package).join("src")) {
            let text = std::fs::read_to_string(&file).unwrap();
            // The comments of the command line are its help.
            let help = file.ends_with("args.rs");
            for (line, literal) in literals(text.split("#[cfg(test)]\nmod tests {").next().unwrap(), help) {
                for (words, instead) in ODD.iter().filter(|(words, _)| literal.contains(words)) {
                    odd.push(format!("{}:{line}: `{words}`: write `{instead}`", file.display()));
                }
            }
        }
    }
    assert!(odd.is_empty(), "{}", odd.join("\n"));
}

#[test]
fn literals_are_found() {
    let text =
        "let a = \"one\"; // \"two\"\nlet b = ('\"', r#\"th\"ree\"#, '\\'', \"fo\\\"ur\");\n/// five\n";
    let found = |help| literals(text, help).into_iter().map(|(_, literal)| literal).collect::<Vec<_>>();
    assert_eq!(found(false), ["one", "th\"ree", "fo\\\"ur"]);
    assert_eq!(found(true), ["one", "// \"two\"", "th\"ree", "fo\\\"ur", "/// five"]);
}

/// The string literals of a source and their lines, and its comments where they are wanted too.
fn literals(text: &str, comments: bool) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(offset) = text[at..].find(['"', '\'', '/']) {
        let start = at + offset;
        let rest = &text[start..];
        let line = text[..start].matches('\n').count() + 1;
        at = start + 1;
        if rest.starts_with("//") {
            let comment = rest.lines().next().unwrap();
            at = start + comment.len();
            if comments {
                found.push((line, comment));
            }
        } else if rest.starts_with("'\\") {
            at = start + 3 + rest[3..].find('\'').map_or(0, |end| end + 1);
        } else if rest.starts_with("'\"'") {
            at = start + 3;
        } else if let Some(rest) = rest.strip_prefix('"') {
            let hashes = text[..start].bytes().rev().take_while(|byte| *byte == b'#').count();
            let raw = text[..start - hashes].ends_with('r');
            let end = if raw { rest.find(&format!("\"{}", "#".repeat(hashes))) } else { closing_quote(rest) };
            let end = end.unwrap_or(rest.len());
            found.push((line, &rest[..end]));
            at = (at + end + 1).min(text.len());
        }
    }
    found
}

/// Where a literal ends whose first quote is gone.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        let list = std::fs::read_dir(path).unwrap();
        let mut files: Vec<PathBuf> = list.flat_map(|entry| sources(&entry.unwrap().path())).collect();
        files.sort();
        return files;
    }
    let source = path.extension().is_some_and(|extension| extension == "rs");
    if source { vec![path.to_owned()] } else { Vec::new() }
}
