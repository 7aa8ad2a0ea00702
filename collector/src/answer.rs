//! What a request of the control socket is answered with.
use agentfs_wire::control::{ControlError, ErrorCode};
use serde_json::Value;

/// What a request is answered with.
pub(crate) type Answer = Result<Value, ControlError>;

/// An error with its hint.
pub(crate) fn error(code: ErrorCode, message: impl Into<String>, hint: Option<&str>) -> ControlError {
    ControlError { code, message: message.into(), hint: hint.map(str::to_owned) }
}
