//! Tests of forwards, over loopback.
use super::*;
use agentfs_wire::event::{What, Who};
use agentfs_wire::paths::Paths;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener};

fn forwards(run: &std::path::Path) -> (Forwards, watch::Sender<bool>, Journal) {
    let (end_tx, end_rx) = watch::channel(false);
    let journal = Journal::new();
    let file = run.join("forwards.json");
    let bars = Bars::open(&Paths::new(run, 0));
    (Forwards::new(run.to_owned(), file, journal.clone(), end_rx, Arc::default(), bars), end_tx, journal)
}

fn params(port: Option<u16>) -> ForwardParams {
    ForwardParams {
        app: "shop".to_owned(),
        instance: "main".to_owned(),
        port,
        listen: None,
        handoff: None,
        lan: false,
    }
}

async fn echo(listener: UnixListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (mut input, mut output) = stream.split();
        let _ = tokio::io::copy(&mut input, &mut output).await;
    }
}

async fn says(address: &str) -> String {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn a_port_is_forwarded_until_its_instance_ends() {
    let run = tempfile::tempdir_in("/tmp").unwrap();
    let upstream = UnixListener::bind(run.path().join("shop-main.5432.l.sock")).unwrap();
    let _upstream = tokio::spawn(echo(upstream));
    let (forwards, _end, journal) = forwards(run.path());
    let info: ForwardInfo = serde_json::from_value(forwards.add(params(Some(5432))).unwrap()).unwrap();
    assert_eq!(says(&info.listen).await, "hello");
    let second = ForwardParams { listen: Some(info.listen.clone()), ..params(Some(5432)) };
    assert_eq!(forwards.add(second).unwrap()["existed"], true);
    assert_eq!(forwards.list().unwrap()["forwards"][0]["connections"], 1);
    journal.publish(0, What::InstanceEnded { of: Who::new("shop", "main") });
    while TcpStream::connect(&info.listen).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(forwards.list().unwrap()["forwards"], json!([]));
    assert_eq!(forwards.remove(&info.listen).unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn an_own_address_serves_every_port() {
    let run = tempfile::tempdir_in("/tmp").unwrap();
    let (forwards, _end, journal) = forwards(run.path());
    let info: ForwardInfo = serde_json::from_value(forwards.add(params(None)).unwrap()).unwrap();
    // A port that is free here, because the test's own listener on another address had it.
    let probe = TcpListener::bind((info.listen.as_str(), 0)).await.unwrap();
    let port = probe.local_addr().unwrap().port();
    drop(probe);
    let upstream = UnixListener::bind(run.path().join(format!("shop-main.{port}.sock"))).unwrap();
    let _upstream = tokio::spawn(echo(upstream));
    let of = Who::new("shop", "main");
    journal.publish(0, What::InstanceStarted { of, pid: None, command: None });
    let address = format!("{}:{port}", info.listen);
    while TcpStream::connect(&address).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(says(&address).await, "hello");
}

#[tokio::test]
async fn the_network_is_let_in_only_where_that_was_asked_for() {
    let run = tempfile::tempdir_in("/tmp").unwrap();
    let (forwards, _end, _journal) = forwards(run.path());
    for open in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0", "[::127.0.0.1]:0", "192.0.2.1:0", "[fe80::1]:0"]
    {
        let params = ForwardParams { listen: Some(open.to_owned()), ..params(Some(1)) };
        let refused = forwards.add(params).unwrap_err();
        assert_eq!(refused.code, ErrorCode::BadParams, "{open}");
        assert!(refused.message.contains(open) && refused.hint.unwrap().contains("--lan"), "{open}");
    }
    for (listen, lan, open) in [
        ("127.0.0.1:0", false, false),
        ("127.9.9.9:0", false, false),
        ("[::ffff:127.0.0.1]:0", false, false),
        ("127.0.0.1:0", true, false),
        ("0.0.0.0:0", true, true),
    ] {
        let params = ForwardParams { listen: Some(listen.to_owned()), lan, ..params(Some(1)) };
        let info: ForwardInfo = serde_json::from_value(forwards.add(params).unwrap()).unwrap();
        assert_eq!(info.lan, open, "{listen}");
    }
}

#[tokio::test]
async fn bad_addresses_are_named() {
    let run = tempfile::tempdir_in("/tmp").unwrap();
    let (forwards, _end, _journal) = forwards(run.path());
    let bad = ForwardParams { listen: Some("nowhere".to_owned()), ..params(Some(1)) };
    let error = forwards.add(bad).unwrap_err();
    assert!(error.message.contains("nowhere") && error.hint.is_some());
    let bad = ForwardParams { app: "No Label".to_owned(), ..params(Some(1)) };
    assert_eq!(forwards.add(bad).unwrap_err().code, ErrorCode::BadParams);
}

/// The next collector has what the last one had, except for instances that ended or began anew.
#[tokio::test]
async fn forwards_are_opened_again() {
    let run = tempfile::tempdir_in("/tmp").unwrap();
    let companion = |started_ms: u64| {
        let text = format!(
            r#"{{"app":"shop","instance":"main","directory":"/","checkout":null,"fork":false,"branch":null,
            "command":[],"wrap_pid":7,"child_pid":7,"started_ms":{started_ms},"version":"0.1.0"}}"#
        );
        std::fs::write(run.path().join("shop-main.json"), text).unwrap();
    };
    companion(5);
    let upstream = UnixListener::bind(run.path().join("shop-main.5432.l.sock")).unwrap();
    let _upstream = tokio::spawn(echo(upstream));
    let listen = {
        let (forwards, end_tx, _journal) = forwards(run.path());
        let info: ForwardInfo = serde_json::from_value(forwards.add(params(Some(5432))).unwrap()).unwrap();
        end_tx.send(true).unwrap();
        while TcpStream::connect(&info.listen).await.is_ok() {
            tokio::task::yield_now().await;
        }
        // Its end is not the instance's.
        assert_eq!(forwards.list().unwrap()["forwards"].as_array().unwrap().len(), 1);
        info.listen
    };
    {
        let (forwards, _end, _journal) = forwards(run.path());
        assert_eq!(forwards.restore(), [""; 0]);
        assert_eq!(says(&listen).await, "hello");
        let squatter = self::forwards(run.path());
        let troubles = squatter.0.restore();
        assert!(troubles[0].contains(&listen) && troubles[0].contains("shop/main"), "{troubles:?}");
        // What could not be opened is forgotten; this one still has it.
        assert!(forwards.add(params(Some(5432))).unwrap()["existed"] == true);
        forwards.save(&forwards.lock());
        forwards.keep_only(|app, instance| (app, instance) == ("shop", "main"));
        assert_eq!(forwards.list().unwrap()["forwards"][0]["listen"], listen);
    }
    companion(6);
    let (forwards, _end, _journal) = forwards(run.path());
    assert_eq!((forwards.restore(), forwards.list().unwrap()["forwards"].clone()), (Vec::new(), json!([])));
}

#[tokio::test]
async fn forwards_of_unknown_instances_end() {
    let run = tempfile::tempdir_in("/tmp").unwrap();
    let (forwards, _end, _journal) = forwards(run.path());
    let info: ForwardInfo = serde_json::from_value(forwards.add(params(Some(5432))).unwrap()).unwrap();
    forwards.keep_only(|_, _| false);
    while TcpStream::connect(&info.listen).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(agentfs_home::forwards::load(&run.path().join("forwards.json")).0, []);
}
