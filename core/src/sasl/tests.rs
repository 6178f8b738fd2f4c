use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Gives the same bytes again and again.
struct Constant(u8);

impl Entropy for Constant {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }
}

fn token(text: impl Into<String>) -> SaslToken {
    SaslToken(text.into().into())
}

fn text(token: &SaslToken) -> String {
    String::from_utf8(token.0.to_vec()).expect("is text")
}

fn users(list: &[(&str, &str)]) -> SaslUsers {
    let mut users = SaslUsers::default();
    for (user, password) in list {
        assert_eq!(users.insert(user, password), Ok(true));
    }
    users
}

/// An exchange that waits for the response, and its challenge.
fn challenged(users: &SaslUsers, seed: u8) -> (SaslExchange, SaslToken) {
    let mut exchange = SaslExchange::default();
    let answer = exchange.step(users, &Constant(seed), &token("")).expect("is challenged");
    assert_eq!(answer.user, None);
    (exchange, answer.token)
}

/// The response of a client that does everything right.
fn response_of(user: &str, password: &str, challenge: &SaslToken) -> (String, Expected) {
    let credentials = Credentials::new(user, password);
    let (response, expected) = credentials.respond(&Constant(2), challenge).expect("responds");
    (text(&response), expected)
}

#[test]
fn the_examples_of_the_rfc_come_out() {
    for (service, nonce, cnonce, response, rspauth) in [
        (
            "imap",
            "OA6MG9tEQGm2hh",
            "OA6MHXh6VqTrRk",
            "d388dad90d4bbd760a152321f2143af7",
            "ea40f60335c427b5527b84dbabcdfffd",
        ),
        (
            "acap",
            "OA9BSXrbuRhWay",
            "OA9BSuZWMSpW8m",
            "6084c6db3fede7352c551284490fd0fc",
            "2f0b3d7c3c2e486600ef710726aa2eae",
        ),
    ] {
        let challenge = token(format!(
            "realm=\"elwood.innosoft.com\",nonce=\"{nonce}\",qop=\"auth\",algorithm=md5-sess,\
             charset=utf-8"
        ));
        let uri = format!("{service}/elwood.innosoft.com");
        let chris = Credentials::new("chris", "secret");
        let (sent, expected) = chris.respond_with(cnonce, &uri, &challenge).expect("responds");
        let said = Directives::read(&sent.0).expect("can be read");
        for (name, value) in [
            ("username", "chris"),
            ("realm", "elwood.innosoft.com"),
            ("nonce", nonce),
            ("nc", "00000001"),
            ("cnonce", cnonce),
            ("digest-uri", &uri),
            ("response", response),
            ("qop", "auth"),
            ("charset", "utf-8"),
        ] {
            assert_eq!(said.get(name).expect("stands once"), Some(value), "{name}");
        }
        expected.check(&token(format!("rspauth={rspauth}"))).expect("is the server's");
    }
}

#[test]
fn the_challenge_is_laid_out_as_zookeepers() {
    let (_, challenge) = challenged(&users(&[]), 0);
    let nonce = STANDARD.encode([0; NONCE_BYTES]);
    let expected =
        format!("realm=\"zk-sasl-md5\",nonce=\"{nonce}\",charset=utf-8,algorithm=md5-sess");
    assert_eq!(text(&challenge), expected);
}

#[test]
fn a_client_and_a_server_that_know_the_same_password_agree() {
    for (user, password) in [
        ("ann", "pw"),
        ("ann", ""),
        ("a\"n\\n, b", "p:w\"\\"),
        ("jürgen", "größe"),
        ("jürgen", "пароль"),
        ("アン", "größe"),
    ] {
        let users = users(&[("bob", "other"), (user, password)]);
        let (mut exchange, challenge) = challenged(&users, 7);
        let (response, expected) = response_of(user, password, &challenge);
        let answer = exchange.step(&users, &Constant(7), &token(response)).expect(user);
        assert_eq!(answer.user.as_deref(), Some(user));
        expected.check(&answer.token).expect("has the password too");
    }
}

/// What a client says that takes UTF-8 for everything, asks for nobody else's rights in so many
/// words, and has another order: as Python's and Java's do.
fn other_response(user: &str, password: &str, challenge: &SaslToken) -> String {
    let said = Directives::read(&challenge.0).expect("can be read");
    let nonce = said.get("nonce").expect("stands once").expect("is there");
    let key = hash(&[user.as_bytes(), REALM.as_bytes(), password.as_bytes()]);
    let round = Round { nonce, cnonce: "xyz", digest_uri: DIGEST_URI, authzid: Some(user) };
    let (response, user) = (round.of_client(&key), quoted(user));
    format!(
        "qop=auth, realm=\"zk-sasl-md5\", username={user}, nonce=\"{nonce}\", cnonce=xyz, \
         nc=00000001, digest-uri=\"{DIGEST_URI}\", response={response}, authzid={user}"
    )
}

#[test]
fn clients_of_other_habits_are_understood() {
    for (user, password) in [("ann", "pw"), ("jürgen", "größe")] {
        let users = users(&[(user, password)]);
        let (mut exchange, challenge) = challenged(&users, 7);
        let response = token(other_response(user, password, &challenge));
        let answer = exchange.step(&users, &Constant(7), &response).expect(user);
        assert_eq!(answer.user.as_deref(), Some(user));
    }
}

#[test]
fn what_is_not_quite_right_is_refused_and_ends_the_exchange() {
    let users = users(&[("ann", "pw"), ("bob", "pw")]);
    let (_, challenge) = challenged(&users, 7);
    let (good, _) = response_of("ann", "pw", &challenge);
    let (unknown, _) = response_of("zoe", "pw", &challenge);
    let (wrong, _) = response_of("ann", "pW", &challenge);
    let (stale, _) = response_of("ann", "pw", &challenged(&users, 8).1);
    let without = |name: &str| {
        let kept = good.split(',').filter(|part| !part.starts_with(name));
        kept.collect::<Vec<_>>().join(",")
    };
    let mut bad = vec![
        ("a user who is not known", unknown),
        ("a wrong password", wrong),
        ("another nonce", stale),
        ("nothing", String::new()),
        ("the challenge", text(&challenge)),
        ("another user", good.replace("\"ann\"", "\"bob\"")),
        ("a name in another case", good.replace("\"ann\"", "\"Ann\"")),
        ("another's rights", format!("{good},authzid=\"bob\"")),
        ("rights that are not in the hash", format!("{good},authzid=\"ann\"")),
        ("a second use", good.replace("nc=00000001", "nc=00000002")),
        ("another realm", good.replace("realm=\"zk-sasl-md5\"", "realm=\"elsewhere\"")),
        ("another service", good.replace("zookeeper/", "kafka/")),
        ("more protection", good.replace("qop=auth", "qop=auth-int")),
        ("another character set", good.replace("charset=utf-8", "charset=latin1")),
        ("a proof in upper case", {
            let (head, proof) = good.split_once("response=").expect("is there");
            format!("{head}response={}", proof.to_uppercase())
        }),
        ("two users", format!("{good},username=\"ann\"")),
        ("no end of a quote", format!("{good},x=\"y")),
        ("no comma", good.replace("\",realm", "\" realm")),
        ("no value", format!("{good},x")),
        ("too much", format!("{good},x={}", "y".repeat(SASL_TOKEN_BYTES_MAX))),
    ];
    for name in ["username", "realm", "nonce", "nc=", "cnonce", "digest-uri", "response"] {
        bad.push((name, without(name)));
    }
    for (name, response) in bad {
        assert_ne!(response, good, "{name}");
        let (mut exchange, _) = challenged(&users, 7);
        let refusal = exchange.step(&users, &Constant(7), &token(response)).expect_err(name);
        assert_eq!(refusal.code, Code::AuthFailed, "{name}");
        exchange.step(&users, &Constant(7), &token(good.clone())).expect_err(name);
        exchange.step(&users, &Constant(7), &token("")).expect_err(name);
    }
    let (mut exchange, _) = challenged(&users, 7);
    let bytes = SaslToken(bytes::Bytes::from_static(&[0xFF; 64]));
    exchange.step(&users, &Constant(7), &bytes).expect_err("is no text");
}

#[test]
fn an_exchange_goes_through_once() {
    let users = users(&[("ann", "pw")]);
    let mut early = SaslExchange::default();
    early.step(&users, &Constant(7), &token("x")).expect_err("nothing was asked");
    early.step(&users, &Constant(7), &token("")).expect_err("it has failed");
    let (mut exchange, challenge) = challenged(&users, 7);
    let (good, _) = response_of("ann", "pw", &challenge);
    exchange.step(&users, &Constant(7), &token(good.clone())).expect("is ann");
    for again in [good, String::new()] {
        exchange.step(&users, &Constant(7), &token(again)).expect_err("is over");
    }
}

#[test]
fn a_client_believes_no_server_that_lacks_the_password() {
    let (_, challenge) = challenged(&users(&[]), 7);
    let (_, expected) = response_of("ann", "pw", &challenge);
    let (response, _) = response_of("ann", "pW", &challenge);
    for forged in
        ["", "rspauth=", "rspauth=0", "rspauth=ea40f60335c427b5527b84dbabcdfffd", &response]
    {
        expected.check(&token(forged)).expect_err("is not the server");
    }
}

#[test]
fn a_client_answers_no_challenge_of_another_kind() {
    let ann = Credentials::new("ann", "pw");
    for challenge in [
        "",
        "realm=\"zk-sasl-md5\"",
        "nonce=\"x\"",
        "nonce=\"x\",algorithm=md5",
        "nonce=\"x\",algorithm=md5-sess,qop=\"auth-int,auth-conf\"",
        "nonce=\"x\",nonce=\"y\",algorithm=md5-sess",
        "nonce=\"x",
    ] {
        let refusal = ann.respond(&Constant(1), &token(challenge)).err().expect(challenge);
        assert_eq!(refusal.code, Code::AuthFailed);
    }
    let offered = token("nonce=\"x\",algorithm=md5-sess,qop=\"auth-int, auth\"");
    ann.respond(&Constant(1), &offered).expect("auth is among them");
    let endless = token(format!("nonce=\"{}\",algorithm=md5-sess", "\\\"".repeat(2_000)));
    ann.respond(&Constant(1), &endless).err().expect("what it would send is too long");
}

#[test]
fn names_of_users_have_rules_and_stand_once() {
    let mut users = SaslUsers::default();
    for bad in ["", "a:b", "a\nb", &"x".repeat(256)] {
        users.insert(bad, "pw").expect_err(bad);
    }
    assert_eq!(users.insert(&"x".repeat(255), "pw"), Ok(true));
    assert_eq!(users.insert("ann", "pw"), Ok(true));
    assert_eq!(users.insert("ann", "another"), Ok(false));
    let (mut exchange, challenge) = challenged(&users, 7);
    let (first, _) = response_of("ann", "pw", &challenge);
    exchange.step(&users, &Constant(7), &token(first)).expect("the first password counts");
}

#[test]
fn nothing_secret_is_shown() {
    let users = users(&[("ann", "swordfish")]);
    let (exchange, challenge) = challenged(&users, 7);
    let ann = Credentials::new("ann", "swordfish");
    let (response, _) = ann.respond(&Constant(2), &challenge).expect("responds");
    assert_eq!(format!("{ann:?}"), r#"Credentials { user: "ann", .. }"#);
    assert_eq!(format!("{users:?}"), "SaslUsers { len: 1, .. }");
    assert_eq!(format!("{exchange:?}"), "SaslExchange(challenged)");
    let length = response.0.len();
    assert_eq!(format!("{response:?}"), format!("SaslToken({length} bytes)"));
}

proptest! {
    #[test]
    fn garbage_proves_nothing(garbage in vec(any::<u8>(), 0..300), text in "([a-z-]{1,9}=\\PC*,?)*") {
        let users = users(&[("ann", "pw")]);
        for garbage in [garbage, text.into_bytes()] {
            let (mut exchange, _) = challenged(&users, 7);
            prop_assert!(exchange.step(&users, &Constant(7), &SaslToken(garbage.into())).is_err());
        }
    }

    #[test]
    fn what_is_changed_on_the_way_proves_no_other_user(at in any::<usize>(), with in any::<u8>()) {
        let users = users(&[("ann", "pw"), ("anm", "pw")]);
        let (mut exchange, challenge) = challenged(&users, 7);
        let mut response = response_of("ann", "pw", &challenge).0.into_bytes();
        let place = at % response.len();
        response[place] = with;
        let answer = exchange.step(&users, &Constant(7), &SaslToken(response.into()));
        // Some directives may be anything.
        prop_assert!(answer.is_err() || answer.is_ok_and(|it| it.user.as_deref() == Some("ann")));
    }
}
