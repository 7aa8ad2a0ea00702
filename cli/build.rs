//! Builds the interposer with a nested cargo and hands it to `src/interposer.rs` as bytes and content hash.
//!
//! The library needs a profile of its own (no unwinding, whole-program optimised), which a dependency
//! cannot have, and a `cdylib` cannot be a dependency anyway. Variables that change the build:
//! `AGENTFS_INTERPOSE_LIB` names a library that is used as it is; `AGENTFS_BUILD_STD` is passed on as
//! `-Zbuild-std`, for targets whose standard library is not installed.
mod build_slices;

use build_slices::Slices;
use sha2::{Digest, Sha256};
use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of the content hash that name the unpacked library's folder.
const HASH_BYTES: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    for watched in ["interpose/src", "interpose/Cargo.toml", "wire/src", "wire/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    for watched in ["build.rs", "build_slices.rs", "../Cargo.toml", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={watched}");
    }
    for watched in ["AGENTFS_INTERPOSE_LIB", "AGENTFS_BUILD_STD"] {
        println!("cargo::rerun-if-env-changed={watched}");
    }
    let out = PathBuf::from(variable("OUT_DIR")?);
    let apple = variable("CARGO_CFG_TARGET_VENDOR")? == "apple";
    let file = if apple { "libagentfs_interpose.dylib" } else { "libagentfs_interpose.so" };
    let library = match env::var_os("AGENTFS_INTERPOSE_LIB") {
        Some(ready) => PathBuf::from(ready),
        None => build_all(&root, &out, file)?,
    };
    let bytes = fs::read(&library).map_err(|error| format!("cannot read {}: {error}", library.display()))?;
    fs::write(out.join("interpose.bin"), &bytes)?;
    let hash: String =
        Sha256::digest(&bytes).iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::rustc-env=AGENTFS_INTERPOSE_HASH={hash}");
    println!("cargo::rustc-env=AGENTFS_INTERPOSE_FILE={file}");
    Ok(())
}

/// Builds the library for the target, and if possible for the other kind of Mac: dyld ends a program that is
/// told to load a library without its slice.
fn build_all(root: &Path, out: &Path, file: &str) -> Result<PathBuf, Box<dyn Error>> {
    let target = variable("TARGET")?;
    // If the build for a Mac does not run on a Mac, the slices are joined by the caller.
    let on_mac = variable("HOST")?.ends_with("-apple-darwin") && env::var_os("AGENTFS_BUILD_STD").is_none();
    let slices = if on_mac { build_slices::choose(&target, is_installed, has_lipo) } else { Slices::One };
    let own = build(root, out, file, &target)?;
    let other = match slices {
        Slices::One => return Ok(own),
        Slices::OneOfTwo(hint) => {
            println!("cargo::warning=the interposer is for {target} alone: {hint}");
            return Ok(own);
        }
        Slices::Both(other) => build(root, out, file, other)?,
    };
    let both = out.join(file);
    let status = Command::new("lipo").args(["-create", "-output"]).arg(&both).arg(own).arg(other).status()?;
    if status.success() { Ok(both) } else { Err(format!("lipo cannot join both kinds: {status}").into()) }
}

/// Whether the standard library for a target is installed.
fn is_installed(target: &str) -> bool {
    let mut command = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let folder = command.args(["--print", "target-libdir", "--target", target]).output();
    let folder = folder.ok().filter(|output| output.status.success());
    folder.is_some_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

fn has_lipo() -> bool {
    Command::new("lipo")
        .arg("-info")
        .arg("/usr/bin/true")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Runs the nested cargo for a target; the path of the library.
fn build(root: &Path, out: &Path, file: &str, target: &str) -> Result<PathBuf, Box<dyn Error>> {
    let build_std = env::var("AGENTFS_BUILD_STD").ok();
    // A host build has its libraries one folder higher; `--target` also keeps RUSTFLAGS from build scripts.
    let cross = target != variable("HOST")? || build_std.is_some();
    let folder = out.join("interpose");
    let mut arguments: Vec<OsString> = ["build", "--profile", "interpose", "-p", "agentfs-interpose"]
        .into_iter()
        .map(OsString::from)
        .collect();
    arguments.extend(["--manifest-path".into(), root.join("Cargo.toml").into()]);
    arguments.extend(["--target-dir".into(), folder.clone().into(), "--locked".into()]);
    // Tests on Linux have programs that stand for those that macOS protects.
    if env::var("PROFILE").is_ok_and(|profile| profile == "debug") && !target.ends_with("-apple-darwin") {
        arguments.extend(["--features".into(), "agentfs-interpose/stand-ins".into()]);
    }
    if cross {
        arguments.extend(["--target".into(), target.into()]);
    }
    if let Some(parts) = build_std {
        arguments.push(format!("-Zbuild-std={parts}").into());
    }
    // Offline first: everything is there once the outer build has its dependencies, and no registry is asked.
    let offline = cargo(&arguments, true)?;
    if !offline.status.success() {
        let online = cargo(&arguments, false)?;
        if !online.status.success() {
            let words = String::from_utf8_lossy(&online.stderr);
            return Err(format!("the interposer does not build:\n{words}").into());
        }
    }
    let folder = if cross { folder.join(target) } else { folder };
    Ok(folder.join("interpose").join(file))
}

fn cargo(arguments: &[OsString], offline: bool) -> Result<std::process::Output, Box<dyn Error>> {
    let mut command = Command::new(variable("CARGO")?);
    command.args(arguments);
    if offline {
        command.arg("--offline");
    }
    // Removes what the outer cargo (or clippy, or a coverage tool) set up for its own compilers. Linker and
    // flags per target (`CARGO_TARGET_…_LINKER`, `…_RUSTFLAGS`) stay: they are for this build too.
    for name in [
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET_DIR",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "CARGO_PRIMARY_PACKAGE",
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
        "CARGO_MAKEFLAGS",
        "MAKEFLAGS",
        "MFLAGS",
    ] {
        command.env_remove(name);
    }
    // Variables that cargo sets for build scripts would look like configuration, or confuse build scripts of
    // the nested build.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_CFG_")
            || text.starts_with("CARGO_FEATURE_")
            || text.starts_with("CARGO_PKG_")
        {
            command.env_remove(&name);
        }
    }
    Ok(command.output()?)
}

fn variable(name: &str) -> Result<String, Box<dyn Error>> {
    env::var(name).map_err(|error| format!("{name}: {error}").into())
}
