//! Keeps warnings from flooding: what is wrong stays wrong at every look.
use crate::limits::{WARNING_REPEAT_MS, WARNINGS};
use std::collections::BTreeMap;

/// Warnings that were told, and when.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    told: BTreeMap<String, u64>,
}

// === impl Warnings ===

impl Warnings {
    /// Whether to tell a warning (again).
    pub(crate) fn is_due(&mut self, now: u64, text: &str) -> bool {
        let recently = |told: &u64| now.saturating_sub(*told) < WARNING_REPEAT_MS;
        if self.told.get(text).is_some_and(recently) {
            return false;
        }
        self.told.retain(|_, told| recently(told));
        if self.told.len() >= WARNINGS {
            self.told.clear();
        }
        self.told.insert(text.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_told_once_in_a_while() {
        let mut warnings = Warnings::default();
        assert!(warnings.is_due(1, "full disk"));
        assert!(!warnings.is_due(2, "full disk"));
        assert!(warnings.is_due(2, "other"));
        assert!(warnings.is_due(1 + WARNING_REPEAT_MS, "full disk"));
        for number in 0..10 * WARNINGS {
            warnings.is_due(2, &number.to_string());
        }
        assert!(warnings.told.len() <= WARNINGS);
    }
}
