//! SASL's DIGEST-MD5 over the wire: raw, hostile, and by this project's client.

use std::fmt::Debug;
use std::time::Duration;

use crate::common::carrier::Carrier;
use crate::common::cluster::{Cluster, until_mode};
use crate::common::{PATIENCE, Raw, close, config, create, exists, get, new_session, start};
use bytes::{Buf, BytesMut};
use md5::{Digest, Md5};
use synod_core::client::{Client, ServerKind};
use synod_core::model::{
    Acl, Code, Create, CreateMode, Error, Identity, Op, Perms, Read, Request, Response, SaslToken,
    Write,
};
use synod_core::wire::{ConnectRequest, XID_PING};
use synod_core::{SaslExchange, SaslUsers};
use synod_server::{Config, Sasl, Server};

const SASL: i32 = 102;

fn users() -> SaslUsers {
    let mut users = SaslUsers::default();
    for (user, password) in [("ann", "pw"), ("bob", "other"), ("super", "pw")] {
        assert_eq!(users.insert(user, password), Ok(true));
    }
    users
}

async fn serve(required: bool) -> Server {
    let sasl = Some(Sasl { users: users(), required, super_user: None });
    start(Config { sasl, ..config() }).await
}

fn token(text: impl Into<String>) -> Request {
    Request::Sasl(SaslToken(text.into().into()))
}

fn text(answer: Response) -> String {
    match answer {
        Response::Sasl(Some(SaslToken(token))) => {
            String::from_utf8(token.to_vec()).expect("is text")
        }
        other => panic!("no token: {other:?}"),
    }
}

fn create_with(path: &str, acl: Vec<Acl>) -> Request {
    let (path, mode) = (path.into(), CreateMode::Persistent);
    Request::Write(Write::Op(Op::Create(Create { path, data: None, acl, mode })))
}

fn hash(text: impl AsRef<[u8]>) -> [u8; 16] {
    Md5::digest(text).into()
}

fn hex(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The response as kazoo's library writes it, worked out here anew.
fn response(user: &str, password: &str, challenge: &str) -> String {
    let nonce = challenge.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next());
    let nonce = nonce.expect("the challenge has one");
    let key = hash(format!("{user}:zk-sasl-md5:{password}"));
    let secret = [&key[..], format!(":{nonce}:0.123").as_bytes()].concat();
    let secret = hex(hash(secret));
    let what = hex(hash("AUTHENTICATE:zookeeper/zk-sasl-md5"));
    let proof = hex(hash(format!("{secret}:{nonce}:00000001:0.123:auth:{what}")));
    format!(
        "qop=auth,realm=\"zk-sasl-md5\",username=\"{user}\",nonce=\"{nonce}\",cnonce=\"0.123\",\
         nc=00000001,digest-uri=\"zookeeper/zk-sasl-md5\",response={proof}"
    )
}

async fn identities(raw: &mut Raw) -> Vec<Identity> {
    match raw.call(&Request::Read(Read::WhoAmI)).await.expect("is answered") {
        Response::WhoAmI(identities) => identities,
        other => panic!("no identities: {other:?}"),
    }
}

/// What a client answers to a challenge.
type Answer<'a> = &'a dyn Fn(&str) -> String;

/// Xid, zxid, error and what follows of the next reply.
async fn reply(raw: &mut Raw) -> (i32, i64, i32, Vec<u8>) {
    let mut payload = raw.frame().await.expect("is answered");
    (payload.get_i32(), payload.get_i64(), payload.get_i32(), payload.to_vec())
}

#[tokio::test]
async fn a_user_is_proved_in_two_steps_and_counts_in_acls() {
    let server = serve(false).await;
    let mut ann = Raw::open(&server).await;
    let challenge = text(ann.call(&token("")).await.expect("is challenged"));
    assert!(challenge.starts_with("realm=\"zk-sasl-md5\",nonce=\""), "{challenge}");
    assert!(challenge.ends_with("\",charset=utf-8,algorithm=md5-sess"), "{challenge}");
    // The requests behind it in one packet are judged by it.
    let mut out = BytesMut::new();
    ann.encode(&mut out, &token(response("ann", "pw", &challenge)));
    ann.encode(&mut out, &create_with("/hers", Acl::creator()));
    ann.encode(&mut out, &create_with("/bobs", vec![Acl::new(Perms::ALL, "sasl", "bob")]));
    ann.bytes(&out).await;
    let (_, zxid, error, proof) = reply(&mut ann).await;
    assert_eq!((zxid, error), (0, 0));
    assert!(proof[4..].starts_with(b"rspauth=") && proof.len() == 4 + 8 + 32);
    for _ in 0..2 {
        ann.reply().await.2.expect("is created");
    }
    assert!(identities(&mut ann).await.contains(&Identity::new("sasl", "ann")));
    ann.call(&get("/hers", false)).await.expect("is hers");
    let acl = ann.call(&Request::Read(Read::GetAcl { path: "/hers".into() })).await;
    match acl.expect("is hers") {
        Response::Acl { acl, .. } => assert_eq!(acl, [Acl::new(Perms::ALL, "sasl", "ann")]),
        other => panic!("no ACL: {other:?}"),
    }
    let refused = ann.call(&get("/bobs", false)).await.expect_err("is not bob");
    assert_eq!(refused.code, Code::NoAuth);
    let mut nobody = Raw::open(&server).await;
    for path in ["/hers", "/bobs"] {
        let refused = nobody.call(&get(path, false)).await.expect_err("is nobody");
        assert_eq!(refused.code, Code::NoAuth);
    }
    // A digest of the same name is another.
    let digest = Request::Auth { scheme: "digest".into(), credentials: "ann:pw".into() };
    nobody.call(&digest).await.expect("is taken");
    nobody.call(&get("/hers", false)).await.expect_err("is not that ann");
    // A user who is called so is none.
    let mut named = Raw::open(&server).await;
    let challenge = text(named.call(&token("")).await.expect("is challenged"));
    named.call(&token(response("super", "pw", &challenge))).await.expect("is a user");
    named.call(&get("/hers", false)).await.expect_err("has no other powers");
    server.stop().await;
}

#[tokio::test]
async fn the_user_that_is_named_so_may_do_everything() {
    let (users, super_user) = (users(), Some("bob".to_owned()));
    let sasl = Some(Sasl { users, required: false, super_user });
    let server = start(Config { sasl, ..config() }).await;
    let mut of_user = Vec::new();
    for (user, password) in [("ann", "pw"), ("bob", "other"), ("super", "pw")] {
        let mut raw = Raw::open(&server).await;
        let challenge = text(raw.call(&token("")).await.expect("is challenged"));
        raw.call(&token(response(user, password, &challenge))).await.expect("is a user");
        of_user.push(raw);
    }
    let [ann, bob, named] = &mut of_user[..] else { panic!("three users") };
    ann.call(&create_with("/hers", Acl::creator())).await.expect("is created");
    bob.call(&get("/hers", false)).await.expect("may do everything");
    assert!(identities(bob).await.contains(&Identity::new("super", "")));
    for other in [ann, named] {
        assert!(!identities(other).await.contains(&Identity::new("super", "")));
    }
    named.call(&get("/hers", false)).await.expect_err("is called so and no more");
    // Who fails to prove it has none of it.
    let mut wrong = Raw::open(&server).await;
    let challenge = text(wrong.call(&token("")).await.expect("is challenged"));
    let refused = wrong.call(&token(response("bob", "pw", &challenge))).await;
    assert_eq!(refused.expect_err("is a wrong password").code, Code::AuthFailed);
    server.stop().await;
}

#[tokio::test]
async fn a_step_that_fails_is_answered_and_ends_the_connection() {
    let server = serve(false).await;
    let mut other = Raw::open(&server).await;
    let elsewhere = text(other.call(&token("")).await.expect("is challenged"));
    let replayed = response("ann", "pw", &elsewhere);
    other.call(&token(replayed.clone())).await.expect("is ann");
    let cases: [(&str, Answer<'_>); 9] = [
        ("a wrong password", &|challenge| response("ann", "pW", challenge)),
        ("an unknown user", &|challenge| response("zoe", "pw", challenge)),
        ("another's password", &|challenge| response("bob", "pw", challenge)),
        ("what went through elsewhere", &|_| replayed.clone()),
        ("the challenge", &str::to_owned),
        ("nothing", &|_| String::new()),
        ("garbage", &|_| "\u{0}\u{1}=\",=,\\\"".to_owned()),
        ("commas", &|_| ",".repeat(4_096)),
        ("a megabyte", &|challenge| {
            response("ann", &"x".repeat(9), challenge) + &"y".repeat(1 << 20)
        }),
    ];
    for (name, answer) in cases {
        let mut raw = Raw::open(&server).await;
        let challenge = text(raw.call(&token("")).await.expect("is challenged"));
        let mut out = BytesMut::new();
        let xid = raw.encode(&mut out, &token(answer(&challenge)));
        raw.encode(&mut out, &create("/after", b"", CreateMode::Persistent));
        raw.bytes(&out).await;
        let expected = (xid, 0, Code::AuthFailed.number(), vec![0xFF; 4]);
        assert_eq!(reply(&mut raw).await, expected, "{name}");
        raw.closed().await;
        // The session lives on, for who has its password.
        let mut again = Raw::dial(&server).await;
        let welcome = again.hello(&raw.resume()).await.expect("is answered");
        assert_ne!(welcome.timeout_ms, 0, "{name}");
    }
    let mut raw = Raw::open(&server).await;
    raw.call(&token("x")).await.expect_err("the first token is empty");
    raw.closed().await;
    let refused = other.call(&exists("/after", false)).await.expect_err("nothing was done");
    assert_eq!(refused.code, Code::NoNode);
    // Once is enough.
    other.call(&token("")).await.expect_err("it is done");
    other.closed().await;
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_is_no_token_is_malformed_and_changes_nothing() {
    let server = serve(false).await;
    let mut raw = Raw::open(&server).await;
    let negative = (-2_i32).to_be_bytes();
    for body in [&b""[..], &[0, 0], &[0x7F, 0xFF, 0xFF, 0xFF], &negative, &[0, 0, 0, 2, 1]] {
        raw.raw(7, SASL, body).await;
        let header = raw.header().await.map(|(xid, _, error)| (xid, error));
        assert_eq!(header, Some((7, Code::Marshalling.number())));
    }
    // Null is as empty.
    raw.raw(8, SASL, &[0xFF; 4]).await;
    let (xid, zxid, error, challenge) = reply(&mut raw).await;
    assert_eq!((xid, zxid, error), (8, 0, 0));
    let challenge = String::from_utf8(challenge[4..].to_vec()).expect("is text");
    raw.call(&token(response("ann", "pw", &challenge))).await.expect("is ann");
    assert!(identities(&mut raw).await.contains(&Identity::new("sasl", "ann")));
    server.stop().await;
}

#[tokio::test]
async fn each_challenge_has_a_nonce_of_its_own() {
    let server = serve(false).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let mut raw = Raw::open(&server).await;
        assert!(seen.insert(text(raw.call(&token("")).await.expect("is challenged"))));
    }
    server.stop().await;
}

#[tokio::test]
async fn without_users_a_token_is_answered_by_none() {
    let server = start(config()).await;
    let mut raw = Raw::open(&server).await;
    for sent in ["", "x"] {
        assert_eq!(raw.call(&token(sent)).await, Ok(Response::Sasl(None)));
    }
    let error = connect(&server, "ann", "pw").await.expect_err("there are no users");
    assert!(error.is(Code::AuthFailed) && error.to_string().contains("users of SASL"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn where_it_is_required_nothing_is_done_before_it() {
    let server = serve(true).await;
    let required = Code::ClosedRequireSasl.number();
    for request in [
        create("/before", b"", CreateMode::Persistent),
        get("/", false),
        Request::Sync { path: "/".into() },
        Request::Ping,
        close(),
    ] {
        let mut raw = Raw::open(&server).await;
        // Whatever a digest proves, it is not enough.
        let digest = Request::Auth { scheme: "digest".into(), credentials: "ann:pw".into() };
        raw.call(&digest).await.expect("is taken");
        let mut out = BytesMut::new();
        let xid = raw.encode(&mut out, &request);
        raw.encode(&mut out, &create("/after", b"", CreateMode::Persistent));
        raw.bytes(&out).await;
        let xid = if request == Request::Ping { XID_PING } else { xid };
        assert_eq!(raw.header().await, Some((xid, 0, required)), "{request:?}");
        raw.closed().await;
    }
    // An operation that nobody knows, and one that cannot be read.
    for (operation, body) in [(4711, &[][..]), (1, &[0, 0])] {
        let mut raw = Raw::open(&server).await;
        raw.raw(5, operation, body).await;
        assert_eq!(raw.header().await, Some((5, 0, required)));
        raw.closed().await;
    }
    let mut raw = Raw::open(&server).await;
    let challenge = text(raw.call(&token("")).await.expect("is challenged"));
    let mut out = BytesMut::new();
    raw.encode(&mut out, &token(response("ann", "pw", &challenge)));
    raw.encode(&mut out, &create("/own", b"", CreateMode::Persistent));
    raw.bytes(&out).await;
    raw.reply().await.2.expect("is ann");
    raw.reply().await.2.expect("is done for ann");
    for path in ["/before", "/after"] {
        let refused = raw.call(&exists(path, false)).await.expect_err("was not done");
        assert_eq!(refused.code, Code::NoNode);
    }
    let mut raw = Raw::open(&server).await;
    let challenge = text(raw.call(&token("")).await.expect("is challenged"));
    let wrong = raw.call(&token(response("ann", "pW", &challenge))).await;
    assert_eq!(wrong.expect_err("is wrong").code, Code::ClosedRequireSasl);
    raw.closed().await;
    server.stop().await;
}

async fn connect(server: &Server, user: &str, password: &str) -> Result<Client, Error> {
    let builder = Client::builder().servers(server.local_addr().to_string());
    let builder = builder.server_kind(ServerKind::Synod).sasl_digest(user, password);
    builder.connect_timeout(PATIENCE).connect().await
}

fn shows_nothing(shown: &impl Debug) {
    let shown = format!("{shown:?}");
    assert!(!shown.contains("swordfish"), "{shown}");
}

#[tokio::test]
async fn a_client_proves_itself_before_anything_else() {
    for required in [false, true] {
        let server = serve(required).await;
        let ann = connect(&server, "ann", "pw").await.expect("connects");
        let known = ann.who_am_i().await.expect("is told");
        assert!(known.contains(&Identity::new("sasl", "ann")), "{known:?}");
        ann.create("/hers", "1").acl(Acl::creator()).await.expect("is created");
        let bob = connect(&server, "bob", "other").await.expect("connects");
        assert!(bob.get("/hers").await.expect_err("is hers").is(Code::NoAuth));
        for (user, password) in [("ann", "swordfish"), ("zoe", "swordfish"), ("bob", "pw")] {
            let error = connect(&server, user, password).await.expect_err("is not accepted");
            assert!(error.is(Code::AuthFailed) && !error.retryable(), "{error}");
            assert!(error.to_string().contains(user), "{error}");
            shows_nothing(&error);
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_client_proves_itself_again_on_each_connection() {
    let server = serve(true).await;
    let carrier = Carrier::to(&server).await;
    let builder = Client::builder().servers(carrier.address.to_string());
    let builder = builder.server_kind(ServerKind::Synod).session_timeout(Duration::from_secs(40));
    let ann = builder.sasl_digest("ann", "pw").connect_timeout(PATIENCE).connect().await;
    let ann = ann.expect("connects");
    ann.create("/hers", "1").acl(Acl::creator()).await.expect("is created");
    let session = ann.session();
    for _ in 0..3 {
        carrier.cut().await;
        let back = async {
            while let Err(error) = ann.get("/hers").await {
                assert!(error.retryable(), "{error}");
            }
        };
        tokio::time::timeout(PATIENCE, back).await.expect("comes in time");
    }
    assert_eq!(ann.session().id(), session.id(), "the session is the same");
    let known = ann.who_am_i().await.expect("is told");
    assert!(known.contains(&Identity::new("sasl", "ann")), "{known:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_client_without_it_is_told_where_it_is_required() {
    let server = serve(true).await;
    let servers = server.local_addr().to_string();
    let client = Client::builder().servers(servers).server_kind(ServerKind::Synod);
    let client = client.connect_timeout(PATIENCE).connect().await.expect("has a session");
    let told = async {
        loop {
            let error = client.get("/").await.expect_err("nothing is done for it");
            if error.is(Code::ClosedRequireSasl) {
                return;
            }
            assert!(error.session_over() || error.retryable(), "{error}");
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("comes in time");
    server.stop().await;
}

/// What is read with the proof is refused by what the connection is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_proves_who_it_is_while_nobody_leads_still_reads_alone() {
    let mut cluster = Cluster::new();
    cluster.sasl = Some(Sasl { users: users(), required: true, super_user: None });
    for place in 0..3 {
        cluster.start_one(place).await;
    }
    Raw::when_led(cluster.member(0)).await;
    [1, 2].into_iter().for_each(|other| cluster.lose(other));
    until_mode(cluster.member(0), "read-only").await;
    let hello = ConnectRequest { read_only: Some(true), timeout_ms: 60_000, ..new_session() };
    let mut ann = Raw::open_at_last(cluster.member(0), &hello).await;
    let challenge = text(ann.call(&token("")).await.expect("is challenged"));
    // In one packet.
    let mut out = BytesMut::new();
    ann.encode(&mut out, &token(response("ann", "pw", &challenge)));
    ann.encode(&mut out, &Request::Sync { path: "/".into() });
    ann.encode(&mut out, &create("/n", b"", CreateMode::Persistent));
    ann.bytes(&out).await;
    ann.reply().await.2.expect("is proved");
    for _ in 0..2 {
        let refusal = ann.reply().await.2.expect_err("reads alone are done");
        assert_eq!(refusal.code, Code::NotReadOnly);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn what_cannot_be_proved_is_refused_at_once() {
    let embedded = Client::builder().sasl_digest("ann", "pw");
    let error = embedded.connect().await.expect_err("it knows no users");
    assert!(matches!(error, Error::Unsupported { what: "SASL", .. }), "{error}");
    let embedded = Client::builder().sasl_digest("ann", "pw").connect_in_background();
    embedded.expect_err("it knows no users");
    for user in ["", "a:b", "a\nb", &"x".repeat(256)] {
        let builder = Client::builder().servers("127.0.0.1:1").sasl_digest(user, "swordfish");
        let error = builder.connect_timeout(Duration::from_secs(1)).connect().await;
        let error = error.expect_err("is no name");
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
        shows_nothing(&error);
    }
}

#[test]
fn nothing_secret_is_shown() {
    let mut users = SaslUsers::default();
    users.insert("ann", "swordfish").expect("is a name");
    let config =
        Config { sasl: Some(Sasl { users, required: true, super_user: None }), ..config() };
    shows_nothing(&config);
    assert!(!format!("{config:?}").contains("ann"));
    shows_nothing(&token("swordfish"));
    shows_nothing(&Response::Sasl(Some(SaslToken("swordfish".into()))));
    shows_nothing(&SaslExchange::default());
}
