//! The library interposed into wrapped programs.
