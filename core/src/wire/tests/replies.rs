use super::super::request::Shape;
use super::golden_replies::{cases, events};
use super::*;
use crate::model::{Acl, Code, OpResult, Refusal, Response};

fn reply(result: Result<Response, Refusal>) -> Incoming {
    Incoming::Reply { xid: 9, zxid: Some(Zxid::new(2, 9)), result }
}

fn read(bytes: impl Into<Bytes>, shape: &Shape) -> Result<Incoming, DecodeError> {
    decode_incoming(bytes.into(), |xid| {
        assert_eq!(xid, 9);
        Some(shape.clone())
    })
}

fn written(xid: i32, zxid: Zxid, shape: &Shape, result: &Result<Response, Refusal>) -> BytesMut {
    let mut out = BytesMut::new();
    encode_reply(&mut out, xid, zxid, shape, result);
    out
}

/// Header of a reply that holds what follows.
const OK: &str = "00000009 0000000200000009 00000000";

#[test]
fn every_reply_is_written_in_its_golden_bytes() {
    for case in cases() {
        let out = written(9, Zxid::new(2, 9), &case.shape, &case.written);
        assert_eq!(out[..], framed(&hex(case.bytes)), "{}", case.name);
    }
}

#[test]
fn every_reply_is_read_from_its_golden_bytes() {
    for case in cases() {
        assert_eq!(read(hex(case.bytes), &case.shape), Ok(reply(case.read)), "{}", case.name);
    }
}

#[test]
fn what_stands_behind_a_reply_is_passed_over() {
    for case in cases() {
        let bytes = [hex(case.bytes), vec![0xFF; 9]].concat();
        assert_eq!(read(bytes, &case.shape), Ok(reply(case.read)), "{}", case.name);
    }
}

#[test]
fn a_reply_that_is_cut_off_anywhere_is_refused() {
    for case in cases() {
        // Of an echo, a zero and a failed step of SASL the header alone counts.
        let ignored = matches!(case.shape, Shape::Echo(_) | Shape::Zero)
            || (case.shape == Shape::Token && case.read.is_err());
        let bytes = payload(case.bytes);
        for length in 0..if ignored { 16 } else { bytes.len() } {
            assert!(
                read(bytes.slice(..length), &case.shape).is_err(),
                "{}, {length} bytes",
                case.name
            );
        }
    }
}

#[test]
fn every_event_has_its_golden_bytes() {
    for (name, event, bytes) in events() {
        let mut out = BytesMut::new();
        encode_event(&mut out, &event);
        assert_eq!(out[..], framed(&hex(bytes)), "{name}");
        let nobody = |_| -> Option<Shape> { panic!("an event answers nothing") };
        let incoming = decode_incoming(payload(bytes), nobody);
        assert_eq!(incoming, Ok(Incoming::Event(Some(event))), "{name}");
    }
}

#[test]
fn an_event_that_is_cut_off_anywhere_is_refused() {
    for (name, _, bytes) in events() {
        let bytes = payload(bytes);
        for length in 0..bytes.len() {
            let cut_off = decode_incoming(bytes.slice(..length), |_| None);
            assert!(cut_off.is_err(), "{name}, {length} bytes");
        }
    }
}

#[test]
fn an_event_about_no_znode_is_passed_over() {
    for kind in ["ffffffff", "00000000", "00000005"] {
        let text = format!("ffffffff ffffffffffffffff 00000000 {kind} 00000003 00000000");
        let incoming = decode_incoming(payload(&text), |_| None);
        assert_eq!(incoming, Ok(Incoming::Event(None)), "{kind}");
    }
}

#[test]
fn the_reserved_xids_are_answered_under_themselves() {
    for (xid, bytes) in [
        (XID_PING, "fffffffe 0000000200000009 00000000"),
        (XID_AUTH, "fffffffc 0000000000000000 00000000"),
        (XID_SET_WATCHES, "fffffff8 0000000200000009 00000000"),
    ] {
        // The reply to authentication says no zxid.
        let zxid = if xid == XID_AUTH { Zxid::ZERO } else { Zxid::new(2, 9) };
        assert_eq!(written(xid, zxid, &Shape::Empty, &Ok(Response::Done))[..], framed(&hex(bytes)));
        let incoming = decode_incoming(payload(bytes), |asked| {
            assert_eq!(asked, xid);
            Some(Shape::Empty)
        });
        let zxid = (zxid > Zxid::ZERO).then_some(zxid);
        assert_eq!(incoming, Ok(Incoming::Reply { xid, zxid, result: Ok(Response::Done) }));
    }
}

#[test]
fn a_reply_to_nothing_that_was_asked_is_refused() {
    let unasked = decode_incoming(payload(OK), |_| None);
    assert_eq!(unasked, Err(DecodeError::BadValue { what: "xid", value: 9 }));
}

#[test]
fn a_reply_of_zxid_minus_1_says_none() {
    let incoming = read(hex("00000009 ffffffffffffffff fffffffa"), &Shape::Stat);
    let code = Code::Unimplemented;
    let result = Err(Refusal::new(code, code.rule()));
    assert_eq!(incoming, Ok(Incoming::Reply { xid: 9, zxid: None, result }));
}

#[test]
fn the_body_of_an_error_is_passed_over() {
    let text = "00000009 0000000200000009 fffffffb ffffffff 01 ffffffff";
    let code = Code::Marshalling;
    let expected = reply(Err(Refusal::new(code, code.rule())));
    assert_eq!(read(hex(text), &Shape::MultiRead(vec![4])), Ok(expected));
}

#[test]
fn codes_of_this_project_go_as_the_nearest_that_others_know() {
    for (code, number) in [
        (Code::SequenceExhausted, "fffffff8"),
        (Code::SequenceGap, "fffffffc"),
        // Only who asked for a zxid is told so.
        (Code::StaleZxid, "fffffc17"),
    ] {
        let refusal = Refusal::new(code, code.rule());
        let out = written(9, Zxid::new(2, 9), &Shape::PathStat, &Err(refusal));
        assert_eq!(out[..], framed(&hex(&format!("00000009 0000000200000009 {number}"))));
        let failed = Err(Refusal { index: Some(0), ..refusal });
        let out = written(9, Zxid::new(2, 9), &Shape::Multi(vec![15]), &failed);
        let result = format!("{OK} ffffffff 00 {number} {number} ffffffff 01 ffffffff");
        assert_eq!(out[..], framed(&hex(&result)));
    }
}

#[test]
fn null_vectors_and_strings_of_a_reply_are_empty() {
    let names = |names: Vec<String>| Response::Children { names, stat: Stat::default() };
    for (shape, body, response) in [
        (Shape::Names, "ffffffff", names(Vec::new())),
        (Shape::Names, "00000001 ffffffff", names(vec![String::new()])),
        (Shape::NamesStat, "ffffffff S", Response::Children { names: Vec::new(), stat: stat() }),
        (Shape::AclStat, "ffffffff S", Response::Acl { acl: Vec::new(), stat: stat() }),
        (
            Shape::AclStat,
            "00000001 00000000 ffffffff ffffffff S",
            Response::Acl { acl: vec![Acl::new(Default::default(), "", "")], stat: stat() },
        ),
        (Shape::Paths, "ffffffff", Response::Ephemerals(Vec::new())),
        (Shape::Identities, "ffffffff", Response::WhoAmI(Vec::new())),
        (Shape::PathStat, "ffffffff S", Response::Created { path: path(""), stat: stat() }),
    ] {
        assert_eq!(read(hex(&format!("{OK} {body}")), &shape), Ok(reply(Ok(response))), "{body}");
    }
}

#[test]
fn counts_and_lengths_beyond_what_is_there_are_refused() {
    for count in ["7fffffff", "80000000", "fffffffe", "00000002"] {
        for shape in [
            Shape::Path,
            Shape::DataStat,
            Shape::AclStat,
            Shape::Names,
            Shape::NamesStat,
            Shape::Paths,
            Shape::Identities,
        ] {
            let bytes = hex(&format!("{OK} {count} 00"));
            assert_eq!(read(bytes, &shape), Err(DecodeError::BadCount), "{shape:?} {count}");
        }
    }
}

#[test]
fn a_container_s_result_may_come_under_its_own_number() {
    for number in ["00000013", "00000015"] {
        let bytes = hex(&format!("{OK} {number} 00 00000000 00000002 2f61 S ffffffff 01 ffffffff"));
        let created = OpResult::Created { path: path("/a"), stat: stat() };
        let expected = reply(Ok(Response::Multi(vec![created])));
        assert_eq!(read(bytes, &Shape::Multi(vec![19])), Ok(expected));
    }
}

#[test]
fn a_transaction_has_a_result_an_operation() {
    let (checked, zero) = ("0000000d 00 00000000", "ffffffff 00 00000000 00000000");
    let failed = "ffffffff 00 ffffff99 ffffff99";
    for (what, results) in [
        ("one is missing", checked.to_owned()),
        ("one too many", format!("{checked} {checked} {checked}")),
        ("one of the errors is missing", failed.to_owned()),
        ("one error too many", format!("{zero} {zero} {failed}")),
        ("errors without an error", format!("{zero} {zero}")),
        ("a result and an error of none", format!("{checked} {zero}")),
    ] {
        let bytes = hex(&format!("{OK} {results} ffffffff 01 ffffffff"));
        let result = read(bytes, &Shape::Multi(vec![13, 13]));
        assert!(result.is_err(), "{what}: {result:?}");
    }
}

#[test]
fn a_multi_read_has_an_answer_a_read() {
    let names = "00000008 00 00000000 00000000";
    for (what, answers) in
        [("one is missing", names.to_owned()), ("one too many", format!("{names} {names} {names}"))]
    {
        let bytes = hex(&format!("{OK} {answers} ffffffff 01 ffffffff"));
        let result = read(bytes, &Shape::MultiRead(vec![8, 8]));
        assert!(result.is_err(), "{what}: {result:?}");
    }
}

#[test]
fn a_result_answers_its_operation() {
    let (deleted, names) = ("00000002 00 00000000", "00000008 00 00000000 00000000");
    let end = "ffffffff 01 ffffffff";
    let bytes = hex(&format!("{OK} {deleted} {end}"));
    let error = Err(DecodeError::BadValue { what: "result", value: 2 });
    assert_eq!(read(bytes, &Shape::Multi(vec![13])), error, "a check was asked");
    let bytes = hex(&format!("{OK} {names} {end}"));
    let error = Err(DecodeError::BadValue { what: "result", value: 8 });
    assert_eq!(read(bytes, &Shape::MultiRead(vec![4])), error, "data was asked");
}

#[test]
fn a_result_of_an_unknown_number_is_refused() {
    let bytes = hex(&format!("{OK} 00000063 00 00000000 ffffffff 01 ffffffff"));
    let error = Err(DecodeError::BadValue { what: "result", value: 99 });
    assert_eq!(read(bytes.clone(), &Shape::Multi(vec![13])), error);
    assert_eq!(read(bytes, &Shape::MultiRead(vec![8])), error);
}
