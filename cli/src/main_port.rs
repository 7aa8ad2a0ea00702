//! What `agentfs.toml` says of the port that the instance's host name means: `main = 5173`.
use crate::exit::Exit;
use crate::hint::Failure;
use std::fs;
use std::path::Path;

/// The file.
const FILE: &str = "agentfs.toml";

/// What the nearest `agentfs.toml` says that mentions it, from `folder` up to `top`.
///
/// # Errors
/// The value is not a port.
pub(crate) fn of(folder: &Path, top: &Path) -> Result<Option<u16>, Failure> {
    for folder in folder.ancestors().take_while(|folder| folder.starts_with(top)) {
        let file = folder.join(FILE);
        // A missing file says nothing; a broken one is reported by whoever reads the name in it.
        let table = fs::read_to_string(&file).ok().and_then(|text| text.parse::<toml::Table>().ok());
        if let Some(value) = table.as_ref().and_then(|table| table.get("main")) {
            let port = value.as_integer().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
            return port.map(Some).ok_or_else(|| {
                let message = format!("`main` in {} is not a port: it is `{value}`", file.display());
                Failure::new(Exit::Setup, message).hint("write a number, as in `main = 5173`")
            });
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_that_says_it_counts() {
        let root = tempfile::tempdir().unwrap();
        let shop = root.path().join("shop");
        let port = |folder: &str| of(&shop.join(folder), &shop).map_err(|failure| failure.message);
        fs::create_dir_all(shop.join("web/src")).unwrap();
        fs::write(root.path().join(FILE), "main = 1\n").unwrap();
        assert_eq!(port("web"), Ok(None), "it is outside of the checkout");
        fs::write(shop.join(FILE), "main = 3000\n").unwrap();
        fs::write(shop.join("web").join(FILE), "name = 'front'\n").unwrap();
        assert_eq!((port(""), port("web/src")), (Ok(Some(3000)), Ok(Some(3000))));
        fs::write(shop.join("web").join(FILE), "main = 5173\n").unwrap();
        assert_eq!(port("web/src"), Ok(Some(5173)));
        for bad in ["'5173'", "0", "65536", "-1", "true"] {
            fs::write(shop.join("web").join(FILE), format!("main = {bad}\n")).unwrap();
            let message = port("web").unwrap_err();
            assert!(message.contains("web/agentfs.toml"), "{message}");
        }
    }
}
