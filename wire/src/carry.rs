//! How the variables that load the interposer get past programs of macOS that lose them. Pure, without allocation.
//!
//! System Integrity Protection removes `DYLD_…` variables while a protected program starts. What that program sets
//! itself, its children inherit as any other variable. So the arguments of a command are changed:
//! - the text of a shell, `sh -c TEXT`, begins with an `export` of the variables, or, if it is one simple command, with
//!   their assignment. In it, commands are changed as here;
//! - a script for a shell, `#!/bin/sh` or `sh FILE`, is read by the shell's `.` command behind such an `export`;
//! - a script for env(1), `#!/usr/bin/env node`, is started by its interpreter;
//! - behind `nohup`, `nice`, `xargs` and others, `/usr/bin/env NAME=VALUE …` stands before the command; in the
//!   arguments of env(1) itself the assignments do.
//!
//! What is not understood is left as it is: such a command runs unchanged, without the interposer.
mod files;
mod insert;
mod launchers;
mod resolve;
mod scan;
mod shells;
mod texts;
mod words;
mod write;

pub use files::{Files, Found};
use insert::{Called, Setting, assigned_words, interpreter, script_words};
use resolve::{Change, resolve};
use texts::{is_rewritten, rewrite};
use words::Word;
use write::source;
pub use write::{Push, Variables, export};

/// A program that is to be started.
pub struct Command<'c> {
    /// Where it is, and its first bytes.
    pub program: &'c Found,
    /// Its arguments, its own name first; `None` behind the last.
    pub argument: &'c dyn Fn(usize) -> Option<&'c [u8]>,
    /// The variables to carry, the one that loads libraries first.
    pub variables: Variables<'c>,
    /// What must be known about files.
    pub files: &'c dyn Files,
    /// Called with the path of each protected program of the command that the variables cannot be brought into.
    pub lost: &'c dyn Fn(&[u8]),
}

/// A part of what is started instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of a string.
    Bytes(&'a [u8]),
    /// The string is complete.
    End,
}

// === impl Command ===

impl core::fmt::Debug for Command<'_> {
    fn fmt(&self, to: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        to.debug_struct("Command").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Command<'_> {
    /// Writes what is to be started instead: the program's path, and then its arguments, each a string. `false`: nothing,
    /// because the program is started as it is.
    pub fn carry(&self, piece: &mut dyn FnMut(Piece<'_>)) -> bool {
        let mut script = self.program.clone();
        let mut found = Found::new();
        let words = |index: usize| (self.argument)(index).map_or(Word::End, Word::Is);
        let Self { files, lost, .. } = *self;
        let command =
            resolve::Command { words: &words, first: 0, is_found: true, is_here: true, files, lost };
        let change = resolve(&command, &mut script, &mut found);
        let setting = Setting { variables: self.variables, files: self.files, lost: self.lost };
        let mut string = |write: &mut dyn FnMut(Push<'_>)| {
            write(&mut |bytes| piece(Piece::Bytes(bytes)));
            piece(Piece::End);
        };
        let program = match change {
            Change::None => return false,
            Change::Text(at) if words(at).value().is_none_or(|text| is_rewritten(text, self.variables)) => {
                return false;
            }
            Change::Script { at: 0, by, .. } => match interpreter(by, setting, &script, &found) {
                Some(program) => program.path,
                None => return false,
            },
            _ => self.program.path(),
        };
        string(&mut |push| push(program));
        let mut index = 0;
        while let Some(argument) = (self.argument)(index) {
            match change {
                Change::Variables { at, with_env } if at == index => {
                    assigned_words(setting, with_env, &mut string)
                }
                Change::File { option, .. } if option == index => string(&mut |push| push(b"-c")),
                _ => {}
            }
            match change {
                Change::Text(at) if at == index => string(&mut |push| rewrite(setting, argument, push)),
                Change::File { at, .. } if at == index => {
                    string(&mut |push| source(push, self.variables, argument));
                    string(&mut |push| push(argument));
                }
                Change::Script { at, by, after } if at == index => {
                    let called = if at == 0 { Called::ByName } else { Called::ByPath };
                    script_words(setting, (by, after), &script, &found, called, &mut string);
                }
                _ => string(&mut |push| push(argument)),
            }
            index += 1;
        }
        true
    }
}

/// Writes the text of a system shell with the variables set in it, as system(3) and popen(3) give it to the shell.
/// `false`: nothing, because they are set already.
pub fn carry_text(text: &[u8], variables: Variables<'_>, files: &dyn Files, push: Push<'_>) -> bool {
    let fresh = !is_rewritten(text, variables);
    if fresh {
        rewrite(Setting { variables, files, lost: &|_| {} }, text, push);
    }
    fresh
}

#[cfg(test)]
mod tests;
