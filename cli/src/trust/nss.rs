//! NSS databases: Chromium's, one per user, and Firefox's, one per profile. Both are changed by `certutil`.
use super::places::{Places, folders_in};
use super::store::{Store, Trouble};
use super::tool::{is_certificate, quoted, require, run};
use agentfs_tls::Authority;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The file that makes a folder a database (NSS, format `sql:`).
const FILE: &str = "cert9.db";

/// Databases of the Chromium family, below the user's folder.
const CHROMIUM: [&str; 2] = [".pki/nssdb", "snap/chromium/current/.pki/nssdb"];

/// Programs of the Chromium family. If one of them is installed, a missing database is created.
const BROWSERS: [&str; 8] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "brave-browser",
    "microsoft-edge",
    "vivaldi",
    "opera",
];

/// Folders of Firefox's profiles, below the user's folder.
const FIREFOX: [&str; 5] = [
    ".mozilla/firefox",
    "snap/firefox/common/.mozilla/firefox",
    ".var/app/org.mozilla.firefox/.mozilla/firefox",
    ".var/app/org.mozilla.firefox/config/mozilla/firefox",
    "Library/Application Support/Firefox/Profiles",
];

/// What to do without the tool.
const INSTALL: &str = "install libnss3-tools (Debian, Ubuntu), nss-tools (Fedora) or nss (Arch, Homebrew)";

/// One database.
#[derive(Debug)]
pub(super) struct Database {
    kind: &'static str,
    folder: PathBuf,
    certutil: Option<PathBuf>,
}

/// The databases of the user's browsers.
pub(super) fn find(places: &Places) -> Vec<Database> {
    let certutil = places.program("certutil");
    let database = |kind, folder| Database { kind, folder, certutil: certutil.clone() };
    let data = places.data_home.iter().map(|data| data.join("pki/nssdb"));
    let data_default = places.below_home(&[".local/share/pki/nssdb"]);
    let mut folders: Vec<PathBuf> = places.below_home(&CHROMIUM).chain(data).chain(data_default).collect();
    folders.retain(|folder| folder.join(FILE).is_file());
    if folders.is_empty() && cfg!(target_os = "linux") {
        let installed = BROWSERS.iter().any(|name| places.program(name).is_some());
        folders.extend(places.below_home(&CHROMIUM[..1]).filter(|_| installed));
    }
    let config = places.config_home.iter().map(|config| config.join("mozilla/firefox"));
    let config_default = places.below_home(&[".config/mozilla/firefox"]);
    let profiles = places.below_home(&FIREFOX).chain(config).chain(config_default);
    let profiles = profiles.flat_map(|folder| folders_in(&folder));
    let profiles = profiles.filter(|folder| folder.join(FILE).is_file());
    let mut databases: Vec<Database> =
        folders.into_iter().map(|folder| database("Chromium", folder)).collect();
    databases.extend(profiles.map(|folder| database("Firefox", folder)));
    databases.dedup_by(|second, first| second.folder == first.folder);
    databases
}

// === impl Database ===

impl Database {
    fn certutil(&self) -> Result<&Path, Trouble> {
        self.certutil
            .as_deref()
            .ok_or_else(|| Trouble { why: "cannot find certutil".to_owned(), remedy: INSTALL.to_owned() })
    }

    /// The arguments `what -d sql:FOLDER rest…`.
    fn arguments(&self, what: &str, rest: &[&str]) -> Vec<OsString> {
        let mut folder = OsString::from("sql:");
        folder.push(&self.folder);
        let first: [OsString; 3] = [what.into(), "-d".into(), folder];
        first.into_iter().chain(rest.iter().map(OsString::from)).collect()
    }

    fn remedy(&self) -> String {
        format!("close the browser and check whether `certutil -L -d sql:{}` works", quoted(&self.folder))
    }

    /// Creates the database if it is missing.
    fn make(&self, certutil: &Path) -> Result<(), Trouble> {
        if self.folder.join(FILE).is_file() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(|error| Trouble {
            why: format!("cannot create the folder: {error}"),
            remedy: "start the browser once".to_owned(),
        })?;
        require(certutil, self.arguments("-N", &["--empty-password"]), || self.remedy())
    }
}

impl Store for Database {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn place(&self) -> &Path {
        &self.folder
    }

    fn holds(&self, authority: &Authority) -> Result<bool, Trouble> {
        if !self.folder.join(FILE).is_file() {
            return Ok(false);
        }
        // It fails if the certificate is not there, and says so only in its output.
        let shown = run(self.certutil()?, self.arguments("-L", &["-a", "-n", &authority.name()]));
        Ok(shown.is_ok_and(|done| done.ok && is_certificate(authority, &done.stdout)))
    }

    fn put(&self, authority: &Authority) -> Result<(), Trouble> {
        let certutil = self.certutil()?;
        self.make(certutil)?;
        let name = authority.name();
        // `C`: trusted for servers, and for nothing else.
        let mut arguments = self.arguments("-A", &["-t", "C,,", "-n", &name, "-i"]);
        arguments.push(authority.certificate_path().into());
        require(certutil, arguments, || self.remedy())
    }

    fn take(&self, authority: &Authority) -> Result<(), Trouble> {
        let arguments = self.arguments("-D", &["-n", &authority.name()]);
        require(self.certutil()?, arguments, || self.remedy())
    }
}
