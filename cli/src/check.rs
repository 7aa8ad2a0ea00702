//! One line of what `agentfs doctor` reports. Pure.
use crate::hint::Failure;
use agentfs_wire::text::visible;
use serde::Serialize;

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What was checked.
    pub(crate) name: &'static str,
    /// Whether it is good.
    pub(crate) ok: bool,
    /// What was found.
    pub(crate) found: String,
    /// What to do or to know, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// A check that succeeded.
pub(crate) fn good(name: &'static str, found: impl std::fmt::Display) -> Check {
    Check { name, ok: true, found: found.to_string(), hint: None }
}

/// A check that failed.
pub(crate) fn from_failure(name: &'static str, failure: Failure) -> Check {
    Check { name, ok: false, found: failure.message, hint: failure.hint }
}

/// One line per check, with its hint below.
pub(crate) fn report(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let mark = if check.ok { "ok  " } else { "FAIL" };
        text.push_str(&format!("{mark}  {:12}  {}\n", check.name, visible(&check.found)));
        if let Some(hint) = &check.hint {
            text.push_str(&format!("      {:12}  hint: {}\n", "", visible(hint)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_line_a_check_and_hints_below() {
        let bad =
            Check { name: "disk", ok: false, found: "full".to_owned(), hint: Some("make room".to_owned()) };
        assert_eq!(
            report(&[good("folders", "fine"), bad]),
            "ok    folders       fine\nFAIL  disk          full\n                    hint: make room\n"
        );
    }
}
