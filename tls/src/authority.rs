//! The local certificate authority (CA): one key and certificate per home, made once.
//!
//! Its certificate can sign only for `localhost` names and loopback addresses (RFC 5280 4.2.1.10), and only for
//! servers. So a thief of the key cannot pretend to be another site to a browser that trusts the CA.
use super::{TlsError, folder};
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData as _, SanType,
};
use rustls::pki_types::CertificateDer;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The only top-level name that always leads to this machine (RFC 6761 6.3). Every route is below it.
const DOMAIN: &str = "localhost";

/// Other top-level names that the CA of an earlier version can sign for.
const EARLIER_DOMAINS: [&str; 3] = ["test", "local", "internal"];

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the CA is valid. A new one must be installed again.
const AUTHORITY_LIFE: Duration = Duration::from_secs(10 * 365 * DAY.as_secs());

/// How long a certificate is valid; well below the 398 days that browsers allow.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(90 * DAY.as_secs());

/// The CA of one home.
#[derive(Debug)]
pub struct Authority {
    /// First bytes of its key's hash, in hexadecimal.
    id: String,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    path: PathBuf,
}

/// The CA of `home`: the existing one, or else a new one.
///
/// # Errors
/// [`TlsError`] if its files cannot be read or written, or if their content is wrong.
pub fn ensure_ca(home: &Path) -> Result<Authority, TlsError> {
    locked(
        home,
        |path, key_path| if path.exists() && key_path.exists() { Ok(()) } else { make(path, key_path) },
    )
}

/// Replaces a CA that can sign for more than it should ([`Authority::is_too_wide`]) with a new one. The old key is
/// removed, so that nobody can steal it.
///
/// # Errors
/// As for [`ensure_ca`].
pub fn renew_ca(home: &Path) -> Result<Authority, TlsError> {
    locked(home, |path, key_path| {
        let renewed = load(path.to_owned(), key_path).is_ok_and(|authority| !authority.is_too_wide());
        if renewed {
            return Ok(());
        }
        // Remove the old key first, so that a certificate is never beside the key of another one.
        match fs::remove_file(key_path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(TlsError::file("remove", key_path, source));
            }
            _ => {}
        }
        make(path, key_path)
    })
}

/// The CA of `home`, after `prepared` has made sure of its two files. One process at a time.
fn locked(
    home: &Path,
    prepared: impl FnOnce(&Path, &Path) -> Result<(), TlsError>,
) -> Result<Authority, TlsError> {
    let folder = folder(home);
    prepare(&folder)?;
    // The collector and `agentfs trust` may both come first: one makes it, the other waits.
    let lock_path = folder.join("lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
    let lock = lock.map_err(|source| TlsError::file("open", &lock_path, source))?;
    lock.lock().map_err(|source| TlsError::file("lock", &lock_path, source))?;
    let (path, key_path) = (folder.join("ca.pem"), folder.join("ca.key.pem"));
    prepared(&path, &key_path)?;
    load(path, &key_path)
}

/// The CA of `home`, if there is one.
///
/// # Errors
/// As for [`ensure_ca`].
pub fn find_ca(home: &Path) -> Result<Option<Authority>, TlsError> {
    let folder = folder(home);
    let there = ["ca.pem", "ca.key.pem"].iter().all(|name| folder.join(name).exists());
    if there { ensure_ca(home).map(Some) } else { Ok(None) }
}

/// Makes the folder for our eyes only; refuses one that somebody else could change.
pub(super) fn prepare(folder: &Path) -> Result<(), TlsError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(TlsError::file("create", folder, source)),
    }
    let there = fs::symlink_metadata(folder).map_err(|source| TlsError::file("read", folder, source))?;
    let ours = there.is_dir() && there.uid() == nix::unistd::geteuid().as_raw() && there.mode() & 0o077 == 0;
    if ours {
        return Ok(());
    }
    let why = "it must be your own folder that nobody else may enter; run `chmod 700` on it";
    Err(TlsError::file("use", folder, io::Error::other(why)))
}

fn make(path: &Path, key_path: &Path) -> Result<(), TlsError> {
    let key = KeyPair::generate()?;
    let certificate = params(&key).self_signed(&key)?;
    // The key last: whoever finds both finds a pair.
    write_private(path, certificate.pem().as_bytes())?;
    write_private(key_path, key.serialize_pem().as_bytes())
}

fn load(path: PathBuf, key_path: &Path) -> Result<Authority, TlsError> {
    use rustls::pki_types::pem::PemObject as _;
    let hint = "remove both files of the local CA and run `agentfs trust` again";
    let text = fs::read_to_string(key_path).map_err(|source| TlsError::file("read", key_path, source))?;
    let key = KeyPair::from_pem(&text).map_err(|_| TlsError::Content {
        path: key_path.to_owned(),
        what: "valid key",
        hint,
    })?;
    let text = fs::read(&path).map_err(|source| TlsError::file("read", &path, source))?;
    let certificate = CertificateDer::from_pem_slice(&text).map_err(|_| TlsError::Content {
        path: path.clone(),
        what: "valid certificate",
        hint,
    })?;
    // A certificate holds its key as it is.
    let public = key.subject_public_key_info();
    if !certificate.windows(public.len()).any(|window| window == public) {
        return Err(TlsError::Mismatch { certificate: path, key: key_path.to_owned() });
    }
    Ok(Authority { id: id(&key), issuer: Issuer::new(params(&key), key), certificate, path })
}

/// What the certificate of the authority with this key says, apart from its dates: always the same.
fn params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let id = id(key);
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "agentfs");
    // Two authorities with one name would be taken for each other.
    name.push(DnType::CommonName, format!("agentfs local authority {id}"));
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let loopback = [CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8), localhost_v6()];
    let domain = std::iter::once(GeneralSubtree::DnsName(DOMAIN.to_owned()));
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: domain.chain(loopback.map(GeneralSubtree::IpAddress)).collect(),
        excluded_subtrees: Vec::new(),
    });
    valid(&mut params, AUTHORITY_LIFE);
    params
}

fn id(key: &KeyPair) -> String {
    let identifier = CertificateParams::default().key_identifier(key);
    identifier.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

fn localhost_v6() -> CidrSubnet {
    CidrSubnet::from_v6_prefix(Ipv6Addr::LOCALHOST.octets(), 128)
}

/// From yesterday, for clocks that are late.
fn valid(params: &mut CertificateParams, life: Duration) {
    let today = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_millis(crate::clock::now_ms());
    params.not_before = today - DAY;
    params.not_after = today + life;
}

/// Writes a file of ours whole or not at all.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), TlsError> {
    let fresh = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file: File =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(|source| TlsError::file("write", path, source))
}

// === impl Authority ===

impl Authority {
    /// File of the certificate, in PEM: what a trust store takes.
    pub fn certificate_path(&self) -> &Path {
        &self.path
    }

    /// What tells it from the authorities of other homes: eight hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its name, as in the certificate.
    pub fn name(&self) -> String {
        format!("agentfs local authority {}", self.id)
    }

    /// The certificate in DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// Whether it signs for `name` (lower case).
    pub(super) fn signs_for(name: &str) -> bool {
        name.strip_suffix(DOMAIN).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// Whether its certificate, made by an earlier version, can sign for more than `localhost` names. We do not sign
    /// for other names, but a thief of the key could.
    pub fn is_too_wide(&self) -> bool {
        // RFC 5280 4.2.1.10: GeneralSubtree ::= SEQUENCE { [2] IA5String }.
        let permits = |domain: &str| {
            let length = u8::try_from(domain.len()).unwrap_or(u8::MAX);
            let subtree = [&[0x30, length.saturating_add(2), 0x82, length], domain.as_bytes()].concat();
            self.certificate.windows(subtree.len()).any(|window| window == subtree)
        };
        EARLIER_DOMAINS.into_iter().any(permits)
    }

    /// A certificate for `name` with `key`; for `localhost` also for both loopback addresses.
    pub(super) fn sign(&self, name: &str, key: &KeyPair) -> Result<CertificateDer<'static>, TlsError> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        if name == "localhost" {
            let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            params.subject_alt_names.extend(addresses.map(SanType::IpAddress));
        }
        // The names say it all; a long one would not fit into a common name.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "agentfs");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, CERTIFICATE_LIFE);
        Ok(params.signed_by(key, &self.issuer)?.der().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_and_for_us_alone() {
        let home = tempfile::tempdir().unwrap();
        let first = ensure_ca(home.path()).unwrap();
        let second = ensure_ca(home.path()).unwrap();
        assert_eq!(first.certificate_der(), second.certificate_der());
        assert_eq!(first.id().len(), 8);
        assert_eq!(find_ca(home.path()).unwrap().unwrap().name(), first.name());
        assert!(find_ca(&home.path().join("tls")).unwrap().is_none());
        let mode = |name: &str| fs::metadata(home.path().join(name)).unwrap().mode() & 0o777;
        assert_eq!((mode("tls"), mode("tls/ca.key.pem")), (0o700, 0o600));
    }

    #[test]
    fn it_signs_for_localhost_names_only() {
        for name in ["localhost", "a.localhost", "a.b.localhost"] {
            assert!(Authority::signs_for(name), "{name}");
        }
        for name in
            ["", "notlocalhost", "localhost.example.com", "a.test", "a.local", "metadata.google.internal"]
        {
            assert!(!Authority::signs_for(name), "{name}");
        }
    }

    #[test]
    fn one_that_may_sign_for_more_is_replaced_with_its_key() {
        let home = tempfile::tempdir().unwrap();
        let made = ensure_ca(home.path()).unwrap();
        assert!(!made.is_too_wide());
        assert_eq!(renew_ca(home.path()).unwrap().certificate_der(), made.certificate_der());
        let folder = home.path().join("tls");
        let key = fs::read_to_string(folder.join("ca.key.pem")).unwrap();
        let mut earlier = params(&KeyPair::from_pem(&key).unwrap());
        let constraints = earlier.name_constraints.as_mut().unwrap();
        let domains = EARLIER_DOMAINS.map(|domain| GeneralSubtree::DnsName(domain.to_owned()));
        constraints.permitted_subtrees.extend(domains);
        let earlier = earlier.self_signed(&KeyPair::from_pem(&key).unwrap()).unwrap();
        fs::write(folder.join("ca.pem"), earlier.pem()).unwrap();
        assert!(ensure_ca(home.path()).unwrap().is_too_wide(), "the collector still uses it");
        let renewed = renew_ca(home.path()).unwrap();
        assert!(!renewed.is_too_wide() && renewed.id() != made.id());
        assert_ne!(fs::read_to_string(folder.join("ca.key.pem")).unwrap(), key);
        assert_eq!(ensure_ca(home.path()).unwrap().certificate_der(), renewed.certificate_der());
    }

    #[test]
    fn broken_files_are_named() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("tls");
        ensure_ca(home.path()).unwrap();
        let key = fs::read(folder.join("ca.key.pem")).unwrap();
        fs::write(folder.join("ca.key.pem"), "garbage").unwrap();
        let error = ensure_ca(home.path()).unwrap_err().to_string();
        assert!(error.contains("ca.key.pem does not contain a valid key"), "{error}");
        fs::remove_file(folder.join("ca.pem")).unwrap();
        ensure_ca(home.path()).unwrap();
        fs::write(folder.join("ca.key.pem"), key).unwrap();
        let error = ensure_ca(home.path()).unwrap_err().to_string();
        assert!(error.contains("does not belong to the certificate"), "{error}");
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let error = ensure_ca(home.path()).unwrap_err().to_string();
        assert!(error.contains("chmod 700"), "{error}");
    }
}
