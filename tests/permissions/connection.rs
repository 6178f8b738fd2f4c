//! A connection that asks one thing after the other and waits, in plain or over TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use md5::{Digest, Md5};
use synod_core::model::limits::REPLY_BYTES_MAX;
use synod_core::model::{Refusal, Request, Response, SaslToken, SessionId, Zxid};
use synod_core::wire::{
    ConnectReply, ConnectRequest, Incoming, Shape, decode_incoming, encode_request, take_frame,
};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::certificates::Authority;

/// Longer than any answer takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked, and how it is sent and answered if not as this project's client does.
pub(crate) type Ask = (Request, Option<(i32, Shape)>);

pub(crate) fn plain(request: Request) -> Ask {
    (request, None)
}

/// What a connection is made over.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// One connection, a synchronous one.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    received: BytesMut,
    xid: i32,
    /// The paths of the events that have come.
    pub(crate) events: Vec<String>,
}

fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_nodelay(true).expect("is a socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("is a socket");
    stream
}

/// Speaks TLS, and shows a certificate of that subject.
fn dial_tls(address: SocketAddr, authority: &Authority, subject: &str) -> impl Stream + use<> {
    let signed = authority.sign(subject, &[]);
    let read = |file| CertificateDer::from_pem_file(file).expect("is PEM");
    let mut roots = RootCertStore::empty();
    roots.add(read(authority.file())).expect("is an authority");
    let key = PrivateKeyDer::from_pem_file(signed.key).expect("is PEM");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("are known")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![read(signed.certificate)], key)
        .expect("fit each other");
    let name = address.ip().into();
    let connection = ClientConnection::new(Arc::new(config), name).expect("is a good name");
    StreamOwned::new(connection, dial(address))
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Connection {
        Connection::over(Box::new(dial(address)))
    }

    /// Opens one to a port that speaks TLS.
    pub(crate) fn open_tls(
        address: SocketAddr,
        authority: &Authority,
        subject: &str,
    ) -> Connection {
        Connection::over(Box::new(dial_tls(address, authority, subject)))
    }

    fn over(stream: Box<dyn Stream>) -> Connection {
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
    pub(crate) fn ask_all(&mut self, asks: &[Ask]) -> Vec<Result<Response, Refusal>> {
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

    pub(crate) fn must(&mut self, requests: impl IntoIterator<Item = Request>) {
        let asks: Vec<Ask> = requests.into_iter().map(plain).collect();
        for (answer, (request, _)) in self.ask_all(&asks).into_iter().zip(&asks) {
            answer.unwrap_or_else(|refusal| panic!("{request:?}: {refusal:?}"));
        }
    }

    pub(crate) fn prove_digest(&mut self, user: &str, password: &str) {
        let credentials = format!("{user}:{password}").into();
        self.must([Request::Auth { scheme: "digest".into(), credentials }]);
    }

    pub(crate) fn prove_sasl(&mut self, user: &str, password: &str) {
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
