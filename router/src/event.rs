//! What the router tells the hub.

/// What the hub should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouterEvent {
    /// Nobody listens at this socket any more.
    UpstreamRefused {
        /// Its path.
        socket: std::path::PathBuf,
    },
    /// The sockets that TLS was to be spoken on cannot be used. The port for HTTP understands TLS as well.
    SecureListenersFailed {
        /// What the system said.
        reason: String,
    },
}
