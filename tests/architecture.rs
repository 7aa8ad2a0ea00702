//! The architecture as a test: which package may depend on which, and what pure modules may not name.
#![expect(
    clippy::unwrap_used,
    reason = "all of it is tests; clippy only knows the functions that are marked"
)]
#[path = "architecture/imports.rs"]
mod imports;
#[path = "architecture/words.rs"]
mod words;

use imports::Crate;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Arrows of `docs/architecture.md`: package, and the packages of this workspace that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("agentfs-wire", &[]),
    ("agentfs-interpose", &["agentfs-wire"]),
    ("agentfs-engine", &["agentfs-home", "agentfs-wire"]),
    ("agentfs-system", &[]),
    ("agentfs-home", &["agentfs-system", "agentfs-wire"]),
    ("agentfs-tls", &[]),
    ("agentfs-handoff", &["agentfs-wire"]),
    ("agentfs-router", &["agentfs-handoff", "agentfs-system", "agentfs-wire"]),
    (
        "agentfs-collector",
        &[
            "agentfs-handoff",
            "agentfs-home",
            "agentfs-router",
            "agentfs-system",
            "agentfs-tls",
            "agentfs-wire",
        ],
    ),
    ("agentfs-launchd", &[]),
    ("agentfs-macos", &["agentfs-wire"]),
    (
        "agentfs",
        &[
            "agentfs-collector",
            "agentfs-engine",
            "agentfs-home",
            "agentfs-launchd",
            "agentfs-macos",
            "agentfs-system",
            "agentfs-tls",
            "agentfs-wire",
        ],
    ),
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
    "cli/src/naming.rs",
    "engine/src/address.rs",
    "engine/src/filter.rs",
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
                // `os::unix` names bytes of texts and paths; the crate of that name calls the system.
                let line = line.split("//").next().unwrap().replace("os::unix::", "");
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

/// The names that a text takes from a crate, `crate::NAME` or `crate::{NAME, NAME}`.
fn names_of<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (_, rest) in text.match_indices(name).map(|(at, mark)| text.split_at(at + mark.len())) {
        let rest = rest.strip_prefix("::").unwrap_or("as a whole");
        let list = rest.strip_prefix('{').map_or(rest, |list| list.split('}').next().unwrap());
        let names = list.split(',').take(if rest.starts_with('{') { usize::MAX } else { 1 });
        found.extend(
            names.map(|name| {
                name.trim().split(|end: char| !end.is_alphanumeric() && end != '_').next().unwrap()
            }),
        );
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn names_of_a_crate_are_read() {
    assert_eq!(
        names_of("use libc::{AF_INET, bind as b};\nlibc::close(fd)", "libc"),
        ["AF_INET", "bind", "close"]
    );
    assert_eq!(names_of("use libc;", "libc"), ["as"]);
}

/// The cli runs the collector and uses nothing else of it: everything else goes through the control socket.
#[test]
fn the_cli_only_runs_the_collector() {
    let may = ["cli/src/commands/daemon.rs", "cli/src/hint.rs"].map(|file| root().join(file));
    for file in sources(&root().join("cli")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for name in names_of(&text, "agentfs_collector") {
            assert!(may.contains(&file), "{} uses {name} of the collector", file.display());
            let runs = ["serve", "Config", "Report", "Error"].contains(&name);
            assert!(runs, "{} uses {name} of the collector", file.display());
        }
    }
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

/// Files and folders whose circles are known, and why. Whoever removes a circle removes it from this list in the same
/// commit.
const CIRCLES: &[(&str, &str)] =
    &[("tests/src", "a home makes commands, and a command that fails tells of its home")];

/// A reader can start with what a file imports: neither files nor modules import one another in a circle.
#[test]
fn no_files_import_one_another() {
    let mut found = BTreeSet::new();
    for package in packages() {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let folder = manifest.parent().unwrap().join("src");
        let package = Crate::read(&folder);
        for circle in package.circles().into_iter().chain(package.knots()) {
            let names: Vec<String> = circle
                .iter()
                .map(|file| folder.join(file).strip_prefix(root()).unwrap().display().to_string())
                .collect();
            if !names.iter().any(|name| CIRCLES.iter().any(|(place, _)| name.starts_with(place))) {
                found.insert(format!("{} → {}", names.join(" → "), names[0]));
            }
        }
    }
    assert!(found.is_empty(), "they import one another: {found:#?}");
}

/// A file is read as a whole: 600 lines are the end, tables of data apart.
#[test]
fn files_stay_readable() {
    for package in packages() {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        for file in sources(manifest.parent().unwrap()) {
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
