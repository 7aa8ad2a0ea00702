//! `agentfs name`: what `wrap` would call the instance of this folder, and why. Changes nothing.
use crate::args::NameArguments;
use crate::choice::{Before, Choice, Mode, Refusal, Renamed, Request, choose};
use crate::claim::Census;
use crate::client::Client;
use crate::commands::wrap;
use crate::exit::Exit;
use crate::hint::Failure;
use crate::instance;
use crate::naming::Names;
use crate::place::{self, Place};
use crate::printer::Printer;
use crate::settings::Settings;
use agentfs_wire::text::visible;
use serde::Serialize;
use std::path::Path;

/// The answer as JSON.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    app: &'a str,
    app_from: &'a str,
    instance: &'a str,
    instance_from: &'a str,
    /// The host name that means the instance.
    host: String,
    /// Whether the instance is running and the command would join it.
    joins: bool,
    /// The folder that the instance belongs to.
    folder: &'a Path,
}

/// Runs the command.
///
/// # Errors
/// A given name is not one, or belongs to another folder.
pub(crate) fn run(
    arguments: &NameArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    let place = Place::current();
    if let Some(problem) = &place.app.problem {
        printer.warn(problem);
    }
    let command = wrap::words(&arguments.command);
    let program = command.first().map_or_else(String::new, |word| wrap::file_name(Path::new(word)));
    let names = place.names(arguments.app.as_deref(), arguments.instance.as_deref(), &program)?;
    let choice = decide(settings, &place, &names, &command)?;
    let app_from = if arguments.app.is_some() { "--app".to_owned() } else { place.app_source() };
    let instance_from = source(&choice, &place, &names, settings);
    let answer = Answer {
        app: &names.app,
        app_from: &app_from,
        instance: &choice.instance,
        instance_from: &instance_from,
        host: instance::host(Client::connect(&settings.paths).ok().as_mut(), &names.app, &choice.instance),
        joins: choice.joins,
        folder: place.folder(),
    };
    let text = if arguments.json {
        let json = serde_json::to_string(&answer)
            .map_err(|error| Failure::of(format_args!("cannot write JSON: {error}")))?;
        format!("{json}\n")
    } else {
        text(&answer)
    };
    printer.data(&text)?;
    Ok(Exit::Success)
}

fn decide(settings: &Settings, place: &Place, names: &Names, command: &[String]) -> Result<Choice, Refusal> {
    let census = Census::new(&settings.paths, place, &names.app, command);
    let inside = place::inside(settings, &names.app);
    let own = census.own_by_stem(&names.stem);
    let request = Request {
        mode: Mode::Usual,
        given: names.given.as_deref(),
        stem: &names.stem,
        folder: place.folder(),
        inside: inside.as_deref(),
        own: &own,
        before: Before::default(),
    };
    choose(&request, &mut |name| census.state(name))
}

/// Where the instance's name comes from.
fn source(choice: &Choice, place: &Place, names: &Names, settings: &Settings) -> String {
    if names.given.is_some() {
        return "--instance".to_owned();
    }
    if place::inside(settings, &names.app).as_ref() == Some(&choice.instance) {
        return "this shell is part of that instance".to_owned();
    }
    let usual = place.stem_source();
    match &choice.renamed {
        None => usual,
        Some(Renamed::Copy(stem)) => format!("the same command is running in {stem}; {usual}"),
        Some(Renamed::New(stem)) => format!("{stem} is running; {usual}"),
        Some(Renamed::Aside(stem, holder)) => format!("{stem} belongs to {holder}; {usual}"),
        Some(Renamed::Kept(_)) => format!("it is running in this folder under that name; {usual}"),
    }
}

fn text(answer: &Answer<'_>) -> String {
    let would = match answer.joins {
        true => "join it: it is running".to_owned(),
        false => "start it: it is not running".to_owned(),
    };
    let folder = answer.folder.display().to_string();
    let lines = [
        ("app", answer.app, answer.app_from),
        ("instance", answer.instance, answer.instance_from),
        ("host", answer.host.as_str(), ""),
        ("folder", folder.as_str(), ""),
        ("wrap would", would.as_str(), ""),
    ];
    let line = |(what, value, from): (&str, &str, &str)| match from {
        "" => format!("{what:<10}  {}\n", visible(value)),
        // It is a sentence.
        why if what == "instance" => format!("{what:<10}  {}  ({})\n", visible(value), visible(why)),
        from => format!("{what:<10}  {}  (from {})\n", visible(value), visible(from)),
    };
    lines.into_iter().map(line).collect()
}
