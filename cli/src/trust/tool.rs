//! Runs the tool of a store. Its output is ours to report; it does not go to the terminal.
use super::store::Trouble;
use agentfs_tls::Authority;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a tool did.
#[derive(Clone, Debug)]
pub(super) struct Done {
    /// Whether it exited with success.
    pub(super) ok: bool,
    /// What it wrote to standard output.
    pub(super) stdout: String,
    /// The first line of its error output.
    pub(super) complaint: String,
}

/// Runs `program` to its end, without input: if it asks for a password, it fails.
///
/// # Errors
/// It cannot be started.
pub(super) fn run(
    program: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> std::io::Result<Done> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = stderr.lines().chain(stdout.lines());
    let mut said = lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Picked up "));
    let complaint = said.next().map_or_else(|| output.status.to_string(), str::to_owned);
    Ok(Done { ok: output.status.success(), stdout, complaint })
}

/// Runs `program`, which must succeed.
///
/// # Errors
/// It does not succeed; the error has `remedy`.
pub(super) fn require(
    program: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    remedy: impl Fn() -> String,
) -> Result<(), Trouble> {
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
    match run(program, arguments) {
        Ok(done) if done.ok => Ok(()),
        Ok(done) => Err(Trouble { why: format!("{name}: {}", done.complaint), remedy: remedy() }),
        Err(error) => {
            Err(Trouble { why: format!("cannot run {}: {error}", program.display()), remedy: remedy() })
        }
    }
}

/// Whether a PEM text contains the certificate of `authority`.
pub(super) fn is_certificate(authority: &Authority, text: &str) -> bool {
    let own = std::fs::read_to_string(authority.certificate_path()).unwrap_or_default();
    body(&own).is_some_and(|own| body(text).is_some_and(|other| own == other))
}

/// The text between the first two markers of a PEM file, without line ends.
fn body(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    Some(body.split_ascii_whitespace().collect())
}

/// A path quoted for a shell.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte);
    if text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_do_not_matter_to_a_certificate() {
        let text = "x\r\n-----BEGIN CERTIFICATE-----\r\nAB\r\nCD\r\n-----END CERTIFICATE-----\r\n";
        assert_eq!(body(text).as_deref(), Some("ABCD"));
        assert_eq!(body("-----BEGIN CERTIFICATE-----"), None);
    }

    #[test]
    fn a_shell_takes_a_path_as_it_is() {
        assert_eq!(quoted(Path::new("/a/b-c.crt")), "/a/b-c.crt");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }

    #[test]
    fn a_tool_that_fails_is_quoted() {
        let shell = Path::new("/bin/sh");
        let trouble =
            require(shell, ["-c", "echo; echo no luck >&2; exit 3"], || "try".to_owned()).unwrap_err();
        assert_eq!(trouble, Trouble { why: "sh: no luck".to_owned(), remedy: "try".to_owned() });
        assert!(require(shell, ["-c", "exit 0"], String::new).is_ok());
        let missing = require(Path::new("/nowhere/tool"), ["x"], String::new).unwrap_err();
        assert!(missing.why.contains("/nowhere/tool"), "{missing:?}");
    }
}
