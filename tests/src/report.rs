//! Text that explains a failure: folders and the ends of logs.
use std::path::{Path, PathBuf};

/// Lines of each log that a failure prints.
const LOG_LINES: usize = 40;

/// Appends the last lines of a log, unless it is empty.
pub(crate) fn tail(log: &Path, report: &mut String) {
    let content = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    if content.is_empty() {
        return;
    }
    report.push_str(&format!("---- {}\n", log.file_name().unwrap_or_default().display()));
    let lines: Vec<&str> = content.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
        report.push_str(line);
        report.push('\n');
    }
}

/// Entries of a folder by name; none where it cannot be read.
pub(crate) fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(list) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = list.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// Appends everything below a folder with its kind.
pub(crate) fn tree(folder: &Path, report: &mut String) {
    use std::os::unix::fs::FileTypeExt;
    for path in entries(folder) {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let kind = metadata.file_type();
        let what = if kind.is_dir() {
            "folder".to_owned()
        } else if kind.is_socket() {
            "socket".to_owned()
        } else if kind.is_symlink() {
            format!("-> {}", std::fs::read_link(&path).unwrap_or_default().display())
        } else {
            format!("{} bytes", metadata.len())
        };
        report.push_str(&format!("{}  {what}\n", path.display()));
        if kind.is_dir() {
            tree(&path, report);
        }
    }
}
