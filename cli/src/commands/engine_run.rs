//! `agentfs engine-run` (hidden): starts a program with the seccomp engine, for the library, which cannot install a filter,
//! and for `trace -- COMMAND`, whose program is a child. The instance is that of the environment. It prints nothing.
use crate::args::EngineRunArguments;
use crate::exit::Exit;
use crate::hint::Failure;
use crate::settings::Settings;
use crate::{engine, environment, instance, program, supervise};
use agentfs_wire::companion::Rules;
use agentfs_wire::env;
use std::ffi::OsStr;

/// Becomes the program.
///
/// # Errors
/// The program cannot be started.
pub(crate) fn run(arguments: &EngineRunArguments, settings: &Settings) -> Result<Exit, Failure> {
    let EngineRunArguments { path, arguments, closing, keeping: _ } = arguments;
    let mut variables = settings.environment.clone();
    let text = |name: &str| settings.variable(name).and_then(|value| value.into_string().ok());
    if let Some((app, instance)) = text(env::APP).zip(text(env::INSTANCE)) {
        let ports = |name| environment::ports(&settings.environment, name);
        let isolate = settings.variable(env::ISOLATE).as_deref() == Some(OsStr::new("1"));
        let rules = Rules {
            isolate,
            isolated: if isolate { Vec::new() } else { ports(env::ISOLATE) },
            allow_host: ports(env::ALLOW_HOST),
            only: ports(env::ONLY),
            except: ports(env::EXCEPT),
        };
        let place = engine::Place { app: &app, instance: &instance, rules };
        let why = match engine::begin(settings, &place, &mut variables) {
            Ok(served) => Some(served),
            Err(_) => program::beyond_reach(path).map(|why| (why, 0)),
        };
        if let Some(why) = why {
            instance::tell_unreached(settings, (&app, &instance), path, why);
        }
    }
    if *closing {
        engine::close_at_exec(path);
    }
    let error = supervise::replace_past_library(path, arguments, &variables);
    Err(program::cannot_start(path, &error))
}
