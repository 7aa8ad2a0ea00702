//! macOS: ps(1) and lsof(8), whose words are read by functions that are tested everywhere.
#![cfg_attr(target_os = "linux", expect(dead_code, reason = "only what reads words is tested here"))]
use std::process::Command;

/// Whether a process runs: its state is there and not that of a zombie.
pub(super) fn is_alive(pid: i32) -> bool {
    is_running(&words("ps", &["-o", "stat=", "-p", &pid.to_string()]))
}

/// Processes of this user with a variable; the environment of protected programs is not shown.
pub(super) fn with_variable(variable: &str) -> Vec<(i32, String)> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let list = words("ps", &["-xEww", "-o", "pid=,command="]);
    list.lines().filter_map(|line| process(line, variable)).filter(|(pid, _)| *pid != own).collect()
}

/// Ports on which a process listens on TCP.
pub(super) fn tcp_ports(pid: i32) -> Vec<u16> {
    ports(&words("lsof", &["-nP", "-a", "-p", &pid.to_string(), "-iTCP", "-sTCP:LISTEN", "-Fn"]))
}

fn words(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn is_running(state: &str) -> bool {
    let state = state.trim();
    !state.is_empty() && !state.starts_with('Z')
}

/// A line of id, command and environment, parted by blanks.
fn process(line: &str, variable: &str) -> Option<(i32, String)> {
    let (pid, rest) = line.trim_start().split_once(' ')?;
    let at = format!(" {rest} ").find(&format!(" {variable} "))?;
    let command = rest.get(..at.saturating_sub(1))?;
    Some((pid.parse().ok()?, command.to_owned()))
}

/// Fields of lsof, a letter and a value a line; `n` is a name such as `127.0.0.1:80`, `[::1]:80` or `*:80`.
fn ports(fields: &str) -> Vec<u16> {
    let names = fields.lines().filter_map(|line| line.strip_prefix('n'));
    names.filter_map(|name| name.rsplit_once(':')?.1.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_ps_and_lsof_are_understood() {
        assert!(is_running("Ss+\n") && !is_running("Z\n") && !is_running(""));
        let line = "  501 python3 -m http.server 8080 PATH=/bin AGENTFS_HOME=/tmp/a/h HOME=/Users/ada";
        let (pid, command) = process(line, "AGENTFS_HOME=/tmp/a/h").unwrap();
        assert_eq!(pid, 501);
        assert!(command.starts_with("python3 -m http.server 8080"), "{command}");
        assert_eq!(process(line, "AGENTFS_HOME=/tmp/a"), None);
        assert_eq!(ports("p501\nf3\nn127.0.0.1:80\nf4\nn[::1]:81\nn*:82\n"), [80, 81, 82]);
    }
}
