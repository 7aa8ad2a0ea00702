//! "Names under `localhost` are this machine, also to programs that ask the system": the collector answers for them, and
//! `agentfs names install` tells macOS so. Here the system is a folder, and sudo a script.
use agentfs_tests::{Home, Run};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// The answer to a question, A (1) or AAAA (28): its code, and the address at its end.
fn ask(server: &str, name: &str, kind: u8) -> (u8, Vec<u8>) {
    let mut question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, kind, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // What is not a question does no harm.
    for message in [b"".as_slice(), b"GET / HTTP/1.1\r\n\r\n", &[0xff; 1400]] {
        socket.send_to(message, server).unwrap();
    }
    socket.send_to(&question, server).unwrap();
    let mut reply = [0; 600];
    loop {
        let length = socket.recv(&mut reply).unwrap();
        if reply[..2] == question[..2] {
            return (reply[3] & 0x0f, reply[question.len().min(length)..length].to_vec());
        }
    }
}

#[test]
fn the_collector_answers_for_names() {
    let home = Home::new();
    let server = home.start_daemon().dns.expect("a free port was asked for");
    for name in ["shop.localhost", "feature-cart.shop.localhost", "localhost"] {
        let (code, answer) = ask(&server, name, 1);
        assert_eq!((code, &answer[answer.len() - 4..]), (0, [127, 0, 0, 1].as_slice()));
        let (code, answer) = ask(&server, name, 28);
        assert_eq!((code, answer.len(), answer.last()), (0, 28, Some(&1)));
    }
    assert_eq!(ask(&server, "example.com", 1), (5, Vec::new()));
    let said = home.agentfs(&["daemon", "status"]).text();
    assert!(said.contains(&format!("{server} answers for *.localhost")), "{said}");
}

#[test]
fn macos_is_told_with_one_sudo_and_untold() {
    let home = Home::of_user("nobody");
    let root = home.work().join("root");
    let file = root.join("etc/resolver/localhost");
    home.write("root/System/Library/x", "");
    let log = home.work().join("sudo.log");
    let script = home.write("bin/sudo", &format!("#!/bin/sh\necho sudo >>{}\nexec \"$@\"\n", log.display()));
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Our files, and commands as another user.
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o777)).unwrap();
    let run = |arguments: &[&str]| -> Run<'_> {
        let path = format!("{}:/usr/bin:/bin", home.work().join("bin").display());
        home.agentfs(arguments)
            .env("AGENTFS_TRUST_ROOT", &root)
            .env("PATH", path)
            .env("AGENTFS_DNS", "127.0.0.1:4253")
    };
    let installed = run(&["-v", "names", "install"]).speaking().output().success();
    assert!(installed.stderr.contains("the system asks 127.0.0.1:4253"), "{}", installed.explain());
    let expected = "# Written by `agentfs names install`.\n\
        # Names under `localhost` are this machine. `agentfs names uninstall` removes this file.\n\
        nameserver 127.0.0.1\nport 4253\ntimeout 1\n";
    assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    let sudos = |log: &Path| std::fs::read_to_string(log).unwrap().lines().count();
    let asked = sudos(&log);
    // Once more changes nothing and asks for nothing.
    let _ = run(&["names", "install"]).output().success();
    assert_eq!(sudos(&log), asked);
    let status = run(&["names"]).output();
    assert!(status.stdout.contains("etc/resolver/localhost is installed"), "{}", status.explain());
    let _ = run(&["names", "uninstall"]).output().success();
    assert!(!file.exists());
    let _ = run(&["names", "uninstall"]).output().success();
    // What somebody else wrote stays.
    std::fs::write(&file, "nameserver 10.0.0.1\n").unwrap();
    for action in ["install", "uninstall"] {
        let _ = run(&["names", action]).output().code(1).names(&["was not written by agentfs"]);
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "nameserver 10.0.0.1\n");
    // A system without such a folder.
    let other = run(&["names", "install"]).env("AGENTFS_TRUST_ROOT", "/nowhere").output().code(1);
    let _ = other.names(&["dnsmasq", "server=/localhost/127.0.0.1#4253"]);
}
