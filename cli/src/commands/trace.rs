//! `agentfs trace`: the journal as it grows, or the calls of one command.
use crate::args::{TraceArguments, WrapArguments};
use crate::autostart;
use crate::client::Next;
use crate::commands::wrap;
use crate::display;
use crate::duration::now_ms;
use crate::exit::Exit;
use crate::follow::Tell;
use crate::hint::Failure;
use crate::printer::{Flow, Printer};
use crate::settings::Settings;
use agentfs_wire::control::SubscribeParams;
use agentfs_wire::event::EventKind;

/// Runs the command.
///
/// # Errors
/// The collector does not answer, or the command cannot be started.
pub(crate) fn run(
    arguments: TraceArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    if !arguments.command.is_empty() {
        let (json, requests) = (arguments.json, arguments.requests);
        let tell = Tell::Trace { json, requests };
        let wrapped = WrapArguments {
            app: arguments.app,
            instance: None,
            new: false,
            join: false,
            replace: false,
            isolate: false,
            allow_host: Vec::new(),
            expose: Vec::new(),
            only: Vec::new(),
            except: Vec::new(),
            engine: Default::default(),
            no_interpose: false,
            port: None,
            main: None,
            stem: None,
            closed: false,
            forwards: Vec::new(),
            command: arguments.command,
        };
        return wrap::run_telling(wrapped, settings, printer, tell);
    }
    let params = SubscribeParams {
        since_ms: arguments
            .since
            .map(|since| now_ms().saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))),
        app: arguments.app,
        calls: !arguments.requests,
        requests: arguments.requests,
        ..SubscribeParams::default()
    };
    let mut events = autostart::ensure(settings)?.subscribe(&params)?;
    printer.talk("tracing; press Ctrl-C to stop");
    loop {
        match events.next(None)? {
            Next::Event(event) if arguments.requests && event.kind() == EventKind::Call => {}
            Next::Event(event) => {
                let line = if arguments.json {
                    serde_json::to_string(&event)
                        .map_err(|error| Failure::of(format_args!("cannot write JSON: {error}")))?
                } else {
                    display::trace_line(&event)
                };
                if printer.data(&format!("{line}\n"))? == Flow::Closed {
                    return Ok(Exit::Success);
                }
            }
            Next::Quiet => {}
            Next::Closed => {
                let failure =
                    Failure::new(Exit::NotFound, "the collector has stopped, so the trace ends here");
                return Err(
                    failure.hint("programs keep running; run `agentfs trace` to start a new collector")
                );
            }
        }
    }
}
