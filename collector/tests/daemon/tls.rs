//! TLS: the local authority, certificates by name, both protocols, both ports.
use crate::harness::{App, Collector, PATIENCE, config, eventually, home};
use agentfs_tls::{self as tls, OwnPair, TlsConfig};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A collector with TLS on, its two ports, and whom to trust.
struct Secure {
    collector: Collector,
    http: u16,
    https: u16,
    roots: RootCertStore,
    info: Value,
}

impl Secure {
    async fn start(own: Option<OwnPair>) -> Self {
        let home = home();
        Self::start_in(home, TlsConfig { own }).await
    }

    async fn start_in(home: TempDir, tls: TlsConfig) -> Self {
        let mut whole = config(home.path());
        whole.tls = Some(tls);
        whole.tls_address = Some("127.0.0.1:0".parse().unwrap());
        let collector = Collector::start_with(home, whole).await;
        let info: Value = collector.client().await.result("daemon.info", Value::Null).await;
        let port = |name: &str| u16::try_from(info[name].as_u64().unwrap_or(0)).unwrap();
        let mut roots = RootCertStore::empty();
        let authority = tls::ensure_ca(&collector.paths.home).unwrap();
        roots.add(CertificateDer::from(authority.certificate_der().to_vec())).unwrap();
        Self { http: port("http_port"), https: port("https_port"), collector, roots, info }
    }

    async fn connect(
        &self,
        port: u16,
        name: &str,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        timeout(PATIENCE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
    }

    /// An application behind a route, whose URL is returned.
    async fn app(&self, name: &str) -> (App, String) {
        let socket = self.collector.home.path().join(format!("{name}.sock"));
        let app = App::bind(&socket, "over tls");
        let mut client = self.collector.client().await;
        let route = json!({"host": format!("{name}.localhost"), "target": socket.to_str().unwrap()});
        let route = client.ask("route.add", route).await.unwrap();
        (app, route["url"].as_str().unwrap().to_owned())
    }
}

async fn exchange(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, host: &str) -> String {
    let request = format!("GET /x?y HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_gets_its_certificate_and_both_protocols_on_both_ports() {
    let secure = Secure::start(None).await;
    let (_app, url) = secure.app("shop").await;
    assert_eq!(url, format!("https://shop.localhost:{}", secure.https));
    assert!(secure.info["listen_tls"][0].as_str().unwrap().ends_with(&format!(":{}", secure.https)));
    for port in [secure.http, secure.https] {
        let stream = secure.connect(port, "shop.localhost", &["http/1.1"]).await.unwrap();
        let answer = exchange(stream, "shop.localhost").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("over tls"), "{answer}");

        let stream = secure.connect(port, "shop.localhost", &["h2", "http/1.1"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let task = tokio::spawn(connection);
        let request = hyper::Request::get("https://shop.localhost/").body(Empty::<Bytes>::new()).unwrap();
        let response = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "over tls");
        drop(sender);
        task.await.unwrap().unwrap();
    }
    // No certificate for names of other hosts; the alert says that the name is the reason.
    let others = ["example.com", "localhost.example.com", "a.test", "a.local", "metadata.google.internal"];
    for (name, port) in others.into_iter().zip([secure.https, secure.http].into_iter().cycle()) {
        let error = secure.connect(port, name, &[]).await.unwrap_err().to_string();
        assert!(error.contains("UnrecognisedName"), "{name}: {error}");
    }
    // By address: the certificate of `localhost`.
    let stream = secure.connect(secure.https, "127.0.0.1", &[]).await.unwrap();
    assert!(exchange(stream, "localhost").await.starts_with("HTTP/1.1 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_on_the_port_for_tls_is_sent_on() {
    let secure = Secure::start(None).await;
    let (_app, url) = secure.app("shop").await;
    let plain = || async { TcpStream::connect(("127.0.0.1", secure.https)).await.unwrap() };
    let answer = exchange(plain().await, &format!("shop.localhost:{}", secure.https)).await;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert!(answer.contains(&format!("\r\nLocation: {url}/x?y\r\n")), "{answer}");
    assert!(exchange(plain().await, "evil.com").await.starts_with("HTTP/1.1 404 "));
    let mut stream = plain().await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https"), "{answer}");
    // The other port goes on to serve it.
    let other = TcpStream::connect(("127.0.0.1", secure.http)).await.unwrap();
    assert!(exchange(other, "shop.localhost").await.ends_with("over tls"));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_a_handshake_ends_the_connection_alone() {
    let secure = Secure::start(None).await;
    for bytes in [b"\x16\x03\x01\x00\x05hello".as_slice(), b"\x16", b"\x16\x03\x01\xff\xff"] {
        let mut stream = TcpStream::connect(("127.0.0.1", secure.http)).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        // Alert or reset: it is over.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    }
    let stream = secure.connect(secure.https, "agentfs.localhost", &[]).await.unwrap();
    assert!(exchange(stream, "agentfs.localhost").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_of_ones_own_serves_the_names_that_it_covers() {
    let home = home();
    let own = rcgen::generate_simple_self_signed(vec!["own.localhost".to_owned()]).unwrap();
    let pair = OwnPair { certificate: home.path().join("own.pem"), key: home.path().join("own.key") };
    std::fs::write(&pair.certificate, own.cert.pem()).unwrap();
    std::fs::write(&pair.key, own.signing_key.serialize_pem()).unwrap();
    tls::enable(home.path(), Some(&pair)).unwrap();
    let config = tls::enabled(home.path()).unwrap().unwrap();
    let mut secure = Secure::start_in(home, config).await;
    secure.connect(secure.https, "other.localhost", &[]).await.unwrap();
    assert!(
        secure.connect(secure.https, "own.localhost", &[]).await.is_err(),
        "it is of an unknown authority"
    );
    secure.roots = RootCertStore::empty();
    secure.roots.add(own.cert.der().clone()).unwrap();
    secure.connect(secure.https, "own.localhost", &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_said_and_http_goes_on() {
    let home = home();
    let pair = OwnPair { certificate: "/nowhere/cert.pem".into(), key: "/nowhere/key.pem".into() };
    let secure = Secure::start_in(home, TlsConfig { own: Some(pair) }).await;
    let error = secure.info["tls_error"].as_str().unwrap();
    assert!(error.contains("/nowhere/cert.pem"), "{error}");
    assert_eq!(secure.info["https_port"], Value::Null);
    assert!(secure.collector.get("nothing.localhost").await.starts_with("HTTP/1.1 404"));
    // Off unless asked for.
    let collector = Collector::start().await;
    let info: Value = collector.client().await.result("daemon.info", Value::Null).await;
    assert_eq!((&info["https_port"], &info["tls_error"]), (&Value::Null, &Value::Null));
    assert!(!collector.paths.home.join("tls").exists());
}

/// "the daemon then turns TLS on without a restart"
#[tokio::test(flavor = "multi_thread")]
async fn it_is_switched_on_and_off_while_the_collector_runs() {
    let home = home();
    let mut whole = config(home.path());
    whole.tls_address = Some("127.0.0.1:0".parse().unwrap());
    let collector = Collector::start_with(home, whole).await;
    let home = collector.paths.home.clone();
    let info = || async { collector.client().await.result::<Value>("daemon.info", Value::Null).await };
    let reload = || async { collector.client().await.ask("tls.reload", Value::Null).await };
    let http = u16::try_from(info().await["http_port"].as_u64().unwrap()).unwrap();
    // It is off: a handshake is no request.
    let mut stream = TcpStream::connect(("127.0.0.1", http)).await.unwrap();
    stream.write_all(b"\x16\x03\x01\x00\x05hello").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");

    tls::enable(&home, None).unwrap();
    let said = reload().await.unwrap();
    assert_eq!(said, info().await);
    let https = u16::try_from(said["https_port"].as_u64().unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    let authority = tls::ensure_ca(&home).unwrap();
    roots.add(CertificateDer::from(authority.certificate_der().to_vec())).unwrap();
    let secure = Secure { http, https, roots, info: said, collector };
    let (_app, url) = secure.app("shop").await;
    assert_eq!(url, format!("https://shop.localhost:{https}"));
    let stream = secure.connect(https, "shop.localhost", &[]).await.unwrap();
    assert!(exchange(stream, "shop.localhost").await.ends_with("over tls"));

    // A pair that cannot be used changes nothing, and is named.
    let enabled = home.join("tls/enabled");
    std::fs::write(&enabled, r#"{"certificate":"/nowhere/c.pem","key":"/nowhere/k.pem"}"#).unwrap();
    let error = secure.collector.client().await.ask("tls.reload", Value::Null).await.unwrap_err();
    assert_eq!(error, "conflict");
    secure.connect(https, "shop.localhost", &[]).await.unwrap();
    let info: Value = secure.collector.client().await.result("daemon.info", Value::Null).await;
    assert!(info["tls_error"].as_str().unwrap().contains("/nowhere/c.pem"), "{info}");

    tls::disable(&home).unwrap();
    let said = secure.collector.client().await.ask("tls.reload", Value::Null).await.unwrap();
    assert_eq!((&said["https_port"], &said["tls_error"]), (&Value::Null, &Value::Null));
    eventually("the end of the port", || async {
        TcpStream::connect(("127.0.0.1", https)).await.is_err().then_some(())
    })
    .await;
    let list: Value = secure.collector.client().await.result("route.list", Value::Null).await;
    assert_eq!(list["routes"][0]["url"], format!("http://shop.localhost:{http}"));
}

/// "redirect from http": of browsers' navigations, which ask for it; programs are served as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_comes_in_plain_is_sent_on() {
    let secure = Secure::start(None).await;
    let (_app, url) = secure.app("shop").await;
    let ask = |method: &'static str, host: &'static str| async move {
        let mut stream = TcpStream::connect(("127.0.0.1", secure.http)).await.unwrap();
        let request = format!(
            "{method} /x?y HTTP/1.1\r\nHost: {host}\r\nUpgrade-Insecure-Requests: 1\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    };
    let answer = ask("GET", "shop.localhost").await;
    assert!(answer.starts_with("HTTP/1.1 307 "), "{answer}");
    assert!(answer.contains(&format!("\r\nLocation: {url}/x?y\r\n")), "{answer}");
    assert!(answer.contains("\r\nVary: Upgrade-Insecure-Requests\r\n"), "{answer}");
    assert!(ask("POST", "shop.localhost").await.ends_with("over tls"));
    assert!(ask("GET", "evil.com").await.starts_with("HTTP/1.1 404 "));
    let plain = TcpStream::connect(("127.0.0.1", secure.http)).await.unwrap();
    assert!(exchange(plain, "shop.localhost").await.ends_with("over tls"));
    // Over TLS the application sees the header.
    let mut stream = secure.connect(secure.https, "shop.localhost", &[]).await.unwrap();
    let request =
        "GET / HTTP/1.1\r\nHost: shop.localhost\r\nUpgrade-Insecure-Requests: 1\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.ends_with("over tls"), "{answer}");
}
