//! Node.js has its CAs built in. It reads one more file, which only an environment variable can name.
use super::places::Places;
use agentfs_tls::Authority;

/// What Node.js needs, if it is installed: whether it is set already, and a text for people.
pub(crate) fn advice(places: &Places, authority: &Authority, undo: bool) -> Option<(bool, String)> {
    let path = authority.certificate_path();
    let set = places.node_certificates.as_deref() == Some(path);
    if undo {
        return set.then(|| (false, "unset NODE_EXTRA_CA_CERTS".to_owned()));
    }
    places.program("node")?;
    Some((set, format!("export NODE_EXTRA_CA_CERTS={}", super::tool::quoted(path))))
}
