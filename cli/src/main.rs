//! The agentfs command: reads the command line and the environment, runs one command, reports.
mod answer;
mod args;
mod autostart;
#[cfg(test)]
#[path = "../build_slices.rs"]
mod build_slices;
mod carrying;
mod check;
mod checkout;
mod choice;
mod claim;
mod client;
mod commands;
mod descriptors;
mod display;
mod duration;
mod engine;
mod environment;
mod exit;
mod exposed;
mod follow;
mod guardian;
mod here;
mod hint;
mod host_name;
mod host_port;
mod inside;
mod instance;
mod interposer;
mod known;
mod launch_agent;
mod launchctl;
mod liveness;
mod members;
mod naming;
mod number;
mod orphans;
mod ours;
mod pasted;
mod place;
mod printer;
mod program;
mod project_file;
mod protection;
mod reference;
mod resolving;
mod revive;
mod self_test;
mod settings;
mod sip;
mod stopping;
mod supervise;
mod trust;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = args::Arguments::parse();
    let (quiet, verbose) = (arguments.quiet, arguments.verbose);
    let settings = settings::Settings::read();
    let no_color = settings.as_ref().is_ok_and(|settings| settings.no_color);
    let quiet = quiet || (!verbose && settings.as_ref().is_ok_and(|settings| settings.quiet));
    let printer = printer::Printer::new(quiet, verbose, no_color);
    match settings.and_then(|settings| commands::run(arguments, &settings, &printer)) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            printer.failure(&failure);
            failure.exit.into()
        }
    }
}
