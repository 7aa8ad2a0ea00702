//! TLS from the command line: `agentfs trust`, `agentfs daemon start --tls` and `--cert`, and the URLs that
//! follow. Every store is a private one: nothing of the machine's own is looked at.
use agentfs_tests::wait::until;
use agentfs_tests::{Home, Process, Run, artifact};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A machine with a user, programs and stores of its own, as folders.
struct Machine {
    home: Home,
}

impl Machine {
    fn new(programs: &[&str]) -> Self {
        Self::of(Home::new(), programs)
    }

    fn of(home: Home, programs: &[&str]) -> Self {
        let machine = Self { home };
        for folder in ["user", "root", "bin"] {
            fs::create_dir(machine.path(folder)).unwrap();
        }
        for program in programs {
            let folders = ["/usr/bin", "/bin", "/usr/local/bin", "/opt/homebrew/bin"];
            let found = folders.iter().map(|folder| Path::new(folder).join(program));
            let found = found.into_iter().find(|path| path.exists());
            let found = found.unwrap_or_else(|| panic!("no {program}\nhint: run `./test --setup`"));
            symlink(found, machine.path("bin").join(program)).unwrap();
        }
        machine
    }

    fn path(&self, path: &str) -> PathBuf {
        self.home.work().join(path)
    }

    fn run(&self, program: impl AsRef<std::ffi::OsStr>) -> Run<'_> {
        let mut run = self.home.program(program);
        for name in ["XDG_DATA_HOME", "XDG_CONFIG_HOME", "JAVA_HOME", "NODE_EXTRA_CA_CERTS", "SUDO_UID"] {
            run = run.unset(name);
        }
        run.env("HOME", self.path("user"))
            .env("AGENTFS_TRUST_ROOT", self.path("root"))
            .env("AGENTFS_ROUTER_TLS", "127.0.0.1:0")
            .env("PATH", self.path("bin"))
    }

    fn agentfs(&self, arguments: &[&str]) -> Run<'_> {
        self.run(self.home.agentfs_path()).args(arguments)
    }

    fn authority(&self) -> PathBuf {
        self.home.paths().home.join("tls/ca.pem")
    }

    /// A program of ours that notes its arguments.
    fn tool(&self, path: &str, then: &str) {
        let file = self.home.write(path, &format!("#!/bin/sh\necho \"$0 $*\" >>\"$0.calls\"\n{then}\n"));
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The stores by `--json`, as (store, state).
    fn stores(&self, arguments: &[&str], code: i32) -> Vec<(String, String)> {
        let output = self.agentfs(&["trust", "--json"]).args(arguments).output().code(code);
        let stores: Value = serde_json::from_str(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let stores = stores.as_array().unwrap();
        stores.iter().map(|store| (text(&store["store"]), text(&store["state"]))).collect()
    }

    /// Asserts what becomes of the only store, first and again, and of its undoing, first and again.
    fn put_and_taken(&self, store: &str, is_there: impl Fn() -> bool) {
        for (arguments, state, there) in [
            (&[][..], "put_in", true),
            (&[], "already_there", true),
            (&["--undo"], "taken_out", false),
            (&["--undo"], "not_there", false),
        ] {
            let expected = [(store.to_owned(), state.to_owned())];
            assert_eq!(self.stores(arguments, 0), expected, "{arguments:?}");
            assert_eq!(is_there(), there, "{store} after {arguments:?}");
        }
    }

    fn certutil(&self, database: &Path, arguments: &[&str]) -> Run<'_> {
        let folder = format!("sql:{}", database.display());
        self.run(self.path("bin/certutil")).args(["-d", &folder]).args(arguments)
    }

    fn serve(&self, copy: &str) -> Process<'_> {
        let server = artifact::binary("fixture-wait").display().to_string();
        let running = self.agentfs(&["wrap", "--app", "shop", "--instance", copy, "--", &server]);
        let running = running.body(copy).spawn();
        self.home.listener("shop", copy, 5000);
        running
    }

    /// What curl gets, whose authorities are those of a file.
    fn curl(&self, authorities: &Path, url: &str) -> agentfs_tests::Output<'_> {
        let run = self.home.program("curl").args(["--silent", "--show-error", "--max-time", "20"]);
        run.arg("--cacert").arg(authorities).arg(url).output()
    }
}

/// "puts it into the stores it can find": the system's, in the layouts of Fedora, Arch, openSUSE and Debian.
#[test]
fn the_systems_store_is_filled_and_its_bundle_made() {
    for (folder, suffix, tool, undo) in [
        ("etc/pki/ca-trust/source/anchors", "pem", "usr/bin/update-ca-trust", " extract"),
        ("etc/ca-certificates/trust-source/anchors", "crt", "usr/bin/update-ca-trust", ""),
        ("etc/pki/trust/anchors", "pem", "usr/sbin/update-ca-certificates", ""),
        ("usr/local/share/ca-certificates", "crt", "usr/sbin/update-ca-certificates", " --fresh"),
    ] {
        let machine = Machine::new(&[]);
        let folder = machine.path("root").join(folder);
        fs::create_dir_all(&folder).unwrap();
        machine.tool(&format!("root/{tool}"), "");
        machine.put_and_taken("system", || {
            let files: Vec<_> = fs::read_dir(&folder).unwrap().flatten().collect();
            for file in &files {
                let name = file.file_name().into_string().unwrap();
                assert!(name.starts_with("agentfs-") && name.ends_with(suffix), "{name}");
                assert_eq!(fs::read(file.path()).unwrap(), fs::read(machine.authority()).unwrap());
                assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o644);
            }
            !files.is_empty()
        });
        let calls = fs::read_to_string(machine.path(&format!("root/{tool}.calls"))).unwrap();
        assert_eq!(calls.lines().count(), 2, "{calls}");
        assert!(calls.trim_end().ends_with(&format!("{tool}{undo}")), "{calls}");
    }
}

/// What security(1) of macOS does with its one keychain, as far as we ask it.
const SECURITY: &str = r#"
kept="$0.kept"
case $1 in
add-trusted-cert) /bin/cp "$6" "$kept"; [ ! -e "$0.refuses" ] || { echo 'The authorization was canceled.' >&2; exit 1; } ;;
find-certificate) /bin/cat "$kept" 2>/dev/null || { echo 'The specified item could not be found.' >&2; exit 44; } ;;
remove-trusted-cert) [ -e "$kept" ] ;;
delete-certificate) /bin/rm "$kept" ;;
*) exit 2 ;;
esac
"#;

/// The login keychain of macOS, by the commands of its security(1).
#[test]
fn the_keychain_is_asked_and_changed_with_its_tool() {
    let machine = Machine::new(&[]);
    machine.home.write("user/Library/Keychains/login.keychain-db", "");
    machine.tool("root/usr/bin/security", SECURITY);
    let kept = machine.path("root/usr/bin/security.kept");
    machine.put_and_taken("Keychain", || {
        let there = fs::read(&kept).is_ok_and(|text| text == fs::read(machine.authority()).unwrap());
        assert_eq!(there, kept.exists());
        there
    });
    let calls = fs::read_to_string(machine.path("root/usr/bin/security.calls")).unwrap();
    let expected = format!(" add-trusted-cert -r trustRoot -k {}", machine.path("user/Library").display());
    assert!(calls.contains(&expected), "{calls}");
    assert!(calls.contains(" remove-trusted-cert ") && calls.contains(" delete-certificate -c "), "{calls}");
}

/// macOS puts the certificate in before it asks the user, and leaves it there when the user says no.
#[test]
fn a_user_who_refuses_leaves_nothing_in_the_keychain() {
    let machine = Machine::new(&[]);
    machine.home.write("user/Library/Keychains/login.keychain-db", "");
    machine.home.write("root/usr/bin/security.refuses", "");
    machine.tool("root/usr/bin/security", SECURITY);
    let output = machine.agentfs(&["trust", "--json"]).output().code(1);
    assert!(output.stdout.contains("authorization was canceled"), "{}", output.explain());
    assert!(!machine.path("root/usr/bin/security.kept").exists());
}

/// "a trust store that cannot be written": each is one line that says why and what to do.
#[test]
fn a_store_that_cannot_be_written_is_said_and_the_rest_is_filled() {
    let machine = Machine::new(&["certutil"]);
    fs::create_dir_all(machine.path("root/usr/local/share/ca-certificates")).unwrap();
    fs::create_dir_all(machine.path("user/.pki/nssdb")).unwrap();
    let made = machine.certutil(&machine.path("user/.pki/nssdb"), &["-N", "--empty-password"]);
    let _ = made.output().success();
    let output = machine.agentfs(&["trust"]).output().code(1);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", output.explain());
    assert!(
        lines[0].contains("cannot be written") && lines[0].contains("cannot find update-ca-certificates")
    );
    assert!(lines[1].starts_with("Chromium  installed"), "{}", output.explain());
    // A command that fails leaves nothing behind that would look as if it had worked.
    machine.tool("root/usr/sbin/update-ca-certificates", "echo 'no room' >&2; exit 1");
    let output = machine.agentfs(&["trust"]).output().code(1);
    for word in ["because update-ca-certificates: no room", "sudo install -m 644", "already installed"] {
        assert!(output.stdout.contains(word), "{word}: {}", output.explain());
    }
    assert_eq!(fs::read_dir(machine.path("root/usr/local/share/ca-certificates")).unwrap().count(), 0);
}

/// "root needed: else say what command to run"
#[test]
fn without_root_the_command_is_told() {
    // Only what changes the user: a certutil of this machine would be a store that can be written.
    let machine = Machine::of(Home::of_user("nobody"), &["setpriv"]);
    let folder = machine.path("root/usr/local/share/ca-certificates");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    let output = machine.agentfs(&["trust"]).output().code(1).names(&["TLS stays off", "ca.pem"]);
    let said = format!("sudo install -m 644 {} {}", machine.authority().display(), folder.display());
    for word in ["only root may change", &said, "&& sudo update-ca-certificates"] {
        assert!(output.stdout.contains(word), "{word}: {}", output.explain());
    }
    assert!(!machine.home.paths().home.join("tls/enabled").exists());
}

#[test]
fn chromiums_database_is_made_where_there_is_none_yet() {
    let machine = Machine::new(&["certutil"]);
    machine.tool("bin/chromium", "");
    let database = machine.path("user/.pki/nssdb");
    machine.put_and_taken("Chromium", || {
        let list = machine.certutil(&database, &["-L"]).output().success();
        let line = list.stdout.lines().find(|line| line.contains("agentfs local authority"));
        assert!(line.is_none_or(|line| line.trim_end().ends_with(" C,,")), "{}", list.explain());
        line.is_some()
    });
    assert_eq!(fs::metadata(&database).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn every_profile_of_firefox_is_filled() {
    let machine = Machine::new(&["certutil"]);
    let folders = [".mozilla/firefox/a.default", ".config/mozilla/firefox/b b"];
    for folder in folders {
        let folder = machine.path("user").join(folder);
        fs::create_dir_all(&folder).unwrap();
        let _ = machine.certutil(&folder, &["-N", "--empty-password"]).output().success();
    }
    fs::create_dir_all(machine.path("user/.mozilla/firefox/Crash Reports")).unwrap();
    let two = |state: &str| vec![("Firefox".to_owned(), state.to_owned()); 2];
    assert_eq!(machine.stores(&[], 0), two("put_in"));
    // Without the tool: what to install.
    fs::remove_file(machine.path("bin/certutil")).unwrap();
    assert_eq!(machine.stores(&["--undo"], 1), two("cannot_be_written"));
    let output = machine.agentfs(&["trust", "--undo"]).output().code(1);
    assert!(output.stdout.contains("cannot find certutil: install libnss3-tools"), "{}", output.explain());
}

#[test]
fn a_jdk_of_ones_own_is_filled_and_the_systems_left_alone() {
    let machine = Machine::new(&["keytool"]);
    let keystore = machine.path("jdk/lib/security/cacerts");
    fs::create_dir_all(keystore.parent().unwrap()).unwrap();
    // Of the system's packages: a link to what the system's command makes.
    let system = machine.path("root/etc/ssl/certs/java/cacerts");
    let linked = machine.path("root/usr/lib/jvm/java-17/lib/security");
    for folder in [system.parent().unwrap(), &linked] {
        fs::create_dir_all(folder).unwrap();
    }
    fs::write(&system, "made by a command").unwrap();
    symlink(&system, linked.join("cacerts")).unwrap();
    let keytool = |arguments: &[&str]| {
        let run = machine.run(machine.path("bin/keytool")).args(arguments).arg("-keystore").arg(&keystore);
        run.args(["-storepass", "changeit"]).env("PATH", "/usr/bin:/bin")
    };
    let make = ["-genkeypair", "-keyalg", "EC", "-alias", "other", "-dname", "CN=x"];
    let _ = keytool(&make).output().success();
    let stores = |arguments: &[&str]| {
        let run = machine.agentfs(&["trust", "--json"]).args(arguments).env("JAVA_HOME", machine.path("jdk"));
        let list: Value = serde_json::from_str(&run.output().success().stdout).unwrap();
        assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
        assert_eq!(list[0]["store"], "Java");
        list[0]["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(stores(&[]), "put_in");
    assert!(keytool(&["-list"]).text().contains("trustedCertEntry"));
    assert_eq!(stores(&[]), "already_there");
    assert_eq!(stores(&["--undo"]), "taken_out");
    assert!(!keytool(&["-list"]).text().contains("trustedCertEntry"));
    assert_eq!(fs::read_to_string(&system).unwrap(), "made by a command");
}

/// "TLS is off until `agentfs trust` … was used once; then https URLs are printed", without a restart.
#[test]
fn trust_switches_tls_on_and_undo_switches_it_off() {
    let machine = Machine::new(&["certutil"]);
    machine.tool("bin/chromium", "");
    machine.tool("bin/node", "");
    let home = &machine.home;
    // Nothing to undo, and nothing is made for it.
    assert_eq!(machine.stores(&["--undo"], 0), []);
    assert!(!home.paths().home.join("tls").exists());
    let _ = machine.agentfs(&["daemon", "start"]).output().success();
    let daemon = home.daemon().unwrap();
    let _one = machine.serve("one");
    let url = || home.instance("shop", "one").unwrap().url.unwrap();
    assert_eq!(url(), format!("http://one.shop.localhost:{}", daemon.http_port));

    let node = ("Node".to_owned(), "yours".to_owned());
    assert_eq!(machine.stores(&[], 0), [("Chromium".to_owned(), "put_in".to_owned()), node]);
    let now = home.daemon().unwrap();
    assert_eq!((now.pid, now.tls_error), (daemon.pid, None));
    let port = now.https_port.unwrap();
    assert_eq!(url(), format!("https://one.shop.localhost:{port}"));
    let got = machine.curl(&machine.authority(), &url()).success();
    assert_eq!(got.stdout, "one");
    let list = machine.agentfs(&["ps"]).text();
    assert!(list.contains(&url()), "{list}");
    let route = machine.agentfs(&["route", "--json", "by-hand", "shop/one"]).text();
    assert!(route.contains(&format!("https://by-hand.localhost:{port}")), "{route}");
    let show = ["wrap", "-v", "--app", "shop", "--instance", "two", "--", "/bin/sh", "-c"];
    let told = machine.agentfs(&show).arg("echo $AGENTFS_URL").output().success();
    assert_eq!(told.stdout, format!("https://two.shop.localhost:{port}\n"));
    let status = machine.agentfs(&["daemon", "status"]).text();
    assert!(status.contains(&format!("127.0.0.1:{port}")), "{status}");

    // It stays on in the next collector.
    let _ = machine.agentfs(&["daemon", "stop"]).output().success();
    let _ = machine.agentfs(&["daemon", "start"]).output().success();
    assert!(home.daemon().unwrap().https_port.is_some());

    assert_eq!(machine.stores(&["--undo"], 0)[0].1, "taken_out");
    let now = home.daemon().unwrap();
    assert_eq!(now.https_port, None);
    until("the instance is found again", || home.instance("shop", "one"));
    assert_eq!(url(), format!("http://one.shop.localhost:{}", now.http_port));
    let got = machine.curl(&machine.authority(), &url()).success();
    assert_eq!(got.stdout, "one");
}

/// The output of openssl for a handshake for `name` with the collector.
fn handshake(machine: &Machine, name: &str) -> String {
    let address = format!("127.0.0.1:{}", machine.home.daemon().unwrap().https_port.unwrap());
    let arguments =
        ["s_client", "-connect", &address, "-servername", name, "-verify_return_error", "-CAfile"];
    let run = machine.home.program("openssl").args(arguments).arg(machine.authority());
    let output = run.output();
    format!("{}{}", output.stdout, output.stderr)
}

/// "localhost and route names only; EKU serverAuth on the CA; unknown names get `unrecognized_name`"
#[test]
fn only_localhost_names_are_signed_for() {
    let machine = Machine::new(&[]);
    let _ = machine.agentfs(&["daemon", "start", "--tls"]).output().success();
    let text = machine.home.program("openssl").args(["x509", "-noout", "-text", "-in"]);
    let text = text.arg(machine.authority()).text();
    let (_, permitted) = text.split_once("Name Constraints").unwrap();
    let (permitted, _) = permitted.split_once("Signature Algorithm").unwrap();
    assert_eq!(permitted.matches("DNS:").count(), 1, "{text}");
    assert!(permitted.contains("DNS:localhost") && permitted.contains("IP:127.0.0.0/255.0.0.0"), "{text}");
    assert!(text.contains("Extended Key Usage") && text.contains("TLS Web Server Authentication"), "{text}");
    for name in ["localhost", "shop.localhost", "a.b.shop.localhost"] {
        let said = handshake(&machine, name);
        assert!(said.contains("Verify return code: 0 (ok)"), "{name}: {said}");
    }
    for name in ["metadata.google.internal", "shop.test", "printer.local", "example.com"] {
        let said = handshake(&machine, name);
        assert!(said.contains("SSL alert number 112") && !said.contains("BEGIN CERT"), "{name}: {said}");
    }
}

/// The CA of an earlier version stays in use until `agentfs trust` replaces it in every store.
#[test]
fn an_authority_that_may_sign_for_more_is_replaced_by_trust() {
    let machine = Machine::new(&[]);
    let store = machine.path("root/usr/local/share/ca-certificates");
    fs::create_dir_all(&store).unwrap();
    machine.tool("root/usr/sbin/update-ca-certificates", "");
    let tls = machine.home.paths().home.join("tls");
    fs::create_dir_all(&tls).unwrap();
    fs::set_permissions(&tls, fs::Permissions::from_mode(0o700)).unwrap();
    let constraints =
        "nameConstraints=critical,permitted;DNS:localhost,permitted;DNS:test,permitted;DNS:internal";
    let key = tls.join("ca.key.pem");
    let arguments = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let run = machine.home.program("openssl").args(arguments).args(["-subj", "/CN=earlier"]);
    let run = run.args(["-addext", constraints, "-days", "30", "-keyout"]).arg(&key).arg("-out");
    let _ = run.arg(machine.authority()).output().success();
    let earlier_key = fs::read(&key).unwrap();
    let earlier = fs::read(machine.authority()).unwrap();
    let _ = machine.agentfs(&["daemon", "start", "--tls"]).output().success();
    assert_eq!(fs::read(machine.authority()).unwrap(), earlier, "the collector does not replace it");
    assert!(handshake(&machine, "shop.internal").contains("SSL alert number 112"));
    let doctor = machine.agentfs(&["doctor"]).output();
    assert!(doctor.stdout.contains("run `agentfs trust` to replace it"), "{}", doctor.explain());
    let log = fs::read_to_string(&machine.home.paths().log).unwrap();
    assert!(log.contains("can sign for more than `localhost` names"), "{log}");

    assert_eq!(machine.stores(&[], 0), [("system".to_owned(), "put_in".to_owned())]);
    let file = fs::read_dir(&store).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read(file).unwrap(), fs::read(machine.authority()).unwrap());
    assert_ne!(fs::read(&key).unwrap(), earlier_key, "the old key is removed");
    let said = handshake(&machine, "shop.localhost");
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    let doctor = machine.agentfs(&["doctor"]).output();
    assert!(!doctor.stdout.contains("replaces it"), "{}", doctor.explain());
}

/// Files of a certificate for `name` and its key.
fn pair(machine: &Machine, name: &str) -> (String, String) {
    let path = |suffix: &str| machine.path(&format!("{name}.{suffix}")).display().to_string();
    let (certificate, key) = (path("pem"), path("key"));
    let subject = format!("/CN={name}");
    let names = format!("subjectAltName=DNS:{name}");
    let arguments = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let run = machine.home.program("openssl").args(arguments).args(["-days", "30", "-subj", &subject]);
    let _ = run.args(["-addext", &names, "-out", &certificate, "-keyout", &key]).output().success();
    (certificate, key)
}

/// "`--cert/--key` for one's own"
#[test]
fn a_certificate_of_ones_own_is_served() {
    let machine = Machine::new(&[]);
    let (certificate, key) = pair(&machine, "one.shop.localhost");
    let start = machine.agentfs(&["daemon", "start", "--cert", "one.shop.localhost.pem"]);
    let _ = start.args(["--key", "one.shop.localhost.key"]).output().success();
    let _one = machine.serve("one");
    let url = machine.home.instance("shop", "one").unwrap().url.unwrap();
    assert!(url.starts_with("https://"), "{url}");
    assert_eq!(machine.curl(Path::new(&certificate), &url).success().stdout, "one");
    // Other names have the local authority's.
    let other = url.replace("one.shop.localhost", "5000.one.shop.localhost");
    assert_eq!(machine.curl(&machine.authority(), &other).success().stdout, "one");
    // It is the user's business: `trust --undo` does not end it.
    let _ = machine.agentfs(&["trust", "--undo"]).output().success();
    assert!(machine.home.daemon().unwrap().https_port.is_some());
    // Back to the local authority alone, while it runs.
    let _ = machine.agentfs(&["daemon", "start", "--tls"]).output().success();
    assert_eq!(machine.curl(&machine.authority(), &url).success().stdout, "one");
    fs::remove_file(key).unwrap();
}

/// "a certificate or key that cannot be read or does not match"
#[test]
fn a_pair_that_cannot_be_used_is_named_and_nothing_changes() {
    let machine = Machine::new(&[]);
    let (one, one_key) = pair(&machine, "one.localhost");
    let (_, two_key) = pair(&machine, "two.localhost");
    let text = machine.home.write("text", "no certificate\n").display().to_string();
    for (certificate, key, words) in [
        ("/nowhere/c.pem", one_key.as_str(), ["cannot read the certificate", "/nowhere/c.pem"]),
        (&one, "/nowhere/k.pem", ["cannot read the key", "/nowhere/k.pem"]),
        (&one, &two_key, ["does not belong to the certificate", &two_key]),
        (&text, &one_key, ["does not contain a certificate", &text]),
        (&one, &text, ["does not contain a private key", &text]),
    ] {
        let start = machine.agentfs(&["daemon", "start", "--cert", certificate, "--key", key]);
        let _ = start.output().code(1).names(&words);
        assert!(machine.home.daemon().is_none() && !machine.home.paths().home.join("tls/enabled").exists());
    }
    let _ = machine.agentfs(&["daemon", "start", "--cert", &one]).output().code(2).names(&["--key"]);
    // A collector that runs goes on as it was; one whose pair went bad says so and serves HTTP.
    let _ = machine.agentfs(&["daemon", "start", "--cert", &one, "--key", &one_key]).output().success();
    let before = machine.home.daemon().unwrap();
    let start = machine.agentfs(&["daemon", "start", "--cert", &one, "--key", &two_key]);
    let _ = start.output().code(1).names(&["does not belong"]);
    assert_eq!(machine.home.daemon().unwrap(), before);
    let _ = machine.agentfs(&["daemon", "stop"]).output().success();
    fs::write(&one, "no certificate\n").unwrap();
    let _ = machine.agentfs(&["daemon", "start"]).output().success();
    let error = machine.home.daemon().unwrap().tls_error.unwrap();
    assert!(error.contains(&one), "{error}");
    let status = machine.agentfs(&["daemon", "status", "--json"]).text();
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["https_port"], &status["tls_error"]), (&Value::Null, &json!(error)));
}

/// "a stranger on the port is an error naming its pid when the user asked for that port"
#[test]
fn a_stranger_on_the_port_for_tls_is_named() {
    let machine = Machine::new(&[]);
    let stranger = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = stranger.local_addr().unwrap().to_string();
    let port = stranger.local_addr().unwrap().port().to_string();
    let words = ["TLS", port.as_str(), &format!("pid {}", std::process::id())];
    let start = || machine.agentfs(&["daemon", "start", "--tls"]).env("AGENTFS_ROUTER_TLS", &address);
    let _ = start().output().code(1).names(&words);
    // It runs, and goes on to say why.
    assert_eq!(machine.home.daemon().unwrap().https_port, None);
    let _ = start().output().code(1).names(&words[1..]);
    drop(stranger);
    let _ = start().output().success();
    let now = machine.home.daemon().unwrap();
    assert_eq!((now.https_port.map(|port| port.to_string()), now.tls_error), (Some(port), None));
}
