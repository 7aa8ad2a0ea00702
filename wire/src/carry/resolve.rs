//! Looks through a command: past programs that start others, to the place where the variables must come in again.
use super::files::{Files, Found};
use super::launchers;
use super::shells::{self, Runs};
use super::words::{Word, Words};
use crate::script::{self, Start};

/// Programs that start one another in one command. A longer chain is left alone.
const CHAIN: usize = 8;

/// What is changed at one word of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing: the command keeps the variables by itself, or cannot have them.
    None,
    /// The variables come before the word at `at`, behind env(1) where `with_env`.
    Variables {
        /// The command that the programs before it start.
        at: usize,
        /// Whether env(1) must be started for them.
        with_env: bool,
    },
    /// The word at this index is the text of a shell.
    Text(usize),
    /// The word at `at` is a file that a shell is to run; `-c` comes before the word at `option`.
    File {
        /// The first short option of the shell.
        option: usize,
        /// The file.
        at: usize,
    },
    /// The word at `at` is a script, which was left in the first [`Found`].
    Script {
        /// The script.
        at: usize,
        /// Its interpreter.
        by: Interpreter,
        /// Whether the variables must be set for the interpreter.
        after: After,
    },
}

/// What runs a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interpreter {
    /// The shell that the first line names.
    Shell,
    /// The shell of the system that env(1) would find, left in the second [`Found`].
    FoundShell,
    /// The program that env(1) would find, left in the second [`Found`].
    Found,
}

/// What stands before a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing that loses the variables.
    Nothing,
    /// env(1), which takes variables.
    Env,
    /// Another program that loses them.
    Another,
}

/// A command that is looked through.
pub(super) struct Command<'c, 'a> {
    /// Its words.
    pub(super) words: Words<'c, 'a>,
    /// The index of the first.
    pub(super) first: usize,
    /// Whether the program was found by the caller.
    pub(super) is_found: bool,
    /// Whether paths below the working directory mean what they will mean to the command.
    pub(super) is_here: bool,
    /// What must be known about files.
    pub(super) files: &'c dyn Files,
    /// Called with the path of a protected program that the variables cannot be brought into.
    pub(super) lost: &'c dyn Fn(&[u8]),
}

/// What is to be changed. `script` and `interpreter` are overwritten; the result says what is in them.
pub(super) fn resolve(command: &Command<'_, '_>, script: &mut Found, interpreter: &mut Found) -> Change {
    let (words, files, lost) = (command.words, command.files, command.lost);
    let mut at = command.first;
    let mut after = After::Nothing;
    for _ in 0..CHAIN {
        let is_found = command.is_found && at == command.first;
        if !is_found {
            let name = match words(at) {
                Word::Is(name) => name,
                // Whatever it is: variables before it do no harm.
                Word::Unknown(_) => return reached(at, after),
                Word::End => return Change::None,
            };
            if !files.find(name, script) || !(command.is_here || script.path().starts_with(b"/")) {
                return Change::None;
            }
        }
        match script.kind(files) {
            Start::Plain => return reached(at, after),
            Start::System => {
                let name = script::file_name(script.path());
                if shells::is_shell(name) {
                    return match shells::runs(name, words, at + 1) {
                        Some(Runs::Text(at)) => Change::Text(at),
                        Some(Runs::File { option, at }) if is_sourced(words(at), files, command.is_here) => {
                            Change::File { option, at }
                        }
                        _ => {
                            lost(script.path());
                            Change::None
                        }
                    };
                }
                let Some(launcher) = launchers::find(name) else {
                    lost(script.path());
                    return Change::None;
                };
                let Some(next) = launcher.command(words, at + 1) else { return Change::None };
                after = if launcher.is_env() { After::Env } else { After::Another };
                at = next;
            }
            Start::Script(line) => {
                if shell_option(line.interpreter, line.words).is_some() {
                    return by(Interpreter::Shell, at, after);
                }
                lost(line.interpreter);
                return Change::None;
            }
            Start::Find { name, words } => {
                if !files.find(name, interpreter) {
                    return Change::None;
                }
                return match interpreter.kind(files) {
                    Start::Plain => by(Interpreter::Found, at, after),
                    Start::System if shell_option(interpreter.path(), words).is_some() => {
                        by(Interpreter::FoundShell, at, after)
                    }
                    Start::System => {
                        lost(interpreter.path());
                        Change::None
                    }
                    // A script that runs a script.
                    Start::Script(_) | Start::Find { .. } => Change::None,
                };
            }
        }
    }
    Change::None
}

/// A program that takes the variables, if they are there when it starts.
fn reached(at: usize, after: After) -> Change {
    match after {
        After::Nothing => Change::None,
        After::Env => Change::Variables { at, with_env: false },
        After::Another => Change::Variables { at, with_env: true },
    }
}

fn by(by: Interpreter, at: usize, after: After) -> Change {
    Change::Script { at, by, after }
}

/// Where `-c` comes among the words by which the first line of a script starts a shell. `None`: it is not a shell, or
/// would not run the script.
pub(super) fn shell_option(interpreter: &[u8], line: script::Words<'_>) -> Option<usize> {
    let name = script::file_name(interpreter);
    let count = line.count();
    let words = |index: usize| match line.clone().nth(index) {
        Some(word) => Word::Is(word),
        None if index == count => Word::Is(b"/script"),
        None => Word::End,
    };
    match shells::runs(name, &words, 0).filter(|_| shells::is_shell(name))? {
        Runs::File { option, at } if at == count => Some(option),
        _ => None,
    }
}

/// Whether a shell can read a file by its `.` command as if it ran it.
fn is_sourced(word: Word<'_>, files: &dyn Files, is_here: bool) -> bool {
    word.value().is_some_and(|path| path.starts_with(b"/") || (is_here && files.is_file(path)))
}
