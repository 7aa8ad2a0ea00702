//! The library that gets into other people's programs: what it exports, what it needs, what it lacks.
use agentfs_tests::Home;
use std::collections::BTreeSet;

/// The unpacked library of a home, which the first `wrap` leaves there.
fn library(home: &Home) -> String {
    home.wrap("shop", "one", &["sh", "-c", "printf %s \"$AGENTFS_INTERPOSE\""]).text()
}

/// "Exports are a list under test": each one is a function of every wrapped program that we replace.
#[cfg_attr(not(target_os = "linux"), ignore = "ELF; tests/darwin/test_linked.py is for Mach-O")]
#[test]
fn the_library_exports_the_listed_functions_and_nothing_else() {
    let home = Home::new();
    let table = home.program("nm").args(["-D", "--defined-only", &library(&home)]).text();
    let exported: BTreeSet<&str> = table.lines().filter_map(|line| line.split_whitespace().last()).collect();
    let exported: BTreeSet<&str> = exported.into_iter().map(|name| name.split('@').next().unwrap()).collect();
    let listed: BTreeSet<&str> = include_str!("../exports.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let extra: Vec<_> = exported.difference(&listed).collect();
    let missing: Vec<_> = listed.difference(&exported).collect();
    assert!(
        extra.is_empty() && missing.is_empty(),
        "not in tests/exports.txt: {extra:?}; only there: {missing:?}"
    );
}

/// "Need only libc": every further library costs each process of a build its loading.
#[cfg_attr(not(target_os = "linux"), ignore = "ELF; tests/darwin/test_linked.py is for Mach-O")]
#[test]
fn the_library_needs_libc_alone() {
    let home = Home::new();
    let table = home.program("readelf").args(["-d", "-W", &library(&home)]).text();
    let needed: Vec<&str> = table
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split_once('[')?.1.split_once(']').map(|(name, _)| name))
        .collect();
    assert_eq!(needed, ["libc.so.6"], "{table}");
}

/// "A bug in us never kills the user's program": there is no code that could panic with a message.
#[test]
fn the_library_has_no_panic_machinery() {
    let home = Home::new();
    let table = home.program("nm").args(["--demangle", &library(&home)]).output();
    let text = format!("{}{}", table.stdout, table.stderr);
    assert!(!text.contains("core::panicking") && !text.contains("rust_begin_unwind"), "{text}");
    let strings = std::fs::read(library(&home)).unwrap();
    for trace in [&b"panicked at"[..], b"called `Option::unwrap()`"] {
        let found = strings.windows(trace.len()).any(|window| window == trace);
        assert!(!found, "{}", String::from_utf8_lossy(trace));
    }
}
