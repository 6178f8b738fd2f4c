//! The table, asked over the wire. (Who shows a certificate needs TLS: the tests of the server have
//! that identity.)

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use md5::{Digest, Md5};
use synod_core::digest_identity;
use synod_core::model::limits::REPLY_BYTES_MAX;
use synod_core::model::{
    Acl, CreateMode, Perms, Refusal, Request, Response, SaslToken, SessionId, Zxid,
};
use synod_core::wire::{
    ConnectReply, ConnectRequest, Incoming, Shape, decode_incoming, encode_request, take_frame,
};
use synod_server::{Config, Sasl, SaslUsers, Server};

use crate::table::{
    Case, Change, Named, PASSWORD, cases, changes, create_op, grants, missed, names, op, permitted,
    set_acl,
};

const ADDRESS: &str = "127.0.0.1";

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked, and how it is sent and answered if not as this project's client does.
type Ask = (Request, Option<(i32, Shape)>);

fn plain(request: Request) -> Ask {
    (request, None)
}

/// One connection, a synchronous one.
struct Connection {
    stream: TcpStream,
    received: BytesMut,
    xid: i32,
    /// The paths of the events that have come.
    events: Vec<String>,
}

impl Connection {
    fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_nodelay(true).expect("is a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("is a socket");
        let mut connection =
            Connection { stream, received: BytesMut::new(), xid: 0, events: Vec::new() };
        let mut out = BytesMut::new();
        let hello = ConnectRequest {
            last_zxid: Zxid::ZERO,
            timeout_ms: 40_000,
            session: SessionId(0),
            password: Bytes::from_static(&[0; 16]),
            read_only: Some(false),
        };
        hello.encode(&mut out);
        connection.stream.write_all(&out).expect("is sent");
        let welcome = ConnectReply::decode(connection.frame()).expect("is a welcome");
        assert_ne!(welcome.timeout_ms, 0);
        connection
    }

    fn frame(&mut self) -> Bytes {
        let mut bytes = [0; 8_192];
        loop {
            let taken = take_frame(&mut self.received, 0, REPLY_BYTES_MAX);
            if let Some(payload) = taken.expect("a good frame") {
                return payload;
            }
            let count = self.stream.read(&mut bytes).expect("an answer in time");
            assert_ne!(count, 0, "the server has closed");
            self.received.extend_from_slice(&bytes[..count]);
        }
    }

    /// Sends all of them, then takes the answers.
    fn ask_all(&mut self, asks: &[Ask]) -> Vec<Result<Response, Refusal>> {
        let (mut out, mut awaited) = (BytesMut::new(), Vec::new());
        for (request, number) in asks {
            self.xid += 1;
            let start = out.len();
            let (xid, shape) = encode_request(&mut out, self.xid, request).expect("a client's");
            let shape = number.clone().map_or(shape, |(number, shape)| {
                // Behind the length and the xid.
                out[start + 8..start + 12].copy_from_slice(&number.to_be_bytes());
                shape
            });
            awaited.push((xid, shape));
        }
        self.stream.write_all(&out).expect("is sent");
        awaited.into_iter().map(|(xid, shape)| self.answer(xid, &shape)).collect()
    }

    fn answer(&mut self, expected: i32, shape: &Shape) -> Result<Response, Refusal> {
        loop {
            match decode_incoming(self.frame(), |_| Some(shape.clone())).expect("can be read") {
                Incoming::Event(event) => {
                    self.events.extend(event.map(|event| event.path.to_string()));
                }
                Incoming::Reply { xid, result, .. } => {
                    assert_eq!(xid, expected, "in the order of the requests");
                    return result;
                }
            }
        }
    }

    fn must(&mut self, requests: impl IntoIterator<Item = Request>) {
        let asks: Vec<Ask> = requests.into_iter().map(plain).collect();
        for (answer, (request, _)) in self.ask_all(&asks).into_iter().zip(&asks) {
            answer.unwrap_or_else(|refusal| panic!("{request:?}: {refusal:?}"));
        }
    }

    fn prove_digest(&mut self, user: &str, password: &str) {
        let credentials = format!("{user}:{password}").into();
        self.must([Request::Auth { scheme: "digest".into(), credentials }]);
    }

    fn prove_sasl(&mut self, user: &str, password: &str) {
        let mut step = |token: String| match &self
            .ask_all(&[plain(Request::Sasl(SaslToken(token.into())))])[..]
        {
            [Ok(Response::Sasl(Some(SaslToken(token))))] => {
                String::from_utf8(token.to_vec()).expect("is text")
            }
            other => panic!("no token: {other:?}"),
        };
        let challenge = step(String::new());
        let nonce = challenge.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next());
        let nonce = nonce.expect("the challenge has one");
        let hash = |bytes: &[u8]| -> [u8; 16] { Md5::digest(bytes).into() };
        let hex =
            |hash: [u8; 16]| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let key = hash(format!("{user}:zk-sasl-md5:{password}").as_bytes());
        let secret = hex(hash(&[&key[..], format!(":{nonce}:c").as_bytes()].concat()));
        let what = hex(hash(b"AUTHENTICATE:zookeeper/zk-sasl-md5"));
        let proof = hex(hash(format!("{secret}:{nonce}:00000001:c:auth:{what}").as_bytes()));
        let proof = step(format!(
            "username=\"{user}\",realm=\"zk-sasl-md5\",nonce=\"{nonce}\",cnonce=\"c\",nc=00000001,\
             qop=auth,digest-uri=\"zookeeper/zk-sasl-md5\",response={proof}"
        ));
        assert!(proof.starts_with("rspauth="), "{proof}");
    }
}

/// A server, and who may do everything there.
struct Stage {
    address: SocketAddr,
    root: Connection,
    planted: usize,
    /// There `exists` needs no permission, and what was missed is told to everybody.
    is_apache: bool,
}

impl Stage {
    fn new(address: SocketAddr, is_apache: bool) -> Stage {
        let mut root = Connection::open(address);
        root.prove_digest("super", PASSWORD);
        Stage { address, root, planted: 0, is_apache }
    }

    /// Somebody who has proved to be that.
    fn asker(&self, named: &Named) -> Connection {
        let mut asker = Connection::open(self.address);
        match named.proved.as_ref().map(|proved| &*proved.scheme) {
            None => {}
            Some("digest") => asker.prove_digest("alice", PASSWORD),
            Some("sasl") => asker.prove_sasl("dave", PASSWORD),
            Some(other) => panic!("{other} is not proved here"),
        }
        asker
    }

    /// So many znodes with that list, each with a child that everybody may use.
    fn plant(
        &mut self,
        asker: &mut Connection,
        named: &Named,
        perms: Perms,
        count: usize,
    ) -> Vec<String> {
        let first = self.planted;
        self.planted += count;
        let paths: Vec<String> = (first..self.planted).map(|place| format!("/n{place}")).collect();
        let creator = if named.is_creator { asker } else { &mut self.root };
        let open = |path: &str| op(create_op(path, CreateMode::Persistent, Acl::open()));
        creator.must(paths.iter().flat_map(|path| {
            [open(path), open(&format!("{path}/old")), set_acl(path, named.list(perms))]
        }));
        paths
    }

    fn each_operation_needs_its_own_permission(&mut self) {
        for named in names(ADDRESS).into_iter().filter(|named| !named.has_certificate()) {
            let mut asker = self.asker(&named);
            for perms in grants() {
                let count = cases("/").len();
                let paths = self.plant(&mut asker, &named, perms, count);
                let asked: Vec<Case> = paths
                    .iter()
                    .enumerate()
                    .map(|(place, path)| cases(path).swap_remove(place))
                    .collect();
                let asks: Vec<Ask> =
                    asked.iter().map(|case| (case.request.clone(), case.number.clone())).collect();
                for (case, answer) in asked.iter().zip(asker.ask_all(&asks)) {
                    let free = case.name == "exists" && self.is_apache;
                    let expected = free || case.needs.met_by(perms);
                    let name = case.name;
                    assert_eq!(permitted(&answer), expected, "{name} with {perms:?} by {named:?}");
                }
            }
        }
    }

    fn the_superuser_needs_no_permission(&mut self) {
        let named = names(ADDRESS).swap_remove(3);
        let mut asker = Connection::open(self.address);
        asker.prove_digest("super", PASSWORD);
        let paths = self.plant(&mut asker, &named, Perms(0), cases("/").len());
        for (place, path) in paths.iter().enumerate() {
            let Case { name, request, number, .. } = cases(path).swap_remove(place);
            assert!(permitted(&asker.ask_all(&[(request, number)])[0]), "{name}");
        }
    }

    fn a_change_is_told_to_who_may_read(&mut self) {
        for named in names(ADDRESS).into_iter().filter(|named| !named.has_certificate()) {
            let mut asker = self.asker(&named);
            for perms in grants() {
                let paths = self.plant(&mut asker, &named, Perms::ALL, changes("/").len());
                let watched: Vec<Change> = paths
                    .iter()
                    .enumerate()
                    .map(|(place, path)| changes(path).swap_remove(place))
                    .collect();
                asker.must(watched.iter().map(|watched| watched.leave.clone()));
                let setter = if named.is_creator { &mut asker } else { &mut self.root };
                setter.must(paths.iter().map(|path| set_acl(path, named.list(perms))));
                self.root.must(watched.iter().map(|watched| watched.change.clone()));
                // What was to be told before is told by then.
                asker.must([Request::Ping]);
                let told = std::mem::take(&mut asker.events);
                for (watched, path) in watched.iter().zip(&paths) {
                    let told = told.iter().any(|event| event.starts_with(path.as_str()));
                    let expected = perms.intersects(Perms::READ);
                    let name = watched.name;
                    assert_eq!(told, expected, "{name} with {perms:?} by {named:?}");
                }
            }
        }
    }

    fn what_was_missed_is_told_to_who_may_read(&mut self) {
        for named in names(ADDRESS).into_iter().filter(|named| !named.has_certificate()) {
            let mut asker = self.asker(&named);
            for perms in grants() {
                let paths = self.plant(&mut asker, &named, perms, missed("/").len());
                for (place, path) in paths.iter().enumerate() {
                    let (name, request) = missed(path).swap_remove(place);
                    // The events come before the reply.
                    asker.must([request]);
                    let told = !std::mem::take(&mut asker.events).is_empty();
                    let expected = perms.intersects(Perms::READ) || self.is_apache;
                    assert_eq!(told, expected, "{name} with {perms:?} by {named:?}");
                }
            }
        }
    }

    fn run(&mut self) {
        self.each_operation_needs_its_own_permission();
        self.the_superuser_needs_no_permission();
        self.a_change_is_told_to_who_may_read();
        self.what_was_missed_is_told_to_who_may_read();
    }
}

fn super_digest() -> String {
    digest_identity(format!("super:{PASSWORD}").as_bytes()).expect("has a colon").id
}

#[test]
fn a_server_permits_what_is_specified() {
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let mut users = SaslUsers::default();
    users.insert("dave", PASSWORD).expect("is a name");
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        super_digest: Some(super_digest()),
        sasl: Some(Sasl { users, required: false, super_user: None }),
        ..Config::default()
    };
    let server = runtime.block_on(Server::start(config)).expect("starts");
    Stage::new(server.local_addr(), false).run();
    runtime.block_on(server.stop());
}

#[cfg(feature = "apache")]
#[test]
fn apache_zookeeper_permits_the_same_and_knows_our_client() {
    use synod_core::client::Client;
    use synod_core::model::Code;
    use synod_tests::recipes::ground::Ground;
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let folder = tempfile::tempdir().expect("can be made");
    let jaas = folder.path().join("jaas.conf");
    let users = format!(
        "Server {{\n org.apache.zookeeper.server.auth.DigestLoginModule required\n \
         user_dave=\"{PASSWORD}\";\n}};\n"
    );
    std::fs::write(&jaas, users).expect("can be written");
    let digest = "-Dzookeeper.DigestAuthenticationProvider.superDigest=";
    let providers = "org.apache.zookeeper.server.auth";
    let settings = [
        format!("{digest}{}", super_digest()),
        format!("-Djava.security.auth.login.config={}", jaas.display()),
        format!("-Dzookeeper.authProvider.1={providers}.SASLAuthenticationProvider"),
        format!("-Dzookeeper.authProvider.2={providers}.X509AuthenticationProvider"),
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=off".to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let ground = runtime.block_on(Ground::apache_with(&settings));
    let address = ground.faults().address(0);
    Stage::new(address, true).run();
    runtime.block_on(async {
        let builder = || Client::builder().servers(address.to_string()).connect_timeout(PATIENCE);
        let dave = builder().sasl_digest("dave", PASSWORD).connect().await.expect("is dave");
        let acl = vec![Acl::new(Perms::ALL, "sasl", "dave")];
        dave.create("/of-dave", "1").acl(acl).await.expect("is created");
        dave.get("/of-dave").await.expect("is his");
        let nobody = builder().connect().await.expect("has a session");
        assert!(nobody.get("/of-dave").await.expect_err("is his").is(Code::NoAuth));
        let wrong = builder().sasl_digest("dave", "wrong").connect().await;
        assert!(wrong.expect_err("is not dave").is(Code::AuthFailed));
    });
    drop((ground, runtime));
}
