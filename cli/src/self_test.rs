//! `agentfs doctor --self-test`: whether agentfs keeps its promises on this machine. Starts small programs
//! (`commands/probe.rs`, so that nothing needs to be installed) in a private home of its own, one check after
//! the other, within a time that the user sets. Called only by `doctor`; the user's collector is not used.
//!
//! One of the programs is not wrapped and holds a port of the host the whole time. The others use the same
//! port. So a program whose calls are not intercepted finds the port in use, and the test notices.

mod promises;
mod stage;
mod verdict;

use crate::check::{Check, good};
use crate::settings::Settings;
use stage::Stage;
use std::time::Duration;
use verdict::{Broken, Seen};

/// Tests every promise. Does not take much longer than `time`.
pub(crate) fn run(settings: &Settings, time: Duration) -> Vec<Check> {
    let stage = match Stage::set(settings, time) {
        Ok(stage) => stage,
        Err(why) => return vec![check("private home", Err(why.into()))],
    };
    let mut checks = Vec::new();
    for (name, promise) in promises::ALL {
        let result = stage.go_on().map_err(Broken::from).and_then(|()| promise(&stage));
        checks.push(check(name, result));
    }
    checks.push(check("cleaned up", stage.strike().map(Seen::Holds).map_err(Broken::from)));
    checks
}

fn check(name: &'static str, result: Result<Seen, Broken>) -> Check {
    match result {
        Ok(Seen::Holds(found)) => good(name, found),
        Ok(Seen::NotTried(why)) => good(name, format_args!("not tried: {why}")),
        Err(Broken { why, hint }) => Check { name, ok: false, found: why, hint },
    }
}
