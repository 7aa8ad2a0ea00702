//! Which Linux this is. What a kernel has is asked by using it, wherever that harms nothing; what is left is here.

/// Whether the kernel is of this version or a later one. One that does not say is.
pub(crate) fn is_at_least(version: (u32, u32)) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    parse(&release).is_none_or(|release| release >= version)
}

/// `6.8.0-31-generic`.
fn parse(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|other: char| !other.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse("6.18.44-fc-v669\n"), Some((6, 18)));
        assert_eq!(parse("5.4.0-150-generic"), Some((5, 4)));
        assert!(parse("5.14.0") > parse("5.9.16") && parse("5.15-rc1") == Some((5, 15)));
        assert_eq!((parse(""), parse("six")), (None, None));
        assert!(is_at_least((5, 0)));
    }
}
