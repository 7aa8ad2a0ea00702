//! Programs of the system that start another: where its name is among their arguments. Options as in the manual pages
//! of macOS, and of GNU where they differ.
use super::words::{Word, Words};

/// How the options of a program are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Launcher {
    name: &'static [u8],
    /// Letters without a value.
    plain: &'static [u8],
    /// Letters with a value, behind them or in the next argument.
    valued: &'static [u8],
    /// Letters whose value can only be behind them.
    attached: &'static [u8],
    /// Whole options with a value in the next argument.
    whole_valued: &'static [&'static [u8]],
    /// Whole options without a value, or with one behind `=`.
    whole: &'static [&'static [u8]],
    /// Arguments before the command.
    operands: usize,
}

/// What most of them have.
const NONE: Launcher = Launcher {
    name: b"",
    plain: b"",
    valued: b"",
    attached: b"",
    whole_valued: &[],
    whole: &[],
    operands: 0,
};

const LAUNCHERS: [Launcher; 11] = [
    Launcher {
        name: b"env",
        plain: b"i0v",
        valued: b"uPC",
        whole: &[b"--ignore-environment", b"--unset", b"--chdir"],
        ..NONE
    },
    Launcher { name: b"nohup", ..NONE },
    Launcher { name: b"nice", valued: b"n", whole: &[b"--adjustment"], ..NONE },
    Launcher { name: b"time", plain: b"ahlpv", valued: b"of", ..NONE },
    Launcher {
        name: b"xargs",
        plain: b"0oprtx",
        valued: b"EIJLnPRSsad",
        attached: b"ile",
        whole: &[
            b"--null",
            b"--no-run-if-empty",
            b"--verbose",
            b"--max-args",
            b"--max-procs",
            b"--max-lines",
            b"--replace",
            b"--delimiter",
            b"--arg-file",
        ],
        ..NONE
    },
    Launcher {
        name: b"timeout",
        plain: b"vfp",
        valued: b"ks",
        whole: &[b"--foreground", b"--preserve-status", b"--verbose", b"--kill-after", b"--signal"],
        operands: 1,
        ..NONE
    },
    Launcher { name: b"sandbox-exec", valued: b"fnpD", ..NONE },
    Launcher { name: b"caffeinate", plain: b"dimsu", valued: b"tw", ..NONE },
    Launcher {
        name: b"arch",
        whole: &[b"-arm64", b"-arm64e", b"-x86_64", b"-x86_64h", b"-i386", b"-32", b"-64", b"-c", b"-h"],
        whole_valued: &[b"-arch", b"-d", b"-e"],
        ..NONE
    },
    Launcher { name: b"script", plain: b"adeFkpqr", valued: b"tT", operands: 1, ..NONE },
    Launcher { name: b"stdbuf", valued: b"ioe", ..NONE },
];

/// The program of this name, if it starts others.
pub(super) fn find(name: &[u8]) -> Option<Launcher> {
    LAUNCHERS.into_iter().find(|launcher| launcher.name == name)
}

// === impl Launcher ===

impl Launcher {
    /// Whether it is env(1), which takes variables before the command.
    pub(super) fn is_env(&self) -> bool {
        self.name == b"env"
    }

    /// The index of the command among its arguments, which begin at `first`. `None`: there is none, or the options are
    /// not known here.
    pub(super) fn command(&self, words: Words<'_, '_>, first: usize) -> Option<usize> {
        let mut at = first;
        while let Word::Is(word) = words(at) {
            if word == b"--" {
                at += 1;
                break;
            }
            if word == b"-" && self.is_env() {
                at += 1;
            } else if self.whole_valued.contains(&word) {
                at += 2;
            } else if self.is_whole(word) || (self.name == b"nice" && is_number(word)) {
                at += 1;
            } else if let Some(letters) = word.strip_prefix(b"-").filter(|letters| !letters.is_empty()) {
                at += self.letters(letters)?;
            } else {
                break;
            }
        }
        if self.is_env() {
            while words(at).assigned().is_some() {
                at += 1;
            }
        }
        at += self.operands;
        // The arguments before it are there if it is.
        (words(at) != Word::End).then_some(at)
    }

    fn is_whole(&self, word: &[u8]) -> bool {
        let name = word.split(|byte| *byte == b'=').next().unwrap_or(word);
        self.whole.contains(&name)
    }

    /// Arguments that a group of letters takes, itself included.
    fn letters(&self, letters: &[u8]) -> Option<usize> {
        for (index, letter) in letters.iter().enumerate() {
            if self.valued.contains(letter) {
                return Some(if index + 1 < letters.len() { 1 } else { 2 });
            }
            if self.attached.contains(letter) {
                return Some(1);
            }
            if !self.plain.contains(letter) {
                return None;
            }
        }
        Some(1)
    }
}

/// `-5`, or `--5` and `-+5`, which are numbers to nice(1).
fn is_number(word: &[u8]) -> bool {
    let Some(number) = word.strip_prefix(b"-") else { return false };
    let number = number.strip_prefix(b"-").or(number.strip_prefix(b"+")).unwrap_or(number);
    !number.is_empty() && number.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Option<String> {
        let words: Vec<&str> = line.split(' ').collect();
        let word = |index: usize| words.get(index).map_or(Word::End, |word| Word::Is(word.as_bytes()));
        let at = find(words[0].as_bytes())?.command(&word, 1)?;
        Some(words[at..].join(" "))
    }

    #[test]
    fn the_command_is_found_behind_options() {
        for line in [
            "env x -a",
            "env - x -a",
            "env -i x -a",
            "env -iu A B=1 C= x -a",
            "env -u A -u B x -a",
            "env -uA -- B=1 x -a",
            "env --unset=A x -a",
            "nohup x -a",
            "nohup -- x -a",
            "nice x -a",
            "nice -n 5 x -a",
            "nice -n5 x -a",
            "nice -5 x -a",
            "nice --5 x -a",
            "nice --adjustment=5 x -a",
            "time x -a",
            "time -lp x -a",
            "time -o f x -a",
            "xargs x -a",
            "xargs -0 -n 1 -I {} x -a",
            "xargs -n1 -P4 x -a",
            "xargs -i{} x -a",
            "xargs -r --max-args=1 x -a",
            "timeout 5 x -a",
            "timeout -s KILL -k 3 --foreground 5 x -a",
            "sandbox-exec -p text x -a",
            "sandbox-exec -D A=1 -f file x -a",
            "caffeinate -dims -t 5 x -a",
            "arch -x86_64 x -a",
            "arch -arch arm64 -e A=1 x -a",
            "script -q file x -a",
            "script -t 0 file x -a",
        ] {
            assert_eq!(command(line).as_deref(), Some("x -a"), "{line}");
        }
    }

    #[test]
    fn what_is_not_known_is_left() {
        for line in [
            "env",
            "env A=1",
            "env -S x",
            "env --what x",
            "nohup",
            "xargs",
            "timeout 5",
            "timeout -q 5 x",
            "script file",
            "caffeinate -d",
            "curl x",
        ] {
            assert_eq!(command(line), None, "{line}");
        }
    }
}
