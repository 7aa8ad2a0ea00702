//! Turns TLS on or off, or loads it again, while the collector runs.
use super::drive::Hub;
use super::former::{self, Former};
use super::{listen, secure};
use crate::answer::{Answer, error};
use agentfs_router::SecureListeners;
use agentfs_wire::control::ErrorCode;

// === impl Hub ===

impl Hub {
    /// Reads the TLS settings of the home again: turns TLS on or off, or takes other certificates. If that fails,
    /// nothing changes.
    pub(super) fn reload_tls(&mut self) -> Answer {
        let kept = self.naming.urls.https_port;
        if let Some(cause) = &self.switch.info_tx.borrow().router_error {
            return Err(error(ErrorCode::Conflict, format!("the router does not listen: {cause}"), None));
        }
        let (home, former) = (&self.files.paths.home, Former::load(&self.files.paths));
        let opened = secure::open(home, self.switch.config.as_ref(), self.switch.address, kept, former.https);
        let secured = opened.map_err(|cause| {
            self.switch.info_tx.send_modify(|info| info.tls_error = Some(cause.clone()));
            let state = if kept.is_some() { "TLS is unchanged" } else { "TLS stays off" };
            self.warn(&format!("{state}: {cause}"));
            error(ErrorCode::Conflict, cause, Some(state))
        })?;
        let (port, addresses) = (secured.port, listen::addresses(&secured.listeners));
        let https = (kept.is_none() || port.is_none()).then_some(secured.listeners);
        let replaced = https.is_some();
        self.switch.listeners_tx.try_send(SecureListeners { https, tls: secured.config }).map_err(|_| {
            let hint = Some("run `agentfs daemon stop`; the next command starts the collector again");
            error(ErrorCode::Internal, "the router does not accept changes", hint)
        })?;
        if let Some(note) = secured.note {
            self.warn(&note);
        }
        self.naming.urls.https_port = port;
        if former::is_any(self.switch.address) && port.is_some() {
            Former { https: port, ..former }.store(&self.files.paths);
        }
        self.switch.info_tx.send_modify(|info| {
            info.https_port = port;
            info.tls_error = None;
            if replaced {
                info.listen_tls = addresses;
            }
        });
        self.naming.put();
        crate::log::info!("{}", port.map_or("TLS is off".to_owned(), |port| format!("TLS on port {port}")));
        let info = self.switch.info_tx.borrow();
        serde_json::to_value(&*info).map_err(|cause| error(ErrorCode::Internal, cause.to_string(), None))
    }
}
