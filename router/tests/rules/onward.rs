//! "h2c and gRPC upstream": applications that speak HTTP/2, behind clients that do.
use super::harness::{App, Bench, soon};
use super::http2::{Sent, Streamed, connect, data, full, get, send, streamed, text};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::future::Future;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

type Answer = Response<Sent>;

/// Serves one connection in HTTP/2 until it ends.
async fn serve<F>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answer: impl Fn(Request<Incoming>) -> F,
) where
    F: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // How it ends is the test's business.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

/// Serves all connections; how many there were is told.
fn run<F>(
    app: App,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
) -> mpsc::Receiver<()>
where
    F: Future<Output = Answer> + Send + 'static,
{
    let (count_tx, count_rx) = mpsc::channel(64);
    tokio::spawn(async move {
        loop {
            let stream = app.accept().await.stream;
            let _ = count_tx.try_send(());
            let answer = answer.clone();
            tokio::spawn(serve(stream, answer));
        }
    });
    count_rx
}

fn grpc(path: &str, body: Sent) -> Request<Sent> {
    let request = Request::post(format!("http://app.localhost{path}"));
    request.header("content-type", "application/grpc").header("te", "trailers").body(body).unwrap()
}

fn status(value: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", value.parse().unwrap());
    trailers
}

/// Sends back what comes, then trailers.
async fn echo(request: Request<Incoming>) -> Answer {
    let told = format!("{} {:?} {}", request.method(), request.version(), request.uri());
    let header = |name: &str| request.headers().get(name).map_or("-", |value| value.to_str().unwrap());
    let named = ["te", "content-type", "x-forwarded-for", "x-forwarded-host", "connection"].map(header);
    let told = format!("{told} {}", named.join(" "));
    let (frame_tx, body) = streamed();
    let mut incoming = request.into_body();
    tokio::spawn(async move {
        let mut trailed = "none".to_owned();
        while let Some(Ok(frame)) = incoming.frame().await {
            match frame.into_data() {
                Ok(bytes) => frame_tx.send(Frame::data(bytes)).unwrap(),
                Err(frame) => trailed = format!("{:?}", frame.into_trailers().unwrap()["x-sum"]),
            }
        }
        let mut trailers = status("0");
        trailers.insert("x-got", trailed.parse().unwrap());
        let _ = frame_tx.send(Frame::trailers(trailers));
    });
    Response::builder().header("x-told", told).header("keep-alive", "x").body(body).unwrap()
}

#[tokio::test]
async fn a_grpc_call_streams_both_ways_with_trailers() {
    let (bench, app) = Bench::with_app().await;
    let mut connections = run(app, echo);
    let mut client = connect(&bench).await;
    for call in 0..3 {
        let (frame_tx, body) = streamed();
        let response = send(&mut client, grpc(&format!("/shop.Cart/Add?{call}"), body)).await;
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()["x-told"],
            format!(
                "POST HTTP/2.0 http://app.localhost/shop.Cart/Add?{call} trailers application/grpc 127.0.0.1 \
                 app.localhost -"
            )
        );
        assert!(!response.headers().contains_key("keep-alive"));
        let mut body = response.into_body();
        for word in ["one", "two"] {
            frame_tx.send(data(word)).unwrap();
            let frame = soon("frame", body.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "2".parse().unwrap());
        frame_tx.send(Frame::trailers(trailers)).unwrap();
        drop(frame_tx);
        let last = soon("trailers", body.frame()).await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(
            (&last["grpc-status"], &last["x-got"]),
            (&"0".parse().unwrap(), &"\"2\"".parse().unwrap())
        );
        assert!(soon("end", body.frame()).await.is_none());
    }
    // All of it over one connection.
    assert!(connections.try_recv().is_ok() && connections.try_recv().is_err());
    assert_eq!(bench.metrics.connects.get(), 1);
}

#[tokio::test]
async fn an_answer_of_a_head_alone_ends_with_it() {
    let (bench, app) = Bench::with_app().await;
    let _connections = run(app, |_| async {
        let mut response = Response::new(full(""));
        response.headers_mut().extend(status("12"));
        response
    });
    let mut client = connect(&bench).await;
    let response = send(&mut client, grpc("/x", full("call"))).await;
    assert_eq!(response.headers()["grpc-status"], "12");
    assert!(hyper::body::Body::is_end_stream(response.body()));
}

#[tokio::test]
async fn many_calls_at_once_share_few_connections() {
    let (bench, app) = Bench::with_app().await;
    let mut connections = run(app, echo);
    let client = connect(&bench).await;
    let calls: Vec<_> = (0..250)
        .map(|call: usize| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let response = send(&mut client, grpc("/x", full(&call.to_string()))).await;
                let body = soon("body", response.into_body().collect()).await.unwrap();
                assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
                assert_eq!(body.to_bytes(), call.to_string());
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    let mut count = 0;
    while connections.try_recv().is_ok() {
        count += 1;
    }
    assert!((1..=64).contains(&count), "{count}");
}

#[tokio::test]
async fn a_call_that_the_client_gives_up_ends_at_the_application() {
    let (bench, app) = Bench::with_app().await;
    let (gone_tx, mut gone_rx) = mpsc::channel(1);
    let _connections = run(app, move |_| {
        let gone_tx = gone_tx.clone();
        async move {
            let (frame_tx, body) = mpsc::unbounded_channel();
            frame_tx.send(data("first")).unwrap();
            tokio::spawn(async move {
                frame_tx.closed().await;
                let _ = gone_tx.send(()).await;
            });
            Response::new(Streamed(body).boxed())
        }
    });
    let mut client = connect(&bench).await;
    let response = send(&mut client, grpc("/stays", full(""))).await;
    let mut body = response.into_body();
    assert!(soon("frame", body.frame()).await.unwrap().is_ok());
    drop(body);
    soon("the end of the call", gone_rx.recv()).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_the_application_ended_is_never_noticed() {
    let (bench, app) = Bench::with_app().await;
    let mut client = connect(&bench).await;
    for round in ["one", "two", "three"] {
        let server = async {
            let stream = app.accept().await.stream;
            let (done_tx, mut done_rx) = mpsc::channel::<()>(1);
            let answer = move |()| {
                let done_tx = done_tx.clone();
                async move {
                    let _ = done_tx.try_send(());
                    Response::new(full(round))
                }
            };
            let service = service_fn(move |_: Request<Incoming>| {
                let answer = answer(());
                async { Ok::<_, Infallible>(answer.await) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                _ = connection.as_mut() => {}
                _ = done_rx.recv() => {
                    // What has begun is answered.
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        };
        let (response, ()) = tokio::join!(send(&mut client, grpc("/x", full("call"))), server);
        assert_eq!(text(response).await, round);
    }
}

#[tokio::test]
async fn an_application_that_speaks_http1_alone_is_said_to() {
    let (bench, app) = Bench::with_app().await;
    let mut client = connect(&bench).await;
    for answer in ["HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", ""] {
        let serve = async {
            let mut conn = app.accept().await;
            conn.until("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
            conn.send(answer).await;
        };
        let (response, ()) = tokio::join!(send(&mut client, grpc("/x", full("call"))), serve);
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY, "{answer}");
    }
    // Anything else goes to it as before.
    let serve = async {
        let mut conn = app.accept().await;
        assert!(conn.head().await.starts_with("GET / HTTP/1.1\r\n"));
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    };
    let (response, ()) = tokio::join!(send(&mut client, get("/")), serve);
    assert_eq!(text(response).await, "ok");
}

/// Who answers HTTP/1 in HTTP/2 is asked again in HTTP/2, and from then on at once.
#[tokio::test]
async fn a_listener_that_speaks_http2_alone_is_found_out() {
    let (bench, app) = Bench::with_app().await;
    let mut client = connect(&bench).await;
    let server = async {
        let mut conn = app.accept().await;
        assert!(conn.head().await.starts_with("GET /first HTTP/1.1\r\n"));
        // Settings, and good-bye with PROTOCOL_ERROR.
        conn.send(b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01").await;
        drop(conn);
        app.accept().await.stream
    };
    let answer = |request: Request<Incoming>| async move {
        let path = request.uri().path().to_owned();
        let sent = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(&format!("{path} {}", String::from_utf8_lossy(&sent))))
    };
    let first = {
        let mut client = client.clone();
        tokio::spawn(async move { text(send(&mut client, get("/first")).await).await })
    };
    let stream = server.await;
    let server = tokio::spawn(serve(stream, answer));
    assert_eq!(soon("answer", first).await.unwrap(), "/first ");
    let post = Request::post("http://app.localhost/second").body(full("sent")).unwrap();
    assert_eq!(text(send(&mut client, post).await).await, "/second sent");
    assert_eq!(bench.metrics.connects.get(), 2);
    server.abort();
}

/// A browser without TLS speaks HTTP/1, and `http2.createServer()` in Node.js speaks HTTP/2.
#[tokio::test]
async fn a_client_of_http1_reaches_it_too() {
    let (bench, app) = Bench::with_app().await;
    let mut client = bench.client().await;
    client.send("GET /first HTTP/1.1\r\nHost: app.localhost\r\n\r\n").await;
    let mut conn = app.accept().await;
    assert!(conn.head().await.starts_with("GET /first HTTP/1.1\r\n"));
    conn.send(b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01").await;
    drop(conn);
    let stream = app.accept().await.stream;
    let answer = |request: Request<Incoming>| async move {
        let (parts, body) = request.into_parts();
        let sent = body.collect().await.unwrap().to_bytes();
        let told =
            format!("{} {} {}", parts.method, parts.uri, parts.headers["x-forwarded-host"].to_str().unwrap());
        let length = format!("{told} {}", String::from_utf8_lossy(&sent));
        Response::builder().header("content-length", length.len()).body(full(&length)).unwrap()
    };
    let server = tokio::spawn(serve(stream, answer));
    let message = client.message().await;
    assert_eq!(
        (message.status(), message.text().as_str()),
        (200, "GET http://app.localhost/first app.localhost ")
    );
    let chunks = "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n";
    client.send(format!("POST /a?b HTTP/1.1\r\nHost: app.localhost\r\n{chunks}")).await;
    assert_eq!(client.message().await.text(), "POST http://app.localhost/a?b app.localhost onetwo");
    client.send("HEAD / HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\n\r\n").await;
    let head = String::from_utf8(client.rest().await).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    // Another program takes its place, one of HTTP/1: it costs one answer.
    server.abort();
    assert!(soon("end", server).await.is_err());
    let get = "GET / HTTP/1.1\r\nHost: app.localhost\r\nConnection: close\r\n\r\n";
    let old = async {
        let mut conn = app.accept().await;
        conn.until("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        conn.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    };
    let (status, ()) = tokio::join!(bench.status(get), old);
    assert_eq!(status, 502);
    let new = async {
        let mut conn = app.accept().await;
        conn.head().await;
        conn.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    };
    let (status, ()) = tokio::join!(bench.status(get), new);
    assert_eq!(status, 204);
}

/// Its own 100 cannot come through, so the client hears one from here.
#[tokio::test]
async fn a_client_that_waits_for_100_goes_on() {
    let (bench, app) = Bench::with_app().await;
    let _count = run(app, echo);
    let stream = tokio::net::TcpStream::connect(bench.address).await.unwrap();
    let (mut client, connection) = soon("handshake", h2::client::handshake(stream)).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let request = grpc("/call", full("")).map(|_| ());
    let (mut parts, ()) = request.into_parts();
    parts.headers.insert("expect", "100-continue".parse().unwrap());
    let (mut answer, mut body) = client.send_request(Request::from_parts(parts, ()), false).unwrap();
    let hint = std::future::poll_fn(|context| answer.poll_informational(context));
    assert_eq!(soon("hint", hint).await.unwrap().unwrap().status(), 100);
    body.send_data("x".into(), true).unwrap();
    assert_eq!(soon("answer", answer).await.unwrap().status(), 200);
}
