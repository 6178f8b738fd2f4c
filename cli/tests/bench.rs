//! `synod bench` from outside: that it measures, that it clears up, and that it believes nobody.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

fn synod() -> Command {
    Command::new(env!("CARGO_BIN_EXE_synod"))
}

/// A server in memory that ends with the test.
struct Serve {
    child: Child,
    address: String,
}

impl Serve {
    fn start() -> Serve {
        let mut command = synod();
        command.args(["serve", "--in-memory", "--listen", "127.0.0.1:0"]);
        let child = command.stdout(Stdio::piped()).spawn().expect("starts");
        // Whatever is not as expected from here on, it ends.
        let mut serve = Serve { child, address: String::new() };
        let mut line = String::new();
        let mut out = BufReader::new(serve.child.stdout.take().expect("is piped"));
        out.read_line(&mut line).expect("says that it serves");
        let place = line.strip_prefix("serving the ZooKeeper protocol on ").expect("says so");
        serve.address = place.split_once(',').expect("says so").0.to_owned();
        serve
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bench(arguments: &[&str]) -> Output {
    let short = ["--seconds", "1", "--warm-up", "0", "--nodes", "50"];
    synod().args(["--json", "bench"]).args(short).args(arguments).output().expect("runs")
}

fn value(output: &Output) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("is JSON")
}

#[test]
fn every_case_is_measured_and_leaves_nothing_behind() {
    let serve = Serve::start();
    let cases = [
        "get:2x4",
        "get:60x1",
        "set:2x4",
        "mixed:2x4",
        "list:2x2",
        "create:2x4",
        "create-delete:2x3",
        "multi:2x2",
        "watch:3",
        "rewatch:3",
        "sessions:2",
        "lock:1",
        "lock:3",
        "idle:5",
        "load:1250",
    ];
    let pid = serve.child.id().to_string();
    let rows = value(&bench(&[&["--server", &serve.address, "--pid", &pid], &cases[..]].concat()));
    let rows = rows.as_array().expect("a row a case");
    assert_eq!(rows.len(), cases.len());
    for (row, case) in rows.iter().zip(cases) {
        assert_eq!(row["case"], case);
        assert!(row["operations"].as_u64() > Some(0), "{row}");
        assert!(row["resident_bytes"].as_u64() > Some(0), "{row}");
        assert_eq!(row["elections"], 0, "{row}");
    }
    assert_eq!(left(&serve), "");
}

/// The names below the znode of all runs.
fn left(serve: &Serve) -> String {
    let output = synod().args(["--server", &serve.address, "ls", "/synod-bench"]).output();
    let output = output.expect("runs");
    // Nobody has made it at first.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
    String::from_utf8(output.stdout).expect("is text")
}

#[test]
fn the_largest_values_fit_into_what_a_server_takes() {
    let serve = Serve::start();
    let large = ["--value-bytes", "500000", "get:1x1", "multi:1x1"];
    value(&bench(&[&["--server", &serve.address], &large[..]].concat()));
}

#[test]
fn a_run_that_is_stopped_clears_up() {
    let serve = Serve::start();
    let mut command = synod();
    command.args(["bench", "--server", &serve.address, "--seconds", "3600", "create:2x2"]);
    let mut child = command.spawn().expect("runs");
    while left(&serve).is_empty() {
        assert!(child.try_wait().expect("is a child").is_none(), "it goes on until it is stopped");
    }
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-s", "TERM", &id]).status().expect("there is a kill");
    assert!(sent.success());
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert_eq!(left(&serve), "");
}

#[test]
fn two_servers_are_compared_each_on_data_of_its_own() {
    let serve = format!(
        "exec {} serve --data \"$DIR\"/data --listen 127.0.0.1:$PORT --log error",
        env!("CARGO_BIN_EXE_synod")
    );
    let arguments = ["--start", &serve, "--against", &serve, "--rounds", "2", "set:2x2"];
    let rows = value(&bench(&arguments));
    let ratio = rows[0]["ratio"].as_f64().expect("a ratio");
    let rounds = rows[0]["rounds"].as_array().expect("rounds");
    assert!(ratio > 0.0 && rounds.len() == 2, "{rows}");
    for row in rounds.iter().flat_map(|pair| pair.as_array().expect("a pair")) {
        assert!(row["operations"].as_u64() > Some(0), "{row}");
        assert!(row["server_cpu_us"].is_number(), "{row}");
    }
}

#[test]
fn a_server_that_does_not_start_is_quoted() {
    let output = bench(&["--start", "echo 'no such flag'; exit 3", "get:1x1"]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no such flag"), "{said}");
}

#[test]
fn what_is_no_case_and_what_cannot_be_measured_is_refused() {
    for (arguments, code) in [
        (&["fly:1x1"][..], 2),
        (&["--seconds", "-1"], 2),
        (&["--value-bytes", "7"], 2),
        (&["--value-bytes", "500001"], 2),
        (&["--auth", "ann:secret", "get:1x1"], 2),
        (&["--sasl", "ann:secret", "get:1x1"], 2),
        (&["--against", "true"], 2),
        (&["--server", "127.0.0.1:1/chroot", "get:1x1"], 2),
        (&["--server", "127.0.0.1:1", "get:1x1"], 7),
    ] {
        let output = bench(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    }
}

/// Changes what a server says.
type Forge = fn(&mut [u8]);

/// Passes bytes on both ways; of what the server says, `forge` may change something.
fn forger(server: String, forge: Forge) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("connects");
            let server = TcpStream::connect(&server).expect("the server is there");
            let ways = [
                (client.try_clone(), server.try_clone(), false),
                (server.try_clone(), client.try_clone(), true),
            ];
            for (from, to, forges) in ways {
                let (mut from, mut to) = (from.expect("a socket"), to.expect("a socket"));
                thread::spawn(move || {
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(read @ 1..) = from.read(&mut buffer) {
                        if forges {
                            forge(&mut buffer[..read]);
                        }
                        if to.write_all(&buffer[..read]).is_err() {
                            break;
                        }
                    }
                    // Either side may be gone.
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        }
    });
    address
}

/// The place of a reply's header, of those that a server sends alone: length, xid, zxid, error.
const ZXID: std::ops::Range<usize> = 8..16;

#[test]
fn a_server_that_lies_is_found_out() {
    let serve = Serve::start();
    // One byte of the data, the version of a Stat, a reply that is another's, time that goes back.
    let forgeries: [(&str, Forge); 4] = [
        ("get:1x1", |reply| {
            if let Some(place) = reply.windows(8).position(|bytes| bytes == b"........") {
                reply[place] = b'!';
            }
        }),
        ("set:1x1", |reply| {
            // A Stat alone: 68 bytes behind a header of 16.
            if reply.len() == 4 + 16 + 68 {
                reply[4 + 16 + 32 + 3] ^= 1;
            }
        }),
        ("get:1x1", |reply| {
            if reply.len() > 100 {
                reply[7] ^= 1;
            }
        }),
        ("set:1x1", |reply| {
            if reply.len() == 4 + 16 + 68 {
                reply[ZXID].copy_from_slice(&1_i64.to_be_bytes());
            }
        }),
    ];
    for (number, (case, forge)) in forgeries.into_iter().enumerate() {
        let address = forger(serve.address.clone(), forge);
        let output = bench(&["--server", &address, case]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "forgery {number}: {said}");
        assert!(said.contains("the server is wrong"), "forgery {number}: {said}");
        assert!(output.stdout.is_empty(), "forgery {number}: {output:?}");
    }
    // The way through alone changes nothing.
    value(&bench(&["--server", &forger(serve.address.clone(), |_| {}), "get:1x1"]));
}
