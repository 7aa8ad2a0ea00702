//! `agentfs exec`: becomes a program inside a running instance.
mod held;

use crate::args::ExecArguments;
use crate::autostart;
use crate::commands::tell::{self, Subject, Told};
use crate::commands::wrap::union;
use crate::duration::now_ms;
use crate::exit::Exit;
use crate::hint::Failure;
use crate::place::Place;
use crate::printer::Printer;
use crate::project_file::{self, Isolation};
use crate::settings::Settings;
use crate::{engine, environment, here, instance, interposer, program, protection, reference, supervise};
use agentfs_wire::companion::{Companion, Rules};
use agentfs_wire::control::{Snapshot, method};
use serde_json::json;
use std::ffi::OsString;

/// Runs the command. Returns only if the program could not be started.
///
/// # Errors
/// The instance or the program is not found, or the program cannot be started.
pub(crate) fn run(
    arguments: &ExecArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    start(arguments, settings, printer).map_err(|failure| match failure.exit {
        Exit::NoProgram | Exit::NotExecutable => failure,
        // A status of our own could be the program's.
        _ => failure.exit(Exit::Setup),
    })
}

fn start(arguments: &ExecArguments, settings: &Settings, printer: &Printer) -> Result<Exit, Failure> {
    let (name, command) = divide(&arguments.words, has_no_instance(std::env::args_os()))?;
    let Some(mut client) = autostart::where_needed(settings)? else {
        return Err(reference::nothing_runs(name));
    };
    let announcer = printer.speaks().then(|| tell::begin(settings, Told::Warnings));
    let snapshot: Snapshot = client.call(method::LIST, json!({}))?;
    let target = here::choose(name, settings, &mut client, &snapshot, Some(printer))?;
    let program = command.first().cloned().unwrap_or_default();
    let path = program::find(&program, settings.search_path.as_deref())?;
    let library = interposer::unpack(settings, |text| printer.warn(text))?;
    let start = protection::prepare(settings, printer, path, command);
    let unreached = program::beyond_reach(&start.path);
    let companion = instance::companion(settings, &target.app, &target.instance);
    let isolation = isolation_here(companion.as_ref())?;
    let (rules, secret) = companion.map(|companion| (companion.rules, companion.secret)).unwrap_or_default();
    let isolate = arguments.isolate || rules.isolate || isolation.all;
    let engine = instance::engine(settings, (arguments.engine, library), isolate, unreached);
    let engine = start.adjust(engine);
    let place = (target.host.clone(), target.url.clone());
    let mut plan = instance::plan(settings, &target.app, &target.instance, place, engine)?;
    plan.secret = secret;
    plan.launcher = instance::launcher(arguments.engine);
    let rules = Rules { isolate, isolated: union(&rules.isolated, &isolation.ports), ..rules };
    let of_engine = rules.clone();
    plan.only = rules.only;
    plan.except = rules.except;
    plan.isolated = rules.isolated;
    plan.allow_host = rules.allow_host;
    // The instance's rules, whatever our own environment says.
    let mut variables = environment::build(&environment::without_ports(&settings.environment), &plan);
    program::settle(&start.path, &mut variables);
    instance::look_at_host(&mut client, &target.app, &target.instance);
    let held = match start.lost.first() {
        Some(lost) => {
            let whole = isolate || !plan.isolated.is_empty();
            Some(held::hold(lost, whole, target, &mut client, printer)?)
        }
        None => None,
    };
    drop(client);
    let subject = Subject::of((&target.app, &target.instance), now_ms(), None);
    if let Some(Err(error)) = announcer.map(|begun| begun.and_then(|begun| begun.finish(Some(&subject)))) {
        printer.detail(&error.message);
    }
    if engine::serves(arguments.engine, unreached) {
        let place = engine::Place { app: &target.app, instance: &target.instance, rules: of_engine };
        let program = (start.path.as_path(), unreached);
        instance::enter_engine(settings, printer, &place, program, &mut variables);
        let error = supervise::replace_past_library(&start.path, &start.arguments, &variables);
        return Err(program::cannot_start(&start.path, &error));
    }
    if let Some(why) = unreached {
        instance::warn_unreached(printer, &start.path, Some(why), None);
        instance::tell_unreached(settings, (&target.app, &target.instance), &start.path, (why, 0));
    }
    let start = start.carry(&variables);
    if let Some(held) = held {
        return held.run(&start, &variables, settings);
    }
    let error = supervise::replace(&start.path, &start.arguments, &variables);
    Err(program::cannot_start(&start.path, &error))
}

/// What agentfs.toml of our folder isolates, if the folder is the instance's: the file may have changed since the
/// instance started, and a package may have one of its own.
fn isolation_here(companion: Option<&Companion>) -> Result<Isolation, Failure> {
    let place = Place::current();
    match companion {
        Some(companion) if place.owns(companion) => project_file::isolation(&place),
        _ => Ok(Isolation::default()),
    }
}

/// Whether the command line names no instance: `--` is the first word of `exec` that is not an option.
fn has_no_instance(line: impl Iterator<Item = OsString>) -> bool {
    let words = line.skip_while(|word| word != "exec").skip(1);
    let mut words = words.skip_while(|word| word != "--" && word.as_encoded_bytes().starts_with(b"-"));
    words.next().is_some_and(|word| word == "--")
}

/// Divides the words into the name of the instance, if there is one, and the program with its arguments.
fn divide(words: &[OsString], bare: bool) -> Result<(Option<&str>, &[OsString]), Failure> {
    if bare {
        return Ok((None, words));
    }
    let (name, rest) =
        words.split_first().ok_or_else(|| Failure::new(Exit::Usage, "exec needs a program"))?;
    let rest = rest.strip_prefix(&[OsString::from("--")]).unwrap_or(rest);
    let name = name.to_str().ok_or_else(|| {
        Failure::new(Exit::NotFound, format_args!("no instance {} is running", name.display()))
    })?;
    if rest.is_empty() {
        return Err(Failure::new(Exit::Usage, format_args!("cannot find a program after `{name}`")).hint(
            format_args!("write `agentfs exec {name} -- PROGRAM`, or `agentfs exec -- {name}` to run it in the instance of this folder"),
        ));
    }
    Ok((Some(name), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
    }

    #[test]
    fn an_instance_may_be_left_out() {
        for (line, bare) in [
            ("agentfs exec -- curl", true),
            ("agentfs -v exec --isolate -q -- curl -- x", true),
            ("agentfs exec shop -- curl", false),
            ("agentfs exec shop curl --", false),
            ("agentfs exec", false),
        ] {
            assert_eq!(has_no_instance(words(line).into_iter()), bare, "{line}");
        }
        let of = |line: &str, bare| {
            let words = words(line);
            let divided = divide(&words, bare).ok()?;
            Some((divided.0.map(str::to_owned), divided.1.len()))
        };
        assert_eq!(of("curl -v x", true), Some((None, 3)));
        assert_eq!(of("shop -- curl -v", false), Some((Some("shop".to_owned()), 2)));
        assert_eq!(of("shop curl -v", false), Some((Some("shop".to_owned()), 2)));
        assert_eq!((of("shop", false), of("shop --", false), of("", false)), (None, None, None));
    }
}
