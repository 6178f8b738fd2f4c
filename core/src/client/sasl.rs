//! SASL on a connection that was just made, before anything else goes over it.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::ground::ConnectError;
use super::tcp::{REPLY_BYTES_MIN, Stream, next_frame, send};
use crate::model::{Code, Error, Path, Refusal, Request, Response, SaslToken};
use crate::sasl::{Credentials, check_user};
use crate::seams::Entropy;
use crate::wire::{Incoming, Shape, decode_incoming, encode_request};

/// What a client proves itself with.
#[derive(Clone)]
pub(super) struct Sasl {
    credentials: Credentials,
    entropy: Arc<dyn Entropy>,
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sasl").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

impl Sasl {
    /// # Errors
    /// [`Error::Invalid`] for a name that breaks a rule.
    pub(super) fn new(
        credentials: &Credentials,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<Sasl, Error> {
        let user = credentials.user();
        check_user(user).map_err(|rule| Error::invalid("user of SASL", user, rule))?;
        Ok(Sasl { credentials: credentials.clone(), entropy: Arc::clone(entropy) })
    }

    /// What a server's refusal is to who asked for the connection.
    pub(super) fn error(credentials: Option<&Credentials>, refusal: Refusal) -> Error {
        let user = credentials.map(Credentials::user).unwrap_or_default();
        Error::Refused {
            request: format!("prove to be {user:?} by SASL"),
            path: Path::root().into(),
            code: refusal.code,
            rule: refusal.rule.into(),
            index: None,
        }
    }

    /// Proves the user to the server at the other end, and takes its proof.
    pub(super) async fn prove(
        &self,
        stream: &mut Stream,
        server: &str,
    ) -> Result<(), ConnectError> {
        let mut connection = Connection { stream, server, received: BytesMut::new(), xid: 0 };
        let challenge = connection.step(SaslToken(Bytes::new())).await?;
        let answer = self.credentials.respond(&*self.entropy, &challenge);
        let (response, expected) = answer.map_err(ConnectError::NotAccepted)?;
        let last = connection.step(response).await?;
        expected.check(&last).map_err(ConnectError::NotAccepted)
    }
}

struct Connection<'a> {
    stream: &'a mut Stream,
    server: &'a str,
    received: BytesMut,
    xid: i32,
}

impl Connection<'_> {
    /// Sends a token and takes the server's.
    async fn step(&mut self, token: SaslToken) -> Result<SaslToken, ConnectError> {
        let refused = |rule| ConnectError::NotAccepted(Refusal::new(Code::AuthFailed, rule));
        let server = self.server;
        let failed = |what: String| ConnectError::Unreachable(format!("{server}: {what}"));
        self.xid += 1;
        let (xid, mut out) = (self.xid, BytesMut::new());
        encode_request(&mut out, xid, &Request::Sasl(token))
            .map_err(|code| failed(code.rule().to_owned()))?;
        send(self.stream, &out).await.map_err(|error| failed(error.to_string()))?;
        let frame = next_frame(self.stream, &mut self.received, REPLY_BYTES_MIN).await;
        let Some(frame) = frame.map_err(failed)? else {
            return Err(failed("it closed the connection in the midst of SASL".to_owned()));
        };
        let incoming = decode_incoming(frame, |asked| (asked == xid).then_some(Shape::Token));
        match incoming.map_err(|error| failed(error.to_string()))? {
            Incoming::Reply { result: Ok(Response::Sasl(Some(token))), .. } => Ok(token),
            Incoming::Reply { result: Ok(_), .. } => {
                Err(refused("the server must know users of SASL"))
            }
            // Whatever the code is: one that takes no other clients gives another.
            Incoming::Reply { result: Err(_), .. } => {
                Err(refused("the server must know the user, and by that password"))
            }
            Incoming::Event(_) => Err(failed("an event in the midst of SASL".to_owned())),
        }
    }
}
