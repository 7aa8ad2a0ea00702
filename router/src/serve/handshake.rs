//! The TLS handshake of one connection. Which names are served is decided by the certificate resolver in the
//! configuration; a client that asks for another name is told so.
use rustls::ServerConfig;
use rustls::server::Acceptor;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// A fatal alert `unrecognized_name`, as a record of its own (RFC 8446 6.2, RFC 6066 3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Takes up TLS on `stream`.
///
/// # Errors
/// Where the client goes away, breaks the protocol or asks for a name that is not served. It was told.
pub(crate) async fn accept<S>(config: &Arc<ServerConfig>, stream: S) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    // rustls would answer `access_denied`, which says nothing about the name.
    if config.cert_resolver.resolve(start.client_hello()).is_none() {
        start.io.write_all(&UNRECOGNIZED_NAME).await?;
        start.io.shutdown().await?;
        return Err(io::Error::other("the client asked for a name that is not served"));
    }
    start.into_stream(Arc::clone(config)).await
}
