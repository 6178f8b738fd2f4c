use super::*;

/// What every client has sent since 3.4: 45 bytes.
const REQUEST: &str = "
    00000000            # protocolVersion
    0000000200000009    # lastZxidSeen
    00007530            # timeOut: 30 s
    0700000000000007    # sessionId
    00000010            # passwd: 16 bytes
      000102030405060708090a0b0c0d0e0f
    01                  # readOnly
";

/// What it is answered: 37 bytes.
const REPLY: &str = "
    00000000            # protocolVersion
    00004e20            # timeOut: 20 s
    0700000000000007    # sessionId
    00000010            # passwd: 16 bytes
      000102030405060708090a0b0c0d0e0f
    01                  # readOnly
";

/// A session that is over: 37 bytes.
const OVER: &str = "
    00000000            # protocolVersion
    00000000            # timeOut
    0000000000000000    # sessionId
    00000010            # passwd: 16 bytes
      00000000000000000000000000000000
    00                  # readOnly
";

/// Payloads of both directions, to begin a search from.
pub(super) fn payloads() -> Vec<(&'static str, Vec<u8>)> {
    let old = |text| {
        let mut bytes = hex(text);
        bytes.pop();
        bytes
    };
    vec![
        ("request", hex(REQUEST)),
        ("request-old", old(REQUEST)),
        ("reply", hex(REPLY)),
        ("reply-old", old(REPLY)),
        ("reply-over", hex(OVER)),
    ]
}

fn password() -> Bytes {
    Bytes::from_iter(0..16)
}

fn request() -> ConnectRequest {
    ConnectRequest {
        last_zxid: Zxid::new(2, 9),
        timeout_ms: 30_000,
        session: SessionId(0x0700_0000_0000_0007),
        password: password(),
        read_only: Some(true),
    }
}

fn reply() -> ConnectReply {
    ConnectReply {
        timeout_ms: 20_000,
        session: SessionId(0x0700_0000_0000_0007),
        password: password(),
        read_only: Some(true),
    }
}

#[test]
fn a_connect_request_has_45_bytes() {
    let bytes = hex(REQUEST);
    assert_eq!(bytes.len(), 45);
    assert_eq!(ConnectRequest::decode(bytes.clone().into()), Ok(request()));
    let mut out = BytesMut::new();
    request().encode(&mut out);
    assert_eq!(out[..], framed(&bytes));
}

#[test]
fn a_connect_request_of_an_old_client_has_44_bytes() {
    let bytes = &hex(REQUEST)[..44];
    let old = ConnectRequest { read_only: None, ..request() };
    assert_eq!(ConnectRequest::decode(Bytes::copy_from_slice(bytes)), Ok(old.clone()));
    let mut out = BytesMut::new();
    old.encode(&mut out);
    assert_eq!(out[..], framed(bytes));
}

#[test]
fn a_connect_reply_has_37_bytes_and_36_for_an_old_client() {
    let bytes = hex(REPLY);
    assert_eq!(bytes.len(), 37);
    let old = ConnectReply { read_only: None, ..reply() };
    for (reply, bytes) in [(reply(), &bytes[..]), (old, &bytes[..36])] {
        assert_eq!(ConnectReply::decode(Bytes::copy_from_slice(bytes)), Ok(reply.clone()));
        let mut out = BytesMut::new();
        reply.encode(&mut out);
        assert_eq!(out[..], framed(bytes));
    }
}

#[test]
fn a_session_that_is_over_is_all_zeros() {
    let bytes = hex(OVER);
    for (read_only, bytes) in [(Some(false), &bytes[..]), (None, &bytes[..36])] {
        let mut out = BytesMut::new();
        ConnectReply::session_over(read_only).encode(&mut out);
        assert_eq!(out[..], framed(bytes));
    }
}

#[test]
fn version_password_length_and_what_stands_behind_do_not_matter() {
    let bytes = payload(
        "00000063            # protocolVersion: passed over
         0000000200000009    # lastZxidSeen
         00007530            # timeOut
         0000000000000000    # sessionId: a new one
         00000003 010203     # passwd: 3 bytes
         00                  # readOnly
         ffffffffffffffffffffffffffffffff # what stands behind",
    );
    let expected = ConnectRequest {
        session: SessionId(0),
        password: Bytes::from_static(&[1, 2, 3]),
        read_only: Some(false),
        ..request()
    };
    assert_eq!(ConnectRequest::decode(bytes), Ok(expected));
}

#[test]
fn a_null_password_is_an_empty_one() {
    let bytes = payload(
        "00000000            # protocolVersion
         0000000200000009    # lastZxidSeen
         00007530            # timeOut
         0700000000000007    # sessionId
         ffffffff            # passwd: null
         01                  # readOnly
         00000000000000000000000000000000 # what stands behind",
    );
    let expected = ConnectRequest { password: Bytes::new(), ..request() };
    assert_eq!(ConnectRequest::decode(bytes), Ok(expected));
}

#[test]
fn a_connect_request_below_44_bytes_is_refused() {
    let bytes = Bytes::from(hex(REQUEST));
    for length in 0..44 {
        let cut_off = ConnectRequest::decode(bytes.slice(..length));
        assert_eq!(cut_off, Err(DecodeError::CutOff), "{length} bytes");
    }
    // 28 bytes would do for an empty password, but no client sends so few.
    let short = payload("00000000 0000000000000000 00007530 0000000000000000 00000000 00");
    assert_eq!(ConnectRequest::decode(short), Err(DecodeError::CutOff));
}

#[test]
fn a_password_beyond_the_payload_is_refused() {
    for length in ["7fffffff", "80000000", "fffffffe", "00000012"] {
        let mut bytes = hex(REQUEST);
        bytes[24..28].copy_from_slice(&hex(length));
        assert_eq!(ConnectRequest::decode(bytes.into()), Err(DecodeError::BadCount), "{length}");
        let mut bytes = hex(REPLY);
        bytes[16..20].copy_from_slice(&hex(length));
        assert_eq!(ConnectReply::decode(bytes.into()), Err(DecodeError::BadCount), "{length}");
    }
}

#[test]
fn a_connect_reply_that_is_cut_off_is_refused() {
    let bytes = Bytes::from(hex(REPLY));
    for length in 0..36 {
        assert!(ConnectReply::decode(bytes.slice(..length)).is_err(), "{length} bytes");
    }
    assert!(ConnectReply::decode(bytes.slice(..36)).is_ok());
}

#[test]
fn a_password_is_not_shown() {
    let (session, password) = (SessionId(7), Bytes::from_static(b"0123456789abcdef"));
    let read_only = Some(false);
    let (last_zxid, timeout_ms) = (Zxid::ZERO, 9);
    let request =
        ConnectRequest { last_zxid, timeout_ms, session, password: password.clone(), read_only };
    let reply = ConnectReply { timeout_ms, session, password, read_only };
    for shown in [format!("{request:?}"), format!("{reply:?}")] {
        assert!(shown.contains("timeout_ms: 9") && !shown.contains("0123"), "{shown}");
    }
}
