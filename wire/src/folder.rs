//! A path as JSON: text where it is UTF-8, else its bytes. File names are bytes on Linux (path_resolution(7)), and an
//! instance may run in any folder.
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

#[derive(Serialize)]
#[serde(untagged)]
enum Written<'path> {
    Text(&'path str),
    Bytes(&'path [u8]),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Read {
    Text(String),
    Bytes(Vec<u8>),
}

impl<'path> From<&'path Path> for Written<'path> {
    fn from(path: &'path Path) -> Self {
        path.to_str().map_or_else(|| Self::Bytes(path.as_os_str().as_bytes()), Self::Text)
    }
}

impl From<Read> for PathBuf {
    fn from(read: Read) -> Self {
        match read {
            Read::Text(text) => text.into(),
            Read::Bytes(bytes) => OsString::from_vec(bytes).into(),
        }
    }
}

/// Writes a path.
///
/// # Errors
/// Those of the format.
pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    Written::from(path).serialize(serializer)
}

/// Reads a path.
///
/// # Errors
/// It is neither text nor bytes.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Read::deserialize(deserializer).map(PathBuf::from)
}

/// The same for a path that may be missing.
pub mod optional {
    use super::*;

    /// Writes a path, or null.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_deref().map(Written::from).serialize(serializer)
    }

    /// Reads a path, or null.
    ///
    /// # Errors
    /// It is neither text, nor bytes, nor null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<Read>::deserialize(deserializer)?.map(PathBuf::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Folders {
        #[serde(with = "super")]
        one: PathBuf,
        #[serde(default, with = "super::optional")]
        other: Option<PathBuf>,
    }

    #[test]
    fn every_path_comes_back() {
        for (bytes, json) in [
            (b"/a/\xc3\xa9".as_slice(), r#"{"one":"/a/é","other":"/a/é"}"#),
            (b"/\xff", r#"{"one":[47,255],"other":[47,255]}"#),
        ] {
            let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
            let folders = Folders { one: path.clone(), other: Some(path) };
            assert_eq!(serde_json::to_string(&folders).unwrap(), json);
            assert_eq!(serde_json::from_str::<Folders>(json).unwrap(), folders);
        }
        let none: Folders = serde_json::from_str(r#"{"one":"/"}"#).unwrap();
        assert_eq!(none.other, None);
        assert!(serde_json::from_str::<Folders>(r#"{"one":7}"#).is_err());
    }
}
