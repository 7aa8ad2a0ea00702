//! Words that come into a command: the variables for env(1), a script's interpreter.
use super::files::{Files, Found};
use super::resolve::{After, Interpreter, shell_option};
use super::write::{Push, Variables, source};
use crate::script::{Line, Start, Words};

/// env(1), where macOS and Linux have it.
const ENV: &[u8] = b"/usr/bin/env";

/// What commands are to have, and where they are looked for.
#[derive(Clone, Copy)]
pub(super) struct Setting<'s> {
    pub(super) variables: Variables<'s>,
    pub(super) files: &'s dyn Files,
    pub(super) lost: &'s dyn Fn(&[u8]),
}

/// Takes words: each is given as what writes it.
pub(super) type Word<'w> = &'w mut dyn FnMut(&mut dyn FnMut(Push<'_>));

/// The words before a command that set the variables for it.
pub(super) fn assigned_words(setting: Setting<'_>, with_env: bool, word: Word<'_>) {
    if with_env {
        word(&mut |push| push(ENV));
    }
    (setting.variables)(&mut |name, value| {
        word(&mut |push| {
            push(name);
            push(b"=");
            push(value);
        });
    });
}

/// The program that runs a script.
pub(super) struct Program<'f> {
    /// Where it is.
    pub(super) path: &'f [u8],
    /// What the script calls it.
    name: &'f [u8],
    /// The rest of the script's first line.
    words: Words<'f>,
}

/// How a script's interpreter is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Called {
    /// By its path: it is looked for by what the first word says.
    ByPath,
    /// As the script calls it: its path is given apart.
    ByName,
}

/// The program that runs a script.
pub(super) fn interpreter<'f>(
    by: Interpreter,
    setting: Setting<'_>,
    script: &'f Found,
    interpreter: &'f Found,
) -> Option<Program<'f>> {
    match (by, script.kind(setting.files)) {
        (Interpreter::Shell, Start::Script(Line { interpreter, words })) => {
            Some(Program { path: interpreter, name: interpreter, words })
        }
        (_, Start::Find { name, words }) => Some(Program { path: interpreter.path(), name, words }),
        _ => None,
    }
}

/// The words that stand for a script: its interpreter with its options, and its path.
pub(super) fn script_words(
    setting: Setting<'_>,
    (by, after): (Interpreter, After),
    script: &Found,
    found: &Found,
    called: Called,
    word: Word<'_>,
) {
    let Some(Program { path, name, words }) = interpreter(by, setting, script, found) else { return };
    if by == Interpreter::Found && after != After::Nothing {
        assigned_words(setting, after == After::Another, word);
    }
    word(&mut |push| push(if called == Called::ByPath { path } else { name }));
    let option = if by == Interpreter::Found { None } else { shell_option(path, words) };
    option_words(words, option, word);
    if option.is_some() {
        word(&mut |push| source(push, setting.variables, script.path()));
    }
    word(&mut |push| push(script.path()));
}

fn option_words(words: Words<'_>, option: Option<usize>, word: Word<'_>) {
    let mut index = 0;
    for one in words {
        if option == Some(index) {
            word(&mut |push| push(b"-c"));
        }
        word(&mut |push| push(one));
        index += 1;
    }
    if option == Some(index) {
        word(&mut |push| push(b"-c"));
    }
}
