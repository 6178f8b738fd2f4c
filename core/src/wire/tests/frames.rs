use super::*;

fn received(text: &str) -> BytesMut {
    BytesMut::from(&hex(text)[..])
}

#[test]
fn a_frame_is_taken_once_it_is_complete() {
    let mut received = received("00000008 0102030405060708 00000009 01");
    let frame = take_frame(&mut received, 8, 100).expect("a good length").expect("complete");
    assert_eq!(frame[..], hex("0102030405060708"));
    assert_eq!(take_frame(&mut received, 8, 100), Ok(None), "eight bytes are missing");
    received.extend_from_slice(&hex("0203040506070809"));
    let frame = take_frame(&mut received, 8, 100).expect("a good length").expect("complete");
    assert_eq!(frame[..], hex("010203040506070809"));
    assert!(received.is_empty());
}

#[test]
fn less_than_a_length_is_waited_for() {
    for text in ["", "7f", "7fff", "7fffff", "ffffff"] {
        assert_eq!(take_frame(&mut received(text), 8, 100), Ok(None), "{text}");
    }
}

#[test]
fn a_length_out_of_bounds_is_refused_before_the_payload_is_there() {
    for (text, length) in [
        ("00000000", 0),
        ("00000007 01020304050607", 7),
        ("00000065", 101),
        ("7fffffff", i32::MAX),
        ("80000000", i32::MIN),
        ("ffffffff", -1),
    ] {
        let mut received = received(text);
        let before = received.capacity();
        let bad = BadFrame { length, min: 8, max: 100 };
        assert_eq!(take_frame(&mut received, 8, 100), Err(bad), "{text}");
        assert_eq!(received.capacity(), before, "{text}");
    }
}

#[test]
fn a_length_at_either_bound_is_taken() {
    for length in [8_u8, 100] {
        let bytes = framed(&vec![length; length.into()]);
        let mut received = BytesMut::from(&bytes[..]);
        let frame = take_frame(&mut received, 8, 100).expect("within bounds").expect("complete");
        assert_eq!(frame.len(), usize::from(length));
    }
}

#[test]
fn a_frame_that_is_announced_reserves_nothing() {
    let mut received = received("000f0000 01");
    let before = received.capacity();
    assert_eq!(take_frame(&mut received, 8, 0xF_FFFF), Ok(None));
    assert_eq!(received.capacity(), before);
}
