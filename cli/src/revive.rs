//! Waits for a collector again after it was lost, for announcers (`commands/tell.rs`). If somebody killed both the
//! collector and its guardian, starts them: an announcer lives as long as its program, so it is the one who notices.
//!
//! | what was lost | what happens |
//! |---|---|
//! | the collector; its guardian lives, or launchd is its guardian | the guardian starts it again; we wait |
//! | the guardian as well | the first of the announcers starts both |
//! | it was asked to stop, or its home is gone: its control socket is removed | nobody starts it; we wait for the next one |
use crate::autostart;
use crate::client::Client;
use crate::liveness;
use crate::settings::Settings;
use agentfs_wire::control::DaemonInfo;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// Pause before a killed collector is started again: its guardian may be doing it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Announcers start it one after the other, so that one of a thousand does. This many times [`TURN`] is the longest wait.
const TURNS: u32 = 8;

/// How long each of them waits for the one before: a collector takes less to start.
const TURN: Duration = Duration::from_millis(50);

/// Pause between two looks whether a collector answers, at first.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// The same later, where nobody starts one.
const LATER_PAUSE: Duration = Duration::from_secs(1);

/// How long one connect may take.
const CONNECT_TIME: Duration = Duration::from_secs(1);

/// After this time looks become rare.
const SOON: Duration = Duration::from_secs(1);

/// Pause before a collector is started again that could not be started.
const AGAIN: Duration = Duration::from_secs(5);

/// Waits until a collector answers again. False: the program has ended before.
pub(crate) fn await_collector(settings: &Settings, lost: Option<&DaemonInfo>, program: (u32, u64)) -> bool {
    let begin = Instant::now();
    let turn = program.0 % TURNS;
    let mut due = FIRST_PAUSE + TURN * turn;
    while liveness::is_running(program.0, program.1) {
        let answers =
            Client::connect_within(&settings.paths, CONNECT_TIME).and_then(|mut client| client.ping());
        match answers {
            Ok(()) => return true,
            // A socket that refuses is what a killed collector leaves. One that is busy says nothing.
            Err(error)
                if autostart::is_absent(&error)
                    && error.kind() != ErrorKind::NotFound
                    && begin.elapsed() >= due
                    && !has_guardian(lost) =>
            {
                if autostart::revive(settings) {
                    return true;
                }
                due = begin.elapsed() + AGAIN;
            }
            Err(_) => {}
        }
        std::thread::park_timeout(if begin.elapsed() < SOON { LOOK_PAUSE } else { LATER_PAUSE });
    }
    false
}

/// Whether a guardian lives that starts the collector again.
fn has_guardian(lost: Option<&DaemonInfo>) -> bool {
    let guardian = lost.and_then(|info| Some((info.guardian?, info.started_ms)));
    guardian.is_some_and(|(pid, started_ms)| liveness::is_running(pid, started_ms))
}
