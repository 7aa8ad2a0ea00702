//! Small files of JSON in the home. Such a file is written completely under another name and then renamed, so the
//! collector never damages it. If it is damaged anyway, it is moved aside, and its content is lost.
use crate::limits::STORED_BYTES;
use crate::replace::{Durable, replace};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// Reads what the file holds; nothing if there is no file. If it cannot be used, also says so.
pub fn load<T: DeserializeOwned + Default>(path: &Path) -> (T, Option<String>) {
    match read(path) {
        Ok(stored) => (stored, None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (T::default(), None),
        Err(error) => {
            let aside = path.with_extension("json.torn");
            let kept = match fs::rename(path, &aside) {
                Ok(()) => format!("it was moved to {}", aside.display()),
                Err(error) => format!("it could not be moved: {error}"),
            };
            (T::default(), Some(format!("cannot read {}: {error}; {kept}", path.display())))
        }
    }
}

/// Writes the file.
///
/// # Errors
/// What the system says; the old file is unchanged then.
pub fn save(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(content)?;
    text.push(b'\n');
    replace(path, &text, Durable::Yes)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let mut text = Vec::new();
    File::open(path)?.take(STORED_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentfs_wire::speaks::{FolderPorts, Speaks};

    #[test]
    fn what_ports_speak_is_read_as_it_was_written() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("faces.json");
        assert_eq!(load::<Vec<FolderPorts>>(&path), (Vec::new(), None));
        let ports = [(3000, Speaks::NoPages), (5173, Speaks::Pages)].into_iter().collect();
        let known =
            vec![FolderPorts { app: "shop".into(), folder: "/src/shop".into(), learned_ms: 7, ports }];
        save(&path, &known).unwrap();
        assert_eq!(load(&path), (known, None));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""3000": "no_pages""#) && text.contains(r#""5173": "pages""#), "{text}");
    }

    #[test]
    fn a_damaged_file_is_moved_aside() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("faces.json");
        fs::write(&path, r#"[{"app": "sh"#).unwrap();
        let (known, trouble) = load::<Vec<FolderPorts>>(&path);
        assert!(known.is_empty() && trouble.unwrap().contains("moved to"));
        assert!(path.with_extension("json.torn").exists() && !path.exists());
    }
}
