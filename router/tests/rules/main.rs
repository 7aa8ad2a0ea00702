//! The router's rules, each tried with raw bytes on both sides: what a client sends over TCP, and
//! what the application behind a Unix socket then sees.
#![expect(clippy::unwrap_used, reason = "a test ends where its machinery fails")]
mod balance;
mod ends;
mod framing;
mod guards;
mod handover;
mod harness;
mod hosts;
mod http2;
mod messages;
mod onward;
mod places;
mod rehost;
mod semantics;
mod storms;
mod streams;
mod time;
mod trailers;
mod upgrades;
