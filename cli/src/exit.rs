//! The exit statuses of agentfs itself. A wrapped program's own status passes through unchanged.
use std::process::ExitCode;

/// The exit status of an `agentfs` command. Documented in the README and in `agentfs --help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: success.
    Success,
    /// 1: failure; the message says why.
    Failure,
    /// 2: the command line is wrong.
    Usage,
    /// 3: not found: no collector is running, or no such app, instance or route.
    NotFound,
    /// 124: what `wait` waited for did not come in time, as in timeout(1).
    Timeout,
    /// 125: `wrap` or `exec` failed before it started the program, as in env(1) and timeout(1).
    Setup,
    /// 126: the program exists but cannot be executed.
    NotExecutable,
    /// 127: program not found.
    NoProgram,
    /// The wrapped program's own status.
    Program(u8),
}

// === impl Exit ===

impl Exit {
    /// The number that the parent process sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Timeout => 124,
            Self::Setup => 125,
            Self::NotExecutable => 126,
            Self::NoProgram => 127,
            Self::Program(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
