//! Durations as people write and read them. Pure.
use std::time::Duration;

/// Reads `500ms`, `10s`, `5m`, `2h`, `1d`; a bare number is seconds.
///
/// # Errors
/// The message says what to write instead.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration; use 500ms, 10s, 5m, 2h or 1d");
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let milliseconds = match text.get(digits.len()..).unwrap_or("") {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)
}

/// An age as one number and one unit: `7s`, `12m`, `3h`, `2d`.
pub(crate) fn age(since_ms: u64, now_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(since_ms) / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The time of day in UTC with milliseconds: `12:03:04.567`.
pub(crate) fn time_of_day(unix_ms: u64) -> String {
    let (seconds, milliseconds) = (unix_ms / 1_000, unix_ms % 1_000);
    let day = seconds % 86_400;
    format!("{:02}:{:02}:{:02}.{milliseconds:03}", day / 3_600, day / 60 % 60, day % 60)
}

/// Unix time in milliseconds.
pub(crate) fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("3", 3_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "s", "5x", "-5s", "1.5s", "5 m", "99999999999999999999d", "9999999999999999d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages_have_one_unit() {
        assert_eq!(age(0, 59_999), "59s");
        assert_eq!(age(0, 60_000), "1m");
        assert_eq!(age(0, 3 * 3_600_000), "3h");
        assert_eq!(age(0, 50 * 3_600_000), "2d");
        assert_eq!(age(10, 5), "0s");
    }

    #[test]
    fn the_time_of_day_is_padded() {
        assert_eq!(time_of_day(86_400_000 + 3_600_000 + 2 * 60_000 + 3_004), "01:02:03.004");
    }
}
