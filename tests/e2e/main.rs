//! End-to-end tests: the real binary, ordinary programs, one test per observable promise. Each test has
//! a home of its own, so all of them run at once.
#![expect(
    clippy::unwrap_used,
    reason = "all of it is tests; clippy only knows the functions that are marked"
)]
mod bad_input;
mod balance;
mod broker;
mod checkouts;
mod clients;
mod collector;
mod commands;
mod descriptors;
mod display;
// The seccomp engine.
#[cfg(target_os = "linux")]
mod engine;
#[cfg(target_os = "linux")]
mod engine_limits;
#[cfg(target_os = "linux")]
mod engine_ways;
mod face;
mod fallback;
mod faults;
mod guards;
mod handoff;
mod handover;
mod hostile;
mod interposer;
mod joining;
mod lifecycle;
mod meaning;
mod names;
mod other_forks;
mod pages;
mod programs;
mod protected;
mod reach;
mod rebind;
mod resolver;
mod rewrite_host;
mod router;
mod self_test;
mod servers;
#[cfg(target_os = "linux")]
mod stand_ins;
mod stop;
mod surroundings;
mod survive;
mod terminal;
mod told;
mod true_client;
mod trust;
// Static programs, machine code of other kinds and musl: what macOS has instead is in `macos/`.
#[cfg(target_os = "linux")]
mod unreached;
mod wrap;
