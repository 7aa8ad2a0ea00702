//! The architecture as a test: which package may depend on which, and what pure modules may not name.
#![expect(
    clippy::unwrap_used,
    reason = "all of it is tests; clippy only knows the functions that are marked"
)]
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Arrows of `docs/architecture.md`: package, and the packages of this workspace that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("agentfs-wire", &[]),
    ("agentfs-interpose", &["agentfs-wire"]),
    ("agentfs-handoff", &["agentfs-wire"]),
    ("agentfs-router", &["agentfs-handoff", "agentfs-wire"]),
    ("agentfs-collector", &["agentfs-handoff", "agentfs-router", "agentfs-wire"]),
    ("agentfs-launchd", &[]),
    ("agentfs-macos", &["agentfs-wire"]),
    ("agentfs", &["agentfs-collector", "agentfs-launchd", "agentfs-macos", "agentfs-wire"]),
    ("agentfs-fixtures", &[]),
    ("agentfs-tests", &["agentfs-wire", "agentfs-fixtures"]),
];

/// Modules that decide and do nothing else: files, or folders of files.
const PURE: &[&str] = &[
    "wire/src",
    "collector/src/registry",
    "collector/src/registry.rs",
    "router/src/message",
    "router/src/table.rs",
    "router/src/upstream/load.rs",
    "router/src/upstream/retry.rs",
    "router/src/upstream/target.rs",
    "interpose/src/rewrite.rs",
    "cli/src/naming.rs",
    "macos/src/entitlements.rs",
    "macos/src/judge.rs",
    "macos/src/signature.rs",
];

/// What a pure module must not name: it reads no clock, environment, file or socket.
const FORBIDDEN: &[&str] = &[
    "tokio",
    "hyper",
    "nix::",
    "std::fs",
    "std::env",
    "std::process",
    "std::os",
    "std::thread",
    "std::time::Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--no-deps", "--format-version", "1", "--locked"]).current_dir(root());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Dependencies of a package: name, and whether it only serves its tests or its build.
fn dependencies(package: &Value) -> Vec<(&str, Option<&str>)> {
    let list = package["dependencies"].as_array().unwrap();
    list.iter()
        .map(|dependency| (dependency["name"].as_str().unwrap(), dependency["kind"].as_str()))
        .collect()
}

#[test]
fn packages_depend_only_along_the_arrows() {
    let packages = packages();
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let names: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    assert_eq!(names, allowed.keys().copied().collect(), "the packages of this workspace");
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        for (dependency, _) in dependencies(package) {
            assert!(
                !names.contains(dependency) || allowed[name].contains(&dependency),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

/// A hook in an rlib would interpose every program that links it, the tests' own included.
#[test]
fn nobody_links_the_interposer() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        assert!(
            dependencies(&package).iter().all(|(dependency, _)| *dependency != "agentfs-interpose"),
            "{name} depends on agentfs-interpose"
        );
        if name == "agentfs-interpose" {
            let targets = package["targets"].as_array().unwrap();
            let library = targets.iter().find(|target| target["name"] == "agentfs_interpose").unwrap();
            assert_eq!(library["crate_types"], serde_json::json!(["cdylib"]));
        }
    }
}

/// The interposer lives in programs of other people: no runtime, no framework.
#[test]
fn the_interposer_and_the_vocabulary_stay_small() {
    let limits: &[(&str, &[&str])] = &[
        ("agentfs-interpose", &["agentfs-wire", "bincode", "ctor", "libc", "once_cell"]),
        ("agentfs-wire", &["bincode", "serde", "serde_json", "thiserror"]),
    ];
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let Some((_, allowed)) = limits.iter().find(|(limited, _)| *limited == name) else { continue };
        for (dependency, kind) in dependencies(&package) {
            assert!(
                kind.is_some() || allowed.contains(&dependency),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn pure_modules_touch_nothing() {
    for place in PURE {
        let path = root().join(place);
        assert!(path.exists(), "there is no {place}; if it moved, say so in tests/architecture.rs");
        for file in sources(&path) {
            let text = std::fs::read_to_string(&file).unwrap();
            // Tests and comments may name anything.
            if is_test_module(&file) {
                continue;
            }
            let code = without_tests(&text);
            for (number, line) in code.lines().enumerate() {
                let line = line.split("//").next().unwrap();
                for name in FORBIDDEN {
                    assert!(
                        !line.contains(name),
                        "{}:{}: `{name}` in a pure module",
                        file.display(),
                        number + 1
                    );
                }
            }
        }
    }
}

/// A source without the module of unit tests at its end.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap()
}

/// Whether a file is a module that only its parent's tests have: `#[cfg(test)] mod NAME;`.
fn is_test_module(file: &Path) -> bool {
    let folder = file.parent().unwrap();
    let name = file.file_stem().unwrap().to_string_lossy();
    let declared = format!("#[cfg(test)]\nmod {name};");
    [folder.with_extension("rs"), folder.join("lib.rs")]
        .iter()
        .any(|parent| std::fs::read_to_string(parent).is_ok_and(|text| text.contains(&declared)))
}

/// What a line takes from libc that is neither a constant nor a C integer type.
fn libc_functions(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (_, rest) in line.match_indices("libc::").map(|(at, mark)| line.split_at(at + mark.len())) {
        let list = rest.strip_prefix('{').map_or(rest, |list| list.split('}').next().unwrap());
        let names = list.split(',').take(if rest.starts_with('{') { usize::MAX } else { 1 });
        let names = names
            .map(|name| name.trim().split(|end: char| !end.is_alphanumeric() && end != '_').next().unwrap());
        found.extend(names.filter(|name| name.chars().any(char::is_lowercase) && !name.starts_with("c_")));
    }
    found
}

#[test]
fn functions_of_libc_are_recognised() {
    assert_eq!(libc_functions("use libc::{AF_INET, bind, c_int};"), ["bind"]);
    assert_eq!(libc_functions("libc::close(fd) + libc::EINVAL"), ["close"]);
    assert_eq!(libc_functions("fn f(error: libc::c_int)"), [""; 0]);
}

/// Shells of the collector meet in `hub` and never import one another.
#[test]
fn shells_of_the_collector_do_not_know_each_other() {
    let shells = ["watch", "control"];
    for shell in shells {
        let mut files = sources(&root().join("collector/src").join(shell));
        files.extend(sources(&root().join("collector/src").join(format!("{shell}.rs"))));
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = without_tests(&text);
            for other in shells.iter().filter(|other| **other != shell) {
                let import = format!("crate::{other}::");
                assert!(!code.contains(&import), "{} imports {other}", file.display());
            }
        }
    }
}

/// A file is read as a whole: 600 lines are the end, tables of data apart.
#[test]
fn files_stay_readable() {
    for package in
        ["wire", "interpose", "handoff", "router", "collector", "launchd", "cli", "fixtures", "tests"]
    {
        for file in sources(&root().join(package)) {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 600, "{} has {lines} lines", file.display());
        }
    }
}

fn sources(path: &Path) -> Vec<PathBuf> {
    if path.extension().is_some_and(|extension| extension == "rs") {
        return if path.exists() { vec![path.to_owned()] } else { Vec::new() };
    }
    let Ok(list) = std::fs::read_dir(path) else { return Vec::new() };
    let mut files: Vec<PathBuf> = list.flat_map(|entry| sources(&entry.unwrap().path())).collect();
    files.sort();
    files
}
