//! The guardian: a small process that starts the collector and, if somebody kills it, starts it again.
//!
//! ```text
//! agentfs daemon run --detached          the guardian: holds no port and no lock, waits
//!  └─ agentfs daemon run --guarded       the collector
//! ```
//! Tools that free a port kill the process that holds it (`npx kill-port 3000`, `lsof -ti tcp:3000 | xargs kill`). For
//! a port of a forward that is the collector. The guardian ends with the collector if that was asked to stop, could not
//! start, or if nothing is left that needs one. If the guardian itself is killed, the collector goes on, and the next
//! command that needs a collector starts both.
use crate::autostart;
use crate::exit::Exit;
use crate::hint::Failure;
use crate::printer::Printer;
use crate::settings::Settings;
use agentfs_home::{forwards, routes};
use std::convert::Infallible;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

/// Exit status of a guarded collector that a signal ended: 128 and SIGTERM, as a shell says it.
pub(crate) const SIGNALLED: u8 = 143;

/// Exit status of a program that panicked (Rust).
const PANICKED: i32 = 101;

/// A collector that lived shorter than this is started again after a pause.
const SHORT_LIFE: Duration = Duration::from_secs(5);

/// The first such pause. Each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest such pause. A collector that dies at once, over and over, costs this much of nothing.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Runs a collector, and another one if that is killed, until none is needed. The exit status of the last one.
///
/// # Errors
/// A collector cannot be started.
pub(crate) fn guard(settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    let mut pause = FIRST_PAUSE;
    let mut child = autostart::launch_guarded(settings, None)?;
    loop {
        let begin = Instant::now();
        let status = child
            .wait()
            .map_err(|error| Failure::of(format_args!("cannot wait for the collector: {error}")))?;
        if !was_killed(status) || !is_needed(settings) {
            return Ok(Exit::Program(code(status)));
        }
        printer.say(&format!("the collector was killed ({status}); starting it again"));
        if begin.elapsed() < SHORT_LIFE {
            std::thread::park_timeout(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        } else {
            pause = FIRST_PAUSE;
        }
        // The log may have been put aside since.
        let log = autostart::open_log(settings)?;
        child = autostart::launch_guarded(settings, Some(&log))?;
    }
}

/// Whether somebody or something ended the collector who did not ask it to stop.
fn was_killed(status: ExitStatus) -> bool {
    status.signal().is_some()
        || [i32::from(SIGNALLED), PANICKED].iter().any(|code| status.code() == Some(*code))
}

/// Whether there is anything that a collector serves: an instance, a route added by hand, or a forward.
fn is_needed(settings: &Settings) -> bool {
    let paths = &settings.paths;
    let runs = std::fs::read_dir(&paths.run).is_ok_and(|mut files| files.next().is_some());
    let (routes, _) = routes::load(&paths.routes, |_| Ok::<(), Infallible>(()));
    runs || !routes.is_empty() || !forwards::load(&paths.forwards).0.is_empty()
}

fn code(status: ExitStatus) -> u8 {
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(SIGNALLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_collector_that_was_not_asked_to_stop_comes_back() {
        for (raw, killed) in
            [(9, true), (15, true), (143 << 8, true), (101 << 8, true), (0, false), (1 << 8, false)]
        {
            assert_eq!(was_killed(ExitStatus::from_raw(raw)), killed, "{raw}");
        }
        assert_eq!((code(ExitStatus::from_raw(9)), code(ExitStatus::from_raw(1 << 8))), (SIGNALLED, 1));
    }
}
