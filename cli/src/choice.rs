//! Which instance a command belongs to: joins one that is running, or makes a new one. Pure: `claim` says what is
//! running, and holds the run lock while it asks.
//!
//! | asked | decided |
//! |---|---|
//! | nothing | inside an instance of this folder: that one; else the first of `stem`, `stem-2`, … that this folder has and in which the same command line is not running; else the lowest free one |
//! | `--new` | the lowest free one |
//! | `--join` | the first that this folder has |
//! | `--instance NAME` | that one: joined if this folder has it, made if nobody has it, refused if another folder has it |
use crate::naming::{aside, numbered};
use std::fmt;
use std::path::{Path, PathBuf};

/// Copies that are tried before we give up.
const COPIES: u32 = 1000;

/// Whether to join or to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Joins, unless the same command line runs there.
    #[default]
    Usual,
    /// Makes a new instance (`--new`).
    New,
    /// Joins a running one (`--join`).
    Join,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    /// Whether to join or to make.
    pub(crate) mode: Mode,
    /// `--instance`
    pub(crate) given: Option<&'a str>,
    /// The name that the checkout gives to its instances.
    pub(crate) stem: &'a str,
    /// The folder that the instance belongs to.
    pub(crate) folder: &'a Path,
    /// The instance of this app that we are inside of.
    pub(crate) inside: Option<&'a str>,
    /// The running instances of this folder, oldest first, with the stem of those that the checkout named. Of the
    /// copies of `stem` one is enough, unless the mode is `Join`.
    pub(crate) own: &'a [(String, Option<String>)],
    /// What an instance that is started again was before; only with a name that is given.
    pub(crate) before: Before<'a>,
}

/// What an instance was before it was stopped, so that it is the same again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before<'a> {
    /// As [`Choice::stem`].
    pub(crate) stem: Option<&'a str>,
    /// As [`Choice::closed`].
    pub(crate) closed: bool,
}

/// What is known about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing runs under it.
    Free,
    /// An instance of this folder.
    Own {
        /// Whether the same command line is running in it.
        runs: bool,
        /// Whether it is joined only by name or from inside.
        closed: bool,
    },
    /// Somebody else's.
    Taken(Holder),
}

/// Who has a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Its folder; unknown for sockets made by hand.
    pub(crate) folder: Option<PathBuf>,
    /// Whether it is of a worktree that was there before, and was removed.
    pub(crate) is_removed: bool,
    /// A process of it.
    pub(crate) pid: Option<u32>,
    /// The command of that process.
    pub(crate) command: String,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The instance.
    pub(crate) instance: String,
    /// Whether it is running and is joined.
    pub(crate) joins: bool,
    /// Its stem, if the checkout names it.
    pub(crate) stem: Option<String>,
    /// Whether it is not to be joined by others.
    pub(crate) closed: bool,
    /// Why it is not called as usual.
    pub(crate) renamed: Option<Renamed>,
}

/// Why an instance is not called as usual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Renamed {
    /// The same command line runs in that instance.
    Copy(String),
    /// `--new`, and that instance is running.
    New(String),
    /// Another folder's instance has the name.
    Aside(String, Holder),
    /// The checkout's instance is running under the name that it got when it started.
    Kept(String),
}

/// Why nothing was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `--join`, and nothing of this folder is running.
    NothingToJoin,
    /// `--join`, and several instances with names of their own are running.
    Several(Vec<String>),
    /// `--new --instance NAME`, and it is running.
    Running(String),
    /// `--instance NAME`, and another folder has it.
    Taken(String, Holder),
    /// Too many copies.
    Full(String),
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(folder) = &self.folder else { return formatter.write_str("a socket made by hand") };
        if self.is_removed {
            formatter.write_str("a worktree that was removed from ")?;
        }
        write!(formatter, "{}", folder.display())?;
        match self.pid {
            Some(pid) => write!(formatter, " (`{}`, pid {pid})", self.command),
            None => write!(formatter, " (left behind by `{}`)", self.command),
        }
    }
}

/// Decides. `look` says what is known about a name.
///
/// # Errors
/// Why nothing was decided.
pub(crate) fn choose(request: &Request<'_>, look: &mut dyn FnMut(&str) -> State) -> Result<Choice, Refusal> {
    if let Some(given) = request.given {
        return exactly(request, given, look);
    }
    if let (Some(inside), true) = (request.inside, request.mode != Mode::New)
        && let State::Own { runs, .. } = look(inside)
        && (!runs || request.mode == Mode::Join)
    {
        return Ok(joined(inside, None));
    }
    let (stem, renamed) = stem(request, look);
    for number in 1..=COPIES {
        let name = numbered(&stem, number);
        match (look(&name), request.mode) {
            (State::Own { runs, closed: false }, mode)
                if mode == Mode::Join || (mode == Mode::Usual && !runs) =>
            {
                return Ok(joined(&name, renamed));
            }
            (State::Free, Mode::Usual | Mode::New) => {
                let copy = (number > 1).then(|| match request.mode {
                    Mode::New => Renamed::New(stem.clone()),
                    _ => Renamed::Copy(stem.clone()),
                });
                return Ok(Choice {
                    instance: name,
                    joins: false,
                    closed: request.mode == Mode::New && number > 1,
                    renamed: copy.or(renamed),
                    stem: Some(stem),
                });
            }
            // There may be a gap before the first that runs.
            (State::Free, Mode::Join) if !request.own.iter().any(|(_, of)| of.as_ref() == Some(&stem)) => {
                break;
            }
            _ => {}
        }
    }
    match (request.mode, request.own) {
        (Mode::Join, []) => Err(Refusal::NothingToJoin),
        (Mode::Join, [(only, _)]) => Ok(joined(only, None)),
        (Mode::Join, several) => {
            Err(Refusal::Several(several.iter().map(|(name, _)| name.clone()).collect()))
        }
        _ => Err(Refusal::Full(stem)),
    }
}

/// The instance that was asked for by name.
fn exactly(
    request: &Request<'_>,
    given: &str,
    look: &mut dyn FnMut(&str) -> State,
) -> Result<Choice, Refusal> {
    match (look(given), request.mode) {
        (State::Taken(holder), _) => Err(Refusal::Taken(given.to_owned(), holder)),
        (State::Own { .. }, Mode::New) => Err(Refusal::Running(given.to_owned())),
        (State::Own { .. }, _) => Ok(joined(given, None)),
        (State::Free, Mode::Join) => Err(Refusal::NothingToJoin),
        (State::Free, _) => Ok(Choice {
            instance: given.to_owned(),
            joins: false,
            // The usual name, though asked for, is the usual instance.
            stem: request.before.stem.or((given == request.stem).then_some(given)).map(str::to_owned),
            closed: request.before.closed,
            renamed: None,
        }),
    }
}

/// The stem of the folder's instances: that of those that run, else the usual one, else one beside it.
fn stem(request: &Request<'_>, look: &mut dyn FnMut(&str) -> State) -> (String, Option<Renamed>) {
    if let Some(kept) = request.own.iter().find_map(|(_, stem)| stem.clone()) {
        let renamed = (kept != request.stem).then(|| Renamed::Kept(request.stem.to_owned()));
        return (kept, renamed);
    }
    let State::Taken(holder) = look(request.stem) else { return (request.stem.to_owned(), None) };
    let others = aside(request.stem, request.folder, holder.folder.as_deref());
    let free = others.iter().find(|name| !matches!(look(name), State::Taken(_))).or(others.last());
    let name = free.cloned().unwrap_or_else(|| request.stem.to_owned());
    (name, Some(Renamed::Aside(request.stem.to_owned(), holder)))
}

fn joined(instance: &str, renamed: Option<Renamed>) -> Choice {
    Choice { instance: instance.to_owned(), joins: true, stem: None, closed: false, renamed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn free() -> Request<'static> {
        let folder = Path::new("/w/blue");
        let before = Before::default();
        Request { mode: Mode::Usual, given: None, stem: "blue", folder, inside: None, own: &[], before }
    }

    fn own(runs: bool) -> State {
        State::Own { runs, closed: false }
    }

    fn taken() -> State {
        let holder = Holder { folder: Some("/v/blue".into()), pid: Some(7), ..Holder::default() };
        State::Taken(Holder { command: "x".to_owned(), ..holder })
    }

    fn ask(request: &Request<'_>, names: &[(&str, State)]) -> Result<Choice, Refusal> {
        let names: BTreeMap<&str, State> = names.iter().cloned().collect();
        choose(request, &mut |name| names.get(name).cloned().unwrap_or(State::Free))
    }

    /// The decision as `join NAME` or `make NAME`.
    fn decided(request: &Request<'_>, names: &[(&str, State)]) -> String {
        match ask(request, names) {
            Ok(choice) => format!("{} {}", if choice.joins { "join" } else { "make" }, choice.instance),
            Err(refusal) => format!("{refusal:?}"),
        }
    }

    #[test]
    fn usually_a_command_joins_and_a_second_one_of_its_kind_is_a_copy() {
        assert_eq!(decided(&free(), &[]), "make blue");
        assert_eq!(decided(&free(), &[("blue", own(false))]), "join blue");
        assert_eq!(decided(&free(), &[("blue", own(true))]), "make blue-2");
        assert_eq!(decided(&free(), &[("blue", own(true)), ("blue-2", own(false))]), "join blue-2");
        assert_eq!(decided(&free(), &[("blue", own(true)), ("blue-2", own(true))]), "make blue-3");
        assert_eq!(decided(&free(), &[("blue-2", own(true))]), "make blue", "the lowest free name");
        let closed = State::Own { runs: false, closed: true };
        assert_eq!(decided(&free(), &[("blue", own(true)), ("blue-2", closed)]), "make blue-3");
    }

    #[test]
    fn another_folder_is_never_joined() {
        assert_eq!(decided(&free(), &[("blue", taken())]), "make blue-w");
        assert_eq!(decided(&free(), &[("blue", taken()), ("blue-w", own(false))]), "join blue-w");
        let both = [("blue", taken()), ("blue-w", taken())];
        assert!(decided(&free(), &both).starts_with("make blue-x"), "{}", decided(&free(), &both));
        assert_eq!(decided(&free(), &[("blue", own(true)), ("blue-2", taken())]), "make blue-3");
    }

    #[test]
    fn what_runs_keeps_its_name_when_the_branch_changes() {
        let living = [("red".to_owned(), Some("red".to_owned()))];
        let request = Request { own: &living, ..free() };
        let choice = ask(&request, &[("red", own(false))]).unwrap();
        assert_eq!((choice.instance.as_str(), choice.joins), ("red", true));
        assert_eq!(choice.renamed, Some(Renamed::Kept("blue".to_owned())));
        assert_eq!(decided(&request, &[("red", own(true))]), "make red-2");
    }

    #[test]
    fn inside_an_instance_that_one_is_joined() {
        let request = Request { inside: Some("blue-2"), ..free() };
        assert_eq!(decided(&request, &[("blue", own(false)), ("blue-2", own(false))]), "join blue-2");
        assert_eq!(decided(&request, &[("blue", own(true)), ("blue-2", own(true))]), "make blue-3");
        assert_eq!(decided(&request, &[("blue-2", taken())]), "make blue", "it is of another folder");
        let new = Request { mode: Mode::New, ..request.clone() };
        assert_eq!(decided(&new, &[("blue-2", own(false))]), "make blue");
    }

    #[test]
    fn new_and_join_decide() {
        let new = Request { mode: Mode::New, ..free() };
        assert_eq!(decided(&new, &[("blue", own(false))]), "make blue-2");
        let beside = ask(&new, &[("blue", own(false))]).unwrap();
        assert_eq!((beside.closed, beside.renamed), (true, Some(Renamed::New("blue".to_owned()))));
        assert!(!ask(&new, &[]).unwrap().closed, "it is the folder's usual instance");
        let join = Request { mode: Mode::Join, ..free() };
        assert_eq!(decided(&join, &[]), "NothingToJoin");
        assert_eq!(decided(&join, &[("blue", own(true))]), "join blue");
        let copy = [("blue-2".to_owned(), Some("blue".to_owned()))];
        let join = Request { own: &copy, ..join };
        assert_eq!(decided(&join, &[("blue-2", own(true))]), "join blue-2");
        let named = [("demo".to_owned(), None)];
        let join = Request { own: &named, ..join };
        assert_eq!(decided(&join, &[("demo", own(true))]), "join demo");
        let several = [("demo".to_owned(), None), ("test".to_owned(), None)];
        let join = Request { own: &several, ..join };
        assert!(decided(&join, &[]).starts_with("Several"));
    }

    #[test]
    fn a_given_name_means_exactly_that_instance() {
        let given = Request { given: Some("demo"), ..free() };
        assert_eq!(decided(&given, &[]), "make demo");
        assert_eq!(ask(&given, &[]).unwrap().stem, None);
        let again = Request { before: Before { stem: Some("blue"), closed: true }, ..given.clone() };
        let again = ask(&again, &[]).unwrap();
        assert_eq!((again.stem.as_deref(), again.closed), (Some("blue"), true), "it is what it was");
        assert_eq!(decided(&given, &[("demo", own(true))]), "join demo");
        assert!(decided(&given, &[("demo", taken())]).starts_with("Taken"));
        let new = Request { mode: Mode::New, ..given.clone() };
        assert!(decided(&new, &[("demo", own(false))]).starts_with("Running"));
        let join = Request { mode: Mode::Join, ..given };
        assert_eq!(decided(&join, &[]), "NothingToJoin");
    }
}
