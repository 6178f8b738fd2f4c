//! The command from outside: what it prints and how it ends.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// A server that ends with the test.
struct Serve {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    address: String,
}

fn synod() -> Command {
    Command::new(env!("CARGO_BIN_EXE_synod"))
}

impl Serve {
    fn start(arguments: &[&str]) -> Serve {
        let mut command = synod();
        command.args(["serve", "--in-memory"]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
        let mut out = BufReader::new(child.stdout.take().expect("is piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("says that it serves");
        let rest = line.strip_prefix("serving the ZooKeeper protocol on ").expect("says so");
        let place = rest.split_once(", in memory only: ").expect("says so").0;
        let address = place.strip_suffix(" with TLS").unwrap_or(place).to_owned();
        Serve { child, out, address }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = synod();
        command.args(["--server", &self.address]).args(arguments);
        command.output().expect("runs")
    }

    /// What a command that succeeds prints.
    fn ask(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("is text")
    }

    /// The number that a command fails with.
    fn fail(&self, arguments: &[&str]) -> i32 {
        let output = self.run(arguments);
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
        assert_eq!(output.stderr.iter().filter(|byte| **byte == b'\n').count(), 1, "{output:?}");
        output.status.code().expect("ends by itself")
    }

    fn stop(mut self, signal: &str) -> (ExitStatus, String) {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args([signal, &pid]).status().expect("there is kill");
        assert!(killed.success());
        let status = self.child.wait().expect("ends");
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("is text");
        (status, rest)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const ANY: [&str; 2] = ["--listen", "127.0.0.1:0"];

#[test]
fn it_stops_cleanly_when_told_to() {
    for signal in ["-TERM", "-INT"] {
        let serve = Serve::start(&ANY);
        serve.ask(&["create", "/a"]);
        let (status, rest) = serve.stop(signal);
        assert_eq!((status.code(), &*rest), (Some(0), "stopped\n"), "{signal}");
    }
}

#[test]
fn a_port_that_is_taken_is_said_to_be() {
    let serve = Serve::start(&ANY);
    let output = synod().args(["serve", "--listen", &serve.address]).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = format!("cannot listen on {}: another program listens there", serve.address);
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn a_file_configures_it_and_flags_win() {
    let file = std::env::temp_dir().join(format!("synod-{}.toml", std::process::id()));
    let text = "listen = \"127.0.0.1:0\"\ntick-ms = 500\nwords = \"conf\"\n";
    std::fs::write(&file, text).expect("can be written");
    let path = file.to_str().expect("is text");
    let serve = Serve::start(&["--config", path, "--tick-ms", "700"]);
    let mut stream = std::net::TcpStream::connect(&serve.address).expect("listens");
    std::io::Write::write_all(&mut stream, b"conf").expect("sends");
    let mut conf = String::new();
    stream.read_to_string(&mut conf).expect("is text");
    assert!(conf.contains("tickTime=700\n") && conf.contains("minSessionTimeout=1400\n"), "{conf}");
    for (text, said) in [
        ("ticks = 1", "unknown field"),
        ("words = \"x\"", "no four-letter word"),
        ("tick-ms = \"x\"", "invalid type"),
        // What is secret there stays there.
        ("tick-ms = 500\nsuper-digest = super:HASHED", "line 2"),
        ("super-digest = 40404", "invalid type, expected a string"),
        ("tick-ms = 0", "a tick has at least 1 millisecond"),
        ("id = 2", "id is for a durable member: it needs data too"),
        (
            "data = \"d\"\njoin = true",
            "join is for a member among others: it needs peer-listen too",
        ),
    ] {
        std::fs::write(&file, text).expect("can be written");
        let output = synod().args(["serve", "--config", path]).output().expect("runs");
        assert_eq!(output.status.code(), Some(2));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            told.contains(said) && !told.contains("HASHED") && !told.contains("40404"),
            "{output:?}"
        );
    }
    std::fs::remove_file(&file).expect("is there");
}

#[test]
fn a_port_beyond_loopback_needs_tls_or_a_word() {
    let open = ["serve", "--in-memory", "--listen", "0.0.0.0:0"];
    let output = synod().args(open).output().expect("runs");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--tls-cert") && said.contains("--insecure"), "{said}");
    let serve = Serve::start(&["--listen", "0.0.0.0:0", "--insecure"]);
    let (_, port) = serve.address.rsplit_once(':').expect("has a port");
    let server = format!("127.0.0.1:{port}");
    let output = synod().args(["--server", &server, "ls"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[cfg(feature = "tls")]
#[test]
fn commands_reach_a_server_by_tls() {
    let folder = tempfile::tempdir().expect("can be made");
    let file = |name: &str| folder.path().join(name).to_str().expect("is text").to_owned();
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("valid");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    let authority = rcgen::CertifiedIssuer::self_signed(params, key).expect("signed");
    let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).expect("valid");
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &authority).expect("signed");
    std::fs::write(file("ca.pem"), authority.pem()).expect("written");
    std::fs::write(file("cert.pem"), certificate.pem()).expect("written");
    std::fs::write(file("key.pem"), key.serialize_pem()).expect("written");
    let own = Permissions::from_mode(0o600);
    std::fs::set_permissions(file("key.pem"), own).expect("is its own");
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let own = ["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca];
    let serve = Serve::start(&[&ANY, &own[..]].concat());
    let ask = |patience_ms: &str, more: &[&str]| {
        let server = format!("zks://{}", serve.address);
        let mut command = synod();
        command.args(["--server", &server, "--connect-timeout-ms", patience_ms]);
        command.args(more).args(["create", "/a"]).output().expect("runs").status.code()
    };
    assert_eq!(ask("500", &[]), Some(2), "no authority is trusted");
    assert_eq!(ask("500", &["--ca", &ca]), Some(7), "the server wants a certificate");
    assert_eq!(ask("500", &["--ca", &ca, "--cert", &cert]), Some(2), "the key is missing");
    assert_eq!(ask("20000", &["--ca", &ca, "--cert", &cert, "--key", &key]), Some(0));
    let output = synod().args(["serve", "--tls-cert", &cert]).output().expect("runs");
    assert_eq!(output.status.code(), Some(2), "the key is missing");
    // A flag completes what a file begins.
    std::fs::write(file("serve.toml"), format!("tls-cert = {cert:?}\n")).expect("written");
    let serve =
        Serve::start(&[&ANY[..], &["--config", &file("serve.toml"), "--tls-key", &key]].concat());
    let mut command = synod();
    command.args(["--server", &format!("zks://{}", serve.address), "--ca", &ca, "ls"]);
    assert_eq!(command.output().expect("runs").status.code(), Some(0));
    for command in [&["serve", "--in-memory"][..], &["cluster", "status"]] {
        let output = synod().args(command).args(["--cert", &cert]).output().expect("runs");
        assert_eq!(output.status.code(), Some(2), "it is a client's option: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--tls-cert"), "{output:?}");
    }
}

#[test]
fn what_is_for_a_client_is_refused_where_there_is_none() {
    // Who does not refuse it ends too: the port is taken, and no member is there.
    let taken = Serve::start(&ANY);
    let serve = ["serve", "--in-memory", "--listen", &taken.address];
    let cluster = ["cluster", "--peer", "127.0.0.1:1", "status"];
    let identity = [&["--auth", "a:b"][..], &["--sasl", "c:d"]];
    let others = [&["--server", "127.0.0.1:1"][..], &["--connect-timeout-ms", "1"], &["--json"]];
    let of_serve = identity.into_iter().chain(others).map(|option| (&serve, option));
    let of_cluster = identity.into_iter().map(|option| (&cluster, option));
    for (command, option) in of_serve.chain(of_cluster) {
        for line in [[&command[..], option].concat(), [option, &command[..]].concat()] {
            let output = synod().args(&line).output().expect("runs");
            assert_eq!(output.status.code(), Some(2), "{line:?}: {output:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(&format!("synod: {} is for", option[0])), "{said}");
        }
    }
}

#[test]
fn the_users_of_sasl_stand_in_a_file_that_others_cannot_read() {
    let folder = tempfile::tempdir().expect("can be made");
    let users = folder.path().join("users");
    std::fs::write(&users, "# ours\nann:p:w\n").expect("can be written");
    let set_mode = |mode| {
        std::fs::set_permissions(&users, Permissions::from_mode(mode)).expect("is its own");
    };
    let path = users.to_str().expect("is text");
    set_mode(0o644);
    for (arguments, said) in [
        (&["--sasl-users", path][..], "others may read (mode 644)"),
        (&["--require-sasl"], "require-sasl needs sasl-users"),
        (&["--super-user", "ann"], "super-user needs sasl-users"),
    ] {
        let output = synod().args(["serve", "--in-memory"]).args(arguments).output().expect("runs");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{output:?}");
    }
    set_mode(0o600);
    let named = ["serve", "--in-memory", "--listen", "127.0.0.1:0", "--sasl-users", path];
    let output = synod().args(named).args(["--super-user", "zoe"]).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the super user is one of the users of SASL"), "{output:?}");
    let file = folder.path().join("synod.toml");
    let text = format!("listen = \"127.0.0.1:0\"\nsasl-users = {path:?}\nrequire-sasl = true\n");
    std::fs::write(&file, text).expect("can be written");
    let serve = Serve::start(&["--config", file.to_str().expect("is text")]);
    assert_eq!(serve.ask(&["--sasl", "ann:p:w", "create", "/a"]), "/a\n");
    assert_eq!(serve.fail(&["--sasl", "ann:swordfish", "ls"]), 6);
    assert_eq!(serve.fail(&["--sasl", "zoe:p:w", "ls"]), 6);
    assert_eq!(serve.fail(&["--sasl", "ann", "ls"]), 2);
}

#[test]
fn each_failure_has_its_number() {
    let serve = Serve::start(&ANY);
    serve.ask(&["create", "/a", "one"]);
    serve.ask(&["create", "/a/b"]);
    assert_eq!(serve.fail(&["get", "/none"]), 3);
    assert_eq!(serve.fail(&["stat", "/none"]), 3);
    assert_eq!(serve.fail(&["create", "/a"]), 4);
    assert_eq!(serve.fail(&["set", "/a", "two", "--version", "7"]), 5);
    assert_eq!(serve.fail(&["delete", "/a"]), 8);
    assert_eq!(serve.fail(&["get", "no-slash"]), 2);
    assert_eq!(synod().args(["frobnicate"]).output().expect("runs").status.code(), Some(2));
    let output = synod()
        .args(["--server", "127.0.0.1:1", "--connect-timeout-ms", "200", "ls"])
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
}

#[test]
fn people_and_programs_are_answered_in_their_ways() {
    let serve = Serve::start(&ANY);
    assert_eq!(serve.ask(&["create", "/a", "one"]), "/a\n");
    assert_eq!(serve.ask(&["create", "/a/n-", "--sequential"]), "/a/n-0000000000\n");
    assert_eq!(serve.ask(&["get", "/a"]), "one");
    assert_eq!(serve.ask(&["set", "/a", "three", "--version", "0"]), "/a has version 1\n");
    assert_eq!(serve.ask(&["ls", "/a"]), "n-0000000000\n");
    assert_eq!(serve.ask(&["ls", "/a/n-0000000000"]), "");
    assert_eq!(serve.ask(&["tree", "/a"]), "/a (5 B)\n  n-0000000000\n");
    let stat = serve.ask(&["stat", "/a"]);
    for line in ["version 1", "numChildren 1", "dataLength 5", "ephemeralOwner none"] {
        assert!(stat.lines().any(|there| there == line), "{line} in {stat}");
    }
    let json = |arguments: &[&str]| -> serde_json::Value {
        let text = serve.ask(&[&["--json"], arguments].concat());
        serde_json::from_str(&text).expect("is JSON")
    };
    assert_eq!(json(&["get", "/a"])["data"], "three");
    assert_eq!(json(&["get", "/a"])["stat"]["version"], 1);
    assert_eq!(json(&["ls", "/a"])["children"][0], "n-0000000000");
    assert_eq!(json(&["stat", "/a"])["stat"]["dataLength"], 5);
    assert_eq!(serve.ask(&["delete", "/a/n-0000000000"]), "/a/n-0000000000 is deleted\n");
}

#[test]
fn a_watch_prints_changes_as_they_come() {
    let serve = Serve::start(&ANY);
    let mut command = synod();
    command.args(["--server", &serve.address, "watch", "/w", "--recursive", "--count", "3"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("runs");
    let mut lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
    let mut next = || lines.next().expect("goes on").expect("is text");
    assert_eq!(next(), "watching /w");
    serve.ask(&["create", "/w"]);
    assert!(next().starts_with("Created /w 0x"));
    serve.ask(&["create", "/w/x"]);
    assert!(next().starts_with("Created /w/x 0x"));
    serve.ask(&["set", "/w", "1"]);
    assert!(next().starts_with("DataChanged /w 0x"));
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}

#[test]
fn an_ephemeral_znode_lives_as_long_as_the_command() {
    let serve = Serve::start(&ANY);
    let mut command = synod();
    command.args(["--server", &serve.address, "create", "/mine", "--ephemeral"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("runs");
    let mut out = BufReader::new(child.stdout.take().expect("is piped"));
    let mut line = String::new();
    out.read_line(&mut line).expect("is text");
    assert_eq!(line, "/mine\n");
    assert!(!serve.ask(&["stat", "/mine"]).contains("ephemeralOwner none"));
    let pid = child.id().to_string();
    Command::new("kill").args(["-INT", &pid]).status().expect("there is kill");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    // Its session was closed: nobody waits for an expiry.
    let begun = Instant::now();
    while serve.run(&["stat", "/mine"]).status.code() == Some(0) {
        assert!(begun.elapsed() < Duration::from_secs(2), "it outlives its command");
    }
}

#[test]
fn orders_to_a_cluster_that_is_not_there_end_like_other_commands() {
    let run = |arguments: &[&str]| {
        let mut command = synod();
        command.args(["--connect-timeout-ms", "500", "cluster"]).args(arguments);
        command.output().expect("runs")
    };
    // Port 1 of loopback: nobody listens there.
    let nobody = ["--peer", "127.0.0.1:1"];
    for order in [&["status"][..], &["add", "4=127.0.0.1:2"], &["promote", "2"], &["remove", "2"]] {
        let output = run(&[&nobody, order].concat());
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        let text = String::from_utf8(output.stderr).expect("is text");
        assert!(text.starts_with("synod: cannot connect to 127.0.0.1:1: "), "{text}");
    }
    let output = run(&["--json", "--peer", "127.0.0.1:1", "status"]);
    let text = String::from_utf8(output.stderr).expect("is text");
    assert!(
        text.starts_with(r#"{"error":"cannot connect"#) && text.contains(r#""exit":7"#),
        "{text}"
    );
    for wrong in [
        &["--peer", "nowhere", "status"][..],
        &["add", "4"],
        &["promote", "0"],
        &["--peer-tls-ca", "ca.pem", "status"],
        &["transfer", "x"],
    ] {
        assert_eq!(run(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
