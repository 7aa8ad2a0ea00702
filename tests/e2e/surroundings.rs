//! Programs that start others in unusual surroundings: another root, a sandbox, a sanitizer that minds what is
//! loaded beside it. "Nothing else changes": neither their output nor whether they run.
#![cfg(target_os = "linux")]
use agentfs_tests::Home;
use nix::unistd::Uid;
use std::process::Command;

/// Serves itself once on a port of its own, and says so.
const SERVER: &str = r#"
    #include <arpa/inet.h>
    #include <netinet/in.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <sys/socket.h>
    int main(void) {
        struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(8080)};
        name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(listener, (void *)&name, sizeof name) || listen(listener, 1)) return 1;
        if (connect(client, (void *)&name, sizeof name)) return 2;
        struct sockaddr_in peer;
        socklen_t length = sizeof peer;
        if (accept(listener, (void *)&peer, &length) < 0) return 3;
        char *heap = malloc(8);
        printf("%s %s %s\n", inet_ntoa(peer.sin_addr), getenv("ASAN_OPTIONS"), getenv("AGENTFS_INSTANCE"));
        free(heap);
    }
"#;

/// AddressSanitizer's shared library, gcc's default, ends a program that has another library before it.
#[test]
fn a_program_of_the_address_sanitizer_runs() {
    let home = Home::new();
    let source = home.write("server.c", SERVER);
    let program = home.work().join("server").display().to_string();
    let compiler =
        Command::new("gcc").args(["-fsanitize=address", "-o", &program]).arg(&source).output().unwrap();
    assert!(compiler.status.success(), "{}", String::from_utf8_lossy(&compiler.stderr));
    let expected = |own: &str| format!("127.0.0.1 {own}verify_asan_link_order=0 one\n");
    let alone = home.wrap("shop", "one", &[&program]).output().success();
    assert_eq!((alone.stdout.as_str(), alone.stderr.as_str()), (expected("").as_str(), ""));
    let own = home.wrap("shop", "one", &[&program]).env("ASAN_OPTIONS", "color=never").output().success();
    assert_eq!(own.stdout, expected("color=never:"), "{}", own.explain());
    // Every way in which a program starts another; no other program sees the option.
    for (shell, option) in [
        ("exec \"$0\"", ""),
        ("\"$0\"; exit $?", ""),
        ("exec env -i \"$0\"", ""),
        ("ASAN_OPTIONS=color=never exec \"$0\"", "color=never:"),
        ("exec env -i ASAN_OPTIONS=color=never \"$0\"", "color=never:"),
        ("exec python3 -c 'import os, sys; os.execvp(sys.argv[1], sys.argv[1:])' \"$0\"", ""),
        ("exec python3 -c 'import subprocess, sys; subprocess.run(sys.argv[1:], check=True)' \"$0\"", ""),
    ] {
        let output = home.wrap("shop", "one", &["sh", "-c", shell, &program]).output().success();
        assert_eq!(output.stdout, expected(option), "{shell}\n{}", output.explain());
        assert_eq!(output.stderr, "", "{shell}\n{}", output.explain());
    }
    let plain = home.wrap("shop", "one", &["sh", "-c", "env | grep -c ASAN; exit 0"]).output().success();
    assert_eq!(plain.stdout, "0\n", "{}", plain.explain());
}

/// Where the library's file is out of sight, as in a sandbox with a folder of its own over it, the loader would
/// complain of it on the stderr of every program.
#[test]
fn a_program_that_does_not_see_the_library_runs_without_it() {
    let home = Home::new();
    let root = Uid::effective().is_root();
    let unshare: &[&str] = if root { &["--mount"] } else { &["--mount", "--map-root-user"] };
    let script = "library=${LD_PRELOAD##*:}\n\
        mount -t tmpfs none \"${library%/*/*}\" || exit 66\n\
        /bin/echo hidden; env -i /bin/echo bare\n\
        exec python3 -c 'import subprocess; subprocess.run([\"/bin/echo\", \"spawned\"], check=True)'";
    let command = [&["unshare"], unshare, &["sh", "-c", script]].concat();
    let output = home.wrap("shop", "one", &command).output();
    assert_ne!(
        output.status.code(),
        Some(66),
        "this machine allows no mount name space: {}",
        output.explain()
    );
    let said = (output.stdout.as_str(), output.stderr.as_str());
    assert_eq!(said, ("hidden\nbare\nspawned\n", ""), "{}", output.explain());
    let mut traced = vec!["trace", "--json", "--app", "shop", "--"];
    traced.extend(&command);
    let traced = home.agentfs(&traced).output();
    assert!(traced.stderr.contains("cannot_reach_out_of_sight"), "{}", traced.explain());
}

/// Serves on a wildcard and in a group of `SO_REUSEPORT`, goes into an empty root, and connects to both and to nobody.
const INTO_ANOTHER_ROOT: &str = r#"
import errno, os, socket, sys
def listening(port, share):
    listener = socket.socket()
    if share: listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen()
    return listener
listeners = [listening(8080, False), listening(8081, True)]
os.chroot(sys.argv[1])
os.chdir("/")
for listener in listeners:
    client = socket.socket()
    client.connect(("127.0.0.1", listener.getsockname()[1]))
    accepted, peer = listener.accept()
    assert peer == client.getsockname(), peer
    assert client.getpeername() == accepted.getsockname(), client.getpeername()
assert socket.socket().connect_ex(("127.0.0.1", 1)) == errno.ECONNREFUSED
print("done")
"#;

/// HAProxy goes into an empty root, and from there to servers of its instance.
#[test]
fn a_program_that_changes_its_root_reaches_its_instance() {
    let home = Home::new();
    // Only root may change it, and only root's collector serves who did.
    if agentfs_tests::skip::is_root() {
        let root = home.work().join("root");
        std::fs::create_dir(&root).unwrap();
        let root = root.display().to_string();
        let command = ["python3", "-c", INTO_ANOTHER_ROOT, &root];
        let output = home.wrap("shop", "one", &command).output().success();
        assert_eq!(output.stdout, "done\n", "{}", output.explain());
    }
}

/// Connecting asks for the right to write to the socket's file, which the umask may have taken from the owner.
#[test]
fn a_listener_is_reached_whatever_the_umask_is() {
    let home = Home::of_user("nobody");
    let script = "
import os, socket
for mask in (None, 0o022, 0o277, 0o777):
    if mask is not None:
        os.umask(mask)
    for _ in range(2):
        with socket.create_server(('127.0.0.1', 0)) as server:
            socket.create_connection(server.getsockname()).close()
print('reached')";
    for mask in ["022", "0377"] {
        let shell = format!("umask {mask}; exec /usr/bin/python3 -c \"$0\"");
        let output = home.wrap("shop", "one", &["sh", "-c", &shell, script]).output().success();
        assert_eq!(output.stdout, "reached\n", "{}", output.explain());
    }
}
