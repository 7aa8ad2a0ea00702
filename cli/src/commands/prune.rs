//! `agentfs prune`: lets the collector remove what dead instances left behind.
use crate::args::PruneArguments;
use crate::autostart;
use crate::exit::Exit;
use crate::hint::Failure;
use crate::printer::Printer;
use crate::settings::Settings;
use agentfs_wire::control::{Pruned, method};
use agentfs_wire::text::visible;
use serde_json::json;

/// Runs the command.
///
/// # Errors
/// What the collector answers, or that it does not answer.
pub(crate) fn run(
    arguments: &PruneArguments,
    settings: &Settings,
    printer: &Printer,
) -> Result<Exit, Failure> {
    let pruned: Pruned = autostart::ensure(settings)?.call(method::PRUNE, json!({}))?;
    if arguments.json {
        let text = serde_json::to_string(&pruned)
            .map_err(|error| Failure::of(format_args!("cannot write JSON: {error}")))?;
        printer.data(&format!("{text}\n"))?;
        return Ok(Exit::Success);
    }
    let mut lines = String::new();
    for file in &pruned.removed {
        lines.push_str(&format!("{}\n", visible(file)));
    }
    printer.data(&lines)?;
    for left in &pruned.left {
        printer.detail(&format!("left {left}"));
    }
    printer.talk(&format!("{} removed, {} left", pruned.removed.len(), pruned.left.len()));
    Ok(Exit::Success)
}
