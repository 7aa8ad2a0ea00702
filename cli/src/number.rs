//! Numbers of the command line, with messages that say what to write instead. Pure.

/// Reads a TCP port that can be named: 1 to 65535.
///
/// # Errors
/// The message says what to write instead.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    let wrong = || format!("`{text}` is not a port; write a number from 1 to 65535");
    text.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)
}

/// Reads a whole number from `LEAST` to `MOST`.
///
/// # Errors
/// The message says what to write instead.
pub(crate) fn within<const LEAST: u64, const MOST: u64>(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a number from {LEAST} to {MOST}");
    text.parse().ok().filter(|number| (LEAST..=MOST).contains(number)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_bounds() {
        assert_eq!((port("1"), port("65535"), within::<1, 600>("600")), (Ok(1), Ok(65535), Ok(600)));
        for text in ["", "0", "65536", "-1", "80x", "http", "0x50", "８０"] {
            assert!(port(text).unwrap_err().contains("a number from 1 to 65535"), "{text}");
        }
        for text in ["0", "601", "1s", ""] {
            assert_eq!(
                within::<1, 600>(text).unwrap_err(),
                format!("`{text}` is not a number from 1 to 600")
            );
        }
    }
}
