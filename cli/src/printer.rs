//! Output: data goes to standard output, messages go to standard error. Owns quiet, verbose and colour. Each
//! message is one line without control characters, whatever names it repeats. A closed standard output is not
//! an error: the reader has seen enough.
use crate::hint::Failure;
use agentfs_wire::text::visible;
use std::io::{self, ErrorKind, IsTerminal, Write};

/// The one way to standard output and standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    /// Whether to print messages that only a person at a terminal wants.
    talks: bool,
    /// Whether to print warnings, and what has to be known.
    speaks: bool,
    /// Whether standard error takes colour.
    color: bool,
    /// Whether `-v` was given.
    verbose: bool,
}

/// Whether more may be written to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Yes.
    Open,
    /// The reader has gone.
    Closed,
}

// === impl Printer ===

impl Printer {
    /// A printer. It prints warnings and notes, unless `quiet`; other messages only if standard error is a terminal or
    /// with `verbose`.
    pub(crate) fn new(quiet: bool, verbose: bool, no_color: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        let talks = !quiet && (verbose || terminal);
        Self { talks, speaks: !quiet, color: terminal && !no_color, verbose }
    }

    /// Whether warnings and notes are printed.
    pub(crate) fn speaks(&self) -> bool {
        self.speaks
    }

    /// The options of another `agentfs` that is to say as much as we do.
    pub(crate) fn options(&self) -> &'static [&'static str] {
        match (self.speaks, self.verbose) {
            (false, _) => &["--quiet"],
            (true, true) => &["--verbose"],
            (true, false) => &[],
        }
    }

    /// Writes data, as it is, to standard output.
    ///
    /// # Errors
    /// Standard output fails for another reason than being closed.
    pub(crate) fn data(&self, text: &str) -> Result<Flow, Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(Flow::Open),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Flow::Closed),
            Err(error) => Err(Failure::of(format_args!("cannot write to standard output: {error}"))),
        }
    }

    /// Prints a message, if messages are wanted.
    pub(crate) fn talk(&self, text: &str) {
        if self.talks {
            self.say(text);
        }
    }

    /// Prints what a person or a coding agent has to know, unless asked to be quiet.
    pub(crate) fn note(&self, text: &str) {
        if self.speaks {
            self.say(text);
        }
    }

    /// Prints details, with `-v`.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose {
            self.say(text);
        }
    }

    /// Prints a warning, unless asked to be quiet.
    pub(crate) fn warn(&self, text: &str) {
        if self.speaks {
            self.line(&self.paint("33", "warning: "), text);
        }
    }

    /// Writes one line to standard error in any case.
    pub(crate) fn say(&self, text: &str) {
        self.line("", text);
    }

    /// Writes lines to standard error as they are.
    pub(crate) fn raw(&self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    /// Reports a failure.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.line(&self.paint("31", "error: "), &failure.message);
        if let Some(hint) = &failure.hint {
            self.raw(&format!("  {}{}\n", self.paint("36", "hint: "), visible(hint)));
        }
    }

    /// One write, so that lines of several processes do not mix. If it fails, nobody can be told.
    fn line(&self, mark: &str, text: &str) {
        self.raw(&format!("agentfs: {mark}{}\n", visible(text)));
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[1;{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
