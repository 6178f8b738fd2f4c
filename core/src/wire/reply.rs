//! Replies and events, both directions.

use bytes::{BufMut, Bytes, BytesMut};

use super::jute::{DecodeError, Decoder, Encoder};
use super::records::{put_acl, put_stat, take_acl, take_stat};
use super::request::{Refused, Shape};
use super::{XID_EVENT, frame, multi};
use crate::model::{Code, Event, EventKind, Identity, Refusal, Response, SaslToken, Zxid};

/// The state of a connected session, in an event.
const SYNC_CONNECTED: i32 = 3;

fn put_header(out: &mut BytesMut, xid: i32, zxid: i64, error: i32) {
    out.put_i32(xid);
    out.put_i64(zxid);
    out.put_i32(error);
}

/// The number of a code for clients of any make: those of this project that others do not know
/// go as the nearest that they do.
fn number_for_anyone(code: Code) -> i32 {
    match code {
        Code::SequenceExhausted => Code::BadArguments.number(),
        Code::SequenceGap => Code::ConnectionLoss.number(),
        code => code.number(),
    }
}

/// Appends the reply to a request as a frame. `zxid`: the last that the server has applied.
pub fn encode_reply(
    out: &mut BytesMut,
    xid: i32,
    zxid: Zxid,
    shape: &Shape,
    result: &Result<Response, Refusal>,
) {
    frame(out, |out| match (result, shape) {
        (Ok(response), _) => {
            put_header(out, xid, zxid.as_i64(), 0);
            put_response(out, shape, response);
        }
        // The refusal stands among the results; the reply itself is none.
        (Err(Refusal { code, index: Some(index), .. }), Shape::Multi(numbers)) => {
            put_header(out, xid, zxid.as_i64(), 0);
            let code = number_for_anyone(*code);
            multi::put_failure(out, code, *index as usize, numbers.len());
        }
        (Err(refusal), shape) => {
            put_header(out, xid, zxid.as_i64(), number_for_anyone(refusal.code));
            if *shape == Shape::Token {
                out.buffer(None);
            }
        }
    });
}

fn put_response(out: &mut BytesMut, shape: &Shape, response: &Response) {
    match (shape, response) {
        (Shape::Path, Response::Created { path, .. }) => out.string(path),
        (Shape::PathStat, Response::Created { path, stat }) => {
            out.string(path);
            put_stat(out, stat);
        }
        (Shape::Stat, Response::Stat(stat)) => put_stat(out, stat),
        (Shape::DataStat, Response::Data { data, stat }) => {
            out.buffer(data.as_deref());
            put_stat(out, stat);
        }
        (Shape::AclStat, Response::Acl { acl, stat }) => {
            put_acl(out, acl);
            put_stat(out, stat);
        }
        (Shape::Names, Response::Children { names, .. }) => {
            out.vector(names, |out, name| out.string(name));
        }
        (Shape::NamesStat, Response::Children { names, stat }) => {
            out.vector(names, |out, name| out.string(name));
            put_stat(out, stat);
        }
        (Shape::Echo(path), _) => out.string(path),
        (Shape::Multi(numbers), Response::Multi(results)) => {
            multi::put_results(out, results, numbers);
        }
        (Shape::MultiRead(numbers), Response::MultiRead(results)) => {
            multi::put_read_results(out, results, numbers);
        }
        (Shape::Paths, Response::Ephemerals(paths)) => {
            out.vector(paths, |out, path| out.string(path));
        }
        (Shape::Count, Response::DescendantCount(count)) => out.put_i32(*count as i32),
        (Shape::Identities, Response::WhoAmI(identities)) => {
            out.vector(identities, |out, identity| {
                out.string(&identity.scheme);
                // Of a digest the user alone, never the hash.
                let user = identity.id.split(':').next().unwrap_or_default();
                let id = if identity.scheme == "digest" { user } else { &identity.id };
                out.string(id);
            });
        }
        (Shape::Zero, _) => out.put_i32(0),
        (Shape::Token, Response::Sasl(token)) => {
            out.buffer(token.as_ref().map(|SaslToken(token)| &token[..]));
        }
        // `Empty`; and a response of another shape than was asked for, which the engine does not
        // give.
        _ => {}
    }
}

/// Appends the reply to a request that was refused unread.
pub fn encode_refusal(out: &mut BytesMut, zxid: Zxid, refused: &Refused) {
    frame(out, |out| {
        let zxid = if refused.closes { -1 } else { zxid.as_i64() };
        put_header(out, refused.xid, zxid, refused.code.number());
        if refused.empty_results {
            multi::put_no_results(out);
        }
    });
}

/// Appends an event as a frame.
pub fn encode_event(out: &mut BytesMut, event: &Event) {
    frame(out, |out| {
        put_header(out, XID_EVENT, event.zxid.map_or(-1, Zxid::as_i64), 0);
        out.put_i32(event.kind as i32);
        out.put_i32(SYNC_CONNECTED);
        out.string(&event.path);
    });
}

/// What a client receives.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A watch fired; `None` for kinds of event that are not about a znode.
    Event(Option<Event>),
    /// The reply to a request.
    Reply {
        /// Which request.
        xid: i32,
        /// The server's last zxid; `None` where it says none.
        zxid: Option<Zxid>,
        /// The answer.
        result: Result<Response, Refusal>,
    },
}

/// Reads the payload of what a client receives. `shape_of` says what the reply to an xid looks
/// like; it is asked once, for replies.
///
/// # Errors
/// [`DecodeError`] for what cannot be read, or answers nothing that was asked: the connection
/// cannot go on.
pub fn decode_incoming(
    payload: Bytes,
    shape_of: impl FnOnce(i32) -> Option<Shape>,
) -> Result<Incoming, DecodeError> {
    let mut from = Decoder::new(payload);
    let (xid, zxid, error) = (from.i32()?, from.i64()?, from.i32()?);
    let zxid = (zxid > 0).then(|| Zxid::from_i64(zxid));
    if xid == XID_EVENT {
        let kind = match from.i32()? {
            1 => EventKind::Created,
            2 => EventKind::Deleted,
            3 => EventKind::DataChanged,
            4 => EventKind::ChildrenChanged,
            _ => return Ok(Incoming::Event(None)),
        };
        let _state = from.i32()?;
        return Ok(Incoming::Event(Some(Event { kind, path: from.path()?, zxid })));
    }
    let shape = shape_of(xid).ok_or(DecodeError::BadValue { what: "xid", value: xid })?;
    let result = match error {
        0 => take_response(&mut from, &shape)?,
        error => {
            let code = Code::from_number(error);
            Err(Refusal::new(code, code.rule()))
        }
    };
    Ok(Incoming::Reply { xid, zxid, result })
}

fn take_response(
    from: &mut Decoder,
    shape: &Shape,
) -> Result<Result<Response, Refusal>, DecodeError> {
    Ok(Ok(match shape {
        Shape::Empty => Response::Done,
        Shape::Path => Response::Created { path: from.path()?, stat: Default::default() },
        Shape::PathStat => Response::Created { path: from.path()?, stat: take_stat(from)? },
        Shape::Stat => Response::Stat(take_stat(from)?),
        Shape::DataStat => Response::Data { data: from.buffer()?, stat: take_stat(from)? },
        Shape::AclStat => Response::Acl { acl: take_acl(from)?, stat: take_stat(from)? },
        Shape::Names | Shape::NamesStat => {
            let names = from.vector(4, Decoder::string)?.unwrap_or_default();
            let stat = match shape {
                Shape::NamesStat => take_stat(from)?,
                _ => Default::default(),
            };
            Response::Children { names, stat }
        }
        Shape::Echo(_) => Response::Done,
        Shape::Multi(numbers) => {
            return Ok(multi::take_results(from, numbers)?.map(Response::Multi));
        }
        Shape::MultiRead(numbers) => Response::MultiRead(multi::take_read_results(from, numbers)?),
        Shape::Paths => Response::Ephemerals(from.paths()?.unwrap_or_default()),
        Shape::Count => Response::DescendantCount(from.i32()? as u32),
        Shape::Identities => {
            let identity =
                |from: &mut Decoder| Ok(Identity { scheme: from.string()?, id: from.string()? });
            Response::WhoAmI(from.vector(8, identity)?.unwrap_or_default())
        }
        Shape::Zero => Response::Done,
        Shape::Token => Response::Sasl(from.buffer()?.map(SaslToken)),
    }))
}
