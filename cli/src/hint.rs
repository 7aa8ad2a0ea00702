//! Failure of a command: what is wrong, what to do next, and the exit status.
use crate::exit::Exit;
use agentfs_wire::control::{ControlError, ErrorCode};
use std::fmt;

/// A failure as a person sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// The exit status that goes with it.
    pub(crate) exit: Exit,
    /// A lower-case fragment that names what is wrong.
    pub(crate) message: String,
    /// What to do next, if known.
    pub(crate) hint: Option<String>,
}

// === impl Failure ===

impl Failure {
    /// A failure with `exit`.
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string(), hint: None }
    }

    /// An ordinary failure.
    pub(crate) fn of(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failure, message)
    }

    /// The failure with a hint.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// The failure with another exit status.
    #[must_use]
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let exit = match error.code {
            ErrorCode::NotFound => Exit::NotFound,
            ErrorCode::BadParams => Exit::Usage,
            _ => Exit::Failure,
        };
        Self { exit, message: error.message, hint: error.hint }
    }
}

impl From<agentfs_home::Error> for Failure {
    fn from(error: agentfs_home::Error) -> Self {
        use agentfs_home::Error;
        let hint = match &error {
            Error::AlreadyRunning { .. } => Some("run `agentfs daemon status` for details".to_owned()),
            Error::File { source, .. } => Some(io_hint(source)),
            // The reason for a folder already says what to do.
            Error::Folder { .. } => None,
        };
        Self { exit: Exit::Failure, message: error.to_string(), hint }
    }
}

impl From<agentfs_collector::Error> for Failure {
    fn from(error: agentfs_collector::Error) -> Self {
        use agentfs_collector::Error;
        let message = error.to_string();
        match error {
            Error::Home(error) => error.into(),
            Error::Listen { source, .. } => Self::of(message).hint(io_hint(&source)),
            Error::Runtime { .. } => Self::of(message),
        }
    }
}

impl From<agentfs_tls::TlsError> for Failure {
    fn from(error: agentfs_tls::TlsError) -> Self {
        // Its message already says what to do.
        Self::of(error)
    }
}

/// What to do about an error of the file system.
pub(crate) fn io_hint(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free some space, or set AGENTFS_HOME to a folder on another disk"
        }
        ErrorKind::ReadOnlyFilesystem => "set AGENTFS_HOME to a folder on a writable disk",
        ErrorKind::PermissionDenied => "set AGENTFS_HOME to a folder of your own",
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "remove the file in the way, or set AGENTFS_HOME to another folder"
        }
        _ => "run `agentfs doctor` to check what agentfs needs",
    }
    .to_owned()
}
