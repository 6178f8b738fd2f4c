//! What a connection between members begins with. Whoever connects says who it is, whom it means
//! and what for; the other side accepts or says why not. After that the connection carries what
//! its purpose says: frames, or the courier's own bytes.
//!
//! A member is its number and its data folder: one that was emptied has forgotten what it has
//! acknowledged and for whom it has voted, and must not be taken for the one that it was.
//!
//! | file | what it holds |
//! |---|---|
//! | `identity` | who this member is, and whom it lets in |

mod identity;

use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWriteExt;

pub(crate) use self::identity::Identity;

use super::frame::{self, Frame};
use super::messages;
use super::types::{FolderId, LogId, malformed};
use crate::limits::PEER_HANDSHAKE_BYTES_MAX;
use crate::net::{Net, Stream};

const MAGIC: [u8; 4] = *b"SYNO";

/// What this build speaks. Another version is refused: the members of a cluster are brought to a
/// new one by a release that speaks both.
pub(crate) const PROTOCOL_VERSION: u16 = 1;

const HELLO: u8 = 1;
const ACCEPTED: u8 = 2;
const REFUSED: u8 = 3;

/// Nobody in particular: administration comes from no member and may mean whichever it reaches.
pub(crate) const NO_MEMBER: u64 = 0;

/// Which cluster a member belongs to: drawn at random when the cluster is founded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClusterId(pub(crate) [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What a connection between members is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// Log entries from a leader.
    Append = 1,
    /// Its heartbeats, which bulk must not delay.
    Heartbeat = 2,
    /// Elections and the transfer of leadership.
    Vote = 3,
    /// One snapshot.
    Snapshot = 4,
    /// Requests of clients on their way to the leader.
    Courier = 5,
    /// Questions and orders of whoever runs the cluster.
    Admin = 6,
    /// Nothing more than to learn which folder the other one has.
    Meet = 7,
}

impl Purpose {
    fn from_byte(byte: u8) -> Option<Purpose> {
        use Purpose::{Admin, Append, Courier, Heartbeat, Meet, Snapshot, Vote};
        let all = [Append, Heartbeat, Vote, Snapshot, Courier, Admin, Meet];
        all.into_iter().find(|purpose| *purpose as u8 == byte)
    }
}

/// How whoever connects introduces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// Its cluster; none for administration.
    pub(crate) cluster: Option<ClusterId>,
    /// Who it is, or [`NO_MEMBER`].
    pub(crate) from: u64,
    /// Its folder; none for administration.
    pub(crate) from_folder: Option<FolderId>,
    /// Where its log has the members that it knows of.
    pub(crate) members: Option<LogId>,
    /// Whom it means, or [`NO_MEMBER`].
    pub(crate) to: u64,
    /// Which folder that has; none for administration, and for who wants to learn it.
    pub(crate) to_folder: Option<FolderId>,
    pub(crate) purpose: Purpose,
    /// How long it waits without a sign of life, in milliseconds. Whoever is busy on its behalf
    /// gives one more often than that.
    pub(crate) patience_ms: u32,
}

impl Hello {
    /// Of whoever runs the cluster, to the member that is reached.
    pub(crate) fn of_admin(patience_ms: u32) -> Hello {
        Hello {
            cluster: None,
            from: NO_MEMBER,
            from_folder: None,
            members: None,
            to: NO_MEMBER,
            to_folder: None,
            purpose: Purpose::Admin,
            patience_ms,
        }
    }
}

/// Who accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) id: u64,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) folder: FolderId,
    /// Whether there is anything in its log.
    pub(crate) has_begun: bool,
    /// Whether the other one was a member and is not any longer, by what is committed here.
    pub(crate) is_removed: bool,
}

/// Why a connection is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The value and the rule.
    pub(crate) text: String,
    /// It is of another cluster, or of another folder than the members': that stays so until
    /// somebody changes it.
    pub(crate) is_lasting: bool,
}

impl Refusal {
    fn new(text: impl Into<String>) -> Refusal {
        Refusal { text: text.into(), is_lasting: false }
    }

    fn lasting(text: impl Into<String>) -> Refusal {
        Refusal { text: text.into(), is_lasting: true }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot connect to {address}: refused: {refusal}")]
    Refused { address: String, refusal: Refusal },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> io::Error {
        match error {
            ConnectError::Refused { .. } => {
                io::Error::new(io::ErrorKind::ConnectionRefused, error.to_string())
            }
            ConnectError::Io(error) => error,
        }
    }
}

/// What to do with a member whose folder is not the one that its cluster knows, or no longer.
pub(super) fn anew(id: u64) -> String {
    format!(
        "take member {id} out and add it anew: `synod cluster --peer HOST:PORT remove {id}`, start \
         it on an empty data folder with --join, then `add {id}=HOST:PORT` and `promote {id}`"
    )
}

fn put_drawn(out: &mut BytesMut, drawn: Option<[u8; 16]>) {
    out.put_u8(drawn.is_some().into());
    out.put_slice(&drawn.unwrap_or_default());
}

/// The id of a cluster or of a folder.
fn get_drawn(body: &mut Bytes) -> io::Result<Option<[u8; 16]>> {
    let known = get_flag(body)?;
    let mut bytes = [0; 16];
    let short = |_| malformed("the id of a cluster or of a folder has 16 bytes");
    body.try_copy_to_slice(&mut bytes).map_err(short)?;
    Ok(known.then_some(bytes))
}

fn get_flag(body: &mut Bytes) -> io::Result<bool> {
    match body.try_get_u8().map_err(|_| malformed("a flag has 1 byte"))? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(malformed("a flag is 0 or 1")),
    }
}

fn encode_hello(hello: &Hello) -> io::Result<BytesMut> {
    let mut out = BytesMut::with_capacity(128);
    frame::put(&mut out, HELLO, |out| {
        out.put_slice(&MAGIC);
        out.put_u16(PROTOCOL_VERSION);
        put_drawn(out, hello.cluster.map(|cluster| cluster.0));
        out.put_u64(hello.from);
        put_drawn(out, hello.from_folder.map(|folder| folder.0));
        messages::put_option(out, hello.members.as_ref());
        out.put_u64(hello.to);
        put_drawn(out, hello.to_folder.map(|folder| folder.0));
        out.put_u8(hello.purpose as u8);
        out.put_u32(hello.patience_ms);
    })?;
    Ok(out)
}

/// Why a hello was not understood: told to the other side if that may understand it.
enum NoHello {
    /// Whatever it is, it is no member.
    Stranger(io::Error),
    Refused(String),
}

fn decode_hello(frame: Frame) -> Result<Hello, NoHello> {
    let mut body = frame.body;
    if frame.kind != HELLO || !body.starts_with(&MAGIC) {
        return Err(NoHello::Stranger(malformed("a connection between members begins with SYNO")));
    }
    body.advance(MAGIC.len());
    let mut rest = || {
        let short = |_| malformed("a hello ends early");
        let version = body.try_get_u16().map_err(short)?;
        if version != PROTOCOL_VERSION {
            return Ok(Err(version));
        }
        let cluster = get_drawn(&mut body)?.map(ClusterId);
        let from = body.try_get_u64().map_err(short)?;
        let from_folder = get_drawn(&mut body)?.map(FolderId);
        let members = messages::get_option(&mut body)?;
        let to = body.try_get_u64().map_err(short)?;
        let to_folder = get_drawn(&mut body)?.map(FolderId);
        let purpose = Purpose::from_byte(body.try_get_u8().map_err(short)?)
            .ok_or_else(|| malformed("the purpose of a connection is 1 to 7"))?;
        let patience_ms = body.try_get_u32().map_err(short)?;
        if body.has_remaining() {
            return Err(malformed("a hello ends with its patience"));
        }
        Ok(Ok(Hello { cluster, from, from_folder, members, to, to_folder, purpose, patience_ms }))
    };
    match rest() {
        Ok(Ok(hello)) => Ok(hello),
        Ok(Err(version)) => Err(NoHello::Refused(format!(
            "protocol version {version}: this member speaks version {PROTOCOL_VERSION}"
        ))),
        Err(error) => Err(NoHello::Stranger(error)),
    }
}

fn encode_answer(judged: Result<&Welcome, &Refusal>) -> io::Result<BytesMut> {
    let mut out = BytesMut::new();
    match judged {
        Ok(welcome) => frame::put(&mut out, ACCEPTED, |out| {
            out.put_u64(welcome.id);
            put_drawn(out, welcome.cluster.map(|cluster| cluster.0));
            out.put_slice(&welcome.folder.0);
            out.put_u8(welcome.has_begun.into());
            out.put_u8(welcome.is_removed.into());
        })?,
        Err(Refusal { text, is_lasting }) => frame::put(&mut out, REFUSED, |out| {
            out.put_u8((*is_lasting).into());
            // An adoption's error may say anything.
            out.put_slice(&text.as_bytes()[..text.len().min(PEER_HANDSHAKE_BYTES_MAX - 2)]);
        })?,
    }
    Ok(out)
}

fn decode_answer(frame: Frame) -> io::Result<Result<Welcome, Refusal>> {
    let mut body = frame.body;
    match frame.kind {
        ACCEPTED => {
            let id = body.try_get_u64().map_err(|_| malformed("a member's id has 8 bytes"))?;
            let cluster = get_drawn(&mut body)?.map(ClusterId);
            let mut folder = FolderId::default();
            let short = |_| malformed("a folder's id has 16 bytes");
            body.try_copy_to_slice(&mut folder.0).map_err(short)?;
            let (has_begun, is_removed) = (get_flag(&mut body)?, get_flag(&mut body)?);
            Ok(Ok(Welcome { id, cluster, folder, has_begun, is_removed }))
        }
        REFUSED => {
            let is_lasting = get_flag(&mut body)?;
            Ok(Err(Refusal { text: String::from_utf8_lossy(&body).into_owned(), is_lasting }))
        }
        _ => Err(malformed("a handshake is answered by a yes or a no")),
    }
}

/// A frame is no part of a handshake, or what is written of what was read is read the same.
#[cfg(feature = "testing")]
pub(super) fn read_any(frame: Frame) {
    let take = |mut out: BytesMut| frame::take(&mut out).ok().flatten().expect("one frame");
    if let Ok(hello) = decode_hello(frame.clone()) {
        let again = take(encode_hello(&hello).expect("short"));
        assert_eq!(decode_hello(again).ok(), Some(hello));
    }
    if let Ok(answer) = decode_answer(frame) {
        let again = take(encode_answer(answer.as_ref()).expect("it is cut where it is long"));
        let again = decode_answer(again).expect("it was written here");
        // What is no UTF-8 grows when it is read, and is cut where it is written.
        assert!(again == answer || answer.is_err(), "{answer:?} became {again:?}");
    }
}

/// Introduces itself on a new connection, and waits for the answer.
///
/// # Errors
/// What the stream says.
async fn introduce(stream: &mut dyn Stream, hello: &Hello) -> io::Result<Result<Welcome, Refusal>> {
    stream.write_all(&encode_hello(hello)?).await?;
    stream.flush().await?;
    let answer = decode_answer(frame::read_one(stream, PEER_HANDSHAKE_BYTES_MAX).await?)?;
    let Ok(welcome) = &answer else { return Ok(answer) };
    let wrong = |text: String| Err(io::Error::new(io::ErrorKind::InvalidData, text));
    if hello.to != NO_MEMBER && welcome.id != hello.to {
        return wrong(format!("member {} answers where {} was meant", welcome.id, hello.to));
    }
    if hello.to_folder.is_some_and(|folder| folder != welcome.folder) {
        return wrong(format!("member {} answers from another folder than was meant", welcome.id));
    }
    Ok(answer)
}

/// Connects to a member's `host:port` and introduces itself, within `patience` in all. Dropping
/// the future gives up.
///
/// # Errors
/// The address is not reached in time, or the member refuses; the text names the address.
pub(crate) async fn connect(
    net: &dyn Net,
    address: &str,
    hello: &Hello,
    patience: Duration,
) -> Result<(Box<dyn Stream>, Welcome), ConnectError> {
    let connecting = async {
        let mut stream = net.connect(address).await?;
        let answer = introduce(&mut *stream, hello).await?;
        io::Result::Ok((stream, answer))
    };
    let named = |kind: io::ErrorKind, text: &dyn fmt::Display| {
        io::Error::new(kind, format!("cannot connect to {address}: {text}")).into()
    };
    match tokio::time::timeout(patience, connecting).await {
        Ok(Ok((stream, Ok(welcome)))) => Ok((stream, welcome)),
        Ok(Ok((_, Err(refusal)))) => {
            Err(ConnectError::Refused { address: address.to_owned(), refusal })
        }
        Ok(Err(error)) => Err(named(error.kind(), &error)),
        Err(_) => {
            let text = format!("no answer within {} ms", patience.as_millis());
            Err(named(io::ErrorKind::TimedOut, &text))
        }
    }
}

/// Hears out who has connected, and accepts or refuses. The first cluster that a member without
/// one hears of becomes its own, once `adopt` has written that down. There is no deadline in here.
///
/// # Errors
/// What the stream says.
pub(crate) async fn receive<A: Future<Output = io::Result<()>>>(
    stream: &mut dyn Stream,
    identity: &Identity,
    adopt: impl FnOnce(ClusterId) -> A,
) -> io::Result<Result<Hello, Refusal>> {
    let judged = match decode_hello(frame::read_one(stream, PEER_HANDSHAKE_BYTES_MAX).await?) {
        Ok(hello) => identity.admit(&hello, adopt).await.map(|welcome| (hello, welcome)),
        Err(NoHello::Refused(text)) => Err(Refusal::new(text)),
        Err(NoHello::Stranger(error)) => return Err(error),
    };
    let answer = encode_answer(judged.as_ref().map(|(_, welcome)| welcome))?;
    stream.write_all(&answer).await?;
    stream.flush().await?;
    Ok(judged.map(|(hello, _)| hello))
}

#[cfg(test)]
pub(super) mod tests;
