//! The user's login keychain, which Safari, Chrome and the system use. It is changed by security(1), which
//! asks the user to confirm. Searched for on every system, so that it can be tested on any.
use super::places::Places;
use super::store::{Store, Trouble};
use super::tool::{is_certificate, quoted, require, run};
use agentfs_tls::Authority;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The tool, below the root.
const TOOL: &str = "usr/bin/security";

/// The keychain, below the user's folder.
const FILE: &str = "Library/Keychains/login.keychain-db";

/// The user's keychain.
#[derive(Debug)]
pub(super) struct Keychain {
    file: PathBuf,
    tool: PathBuf,
}

/// The user's keychain, if there is one.
pub(super) fn find(places: &Places) -> Option<Keychain> {
    let file = places.below_home(&[FILE]).next()?;
    let tool = places.root.join(TOOL);
    (file.is_file() && tool.is_file()).then_some(Keychain { file, tool })
}

// === impl Keychain ===

impl Keychain {
    fn delete(&self, authority: &Authority) -> Result<(), Trouble> {
        let name = authority.name();
        let mut delete: Vec<OsString> = ["delete-certificate", "-c", &name].map(OsString::from).to_vec();
        delete.push((&self.file).into());
        require(&self.tool, delete, || self.by_hand(&format!("delete-certificate -c '{name}'")))
    }

    fn by_hand(&self, what: &str) -> String {
        format!("unlock the keychain and confirm the question, or run `security {what}`")
    }
}

impl Store for Keychain {
    fn kind(&self) -> &'static str {
        "Keychain"
    }

    fn place(&self) -> &Path {
        &self.file
    }

    fn holds(&self, authority: &Authority) -> Result<bool, Trouble> {
        let name = authority.name();
        let mut arguments: Vec<OsString> =
            ["find-certificate", "-p", "-c", &name].map(OsString::from).to_vec();
        arguments.push((&self.file).into());
        let shown = run(&self.tool, arguments);
        Ok(shown.is_ok_and(|done| done.ok && is_certificate(authority, &done.stdout)))
    }

    fn put(&self, authority: &Authority) -> Result<(), Trouble> {
        let mut arguments: Vec<OsString> =
            ["add-trusted-cert", "-r", "trustRoot", "-k"].map(OsString::from).to_vec();
        arguments.push((&self.file).into());
        arguments.push(authority.certificate_path().into());
        let certificate = quoted(authority.certificate_path());
        let done = require(&self.tool, arguments, || {
            self.by_hand(&format!("add-trusted-cert -r trustRoot -k {} {certificate}", quoted(&self.file)))
        });
        done.inspect_err(|_| {
            // If the user refuses to trust it, it is in the keychain already. Remove it, or the next check
            // would find it.
            let _ = self.delete(authority);
        })
    }

    fn take(&self, authority: &Authority) -> Result<(), Trouble> {
        let certificate = authority.certificate_path();
        let untrust: [OsString; 2] = ["remove-trusted-cert".into(), certificate.into()];
        let by_hand = || self.by_hand(&format!("remove-trusted-cert {}", quoted(certificate)));
        require(&self.tool, untrust, by_hand)?;
        self.delete(authority)
    }
}
