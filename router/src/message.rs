//! What HTTP messages say and how they are passed on. Pure: bytes in, values and bytes out; no socket, no clock.
pub(crate) mod body;
pub(crate) mod head;
pub(crate) mod headers;
pub(crate) mod host;
pub(crate) mod rehost;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod target;
pub(crate) mod websocket;
