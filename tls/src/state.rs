//! Whether TLS is on: the file `home/tls/enabled`, a JSON object with the user's own pair, if any. An
//! empty file is an empty object.
use super::authority::{prepare, write_private};
use super::{OwnPair, TlsConfig, TlsError, folder};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<PathBuf>,
}

/// Switches TLS on, from the collector's next start or `tls.reload`, with the user's own pair where there is one (paths
/// absolute).
///
/// # Errors
/// [`TlsError`] where the pair cannot be used or the file not be written.
pub fn enable(home: &Path, own: Option<&OwnPair>) -> Result<(), TlsError> {
    own.map(OwnPair::check).transpose()?;
    let folder = folder(home);
    prepare(&folder)?;
    let path = folder.join("enabled");
    let (certificate, key) = own.map(|pair| (pair.certificate.clone(), pair.key.clone())).unzip();
    let mut text = serde_json::to_vec(&Stored { certificate, key })
        .map_err(|error| TlsError::file("write", &path, error.into()))?;
    text.push(b'\n');
    write_private(&path, &text)
}

/// Switches TLS off, from the collector's next start or `tls.reload`. The authority stays.
///
/// # Errors
/// [`TlsError`] where the file cannot be removed.
pub fn disable(home: &Path) -> Result<(), TlsError> {
    let path = folder(home).join("enabled");
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(TlsError::file("remove", path, source))
        }
        _ => Ok(()),
    }
}

/// With what TLS is on; `None` where it is off.
///
/// # Errors
/// [`TlsError`] where the file cannot be read or says something else.
pub fn enabled(home: &Path) -> Result<Option<TlsConfig>, TlsError> {
    let path = folder(home).join("enabled");
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|source| TlsError::file("read", &path, source))?,
    };
    let hint = "run `agentfs trust` again, or remove the file to turn TLS off";
    let stored = if text.trim_ascii().is_empty() {
        Stored::default()
    } else {
        serde_json::from_slice(&text).map_err(|_| TlsError::Content {
            path: path.clone(),
            what: "JSON object",
            hint,
        })?
    };
    match (stored.certificate, stored.key) {
        (Some(certificate), Some(key)) => Ok(Some(TlsConfig { own: Some(OwnPair { certificate, key }) })),
        (None, None) => Ok(Some(TlsConfig::default())),
        _ => Err(TlsError::Content { path, what: "pair of certificate and key", hint }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_and_off() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(enabled(home.path()).unwrap(), None);
        enable(home.path(), None).unwrap();
        assert_eq!(enabled(home.path()).unwrap(), Some(TlsConfig::default()));
        let path = home.path().join("tls/enabled");
        fs::write(&path, "").unwrap();
        assert_eq!(enabled(home.path()).unwrap(), Some(TlsConfig::default()));
        fs::write(&path, r#"{"certificate":"/a","key":"/b"}"#).unwrap();
        let own = OwnPair { certificate: "/a".into(), key: "/b".into() };
        assert_eq!(enabled(home.path()).unwrap(), Some(TlsConfig { own: Some(own.clone()) }));
        fs::write(&path, r#"{"certificate":"/a"}"#).unwrap();
        assert!(enabled(home.path()).is_err());
        assert!(enable(home.path(), Some(&own)).unwrap_err().to_string().contains("/a"));
        disable(home.path()).unwrap();
        disable(home.path()).unwrap();
        assert_eq!(enabled(home.path()).unwrap(), None);
    }
}
