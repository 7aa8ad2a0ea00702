//! For which kinds of Mac the library is built. Part of `build.rs`, and of the unit tests.

/// What the library consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slices {
    /// The target's own.
    One,
    /// Only the target's own, although programs of the other kind also run on such a machine; the reason.
    OneOfTwo(&'static str),
    /// The target's own and that of another target, joined by lipo(1).
    Both(&'static str),
}

/// Chooses the slices. `is_installed`: whether the standard library for a target is installed. `has_lipo`:
/// whether lipo is.
pub(crate) fn choose(
    target: &str,
    is_installed: impl Fn(&str) -> bool,
    has_lipo: impl Fn() -> bool,
) -> Slices {
    let other = match target {
        "aarch64-apple-darwin" => "x86_64-apple-darwin",
        "x86_64-apple-darwin" => "aarch64-apple-darwin",
        _ => return Slices::One,
    };
    if !is_installed(other) {
        return Slices::OneOfTwo(match other {
            "x86_64-apple-darwin" => {
                "`rustup target add x86_64-apple-darwin` makes it work under Rosetta too"
            }
            _ => "`rustup target add aarch64-apple-darwin` makes it work on Apple silicon too",
        });
    }
    if !has_lipo() {
        return Slices::OneOfTwo("cannot find lipo to join both kinds; install Apple's command line tools");
    }
    Slices::Both(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_gets_both_kinds_where_both_can_be_built() {
        let (intel, apple) = ("x86_64-apple-darwin", "aarch64-apple-darwin");
        let only = |name: &'static str| move |target: &str| target == name;
        assert_eq!(choose("x86_64-unknown-linux-gnu", |_| true, || true), Slices::One);
        assert_eq!(choose(apple, only(intel), || true), Slices::Both(intel));
        assert_eq!(choose(intel, only(apple), || true), Slices::Both(apple));
        assert!(matches!(choose(apple, only(apple), || true), Slices::OneOfTwo(why) if why.contains(intel)));
        assert!(matches!(choose(intel, only(intel), || true), Slices::OneOfTwo(why) if why.contains(apple)));
        assert!(matches!(choose(apple, |_| true, || false), Slices::OneOfTwo(why) if why.contains("lipo")));
    }
}
