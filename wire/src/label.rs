//! Folds what people call things (branches, folders, package names) into DNS labels.
use crate::host::is_port_label;
use crate::name::is_label;

/// Turns `raw` into a label of at most `max` bytes. Upper case, `/`, `_`, `.` and blanks fold to what a
/// person would write (`feature/cart` → `feature-cart`); where anything else had to go, or the name was
/// cut, a five character hash of `raw` is appended, so that distinct names stay distinct.
/// `None` where nothing usable is left and `raw` is empty.
pub fn fold(raw: &str, max: usize) -> Option<String> {
    let raw = raw.trim();
    if raw.is_empty() {
        return None;
    }
    let mut label = String::new();
    let mut lossy = false;
    for character in raw.chars() {
        let character = match character {
            'a'..='z' | '0'..='9' => character,
            'A'..='Z' => character.to_ascii_lowercase(),
            '-' | '/' | '_' | '.' | ' ' | '@' | ':' => '-',
            _ => {
                lossy = true;
                '-'
            }
        };
        if character != '-' || !label.ends_with('-') {
            label.push(character);
        }
    }
    let label = label.trim_matches('-');
    if !lossy && label.len() <= max && is_label(label) {
        return Some(label.to_owned());
    }
    let hash = hash5(raw);
    let room = max.saturating_sub(hash.len() + 1);
    let head: String = label.chars().take(room).collect();
    let head = head.trim_matches('-');
    Some(if head.is_empty() { format!("x{hash}") } else { format!("{head}-{hash}") })
}

/// As [`fold`], for an instance: a label of digits would be a port in a host name, so it gets a hash too.
pub fn fold_instance(raw: &str, max: usize) -> Option<String> {
    let label = fold(raw, max)?;
    if !is_port_label(&label) {
        return Some(label);
    }
    let hash = hash5(raw);
    let head: String = label.chars().take(max.saturating_sub(hash.len() + 1)).collect();
    Some(format!("{head}-{hash}"))
}

/// Five base-32 characters (no vowels that spell words, no look-alikes) of an FNV-1a hash.
pub fn hash5(raw: &str) -> String {
    const DIGITS: &[u8; 30] = b"0123456789bcdfghjkmnpqrstvwxyz";
    let mut hash = crate::peer::space(raw.as_bytes(), "", "");
    let mut text = String::new();
    for _ in 0..5 {
        let digit = usize::try_from(hash % 30).unwrap_or(0);
        text.push(char::from(DIGITS.get(digit).copied().unwrap_or(b'0')));
        hash /= 30;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{APP_BYTES, INSTANCE_BYTES};
    use proptest::prelude::*;

    #[test]
    fn readable_names_stay_readable() {
        assert_eq!(fold("feature/cart", 20).as_deref(), Some("feature-cart"));
        assert_eq!(fold("@scope/Web_App", 24).as_deref(), Some("scope-web-app"));
        assert_eq!(fold("shop", 24).as_deref(), Some("shop"));
        assert_eq!(fold("", 24), None);
        assert_ne!(fold("feature/auth", 20), fold("fix/auth", 20));
    }

    #[test]
    fn names_that_are_cut_or_lossy_stay_distinct() {
        let a = fold("feature/a-very-long-branch-name-1", 20).unwrap();
        let b = fold("feature/a-very-long-branch-name-2", 20).unwrap();
        assert_ne!(a, b);
        assert_ne!(fold("größe", 20), fold("grüße", 20));
        assert!(is_label(&fold("日本", 20).unwrap()));
    }

    proptest! {
        #[test]
        fn the_result_is_always_a_label(raw in "\\PC{1,60}") {
            for max in [APP_BYTES, INSTANCE_BYTES] {
                if let Some(label) = fold(&raw, max) {
                    prop_assert!(is_label(&label), "{label}");
                    prop_assert!(label.len() <= max);
                }
            }
        }
    }
}
