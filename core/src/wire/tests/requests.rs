use super::golden_requests::cases;
use super::*;
use crate::model::{Code, Op, Password, Request, Write};

#[test]
fn every_request_is_read_from_its_golden_bytes() {
    for case in cases() {
        let submitted =
            SubmittedRequest { xid: case.xid, request: case.request, shape: case.shape };
        assert_eq!(decode_request(payload(case.bytes)), Ok(submitted), "{}", case.name);
    }
}

#[test]
fn every_request_of_the_client_is_written_in_its_golden_bytes() {
    for case in cases().into_iter().filter(|case| case.written) {
        let mut out = BytesMut::from(&b"before"[..]);
        let encoded = encode_request(&mut out, 9, &case.request);
        assert_eq!(encoded, Ok((case.xid, case.shape)), "{}", case.name);
        let expected = [&b"before"[..], &framed(&hex(case.bytes))].concat();
        assert_eq!(out[..], expected, "{}", case.name);
    }
}

#[test]
fn what_stands_behind_a_request_is_passed_over() {
    for case in cases() {
        let bytes = [hex(case.bytes), vec![0xFF; 9]].concat();
        let submitted =
            SubmittedRequest { xid: case.xid, request: case.request, shape: case.shape };
        assert_eq!(decode_request(bytes.into()), Ok(submitted), "{}", case.name);
    }
}

#[test]
fn a_request_that_is_cut_off_anywhere_is_malformed() {
    for case in cases() {
        let bytes = payload(case.bytes);
        for length in 8..bytes.len() {
            let refused = decode_request(bytes.slice(..length)).expect_err(case.name);
            let sent = i32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
            let expected =
                Refused { xid: sent, code: Code::Marshalling, closes: false, empty_results: false };
            assert_eq!(refused, expected, "{}, {length} bytes", case.name);
        }
    }
}

#[test]
fn what_only_coordinators_ask_is_not_written() {
    let id = SessionId(7);
    for write in [
        Write::CreateSession { id, password: Password([0; 16]), timeout_ms: 1 },
        Write::Attach { timeout_ms: 1 },
        Write::ExpireSession { id, attachment: Zxid::ZERO, sequence: 0 },
        Write::Reap { path: path("/a") },
        Write::Configure { members: "server.1=a:1:1:participant".into() },
    ] {
        let mut out = BytesMut::from(&b"before"[..]);
        let refused = encode_request(&mut out, 9, &Request::Write(write));
        assert_eq!(refused, Err(Code::Unimplemented));
        assert_eq!(out[..], b"before"[..]);
    }
}

#[test]
fn a_check_that_stands_alone_is_written_and_refused() {
    let check = Request::Write(Write::Op(Op::Check { path: path("/a"), version: 0 }));
    let mut out = BytesMut::new();
    encode_request(&mut out, 9, &check).expect("it can be written");
    let bytes = hex("00000009 0000000d 00000002 2f61 00000000");
    assert_eq!(out[..], framed(&bytes));
    let refused = Refused { xid: 9, code: Code::Unimplemented, closes: true, empty_results: false };
    assert_eq!(decode_request(bytes.into()), Err(refused));
}
