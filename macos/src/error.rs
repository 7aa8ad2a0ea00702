//! Why a Mach-O file cannot be read.

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not a Mach-O file.
    #[error("it is not a Mach-O file")]
    NotMachO,
    /// It is broken.
    #[error("it is malformed: {0}")]
    Malformed(&'static str),
}
