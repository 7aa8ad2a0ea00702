//! Where words go: data to standard output, talk to standard error. Owns quiet, verbose and colour.
//! What is said is one line each and has nothing in it that a terminal obeys, whatever names it repeats.
//! A closed standard output is not an error: whoever read it has seen enough.
use crate::hint::Failure;
use agentfs_wire::text::visible;
use std::io::{self, ErrorKind, IsTerminal, Write};

/// The one way to standard output and standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    /// Whether talk is wanted that is not about a failure.
    talks: bool,
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
    /// A printer that talks when standard error is a terminal or `verbose`, and never when `quiet`.
    pub(crate) fn new(quiet: bool, verbose: bool, no_color: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { talks: !quiet && (verbose || terminal), color: terminal && !no_color, verbose }
    }

    /// Whether anybody reads our talk.
    pub(crate) fn talks(&self) -> bool {
        self.talks
    }

    /// Writes data, as it is, to standard output.
    ///
    /// # Errors
    /// Where standard output fails in another way than by being closed.
    pub(crate) fn data(&self, text: &str) -> Result<Flow, Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Ok(()) => Ok(Flow::Open),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Flow::Closed),
            Err(error) => Err(Failure::of(format_args!("cannot write to standard output: {error}"))),
        }
    }

    /// Says something when anybody listens.
    pub(crate) fn talk(&self, text: &str) {
        if self.talks {
            self.say(text);
        }
    }

    /// Says something with details.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose {
            self.say(text);
        }
    }

    /// Warns when anybody listens.
    pub(crate) fn warn(&self, text: &str) {
        if self.talks {
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

    /// One write, so that lines of several processes do not mix. Nobody can be told when it fails.
    fn line(&self, mark: &str, text: &str) {
        self.raw(&format!("agentfs: {mark}{}\n", visible(text)));
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[1;{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
