//! Trust stores: where programs look for the certificates that they trust.
//!
//! Owns how each kind of store is found, read and changed, with the store's own tool. Never creates the local
//! CA and never decides whether TLS is on: `commands/trust.rs` does. One file per kind of store; each has a
//! `find` that uses only [`Places`], so that a test can use its own folders.
mod java;
mod keychain;
mod node;
mod nss;
mod places;
mod store;
mod system;
mod tool;

pub(crate) use node::advice as node;
pub(crate) use places::Places;
pub(crate) use store::{Store, Trouble};

/// Every store that can be found.
pub(crate) fn find(places: &Places) -> Vec<Box<dyn Store>> {
    let mut stores: Vec<Box<dyn Store>> = Vec::new();
    if let Some(system) = system::find(places) {
        stores.push(Box::new(system));
    }
    if let Some(keychain) = keychain::find(places) {
        stores.push(Box::new(keychain));
    }
    for database in nss::find(places) {
        stores.push(Box::new(database));
    }
    for keystore in java::find(places) {
        stores.push(Box::new(keystore));
    }
    stores
}
