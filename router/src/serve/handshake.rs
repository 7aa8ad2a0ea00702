//! The TLS handshake of one connection. The certificate resolver in the configuration decides which names are served.
//! A client that asks for another name gets an alert that says so.
use rustls::ServerConfig;
use rustls::server::Acceptor;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// The fatal alert `unrecognized_name` as a TLS record (RFC 8446 6.2, RFC 6066 3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Starts TLS on `stream`.
///
/// # Errors
/// The client leaves, breaks the protocol or asks for a name that is not served. It already got the alert.
pub(crate) async fn accept<S>(config: &Arc<ServerConfig>, stream: S) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    // rustls would answer `access_denied`, which does not say that the name is the reason.
    if config.cert_resolver.resolve(start.client_hello()).is_none() {
        start.io.write_all(&UNRECOGNIZED_NAME).await?;
        start.io.shutdown().await?;
        return Err(io::Error::other("the client asked for a name that is not served"));
    }
    start.into_stream(Arc::clone(config)).await
}
