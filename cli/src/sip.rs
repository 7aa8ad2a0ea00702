//! What csrutil(8) says about System Integrity Protection, which keeps the interposer out of Apple's
//! programs. Parses its output (pure); `agentfs doctor` reports it if the tool exists.
use crate::check::{Check, good};
use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// The tool, which every Mac has.
const TOOL: &str = "csrutil";

/// The parts that protect Apple's programs from `DYLD_INSERT_LIBRARIES`, as csrutil names them.
const GUARDS: [&str; 2] = ["Filesystem Protections", "Debugging Restrictions"];

/// Whether a Mac protects Apple's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Protection {
    /// On, the default.
    On,
    /// Switched off.
    Off,
    /// Somebody turned parts off: those of [`GUARDS`] that are still on.
    Custom { left: Vec<&'static str> },
    /// csrutil said something else.
    Unknown(String),
}

/// The check, if this system has csrutil.
pub(crate) fn check(search_path: Option<&OsStr>) -> Option<Check> {
    let tool = crate::program::find(OsStr::new(TOOL), search_path).ok()?;
    let output = Command::new(tool).arg("status").stdin(Stdio::null()).output().ok()?;
    Some(report(&parse(&String::from_utf8_lossy(&output.stdout))))
}

/// Reads what `csrutil status` prints: a line with the state and, if that is custom, a line for each part.
fn parse(text: &str) -> Protection {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.find_map(|line| line.split_once("status:").map(|(_, state)| state.trim()));
    let state = first.unwrap_or_default();
    if state.contains("Custom Configuration") {
        let parts: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
        let is_on = |guard: &&str| {
            // A part that is not listed has its default: on.
            let found = parts.iter().find(|(name, _)| name.trim() == *guard);
            found.is_none_or(|(_, state)| state.trim().trim_end_matches('.') != "disabled")
        };
        return Protection::Custom { left: GUARDS.into_iter().filter(is_on).collect() };
    }
    match state.trim_end_matches('.').split(' ').next() {
        Some("enabled") => Protection::On,
        Some("disabled") => Protection::Off,
        _ => Protection::Unknown(text.trim().to_owned()),
    }
}

/// One line, with a hint if programs are protected. No state is wrong, so the check never fails.
fn report(protection: &Protection) -> Check {
    let hint =
        "use programs that are not Apple's (Homebrew, nvm, pyenv); docs/macos.md says which are Apple's";
    let protected = |found: String| Check { hint: Some(hint.to_owned()), ..good("SIP", found) };
    match protection {
        Protection::On => protected("on: Apple's own programs do not load the interposer".to_owned()),
        Protection::Off => good("SIP", "off: Apple's own programs load the interposer too"),
        Protection::Custom { left } if left.is_empty() => {
            good("SIP", "custom: Apple's own programs load the interposer too")
        }
        Protection::Custom { left } => protected(format!(
            "custom: Apple's own programs do not load the interposer ({})",
            left.join(", ")
        )),
        Protection::Unknown(words) => protected(format!("cannot understand what csrutil prints: {words:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUSTOM: &str = "System Integrity Protection status: unknown (Custom Configuration).\n\n\
        Configuration:\n\tApple Internal: disabled\n\tKext Signing: enabled\n\tFilesystem Protections: disabled\n\
        \tDebugging Restrictions: enabled\n\tDTrace Restrictions: enabled\n\n\
        This is an unsupported configuration, likely to break in the future and leave your machine in an unknown \
        state.\n";

    #[test]
    fn the_words_of_csrutil_are_understood() {
        let status = |state: &str| parse(&format!("System Integrity Protection status: {state}\n"));
        assert_eq!(status("enabled."), Protection::On);
        assert_eq!(status("disabled."), Protection::Off);
        assert_eq!(status("enabled (Apple Internal)."), Protection::On);
        assert_eq!(parse(CUSTOM), Protection::Custom { left: vec!["Debugging Restrictions"] });
        let off = CUSTOM.replace("Debugging Restrictions: enabled", "Debugging Restrictions: disabled");
        assert_eq!(parse(&off), Protection::Custom { left: Vec::new() });
        assert_eq!(
            parse("status: unknown (Custom Configuration)."),
            Protection::Custom { left: GUARDS.to_vec() }
        );
        for text in ["", "csrutil: no", "status:", "status: maybe."] {
            assert!(matches!(parse(text), Protection::Unknown(_)), "{text}");
        }
    }

    #[test]
    fn protection_is_no_failure_and_says_what_to_do() {
        let check = report(&parse(CUSTOM));
        assert!(check.ok && check.found.contains("Debugging Restrictions") && check.hint.is_some());
        assert!(report(&Protection::On).hint.is_some() && report(&Protection::Off).hint.is_none());
    }
}
