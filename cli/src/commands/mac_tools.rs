//! `agentfs mac-tools`: copies of protected tools into which the interposer can be loaded. Only for macOS:
//! other systems do not protect dynamic programs.
use crate::args::MacToolsArguments;
use crate::exit::Exit;
use crate::hint::Failure;
use crate::printer::Printer;
use crate::settings::Settings;

/// Runs the command.
///
/// # Errors
/// Always: not supported on this system.
#[cfg(not(target_os = "macos"))]
pub(crate) fn run(
    _arguments: &MacToolsArguments,
    _settings: &Settings,
    _printer: &Printer,
) -> Result<Exit, Failure> {
    Err(Failure::of("cannot copy tools: mac-tools is only for macOS, which protects its own programs")
        .hint("on this system every dynamically linked program loads the interposer; run `agentfs wrap`"))
}

#[cfg(target_os = "macos")]
pub(crate) use mac::run;

#[cfg(target_os = "macos")]
mod mac {
    use super::{Exit, Failure, MacToolsArguments, Printer, Settings};
    use crate::program;
    use crate::protection::{this_mac, tools_folder};
    use agentfs_macos::tools::{self, Error, Tool};
    use serde_json::json;
    use std::ffi::OsStr;
    use std::path::{Path, PathBuf};

    /// Folders of the tools that macOS protects.
    const SYSTEM_PATH: &str = "/usr/bin:/bin:/usr/sbin:/sbin";
    /// Apple's program for signatures.
    const CODESIGN: &str = "/usr/bin/codesign";

    /// Runs the command.
    ///
    /// # Errors
    /// A tool is not found or cannot be copied; the tools before it are copied.
    pub(crate) fn run(
        arguments: &MacToolsArguments,
        settings: &Settings,
        printer: &Printer,
    ) -> Result<Exit, Failure> {
        let cache = tools_folder(settings);
        if arguments.tools.is_empty() {
            let all = tools::list(&cache).map_err(|error| failure(&error))?;
            printer.data(&if arguments.json { as_json(&all) } else { as_text(&all) })?;
            return Ok(Exit::Success);
        }
        if !arguments.remove {
            agentfs_home::prepare(&settings.paths)?;
        }
        let mut done = Vec::new();
        for name in &arguments.tools {
            let original = original(name)?;
            if arguments.remove {
                if !tools::remove(&cache, &original).map_err(|error| failure(&error))? {
                    let message = format_args!("cannot find a copy of {}", original.display());
                    return Err(Failure::new(Exit::NotFound, message)
                        .hint("run `agentfs mac-tools` to list the copies"));
                }
            } else {
                let mac = this_mac();
                let tool = tools::add(&cache, &original, Path::new(CODESIGN), &mac);
                done.push(tool.map_err(|error| failure(&error))?);
            }
        }
        if !arguments.remove {
            printer.data(&if arguments.json { as_json(&done) } else { as_text(&done) })?;
        }
        Ok(Exit::Success)
    }

    /// The path of a tool: a name without a slash is a tool of the system.
    fn original(name: &OsStr) -> Result<PathBuf, Failure> {
        let path = program::find(name, Some(OsStr::new(SYSTEM_PATH)))?;
        Ok(path.canonicalize().unwrap_or(path))
    }

    fn as_text(tools: &[Tool]) -> String {
        tools
            .iter()
            .map(|tool| {
                let note = if tool.current { "" } else { "  (outdated: copy it again)" };
                let line = format!("{}  {}{note}", tool.original.display(), tool.copy.display());
                format!("{}\n", agentfs_wire::text::visible(&line))
            })
            .collect()
    }

    fn as_json(tools: &[Tool]) -> String {
        let all: Vec<_> = tools
            .iter()
            .map(|tool| json!({"original": tool.original, "copy": tool.copy, "current": tool.current}))
            .collect();
        format!("{}\n", json!(all))
    }

    fn failure(error: &Error) -> Failure {
        let hint = match error {
            Error::Sign { .. } => {
                "run `codesign --sign - FILE` to see what is wrong; codesign comes with macOS"
            }
            Error::NoSlice { .. } => {
                "only Apple can sign arm64e programs; use the program from Homebrew or MacPorts. For \
                 x86_64 on Apple silicon agentfs needs a universal library (docs/macos.md)"
            }
            Error::Image { .. } => "a script needs no copy: `agentfs wrap` starts its interpreter itself",
            Error::StillProtected { .. } => "use the program from Homebrew or MacPorts",
            Error::TooLarge(_) => "check that it is the right file",
            Error::File { .. } => "run `agentfs doctor` to check what agentfs needs",
        };
        Failure::of(error).hint(hint)
    }
}
