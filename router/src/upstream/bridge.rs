//! An application that speaks HTTP/2 alone, behind a client that speaks HTTP/1: a connection in memory,
//! whose other end is served by hyper and passes each request on in HTTP/2. The exchange sees an
//! application like any other.
use crate::limits::{BODY_BUFFER_BYTES, HEADER_LINES, RESPONSE_HEAD_BYTES};
use crate::message::headers::{self, Kind};
use crate::upstream::multiplex::{Driver, Multiplex, Sending};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::header::{HOST, HeaderMap, HeaderName};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::task::JoinSet;

/// Our end of such a connection, for one exchange.
#[derive(Debug)]
pub(crate) struct Bridge {
    stream: DuplexStream,
    /// Serves the other end; ends with us.
    _server: JoinSet<()>,
}

// === impl Bridge ===

impl Bridge {
    /// A connection over one of `multiplex`, which is used while `driver` is held.
    pub(crate) fn new(sender: SendRequest<Sending>, driver: Arc<Driver>, multiplex: &Arc<Multiplex>) -> Self {
        let (stream, other) = duplex(BODY_BUFFER_BYTES);
        let multiplex = Arc::clone(multiplex);
        let service = service_fn(move |request| {
            let (sender, multiplex) = (sender.clone(), Arc::clone(&multiplex));
            async move {
                let passed = pass(sender, request).await;
                // It may be another program by now.
                passed.inspect_err(|_| multiplex.set_only(false))
            }
        });
        let mut builder = Builder::new();
        builder.keep_alive(false).auto_date_header(false).half_close(true);
        builder.max_headers(HEADER_LINES).max_buf_size(RESPONSE_HEAD_BYTES);
        let connection = builder.serve_connection(TokioIo::new(other), service);
        let mut server = JoinSet::new();
        server.spawn(async move {
            // Without an answer the exchange finds the connection closed.
            let _ = connection.await;
            drop(driver);
        });
        Self { stream, _server: server }
    }
}

async fn pass(
    mut sender: SendRequest<Sending>,
    request: Request<Incoming>,
) -> Result<Response<Incoming>, hyper::Error> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.headers.remove(HOST);
    remove_hops(&mut parts.headers);
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let uri = Uri::builder().scheme("http").path_and_query(target);
    let authority = authority.as_ref().map_or(&b""[..], |host| host.as_bytes());
    // Where the name is none, the application is asked without one.
    if let Ok(uri) = uri.authority(authority).build() {
        parts.uri = uri;
    }
    let response = sender.send_request(Request::from_parts(parts, Sending::Http1(body))).await?;
    let (mut parts, body) = response.into_parts();
    remove_hops(&mut parts.headers);
    parts.version = hyper::Version::HTTP_11;
    Ok(Response::from_parts(parts, body))
}

/// Takes out what is for one connection only, and has no place in HTTP/2 (RFC 9113 8.2.2).
pub(crate) fn remove_hops(headers: &mut HeaderMap) {
    let is_hop = |name: &HeaderName| {
        let kind = headers::kind(name.as_str());
        matches!(kind, Kind::Connection | Kind::HopByHop | Kind::TransferEncoding | Kind::Upgrade)
    };
    let hops: Vec<HeaderName> = headers.keys().filter(|name| is_hop(name)).cloned().collect();
    for name in hops {
        headers.remove(name);
    }
}

impl AsyncRead for Bridge {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, room)
    }
}

impl AsyncWrite for Bridge {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
