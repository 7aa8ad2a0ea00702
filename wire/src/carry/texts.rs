//! Rewrites the text of a shell so that the variables are set in it and reach what it starts.
use super::files::Found;
use super::insert::{Called, Setting, assigned_words, script_words};
use super::resolve::{Change, Command, resolve};
use super::scan::Scan;
use super::words::Word;
use super::write::{Push, Variables, assignments, export, quoted, source};

/// Texts of shells within texts of shells. In a deeper one the variables are set, and its commands are left alone.
const DEPTH: usize = 3;

/// Commands that every shell carries out itself, whatever a program of this name would do. After `exec` and `command`
/// stands a program.
const BUILTINS: [&[u8]; 61] = [
    b".",
    b":",
    b"[",
    b"alias",
    b"bg",
    b"bind",
    b"break",
    b"builtin",
    b"bye",
    b"caller",
    b"cd",
    b"command",
    b"continue",
    b"declare",
    b"dirs",
    b"disown",
    b"done",
    b"echo",
    b"enable",
    b"eval",
    b"exec",
    b"exit",
    b"export",
    b"false",
    b"fc",
    b"fg",
    b"for",
    b"getopts",
    b"hash",
    b"help",
    b"history",
    b"jobs",
    b"kill",
    b"let",
    b"local",
    b"logout",
    b"mapfile",
    b"popd",
    b"print",
    b"printf",
    b"pushd",
    b"pwd",
    b"read",
    b"readonly",
    b"return",
    b"set",
    b"shift",
    b"shopt",
    b"source",
    b"suspend",
    b"test",
    b"times",
    b"trap",
    b"true",
    b"type",
    b"typeset",
    b"ulimit",
    b"umask",
    b"unalias",
    b"unset",
    b"wait",
];

/// Writes the text of a shell with the variables set in it.
///
/// A text of one simple command gets them as assignments before the command, because bash of macOS becomes such a
/// command and has it as a child otherwise. Any other text begins with an `export`, on the same line. In both, a
/// command that would lose the variables gets them again.
pub(super) fn rewrite(setting: Setting<'_>, text: &[u8], push: Push<'_>) {
    rewrite_at(setting, text, DEPTH, push);
}

fn rewrite_at(setting: Setting<'_>, text: &[u8], depth: usize, push: Push<'_>) {
    if is_simple(text) {
        assignments(push, setting.variables);
    } else {
        export(push, setting.variables);
    }
    match depth.checked_sub(1) {
        Some(depth) => body(setting, text, depth, push),
        None => push(text),
    }
}

/// Whether a text sets the variables already, because it went through here before.
pub(super) fn is_rewritten(text: &[u8], variables: Variables<'_>) -> bool {
    let text = text.strip_prefix(b"export ").unwrap_or(text);
    let mut is_first = true;
    let mut same = false;
    variables(&mut |name, _| {
        same |= is_first && text.strip_prefix(name).is_some_and(|rest| rest.starts_with(b"='"));
        is_first = false;
    });
    same
}

/// Whether the text is one simple command that a shell executes as a program.
fn is_simple(text: &[u8]) -> bool {
    let mut scan = Scan::new(text);
    let Word::Is(first) = (if scan.next_command() { scan.word_at(0) } else { Word::End }) else {
        return false;
    };
    let is_program = !BUILTINS.contains(&first);
    is_program && !scan.next_command() && !scan.is_more
}

/// Writes the text with what commands in it need to keep the variables.
fn body(setting: Setting<'_>, text: &[u8], depth: usize, push: Push<'_>) {
    let mut script = Found::new();
    let mut interpreter = Found::new();
    let mut scan = Scan::new(text);
    let mut written = 0;
    // Whether a path below the working directory, and a name, are found where they are now.
    let (mut is_here, mut is_found) = (true, true);
    while is_found && scan.next_command() {
        is_found = !scan.assigns_path;
        let words = |index: usize| scan.word_at(index);
        let first = match words(0) {
            Word::Is(b"exec" | b"command") => 1,
            Word::Is(name) if BUILTINS.contains(&name) => {
                let sets_path = (1..).map(words).take_while(|word| *word != Word::End).take(8);
                let sets_path = sets_path.filter_map(Word::assigned).any(|name| name == b"PATH");
                is_here &= !matches!(name, b"cd" | b"pushd" | b"popd");
                is_found &= !sets_path
                    && !matches!(name, b"." | b"source" | b"eval" | b"alias" | b"hash" | b"enable" | b"bind");
                continue;
            }
            _ => 0,
        };
        if !is_found || matches!(words(first), Word::Unknown(_)) {
            continue;
        }
        let Setting { files, lost, .. } = setting;
        let command = Command { words: &words, first, is_found: false, is_here, files, lost };
        let change = resolve(&command, &mut script, &mut interpreter);
        let Some((start, end)) = scan.place(place_of(change)) else { continue };
        let before = text.get(written..start).unwrap_or(&[]);
        written = start;
        match change {
            Change::None => continue,
            Change::Variables { with_env, .. } => {
                push(before);
                assigned_words(setting, with_env, &mut |write| {
                    quoted(push, |push| write(push));
                    push(b" ");
                });
            }
            Change::Text(at) => {
                push(before);
                match words(at) {
                    Word::Is(inner) if is_rewritten(inner, setting.variables) => {}
                    Word::Is(inner) => {
                        quoted(push, |push| rewrite_at(setting, inner, depth, push));
                        written = end;
                    }
                    // Two quoted parts without a blank between them are one word.
                    _ => quoted(push, |push| export(push, setting.variables)),
                }
            }
            Change::File { at, .. } => {
                let (Some((file, _)), Word::Is(path)) = (scan.place(at), words(at)) else { continue };
                push(before);
                push(b"-c ");
                push(text.get(start..file).unwrap_or(&[]));
                quoted(push, |push| source(push, setting.variables, path));
                push(b" ");
                written = file;
            }
            Change::Script { by, after, .. } => {
                push(before);
                let mut between: &[u8] = b"";
                script_words(setting, (by, after), &script, &interpreter, Called::ByPath, &mut |write| {
                    push(between);
                    between = b" ";
                    quoted(push, |push| write(push));
                });
                written = end;
            }
        }
    }
    push(text.get(written..).unwrap_or(&[]));
}

/// The word at which a change begins.
fn place_of(change: Change) -> usize {
    match change {
        Change::None => usize::MAX,
        Change::Variables { at, .. } | Change::Text(at) | Change::Script { at, .. } => at,
        Change::File { option, .. } => option,
    }
}
