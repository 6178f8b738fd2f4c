//! Requests that are answered without being looked at further.

use super::*;
use crate::model::Code;

fn refused(text: &str) -> Refused {
    decode_request(payload(text)).expect_err(text)
}

fn stays(code: Code) -> Refused {
    Refused { xid: 9, code, closes: false, empty_results: false }
}

/// A create's body up to its flags, in 34 bytes.
const UP_TO_FLAGS: &str =
    "00000002 2f61 ffffffff 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65";

#[test]
fn an_unknown_operation_closes() {
    let closes = Refused { closes: true, ..stays(Code::Unimplemented) };
    for (number, what) in [
        ("00000000", "notification"),
        ("0000000a", "10, which no version has"),
        ("0000000d", "check outside a multi"),
        ("00000014", "deleteContainer, which is the server's own"),
        ("00000017", "23, which no version has"),
        ("00000063", "99, which no version has"),
        ("0000006c", "108, which no version has"),
        ("fffffff6", "createSession, which is the server's own"),
        ("ffffffff", "error"),
        ("7fffffff", "the highest number"),
        ("80000000", "the lowest number"),
    ] {
        let body = "00000002 2f61 ffffffff";
        assert_eq!(refused(&format!("00000009 {number} {body}")), closes, "{what}");
        assert_eq!(refused(&format!("00000009 {number}")), closes, "{what}, without a body");
    }
}

#[test]
fn a_proposal_of_what_cannot_be_proposed_closes() {
    let closes = Refused { closes: true, ..stays(Code::Unimplemented) };
    for number in ["00000001", "0000000d", "0000000e", "00530001"] {
        let text = format!("00000009 00530001 0000000200000009 {number} {UP_TO_FLAGS} 00000000");
        assert_eq!(refused(&text), closes, "{number}");
    }
}

#[test]
fn an_unknown_operation_is_answered_with_zxid_minus_1() {
    let mut out = BytesMut::new();
    let closes = Refused { closes: true, ..stays(Code::Unimplemented) };
    encode_refusal(&mut out, Zxid::new(2, 9), &closes);
    let expected = hex("00000009            # xid
                        ffffffffffffffff    # zxid
                        fffffffa            # err: unimplemented");
    assert_eq!(out[..], framed(&expected));
}

#[test]
fn a_malformed_request_is_answered_with_the_last_zxid_and_no_body() {
    let mut out = BytesMut::new();
    encode_refusal(&mut out, Zxid::new(2, 9), &stays(Code::Marshalling));
    let expected = hex("00000009            # xid
                        0000000200000009    # zxid
                        fffffffb            # err: marshalling");
    assert_eq!(out[..], framed(&expected));
}

#[test]
fn a_reconfiguration_that_is_cut_off_does_not_close() {
    let text = "00000009            # xid
                00000010            # reconfig
                ffffffff            # joiningServers: null
                00000001 33         # leavingServers: 3
                ffffffff            # newMembers: null
                ffffffffffffffff    # curConfigId: any";
    let bytes = payload(text);
    for length in 8..bytes.len() {
        let cut_off = decode_request(bytes.slice(..length));
        assert_eq!(cut_off, Err(stays(Code::Marshalling)), "{length} bytes");
    }
}

#[test]
fn create_flags_that_mean_nothing_are_bad_arguments() {
    for number in ["00000001", "0000000f", "00000013"] {
        for flags in ["00000007", "ffffffff", "7fffffff"] {
            let text = format!("00000009 {number} {UP_TO_FLAGS} {flags}");
            assert_eq!(refused(&text), stays(Code::BadArguments), "{text}");
        }
    }
}

#[test]
fn create_ttl_takes_the_two_flags_of_a_ttl_alone() {
    for flags in
        ["00000000", "00000001", "00000002", "00000003", "00000004", "00000007", "ffffffff"]
    {
        let text = format!("00000009 00000015 {UP_TO_FLAGS} {flags} 00000000000003e8");
        assert_eq!(refused(&text), stays(Code::BadArguments), "{flags}");
    }
}

#[test]
fn create_flags_that_mean_nothing_make_a_multi_malformed() {
    let end = "ffffffff 01 ffffffff";
    for (number, tail) in [
        ("00000001", "00000007"),
        ("0000000f", "ffffffff"),
        ("00000013", "00000007"),
        ("00000015", "00000007 00000000000003e8"),
        ("00000015", "00000000 00000000000003e8"),
        // Of a TTL, where there is none.
        ("00000001", "00000005"),
        ("0000000f", "00000006"),
    ] {
        let text = format!("00000009 0000000e {number} 00 ffffffff {UP_TO_FLAGS} {tail} {end}");
        assert_eq!(refused(&text), stays(Code::Marshalling), "{number} {tail}");
    }
}

#[test]
fn a_multi_of_what_it_cannot_hold_is_malformed() {
    for (what, op) in [
        ("getData", "00000004 00 ffffffff 00000002 2f61 00"),
        ("setACL", "00000007 00 ffffffff 00000002 2f61 00000000 ffffffff"),
        ("multi", "0000000e 00 ffffffff ffffffff 01 ffffffff"),
        ("an error", "ffffffff 00 ffffffff 00000000"),
        ("an unknown operation", "00000063 00 ffffffff"),
    ] {
        let text = format!("00000009 0000000e {op} ffffffff 01 ffffffff");
        assert_eq!(refused(&text), stays(Code::Marshalling), "{what}");
    }
}

/// A delete without its number, at the place of an operation.
const DELETE: &str = "00000002 00 ffffffff 00000002 2f61 ffffffff";
const GET_DATA: &str = "00000004 00 ffffffff 00000002 2f61 00";

#[test]
fn a_multi_read_of_writes_is_malformed_with_an_empty_list() {
    let with_list = Refused { empty_results: true, ..stays(Code::Marshalling) };
    let create = format!("00000001 00 ffffffff {UP_TO_FLAGS} 00000000");
    for ops in [DELETE.to_owned(), create, format!("{DELETE} {DELETE}")] {
        let text = format!("00000009 00000016 {ops} ffffffff 01 ffffffff");
        assert_eq!(refused(&text), with_list, "{ops}");
    }
    let mut out = BytesMut::new();
    encode_refusal(&mut out, Zxid::new(2, 9), &with_list);
    let expected = hex("00000009                # xid
                        0000000200000009        # zxid
                        fffffffb                # err: marshalling
                        ffffffff 01 ffffffff    # header: done");
    assert_eq!(out[..], framed(&expected));
}

#[test]
fn a_multi_read_that_cannot_be_read_is_malformed_without_a_body() {
    for (what, ops) in [
        ("an end that is missing", DELETE.to_owned()),
        ("reads and writes", format!("{GET_DATA} {DELETE} ffffffff 01 ffffffff")),
        ("writes and reads", format!("{DELETE} {GET_DATA} ffffffff 01 ffffffff")),
        ("exists", "00000003 00 ffffffff 00000002 2f61 00 ffffffff 01 ffffffff".to_owned()),
        ("getChildren2", "0000000c 00 ffffffff 00000002 2f61 00 ffffffff 01 ffffffff".to_owned()),
        ("a header that is cut off", "00000004 00".to_owned()),
    ] {
        let text = format!("00000009 00000016 {ops}");
        assert_eq!(refused(&text), stays(Code::Marshalling), "{what}");
    }
}

#[test]
fn a_list_of_watches_that_is_null_is_malformed() {
    for lists in [
        ["ffffffff", "00000000", "00000000", "00000000", "00000000"],
        ["00000000", "ffffffff", "00000000", "00000000", "00000000"],
        ["00000000", "00000000", "ffffffff", "00000000", "00000000"],
        ["00000000", "00000000", "00000000", "ffffffff", "00000000"],
        ["00000000", "00000000", "00000000", "00000000", "ffffffff"],
    ] {
        let (three, five) = (lists[..3].concat(), lists.concat());
        let text = format!("00000009 00000069 0000000200000009 {five}");
        assert_eq!(refused(&text), stays(Code::Marshalling), "setWatches2 {lists:?}");
        if lists[..3].contains(&"ffffffff") {
            let text = format!("00000009 00000065 0000000200000009 {three}");
            assert_eq!(refused(&text), stays(Code::Marshalling), "setWatches {lists:?}");
        }
    }
}

#[test]
fn a_type_or_mode_of_watch_that_means_nothing_is_malformed() {
    for kind in ["00000000", "00000006", "ffffffff"] {
        for number in ["00000011", "00000012"] {
            let text = format!("00000009 {number} 00000002 2f61 {kind}");
            assert_eq!(refused(&text), stays(Code::Marshalling), "{text}");
        }
    }
    for mode in ["00000002", "ffffffff"] {
        let text = format!("00000009 0000006a 00000002 2f61 {mode}");
        assert_eq!(refused(&text), stays(Code::Marshalling), "{text}");
    }
}

#[test]
fn counts_and_lengths_beyond_what_is_there_are_malformed() {
    for count in ["7fffffff", "80000000", "fffffffe", "00000003"] {
        for (what, text) in [
            ("path", format!("00000009 00000004 {count} 2f61")),
            ("data", format!("00000009 00000005 00000002 2f61 {count} 6869")),
            ("acl", format!("00000009 00000007 00000002 2f61 {count} 00000001 00000000 00000000")),
            ("watches", format!("00000009 00000065 0000000000000001 {count} 00000000 00000000")),
            ("credentials", format!("fffffffc 00000064 00000000 00000000 {count} 7069")),
            ("token", format!("00000009 00000066 {count} 7069")),
        ] {
            assert_eq!(refused(&text).code, Code::Marshalling, "{what} {count}");
        }
    }
}

#[test]
fn a_request_without_xid_and_number_is_malformed() {
    for text in ["", "00000009", "00000009 000000"] {
        let expected = Refused { xid: 0, ..stays(Code::Marshalling) };
        assert_eq!(refused(text), expected, "{text:?}");
    }
}
