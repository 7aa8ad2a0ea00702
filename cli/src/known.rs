//! Everything that the collector knows and a command may ask for at once.
use crate::client::Client;
use crate::hint::Failure;
use crate::settings::Settings;
use crate::{instance, place};
use agentfs_wire::control::{DaemonInfo, ForwardInfo, InstanceInfo, RouteInfo, Snapshot, method};
use serde::Deserialize;
use serde_json::json;

/// Instances, routes, forwards and the collector itself.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) instances: Vec<InstanceInfo>,
    pub(crate) routes: Vec<RouteInfo>,
    pub(crate) forwards: Vec<ForwardInfo>,
    /// Nothing if no collector is running.
    pub(crate) daemon: Option<DaemonInfo>,
}

/// Answer to `forward.list`.
#[derive(Debug, Deserialize)]
struct Forwards {
    /// Every forward.
    forwards: Vec<ForwardInfo>,
}

// === impl Known ===

impl Known {
    /// Asks the collector.
    ///
    /// # Errors
    /// What it answers, or that it does not answer.
    pub(crate) fn ask(client: &mut Client, settings: &Settings) -> Result<Self, Failure> {
        // In an instance, what it must not reach on the host is barred by then.
        if let Some((app, instance)) = place::own(settings) {
            instance::look_at_host(client, &app, &instance);
        }
        let Snapshot { instances, routes, .. } = client.call(method::LIST, json!({}))?;
        let Forwards { forwards } = client.call(method::FORWARD_LIST, json!({}))?;
        let daemon = client.call(method::DAEMON_INFO, json!({}))?;
        Ok(Self { instances, routes, forwards, daemon: Some(daemon) })
    }

    /// The instance that this process runs in.
    pub(crate) fn own(&self, settings: &Settings) -> Option<&InstanceInfo> {
        let (app, name) = place::own(settings)?;
        self.instances.iter().find(|info| info.app == app && info.instance == name)
    }

    /// Whether the router listens on a port.
    pub(crate) fn is_router(&self, port: u16) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| is_router(daemon, port))
    }
}

/// Whether the router listens on a port. Both of its ports take both schemes.
pub(crate) fn is_router(daemon: &DaemonInfo, port: u16) -> bool {
    port == daemon.http_port || daemon.https_port == Some(port)
}
