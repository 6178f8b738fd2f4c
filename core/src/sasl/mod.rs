//! SASL's mechanism DIGEST-MD5 ([RFC 2831](https://www.rfc-editor.org/rfc/rfc2831)), both sides, as
//! ZooKeeper speaks it: one round, `qop=auth`, nothing of the connection is signed or encrypted
//! afterwards.
//!
//! The server's challenge carries a nonce; the client answers with a hash of it and of the password,
//! and the server with another, so that each knows that the other has the password. Realm and host
//! are constants of the protocol.
//!
//! MD5 is as weak as it is old: who reads along can try passwords. Take TLS with it, or instead.

mod directives;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

use self::directives::{Directives, quoted};
use crate::model::limits::{SASL_TOKEN_BYTES_MAX, SASL_USER_BYTES_MAX};
use crate::model::{Code, Refusal, SaslToken};
use crate::seams::Entropy;

/// What stands for the realm and for the host of every server.
const REALM: &str = "zk-sasl-md5";

/// The service and the host.
const DIGEST_URI: &str = "zookeeper/zk-sasl-md5";

/// The first response to a nonce: there is no second one.
const NONCE_COUNT: &str = "00000001";

/// Bytes of chance in a nonce.
const NONCE_BYTES: usize = 32;

/// The hash of a user, the realm and a password: all of a password that either side needs.
type Key = [u8; 16];

fn refused<T>(rule: &'static str) -> Result<T, Refusal> {
    Err(Refusal::new(Code::AuthFailed, rule))
}

/// The hash of the parts with colons between them.
fn hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Md5::new();
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            hasher.update(b":");
        }
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn hex(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether they are equal, in a time that does not say where they differ.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differ = one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differ) == 0
}

/// As the RFC has it: ISO 8859-1 if that has all of the characters, and else UTF-8.
fn encoded(text: &str) -> Vec<u8> {
    let narrow: Result<Vec<u8>, _> =
        text.chars().map(|char| u8::try_from(u32::from(char))).collect();
    narrow.unwrap_or_else(|_| text.as_bytes().to_vec())
}

/// A nonce: chance, in characters that need no quoting.
fn nonce(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; NONCE_BYTES];
    entropy.fill(&mut bytes);
    STANDARD.encode(bytes)
}

/// # Errors
/// The rule for names of users that does not hold.
pub(crate) fn check_user(user: &str) -> Result<(), &'static str> {
    if user.is_empty() || user.len() > SASL_USER_BYTES_MAX {
        Err("the name of a user has 1 to 255 bytes")
    } else if user.contains(|char: char| char == ':' || char.is_control()) {
        Err("the name of a user has no colon and no control character")
    } else {
        Ok(())
    }
}

/// What both sides say of one round.
struct Round<'a> {
    nonce: &'a str,
    cnonce: &'a str,
    digest_uri: &'a str,
    /// Whom the client wishes to act for, if it says so.
    authzid: Option<&'a str>,
}

impl Round<'_> {
    /// What proves that one has the key: the client's with the method, the server's without.
    fn proof(&self, key: &Key, method: &str) -> String {
        let mut secret = vec![&key[..], self.nonce.as_bytes(), self.cnonce.as_bytes()];
        secret.extend(self.authzid.map(str::as_bytes));
        let secret = hex(hash(&secret));
        let what = hex(hash(&[method.as_bytes(), self.digest_uri.as_bytes()]));
        let parts = [&secret, self.nonce, NONCE_COUNT, self.cnonce, "auth", &what];
        hex(hash(&parts.map(str::as_bytes)))
    }

    fn of_client(&self, key: &Key) -> String {
        self.proof(key, "AUTHENTICATE")
    }

    fn of_server(&self, key: &Key) -> String {
        self.proof(key, "")
    }
}

/// The users that a server knows. Of a password it keeps a hash that is as good as the password to
/// who finds it; neither is ever shown.
#[derive(Clone, Default)]
pub struct SaslUsers {
    /// Two keys of each: not every client encodes as the RFC has it; some take UTF-8 always.
    keys: BTreeMap<String, [Key; 2]>,
}

impl SaslUsers {
    /// Enters a user. Whether the name was free; if not, nothing is changed.
    ///
    /// # Errors
    /// The rule for names that does not hold: 1 to 255 bytes, no colon, no control character.
    pub fn insert(&mut self, user: &str, password: &str) -> Result<bool, &'static str> {
        check_user(user)?;
        let free = !self.keys.contains_key(user);
        if free {
            let by_rfc = hash(&[&encoded(user), REALM.as_bytes(), &encoded(password)]);
            let utf8 = hash(&[user.as_bytes(), REALM.as_bytes(), password.as_bytes()]);
            self.keys.insert(user.to_owned(), [by_rfc, utf8]);
        }
        Ok(free)
    }

    /// Whether there is a user of this name.
    pub fn contains(&self, user: &str) -> bool {
        self.keys.contains_key(user)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl fmt::Debug for SaslUsers {
    /// Shows how many there are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaslUsers").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// What a server answers to a client's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslAnswer {
    /// What to send.
    pub token: SaslToken,
    /// Who the client has proved to be, when that is settled.
    pub user: Option<String>,
}

/// One connection's exchange as the server sees it. It goes through once: a nonce is never taken
/// again, and whatever comes after a failure or a success is refused.
#[derive(Clone, Default)]
pub struct SaslExchange(State);

#[derive(Clone, Default)]
enum State {
    /// Nothing was said.
    #[default]
    New,
    /// The nonce was sent.
    Challenged(Box<str>),
    /// It is settled.
    Over,
}

impl fmt::Debug for SaslExchange {
    /// Shows how far it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::New => "SaslExchange(new)",
            State::Challenged(_) => "SaslExchange(challenged)",
            State::Over => "SaslExchange(over)",
        })
    }
}

impl SaslExchange {
    /// Takes the client's next token: an empty one first, its response to the challenge then.
    ///
    /// # Errors
    /// `AuthFailed` with the rule that does not hold. It does not tell an unknown user from a wrong
    /// password.
    pub fn step(
        &mut self,
        users: &SaslUsers,
        entropy: &dyn Entropy,
        token: &SaslToken,
    ) -> Result<SaslAnswer, Refusal> {
        match std::mem::replace(&mut self.0, State::Over) {
            State::New if token.0.is_empty() => {
                let nonce = nonce(entropy);
                let challenge =
                    format!("realm=\"{REALM}\",nonce=\"{nonce}\",charset=utf-8,algorithm=md5-sess");
                self.0 = State::Challenged(nonce.into());
                Ok(SaslAnswer { token: SaslToken(challenge.into()), user: None })
            }
            State::New => refused("the first token of DIGEST-MD5 is empty"),
            State::Challenged(nonce) => verify(users, &nonce, token),
            State::Over => refused("DIGEST-MD5 is done once on a connection"),
        }
    }
}

/// Judges a client's response.
fn verify(users: &SaslUsers, nonce: &str, token: &SaslToken) -> Result<SaslAnswer, Refusal> {
    let said = Directives::read(&token.0)?;
    let needed =
        |name| said.get(name)?.ok_or(Refusal::new(Code::AuthFailed, "a directive is missing"));
    let user = needed("username")?;
    let digest_uri = needed("digest-uri")?;
    let response = needed("response")?;
    let cnonce = needed("cnonce")?;
    if needed("realm")? != REALM {
        return refused("the realm is the challenge's");
    }
    if !same(needed("nonce")?.as_bytes(), nonce.as_bytes()) {
        return refused("the nonce is the challenge's");
    }
    if needed("nc")? != NONCE_COUNT {
        return refused("a nonce is used once");
    }
    if said.get("qop")?.is_some_and(|qop| qop != "auth") {
        return refused("the quality of protection is auth");
    }
    if said.get("charset")?.is_some_and(|charset| !charset.eq_ignore_ascii_case("utf-8")) {
        return refused("the character set is utf-8");
    }
    if !digest_uri.eq_ignore_ascii_case(DIGEST_URI) {
        return refused("the service is zookeeper/zk-sasl-md5");
    }
    let authzid = said.get("authzid")?;
    if authzid.is_some_and(|authzid| authzid != user) {
        return refused("a user acts for nobody else");
    }
    let round = Round { nonce, cnonce, digest_uri, authzid };
    // An unknown user takes as long as a wrong password.
    let known = users.keys.get(user);
    let keys = known.unwrap_or(&[[0; 16]; 2]);
    let fit = keys.map(|key| same(round.of_client(&key).as_bytes(), response.as_bytes()));
    if known.is_none() || !(fit[0] | fit[1]) {
        return refused("the user must be known and the password theirs");
    }
    let key = if fit[0] { &keys[0] } else { &keys[1] };
    let token = format!("rspauth={}", round.of_server(key));
    Ok(SaslAnswer { token: SaslToken(token.into()), user: Some(user.to_owned()) })
}

/// A user and a password, as a client has them.
#[derive(Clone)]
pub(crate) struct Credentials {
    user: String,
    password: String,
}

impl fmt::Debug for Credentials {
    /// Shows the user.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What the server must say last.
pub(crate) struct Expected(String);

impl Credentials {
    pub(crate) fn new(user: &str, password: &str) -> Credentials {
        Credentials { user: user.to_owned(), password: password.to_owned() }
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Answers the server's challenge.
    ///
    /// # Errors
    /// `AuthFailed` for a challenge that is not one of this mechanism.
    pub(crate) fn respond(
        &self,
        entropy: &dyn Entropy,
        challenge: &SaslToken,
    ) -> Result<(SaslToken, Expected), Refusal> {
        self.respond_with(&nonce(entropy), DIGEST_URI, challenge)
    }

    fn respond_with(
        &self,
        cnonce: &str,
        digest_uri: &str,
        challenge: &SaslToken,
    ) -> Result<(SaslToken, Expected), Refusal> {
        let said = Directives::read(&challenge.0)?;
        let Some(nonce) = said.get("nonce")? else {
            return refused("the server's challenge has a nonce");
        };
        if said.get("algorithm")? != Some("md5-sess") {
            return refused("the server's algorithm is md5-sess");
        }
        if said.get("qop")?.is_some_and(|all| !all.split(',').any(|qop| qop.trim() == "auth")) {
            return refused("the server offers the quality of protection auth");
        }
        let realm = said.get("realm")?.unwrap_or_default();
        let key = hash(&[&encoded(&self.user), &encoded(realm), &encoded(&self.password)]);
        let round = Round { nonce, cnonce, digest_uri, authzid: None };
        let response = round.of_client(&key);
        let (user, realm, nonce) = (quoted(&self.user), quoted(realm), quoted(nonce));
        let token = format!(
            "charset=utf-8,username={user},realm={realm},nonce={nonce},nc={NONCE_COUNT},\
             cnonce={},digest-uri={},response={response},qop=auth",
            quoted(cnonce),
            quoted(digest_uri),
        );
        if token.len() > SASL_TOKEN_BYTES_MAX {
            return refused("a token of SASL has at most 4096 bytes");
        }
        Ok((SaslToken(token.into()), Expected(round.of_server(&key))))
    }
}

impl Expected {
    /// Whether the server has the password too.
    ///
    /// # Errors
    /// `AuthFailed` if it has not shown it.
    pub(crate) fn check(&self, token: &SaslToken) -> Result<(), Refusal> {
        let said = Directives::read(&token.0)?;
        match said.get("rspauth")? {
            Some(proof) if same(proof.as_bytes(), self.0.as_bytes()) => Ok(()),
            _ => refused("the server must show that it has the password"),
        }
    }
}
