//! The answer to a request on the control socket.
use agentfs_wire::control::{ControlError, ErrorCode};
use serde_json::Value;

/// The answer to a request.
pub(crate) type Answer = Result<Value, ControlError>;

/// An error with its hint.
pub(crate) fn error(code: ErrorCode, message: impl Into<String>, hint: Option<&str>) -> ControlError {
    ControlError { code, message: message.into(), hint: hint.map(str::to_owned) }
}
