//! Finds what Cargo built, compiles the C fixtures, and spells the command of a fixture.
use agentfs_fixtures::{Source, folder};
use agentfs_wire::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python that the library gets into, and that is the program itself: not Apple's, nor a shim of pyenv.
pub const PYTHON: &str = if cfg!(target_os = "macos") { "python3" } else { "/usr/bin/python3" };

/// The list of libraries that this system's loader loads first.
pub const PRELOAD: &str =
    if cfg!(target_os = "macos") { env::DYLD_INSERT_LIBRARIES } else { env::LD_PRELOAD };

/// The folder of the profile that the running test was built with, `target/debug` say.
///
/// # Panics
/// Where the test binary is not in a Cargo target folder.
pub fn profile_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let deps = test.parent().expect("a file is in a folder");
    deps.parent().expect("Cargo puts test binaries into target/PROFILE/deps").to_owned()
}

/// A binary of the workspace.
///
/// # Panics
/// Where it was not built, with the command that builds it.
pub fn binary(name: &str) -> PathBuf {
    let path = profile_folder().join(name);
    assert!(path.is_file(), "there is no {}\nhint: run `cargo build --workspace` first", path.display());
    path
}

/// The C fixture of that source file, compiled unless it is up to date.
///
/// # Panics
/// Where the compiler fails; its words are in the message.
pub fn c_fixture(file: &str) -> PathBuf {
    let source = folder().join("c").join(file);
    let target = profile_folder().join("fixtures-c");
    std::fs::create_dir_all(&target).expect("the target folder is writable");
    let built = target.join(Path::new(file).with_extension(""));
    let newest = [&source, &folder().join("c/fixture.h")].into_iter().filter_map(|path| changed(path)).max();
    if changed(&built).is_some_and(|built| Some(built) >= newest) {
        return built;
    }
    // Tests run in parallel: each compiles for itself, the last rename wins, all results are equal.
    let draft = target.join(format!("{file}.{}", std::process::id()));
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&draft).arg(&source).arg("-lpthread");
    let output = compiler.output().expect("cc runs; ./test --setup installs it");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler:?} failed:\n{words}");
    std::fs::rename(&draft, &built).expect("the target folder is writable");
    built
}

/// The command of a server fixture.
pub fn server_command(server: &agentfs_fixtures::Server) -> Vec<String> {
    match server.source {
        Source::Php(_) => {
            let mut command = vec!["php".to_owned(), "-S".to_owned(), format!("127.0.0.1:{}", server.port)];
            command.extend(source_command(server.source).into_iter().skip(1));
            command
        }
        source => source_command(source),
    }
}

/// The command of a client fixture that gets `http://localhost:PORT/`.
pub fn client_command(client: &agentfs_fixtures::Client, port: u16) -> Vec<String> {
    let mut command = source_command(client.source);
    command.push(port.to_string());
    command
}

/// `python3 FILE` of a Python fixture that is not in the model.
pub fn python(file: &'static str) -> Vec<String> {
    source_command(Source::Python(file))
}

fn source_command(source: Source) -> Vec<String> {
    let file = |folder_name: &str, file: &str| folder().join(folder_name).join(file).display().to_string();
    match source {
        Source::Python(name) => vec!["python3".to_owned(), file("python", name)],
        Source::Node(name) => vec!["node".to_owned(), file("node", name)],
        Source::C(name) => vec![c_fixture(name).display().to_string()],
        Source::Rust(name) => vec![binary(name).display().to_string()],
        // Few threads and no more memory than it needs: several run at once in tests.
        Source::Java(name) => {
            vec!["java".to_owned(), "-XX:+UseSerialGC".to_owned(), "-Xmx128m".to_owned(), file("java", name)]
        }
        Source::Php(name) => vec!["php".to_owned(), file("php", name)],
    }
}

fn changed(path: &Path) -> Option<std::time::SystemTime> {
    path.metadata().ok()?.modified().ok()
}

/// Copies a program that is to be executed, by a process of its own: a child that another test forks while we had
/// the copy open for writing would keep it from being executed (ETXTBSY).
///
/// # Panics
/// Where it cannot be copied.
pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status().expect("cp is part of every system");
    assert!(status.success(), "{} cannot be copied to {}", from.display(), to.display());
}
