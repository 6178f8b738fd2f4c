//! Log entries: what is written is read again, and nothing else is taken for one.

use proptest::collection::vec;
use proptest::prelude::*;

use super::round_trips::{acls, ops, paths, text, zxids};
use super::*;
use crate::model::{Acl, Create, CreateMode, Entry, Identity, Op, Password, Perms, Write};

fn requests() -> impl Strategy<Value = Write> {
    let session = || any::<i64>().prop_map(SessionId);
    let password = any::<[u8; 16]>().prop_map(Password);
    prop_oneof![
        4 => ops().prop_map(Write::Op),
        1 => (paths(), acls(), any::<i32>())
            .prop_map(|(path, acl, version)| Write::SetAcl { path, acl, version }),
        2 => vec(ops(), 0..6).prop_map(Write::Multi),
        1 => (zxids(), ops()).prop_map(|(zxid, op)| Write::ProposeAt { zxid, op }),
        1 => (session(), password, any::<u32>())
            .prop_map(|(id, password, timeout_ms)| Write::CreateSession { id, password, timeout_ms }),
        1 => any::<u32>().prop_map(|timeout_ms| Write::Attach { timeout_ms }),
        1 => Just(Write::CloseSession),
        1 => (session(), zxids(), any::<u64>())
            .prop_map(|(id, attachment, sequence)| Write::ExpireSession { id, attachment, sequence }),
        1 => paths().prop_map(|path| Write::Reap { path }),
        1 => text().prop_map(|text| Write::Configure { members: text.into() }),
    ]
}

fn entries() -> impl Strategy<Value = Entry> {
    let identities = vec((text(), text()).prop_map(|(s, id)| Identity::new(s, id)), 0..3);
    let head = (any::<i64>(), any::<i64>(), any::<u64>(), any::<i64>());
    (head, identities, requests()).prop_map(|(head, identities, request)| Entry {
        session: SessionId(head.0),
        attachment: Zxid::from_i64(head.1),
        sequence: head.2,
        identities: identities.into(),
        time_ms: head.3,
        request,
    })
}

fn encoded(entry: &Entry) -> Bytes {
    let mut out = BytesMut::new();
    encode_entry(&mut out, entry);
    out.freeze()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_entry_is_read_as_it_was_written(entry in entries()) {
        prop_assert_eq!(decode_entry(encoded(&entry)), Ok(entry));
    }

    #[test]
    fn a_part_of_an_entry_is_none(entry in entries()) {
        let bytes = encoded(&entry);
        for length in 0..bytes.len() {
            prop_assert!(decode_entry(bytes.slice(..length)).is_err(), "{} bytes", length);
        }
        let longer = [&bytes[..], &[0]].concat();
        prop_assert_eq!(decode_entry(longer.into()), Err(DecodeError::Trailing));
    }

    /// What a damaged entry is read as is written in the same bytes: so each has one encoding, and
    /// no damage goes unseen.
    #[test]
    fn a_flipped_bit_is_an_error_or_another_entry(entry in entries()) {
        let bytes = encoded(&entry);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = decode_entry(damaged.clone().into()) {
                prop_assert_ne!(&read, &entry);
                prop_assert_eq!(&encoded(&read)[..], &damaged[..]);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in vec(any::<u8>(), 0..200), format in any::<bool>()) {
        if let (Some(first), true) = (bytes.first_mut(), format) {
            *first = 1;
        }
        let _ = decode_entry(bytes.into());
    }
}

/// Put together by hand: entries on disk outlive the code that wrote them.
#[test]
fn the_layout_stays_what_it_is() {
    let (acl, ttl) = (Acl::new(Perms::READ, "ip", "::1"), CreateMode::Ttl { ttl_ms: 9 });
    let create = Create { path: path("/a"), data: None, acl: vec![acl], mode: ttl };
    let data = Some(Bytes::from_static(b"d"));
    let entry = Entry {
        session: SessionId(7),
        attachment: Zxid::new(1, 2),
        sequence: 3,
        identities: Arc::from([Identity::new("x", "y")]),
        time_ms: 0x189,
        request: Write::Multi(vec![
            Op::Create(create),
            Op::SetData { path: path("/b"), data, version: -1 },
        ]),
    };
    let bytes = payload(
        "01                            # format
         0000000000000007              # session
         0000000100000002              # attachment
         0000000000000003              # sequence
         00000001 00000001 78 00000001 79
         0000000000000189              # time
         03 00000002                   # a transaction of two
         01 00000002 2f61              # create /a
         ffffffff                      # null
         00000001 00000001 00000002 6970 00000003 3a3a31
         05 0000000000000009           # TTL
         03 00000002 2f62 00000001 64 ffffffff",
    );
    assert_eq!(encoded(&entry), bytes);
    assert_eq!(decode_entry(bytes), Ok(entry));
}

#[test]
fn data_shares_the_memory_of_what_was_read() {
    let data = Some(Bytes::from(vec![7; 100]));
    let entry = Entry {
        session: SessionId(7),
        attachment: Zxid::ZERO,
        sequence: 1,
        identities: Arc::from([]),
        time_ms: 0,
        request: Write::Op(Op::SetData { path: path("/a"), data, version: -1 }),
    };
    let bytes = encoded(&entry);
    let memory = bytes.as_ptr_range();
    match decode_entry(bytes).map(|entry| entry.request) {
        Ok(Write::Op(Op::SetData { data: Some(data), .. })) => {
            assert!(memory.contains(&data.as_ptr()), "a copy");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_format_is_named_with_the_one_that_is_known() {
    let error = decode_entry(Bytes::from_static(&[2, 0, 0])).expect_err("format 2");
    assert_eq!(error, DecodeError::UnknownFormat { what: "log entry", found: 2, known: 1 });
    assert_eq!(error.to_string(), "format 2 of a log entry: this version reads format 1 only");
}

#[test]
fn what_no_version_writes_is_refused() {
    let head = "01 0000000000000007 0000000000000000 0000000000000000 00000000 0000000000000000";
    for (body, error) in [
        ("00", DecodeError::BadValue { what: "request", value: 0 }),
        ("0b", DecodeError::BadValue { what: "request", value: 11 }),
        ("0105", DecodeError::BadValue { what: "operation", value: 5 }),
        (
            "01 01 00000000 ffffffff 00000000 07",
            DecodeError::BadValue { what: "create mode", value: 7 },
        ),
        ("01 02 ffffffff 00000000", DecodeError::BadCount),
        ("01 02 00000001 ff 00000000", DecodeError::NotText),
        ("03 ffffffff", DecodeError::BadCount),
        ("03 00000002 02 00000000 00000000", DecodeError::BadCount),
        ("07 00", DecodeError::Trailing),
    ] {
        assert_eq!(decode_entry(payload(&format!("{head}{body}"))), Err(error), "{body}");
    }
}
