//! Java's keystores, one per JDK, changed by `keytool`. A JDK from the system's packages reads the system's
//! store, or a keystore that the system's update command makes from it: that one is not changed.
use super::places::{Places, folders_in};
use super::store::{Store, Trouble};
use super::tool::{is_certificate, quoted, require, run};
use agentfs_tls::Authority;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Its path in a JDK: since Java 9, and before.
const FILES: [&str; 2] = ["lib/security/cacerts", "jre/lib/security/cacerts"];

/// Folders of JDKs, below the root.
const SYSTEM: [&str; 2] = ["usr/lib/jvm", "opt/java"];

/// Folders of JDKs, below the user's.
const USERS: [&str; 4] =
    [".sdkman/candidates/java", ".jdks", ".local/share/mise/installs/java", ".asdf/installs/java"];

/// The password that every JDK comes with (keytool(1)).
const PASSWORD: &str = "changeit";

/// One keystore.
#[derive(Debug)]
pub(super) struct Keystore {
    file: PathBuf,
    keytool: Option<PathBuf>,
}

/// The keystores of all JDKs that are known.
pub(super) fn find(places: &Places) -> Vec<Keystore> {
    let system = SYSTEM.iter().flat_map(|folder| folders_in(&places.root.join(folder)));
    let machines = folders_in(&places.root.join("Library/Java/JavaVirtualMachines"));
    let machines = machines.into_iter().map(|folder| folder.join("Contents/Home"));
    let users: Vec<PathBuf> = places.below_home(&USERS).flat_map(|folder| folders_in(&folder)).collect();
    let homes = places.java_home.clone().into_iter().chain(system).chain(machines).chain(users);
    let of_system = places.root.canonicalize().unwrap_or_else(|_| places.root.clone()).join("etc");
    let mut keystores: Vec<Keystore> = Vec::new();
    for home in homes {
        let found = FILES.iter().find_map(|file| home.join(file).canonicalize().ok());
        let Some(file) = found.filter(|file| !file.starts_with(&of_system)) else { continue };
        if keystores.iter().any(|known| known.file == file) {
            continue;
        }
        let own = home.join("bin/keytool");
        let keytool = if own.is_file() { Some(own) } else { places.program("keytool") };
        keystores.push(Keystore { file, keytool });
    }
    keystores
}

// === impl Keystore ===

impl Keystore {
    fn keytool(&self) -> Result<&Path, Trouble> {
        self.keytool.as_deref().ok_or_else(|| Trouble {
            why: "cannot find keytool".to_owned(),
            remedy: "install a JDK, or add its folder bin to PATH".to_owned(),
        })
    }

    fn arguments(&self, what: &str, alias: &str, rest: &[&str]) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            [what, "-alias", alias, "-storepass", PASSWORD, "-keystore"].map(OsString::from).to_vec();
        arguments.push((&self.file).into());
        arguments.extend(rest.iter().map(OsString::from));
        // Its messages are parsed.
        arguments.push("-J-Duser.language=en".into());
        arguments
    }

    fn by_hand(&self, what: &str, alias: &str, rest: &str) -> String {
        let keytool = self.keytool.as_deref().unwrap_or(Path::new("keytool"));
        format!("run `sudo {} {what} -alias {alias} -keystore {}{rest}`", quoted(keytool), quoted(&self.file))
    }
}

fn alias(authority: &Authority) -> String {
    format!("agentfs-{}", authority.id())
}

impl Store for Keystore {
    fn kind(&self) -> &'static str {
        "Java"
    }

    fn place(&self) -> &Path {
        &self.file
    }

    fn holds(&self, authority: &Authority) -> Result<bool, Trouble> {
        let remedy = || "check whether `keytool -list` works with this keystore".to_owned();
        let keytool = self.keytool()?;
        match run(keytool, self.arguments("-exportcert", &alias(authority), &["-rfc"])) {
            Ok(done) if done.ok => Ok(is_certificate(authority, &done.stdout)),
            Ok(done) if done.stdout.contains("does not exist") => Ok(false),
            Ok(done) => Err(Trouble { why: format!("keytool: {}", done.complaint), remedy: remedy() }),
            Err(error) => {
                Err(Trouble { why: format!("cannot run {}: {error}", keytool.display()), remedy: remedy() })
            }
        }
    }

    fn put(&self, authority: &Authority) -> Result<(), Trouble> {
        let alias = alias(authority);
        let certificate = authority.certificate_path();
        let mut arguments = self.arguments("-importcert", &alias, &["-noprompt", "-file"]);
        // Before the argument for the virtual machine, after `-file`.
        arguments.insert(arguments.len() - 1, certificate.into());
        let rest = format!(" -noprompt -file {}", quoted(certificate));
        require(self.keytool()?, arguments, || self.by_hand("-importcert", &alias, &rest))
    }

    fn take(&self, authority: &Authority) -> Result<(), Trouble> {
        let alias = alias(authority);
        let arguments = self.arguments("-delete", &alias, &[]);
        require(self.keytool()?, arguments, || self.by_hand("-delete", &alias, ""))
    }
}
