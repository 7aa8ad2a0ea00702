//! Node.js has its authorities built in and reads one file more, which only its environment can name.
use super::places::Places;
use agentfs_tls::Authority;

/// What Node.js needs, where there is one: a text for people, and whether it has it already.
pub(crate) fn advice(places: &Places, authority: &Authority, undo: bool) -> Option<(bool, String)> {
    let path = authority.certificate_path();
    let set = places.node_certificates.as_deref() == Some(path);
    if undo {
        return set.then(|| (false, "unset NODE_EXTRA_CA_CERTS".to_owned()));
    }
    places.program("node")?;
    Some((set, format!("export NODE_EXTRA_CA_CERTS={}", super::tool::quoted(path))))
}
