//! One file per command, each with a function from its arguments to an exit status.
pub(crate) mod daemon;
pub(crate) mod doctor;
pub(crate) mod engine_run;
pub(crate) mod exec;
pub(crate) mod forward;
pub(crate) mod mac_tools;
pub(crate) mod name;
pub(crate) mod names;
pub(crate) mod probe;
pub(crate) mod prune;
pub(crate) mod ps;
pub(crate) mod restart;
pub(crate) mod route;
pub(crate) mod stop;
pub(crate) mod tell;
pub(crate) mod trace;
pub(crate) mod trust;
pub(crate) mod url;
pub(crate) mod wait;
pub(crate) mod who;
pub(crate) mod wrap;

use crate::args::{Arguments, Command};
use crate::engine;
use crate::exit::Exit;
use crate::hint::Failure;
use crate::printer::Printer;
use crate::settings::Settings;

/// Runs a command.
///
/// # Errors
/// What the command fails with.
pub(crate) fn run(arguments: Arguments, settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    match arguments.command {
        Command::Wrap(arguments) => wrap::run(arguments, settings, printer),
        Command::Name(arguments) => name::run(&arguments, settings, printer),
        Command::Exec(arguments) => exec::run(&arguments, settings, printer),
        Command::Ps(arguments) => ps::run(&arguments, settings, printer),
        Command::Trace(arguments) => trace::run(arguments, settings, printer),
        Command::Route(arguments) => route::run(&arguments, settings, printer),
        Command::Forward(arguments) => forward::run(&arguments, settings, printer),
        Command::Stop(arguments) => stop::run(&arguments, settings, printer),
        Command::Restart(arguments) => restart::run(&arguments, settings, printer),
        Command::Url(arguments) => url::run(&arguments, settings, printer),
        Command::Wait(arguments) => wait::run(&arguments, settings, printer),
        Command::Who(arguments) => who::run(&arguments, settings, printer),
        Command::Prune(arguments) => prune::run(&arguments, settings, printer),
        Command::Daemon(arguments) => daemon::run(&arguments, settings, printer),
        Command::Trust(arguments) => trust::run(&arguments, settings, printer),
        Command::Names(arguments) => names::run(&arguments, settings, printer),
        Command::MacTools(arguments) => mac_tools::run(&arguments, settings, printer),
        Command::Doctor(arguments) => doctor::run(&arguments, settings, printer),
        Command::Probe(arguments) => probe::run(&arguments, printer),
        Command::Tell(arguments) => tell::run(&arguments, settings, printer),
        Command::EngineServe(arguments) => {
            engine::detach_and_serve(settings, &arguments.app, &arguments.instance)
        }
        Command::EngineRun(arguments) => engine_run::run(&arguments, settings),
    }
}
