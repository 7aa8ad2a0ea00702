//! Where a shell's arguments say what it runs: the text behind `-c`, or a file.
use super::words::{Word, Words};

/// Shells whose texts can be given an `export` (csh and tcsh have another language).
const NAMES: [&[u8]; 6] = [b"sh", b"bash", b"rbash", b"zsh", b"dash", b"ksh"];

/// Long options of bash, all before the short ones. Their number of dashes is one or two.
const LONG: [&[u8]; 12] = [
    b"debug",
    b"debugger",
    b"login",
    b"noediting",
    b"noprofile",
    b"norc",
    b"posix",
    b"protected",
    b"restricted",
    b"verbose",
    b"rcfile",
    b"init-file",
];
/// Those of them that take the next argument.
const VALUED: [&[u8]; 2] = [b"rcfile", b"init-file"];

/// What a shell runs, by the indices of its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// The text at this index.
    Text(usize),
    /// The file at this index. `-c` may be put before the argument at `option`.
    File {
        /// Behind the long options.
        option: usize,
        /// The file.
        at: usize,
    },
}

/// Whether a program of this name is a shell.
pub(super) fn is_shell(name: &[u8]) -> bool {
    NAMES.contains(&name)
}

/// What the shell called `name` runs. `None`: it reads its input, or its options are not known here.
pub(super) fn runs(name: &[u8], words: Words<'_, '_>, first: usize) -> Option<Runs> {
    // In bash `-o` takes the next argument wherever the letter is; others may have the option's name behind it.
    let is_bash = matches!(name, b"sh" | b"bash" | b"rbash");
    let mut at = first;
    let mut option = None;
    let mut is_text = false;
    while let Word::Is(word) = words(at) {
        if is_bash
            && option.is_none()
            && let Some(long) = long(word)
        {
            at += if VALUED.contains(&long) { 2 } else { 1 };
            continue;
        }
        let (sign, letters) = match word {
            b"-" | b"--" => {
                option.get_or_insert(at);
                at += 1;
                break;
            }
            [sign @ (b'-' | b'+'), letters @ ..] if !letters.is_empty() => (*sign, letters),
            _ => break,
        };
        option.get_or_insert(at);
        at += 1;
        for (index, letter) in letters.iter().enumerate() {
            match letter {
                b'c' if sign == b'-' => is_text = true,
                b's' if sign == b'-' => return None,
                b'o' if !is_bash && name != b"dash" && index + 1 < letters.len() => break,
                b'o' => at += 1,
                b'O' if is_bash => at += 1,
                letter if letter.is_ascii_alphanumeric() => {}
                _ => return None,
            }
        }
    }
    match words(at) {
        Word::End => None,
        _ if is_text => Some(Runs::Text(at)),
        Word::Is(b"") | Word::Unknown(_) => None,
        Word::Is(_) => Some(Runs::File { option: option.unwrap_or(at), at }),
    }
}

/// The name of a long option of bash.
fn long(word: &[u8]) -> Option<&[u8]> {
    let name = word.strip_prefix(b"-")?;
    let name = name.strip_prefix(b"-").unwrap_or(name);
    LONG.into_iter().find(|long| *long == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, line: &str) -> Option<Runs> {
        let words: Vec<&[u8]> = line.split(' ').filter(|word| !word.is_empty()).map(str::as_bytes).collect();
        let word = |index: usize| words.get(index).map_or(Word::End, |word| Word::Is(word));
        runs(name.as_bytes(), &word, 0)
    }

    #[test]
    fn a_text_is_found_behind_every_form_of_options() {
        for (name, line, at) in [
            ("sh", "-c x", 1),
            ("sh", "-c x a b", 1),
            ("sh", "-lc x", 1),
            ("sh", "-ec x", 1),
            ("sh", "-cex x", 1),
            ("sh", "-e -c x", 2),
            ("sh", "-c -e x", 2),
            ("sh", "-c -- x", 2),
            ("sh", "-c - x", 2),
            ("sh", "+e -c x", 2),
            ("bash", "--noprofile --norc -eo pipefail -c x", 5),
            ("bash", "-ceuo pipefail x", 2),
            ("bash", "-O extglob -c x", 3),
            ("bash", "+O extglob -c x", 3),
            ("bash", "--rcfile f -c x", 3),
            ("bash", "-norc -c x", 2),
            ("bash", "-login -c x", 2),
            ("zsh", "-f -c x", 2),
            ("zsh", "-oerrexit -c x", 2),
            ("zsh", "-o errexit -c x", 3),
            ("dash", "-o errexit -c x", 3),
            ("ksh", "-c x", 1),
        ] {
            assert_eq!(of(name, line), Some(Runs::Text(at)), "{name} {line}");
        }
    }

    #[test]
    fn a_file_is_told_from_options() {
        for (name, line, option, at) in [
            ("sh", "f", 0, 0),
            ("sh", "f -c x", 0, 0),
            ("sh", "-e f", 0, 1),
            ("sh", "-- f", 0, 1),
            ("sh", "-e -- f -c", 0, 2),
            ("bash", "--posix -e f", 1, 2),
            ("bash", "--posix f", 1, 1),
            ("bash", "-eo pipefail f", 0, 2),
        ] {
            assert_eq!(of(name, line), Some(Runs::File { option, at }), "{name} {line}");
        }
    }

    #[test]
    fn what_is_read_from_the_input_or_not_known_is_left() {
        for (name, line) in [
            ("sh", ""),
            ("sh", "-i"),
            ("sh", "-s a"),
            ("sh", "-c"),
            ("bash", "--what f"),
            ("zsh", "--emulate sh -c x"),
        ] {
            assert_eq!(of(name, line), None, "{name} {line}");
        }
        let word = |index: usize| match index {
            0 => Word::Is(b"-c".as_slice()),
            1 => Word::Unknown(b"$x"),
            _ => Word::End,
        };
        assert_eq!(runs(b"sh", &word, 0), Some(Runs::Text(1)));
        assert_eq!(runs(b"sh", &word, 1), None);
    }
}
