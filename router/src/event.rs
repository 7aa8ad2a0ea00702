//! What the router tells the hub.

/// What the hub should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouterEvent {
    /// Nobody listens at this socket any more.
    UpstreamRefused {
        /// Its path.
        socket: std::path::PathBuf,
    },
    /// An answer shows what the listener at this socket speaks.
    Spoke {
        /// Its path.
        socket: std::path::PathBuf,
        /// What was seen.
        speaks: agentfs_wire::speaks::Speaks,
    },
    /// The sockets that TLS was to be spoken on cannot be used. The port for HTTP understands TLS as well.
    SecureListenersFailed {
        /// What the system said.
        reason: String,
    },
}
