//! The system's store: a folder of certificates. A command makes from it the bundle that OpenSSL, GnuTLS,
//! curl, Go and Python read.
use super::places::Places;
use super::store::{Store, Trouble};
use super::tool::{quoted, require};
use agentfs_tls::Authority;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The store of a family of systems.
#[derive(Debug)]
struct Layout {
    /// Folder of certificates that were added here, below the root.
    folder: &'static str,
    /// How their names must end.
    suffix: &'static str,
    /// The command that makes the bundle, with its arguments.
    update: &'static [&'static str],
    /// The command to make it after something was removed.
    renew: &'static [&'static str],
}

/// The first whose folder exists is the system's.
const LAYOUTS: [Layout; 4] = [
    // Fedora, RHEL: update-ca-trust(8).
    Layout {
        folder: "etc/pki/ca-trust/source/anchors",
        suffix: "pem",
        update: &["update-ca-trust", "extract"],
        renew: &["update-ca-trust", "extract"],
    },
    // Arch: the same command, other folders.
    Layout {
        folder: "etc/ca-certificates/trust-source/anchors",
        suffix: "crt",
        update: &["update-ca-trust"],
        renew: &["update-ca-trust"],
    },
    // openSUSE.
    Layout {
        folder: "etc/pki/trust/anchors",
        suffix: "pem",
        update: &["update-ca-certificates"],
        renew: &["update-ca-certificates"],
    },
    // Debian, Ubuntu, Alpine: update-ca-certificates(8). Without `--fresh`, links to removed certificates
    // stay.
    Layout {
        folder: "usr/local/share/ca-certificates",
        suffix: "crt",
        update: &["update-ca-certificates"],
        renew: &["update-ca-certificates", "--fresh"],
    },
];

/// Where the command may be: an ordinary user's `PATH` often leaves these out.
const FOLDERS: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "usr/local/sbin"];

/// The system's store.
#[derive(Debug)]
pub(super) struct System {
    layout: &'static Layout,
    folder: PathBuf,
    root: PathBuf,
}

/// The system's store, if this system has one that we know.
pub(super) fn find(places: &Places) -> Option<System> {
    let layout = LAYOUTS.iter().find(|layout| places.root.join(layout.folder).is_dir())?;
    Some(System { layout, folder: places.root.join(layout.folder), root: places.root.clone() })
}

// === impl System ===

impl System {
    fn file(&self, authority: &Authority) -> PathBuf {
        self.folder.join(format!("agentfs-{}.{}", authority.id(), self.layout.suffix))
    }

    fn command(&self, words: &[&str], remedy: &dyn Fn() -> String) -> Result<(), Trouble> {
        let Some((name, arguments)) = words.split_first() else { return Ok(()) };
        let mut found = FOLDERS.iter().map(|folder| self.root.join(folder).join(name));
        match found.find(|path| path.is_file()) {
            Some(program) => require(&program, arguments, remedy),
            None => {
                let why = format!("cannot find {name}");
                Err(Trouble { why, remedy: "install the package ca-certificates".to_owned() })
            }
        }
    }

    fn put_by_hand(&self, authority: &Authority) -> String {
        let (from, to) = (quoted(authority.certificate_path()), quoted(&self.file(authority)));
        format!("run `sudo install -m 644 {from} {to} && sudo {}`", self.layout.update.join(" "))
    }

    fn take_by_hand(&self, authority: &Authority) -> String {
        format!("run `sudo rm {} && sudo {}`", quoted(&self.file(authority)), self.layout.renew.join(" "))
    }
}

impl Store for System {
    fn kind(&self) -> &'static str {
        "system"
    }

    fn place(&self) -> &Path {
        &self.folder
    }

    fn holds(&self, authority: &Authority) -> Result<bool, Trouble> {
        let own = fs::read(authority.certificate_path()).unwrap_or_default();
        Ok(fs::read(self.file(authority)).is_ok_and(|there| there == own))
    }

    fn put(&self, authority: &Authority) -> Result<(), Trouble> {
        let file = self.file(authority);
        let by_hand = || self.put_by_hand(authority);
        copy(authority.certificate_path(), &file)
            .map_err(|error| Trouble { why: written(&file, &error), remedy: by_hand() })?;
        self.command(self.layout.update, &by_hand).inspect_err(|_| {
            // Otherwise the next check would find it there, though the bundle does not have it.
            let _ = fs::remove_file(&file);
        })
    }

    fn take(&self, authority: &Authority) -> Result<(), Trouble> {
        let file = self.file(authority);
        let by_hand = || self.take_by_hand(authority);
        fs::remove_file(&file).map_err(|error| Trouble { why: written(&file, &error), remedy: by_hand() })?;
        self.command(self.layout.renew, &by_hand)
    }
}

/// Copies a private file to one that everybody can read.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let text = fs::read(from)?;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(to)?;
    file.write_all(&text)
}

fn written(file: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("only root may change {}", file.display()),
        _ => format!("cannot change {}: {error}", file.display()),
    }
}
