//! What was routed: counters, the stream of requests, and their texts.
pub(crate) mod access;
pub(crate) mod render;
