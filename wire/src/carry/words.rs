//! The words of a command, as arguments or as they stand in the text of a shell.

/// One word of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// Its value.
    Is(&'a [u8]),
    /// A word of a shell's text whose value only the shell knows, as it stands there.
    Unknown(&'a [u8]),
    /// The command has ended.
    End,
}

/// The words of a command, by their index.
pub(super) type Words<'w, 'a> = &'w dyn Fn(usize) -> Word<'a>;

// === impl Word ===

impl<'a> Word<'a> {
    /// Its value, if it is known.
    pub(super) fn value(self) -> Option<&'a [u8]> {
        match self {
            Self::Is(value) => Some(value),
            Self::Unknown(_) | Self::End => None,
        }
    }

    /// The variable that it sets, if it is an assignment.
    pub(super) fn assigned(self) -> Option<&'a [u8]> {
        match self {
            Self::Is(text) | Self::Unknown(text) => assigned(text),
            Self::End => None,
        }
    }
}

/// The name in `NAME=VALUE`, if it is one that a shell may set.
pub(super) fn assigned(text: &[u8]) -> Option<&[u8]> {
    let equals = text.iter().position(|byte| *byte == b'=')?;
    text.get(..equals).filter(|name| is_name(name))
}

/// Whether a shell may set a variable of this name.
pub(super) fn is_name(name: &[u8]) -> bool {
    name.first().is_some_and(|first| !first.is_ascii_digit())
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}
