//! Orders and answers as bytes, in the frames of the members' protocol.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use synod_core::model::Reconfig;

use super::{MemberStatus, Progress, Role, Status};
use crate::limits::{ADDRESS_BYTES_MAX, MEMBERS_MAX, RECONFIG_BYTES_MAX};
use crate::replica::types::malformed;

/// The kinds of frames.
pub(crate) mod kind {
    pub(crate) const ORDER: u8 = 40;
    /// It is being done.
    pub(crate) const PROGRESS: u8 = 41;
    /// It is done.
    pub(crate) const DONE: u8 = 42;
    pub(crate) const STATUS: u8 = 43;
    /// Only the leader can: where that is.
    pub(crate) const ELSEWHERE: u8 = 44;
    /// Only the leader can, and there is none.
    pub(crate) const NO_LEADER: u8 = 45;
    pub(crate) const REFUSED: u8 = 46;
}

/// What a member can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Status,
    Add {
        id: u64,
        peer: String,
        client: String,
    },
    Promote {
        id: u64,
    },
    Remove {
        id: u64,
    },
    Transfer {
        id: u64,
    },
    /// What a client asks for, who may.
    Reconfig(Reconfig),
}

fn short<E>(_: E) -> io::Error {
    malformed("a message is longer than what is there")
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_u32(text.len() as u32);
    out.put_slice(text.as_bytes());
}

fn get_text(body: &mut Bytes) -> io::Result<String> {
    get_text_of(body, ADDRESS_BYTES_MAX)
}

/// A list of members in words.
fn get_list(body: &mut Bytes) -> io::Result<Option<String>> {
    let is_there = get_flag(body)?;
    let list = get_text_of(body, RECONFIG_BYTES_MAX)?;
    Ok(is_there.then_some(list))
}

fn get_text_of(body: &mut Bytes, bytes_max: usize) -> io::Result<String> {
    let length = body.try_get_u32().map_err(short)? as usize;
    if length > bytes_max {
        return Err(malformed("an address has at most 512 bytes, a list of members 65536"));
    }
    if length > body.len() {
        return Err(short(()));
    }
    let text = body.split_to(length).to_vec();
    String::from_utf8(text).map_err(|_| malformed("an address is UTF-8"))
}

fn put_option(out: &mut BytesMut, number: Option<u64>) {
    out.put_u8(number.is_some().into());
    if let Some(number) = number {
        out.put_u64(number);
    }
}

fn get_flag(body: &mut Bytes) -> io::Result<bool> {
    match body.try_get_u8().map_err(short)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(malformed("a flag is 0 or 1")),
    }
}

fn get_option(body: &mut Bytes) -> io::Result<Option<u64>> {
    if get_flag(body)? { Ok(Some(body.try_get_u64().map_err(short)?)) } else { Ok(None) }
}

fn ended<T>(body: &Bytes, value: T) -> io::Result<T> {
    if body.is_empty() { Ok(value) } else { Err(malformed("a message ends where its fields end")) }
}

pub(crate) fn encode_order(out: &mut BytesMut, order: &Order) {
    let (operation, id) = match order {
        Order::Status => (1, 0),
        Order::Add { id, .. } => (2, *id),
        Order::Promote { id } => (3, *id),
        Order::Remove { id } => (4, *id),
        Order::Transfer { id } => (5, *id),
        Order::Reconfig(_) => (6, 0),
    };
    out.put_u8(operation);
    out.put_u64(id);
    match order {
        Order::Add { peer, client, .. } => {
            put_text(out, peer);
            put_text(out, client);
        }
        Order::Reconfig(Reconfig { joining, leaving, members, from_version }) => {
            for list in [joining, leaving, members] {
                out.put_u8(list.is_some().into());
                put_text(out, list.as_deref().unwrap_or_default());
            }
            out.put_i64(*from_version);
        }
        _ => {}
    }
}

/// # Errors
/// The bytes are no order.
pub(crate) fn decode_order(mut body: Bytes) -> io::Result<Order> {
    let operation = body.try_get_u8().map_err(short)?;
    let id = body.try_get_u64().map_err(short)?;
    let order = match operation {
        1 => Order::Status,
        2 => Order::Add { id, peer: get_text(&mut body)?, client: get_text(&mut body)? },
        3 => Order::Promote { id },
        4 => Order::Remove { id },
        5 => Order::Transfer { id },
        6 => Order::Reconfig(Reconfig {
            joining: get_list(&mut body)?,
            leaving: get_list(&mut body)?,
            members: get_list(&mut body)?,
            from_version: body.try_get_i64().map_err(short)?,
        }),
        _ => return Err(malformed("an order is 1 to 6")),
    };
    ended(&body, order)
}

pub(crate) fn encode_progress(out: &mut BytesMut, progress: &Progress) {
    put_option(out, progress.matched);
    out.put_u64(progress.last);
}

/// # Errors
/// The bytes are no progress.
pub(crate) fn decode_progress(mut body: Bytes) -> io::Result<Progress> {
    let matched = get_option(&mut body)?;
    let last = body.try_get_u64().map_err(short)?;
    ended(&body, Progress { matched, last })
}

pub(crate) fn encode_elsewhere(out: &mut BytesMut, leader: u64, address: &str) {
    out.put_u64(leader);
    put_text(out, address);
}

/// # Errors
/// The bytes are no member and address.
pub(crate) fn decode_elsewhere(mut body: Bytes) -> io::Result<(u64, String)> {
    let leader = body.try_get_u64().map_err(short)?;
    let address = get_text(&mut body)?;
    ended(&body, (leader, address))
}

const ROLES: [Role; 5] =
    [Role::Leader, Role::Follower, Role::Candidate, Role::Learner, Role::Stopped];

pub(crate) fn encode_status(out: &mut BytesMut, status: &Status) {
    out.put_u64(status.id);
    put_text(out, status.cluster.as_deref().unwrap_or(""));
    out.put_u8(ROLES.iter().position(|role| *role == status.role).unwrap_or(0) as u8);
    put_option(out, status.leader);
    out.put_u64(status.term);
    out.put_u8(status.changing.into());
    for index in [status.last_log, status.committed, status.applied, status.snapshot, status.purged]
    {
        put_option(out, index);
    }
    put_option(out, status.zxid.map(i64::cast_unsigned));
    put_option(out, status.digest);
    out.put_u32(status.members.len() as u32);
    for member in &status.members {
        out.put_u64(member.id);
        out.put_u8(member.voter.into());
        put_text(out, &member.peer);
        put_text(out, &member.client);
        put_option(out, member.lag);
        put_option(out, member.heard_ms);
    }
}

/// # Errors
/// The bytes are no status.
pub(crate) fn decode_status(mut body: Bytes) -> io::Result<Status> {
    let body = &mut body;
    let id = body.try_get_u64().map_err(short)?;
    let cluster = Some(get_text(body)?).filter(|cluster| !cluster.is_empty());
    let role = body.try_get_u8().map_err(short)?;
    let role = *ROLES.get(usize::from(role)).ok_or_else(|| malformed("a role is 0 to 4"))?;
    let mut status = Status {
        id,
        cluster,
        role,
        leader: get_option(body)?,
        term: body.try_get_u64().map_err(short)?,
        changing: get_flag(body)?,
        last_log: get_option(body)?,
        committed: get_option(body)?,
        applied: get_option(body)?,
        snapshot: get_option(body)?,
        purged: get_option(body)?,
        zxid: get_option(body)?.map(u64::cast_signed),
        digest: get_option(body)?,
        members: Vec::new(),
    };
    let count = body.try_get_u32().map_err(short)? as usize;
    if count > MEMBERS_MAX {
        return Err(malformed("a cluster has at most 64 members"));
    }
    for _ in 0..count {
        status.members.push(MemberStatus {
            id: body.try_get_u64().map_err(short)?,
            voter: get_flag(body)?,
            peer: get_text(body)?,
            client: get_text(body)?,
            lag: get_option(body)?,
            heard_ms: get_option(body)?,
        });
    }
    ended(body, status)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn assert_cuts<T>(whole: &Bytes, decode: impl Fn(Bytes) -> io::Result<T>) {
        for cut in 0..whole.len() {
            assert!(decode(whole.slice(..cut)).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn orders_come_out_as_they_went_in() {
        let (peer, client) = ("here:1".to_owned(), String::new());
        let (joining, members) = (Some("server.4=a:1:1".to_owned()), None);
        let leaving = Some(String::new());
        let reconfig = Reconfig { joining, leaving, members, from_version: -1 };
        for order in [
            Order::Status,
            Order::Add { id: 4, peer, client },
            Order::Promote { id: 5 },
            Order::Remove { id: 6 },
            Order::Transfer { id: u64::MAX },
            Order::Reconfig(reconfig),
        ] {
            let mut out = BytesMut::new();
            encode_order(&mut out, &order);
            let out = out.freeze();
            assert_cuts(&out, decode_order);
            assert_eq!(decode_order(out).expect("decodes"), order);
        }
    }

    #[test]
    fn a_status_comes_out_as_it_went_in() {
        let member = |id| MemberStatus {
            id,
            voter: id != 2,
            peer: format!("peer{id}:1"),
            client: "there:2".to_owned(),
            lag: (id == 1).then_some(7),
            heard_ms: None,
        };
        for role in ROLES {
            let status = Status {
                id: 1,
                cluster: Some("00ff".to_owned()),
                role,
                leader: Some(2),
                term: 9,
                changing: true,
                members: (1..4).map(member).collect(),
                last_log: Some(8),
                committed: Some(7),
                applied: None,
                snapshot: Some(0),
                purged: None,
                zxid: Some(-1),
                digest: Some(u64::MAX),
            };
            let mut out = BytesMut::new();
            encode_status(&mut out, &status);
            let out = out.freeze();
            assert_cuts(&out, decode_status);
            assert_eq!(decode_status(out).expect("decodes"), status);
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let body = Bytes::from(bytes);
            let _ = decode_order(body.clone());
            let _ = decode_status(body.clone());
            let _ = decode_progress(body.clone());
            let _ = decode_elsewhere(body);
        }
    }
}
