use proptest::prelude::*;

use super::*;
use crate::replica::types::CommittedLeaderId;

const OURS: ClusterId = ClusterId([7; 16]);
const FOLDER: FolderId = FolderId([2; 16]);
const HELLO_TO_2: Hello = Hello {
    cluster: Some(OURS),
    from: 1,
    from_folder: Some(FolderId([1; 16])),
    members: None,
    to: 2,
    to_folder: Some(FOLDER),
    purpose: Purpose::Append,
    patience_ms: 100,
};

fn member(cluster: Option<ClusterId>) -> Identity {
    Identity::new(2, FOLDER, cluster)
}

/// The same, with everything that there can be in it.
fn whole_hello() -> Hello {
    let members = Some(LogId { leader_id: CommittedLeaderId::new(3), index: 4 });
    Hello { members, ..HELLO_TO_2 }
}

/// What the connecting and the accepting side get.
async fn shake(
    hello: Hello,
    identity: &Identity,
) -> (Result<Welcome, Refusal>, Result<Hello, Refusal>) {
    let (mut here, mut there) = tokio::io::duplex(256);
    let accept = receive(&mut there, identity, async |_| Ok(()));
    let (introduced, accepted) = tokio::join!(introduce(&mut here, &hello), accept);
    (introduced.expect("it is answered"), accepted.expect("it is heard"))
}

#[tokio::test]
async fn a_member_that_means_this_one_is_welcome() {
    let (welcome, hello) = shake(whole_hello(), &member(Some(OURS))).await;
    let cluster = Some(OURS);
    let expected = Welcome { id: 2, cluster, folder: FOLDER, has_begun: false, is_removed: false };
    assert_eq!((welcome, hello), (Ok(expected), Ok(whole_hello())));
    // Whoever does not know yet which folder it has may ask, and no more.
    let meet = Hello { to_folder: None, purpose: Purpose::Meet, ..HELLO_TO_2 };
    assert_eq!(shake(meet, &member(Some(OURS))).await.0, Ok(expected));
}

#[tokio::test]
async fn a_refusal_names_the_value_and_the_rule_on_both_sides() {
    let identity = member(Some(OURS));
    let cluster = Some(ClusterId([9; 16]));
    let to_folder = Some(FolderId([0xAB; 16]));
    let admin = Hello::of_admin(100);
    for (hello, told, lasting) in [
        (Hello { to: 3, ..HELLO_TO_2 }, "this is member 2, not member 3 that was meant", false),
        (Hello { cluster, ..HELLO_TO_2 }, "not to 0909", true),
        (Hello { cluster: None, ..HELLO_TO_2 }, "a member names its cluster", false),
        (Hello { from_folder: None, ..HELLO_TO_2 }, "and its data folder", false),
        (Hello { to_folder, ..HELLO_TO_2 }, "knows member 2 with the data folder abab", true),
        (Hello { to_folder: None, ..HELLO_TO_2 }, "the data folder of whom it means", false),
        (Hello { from: 2, ..HELLO_TO_2 }, "a peer is another member", false),
        (Hello { from: 0, ..HELLO_TO_2 }, "a peer is another member", false),
        (Hello { to: 9, ..admin }, "not member 9", false),
    ] {
        let (refused, refusal) = shake(hello, &identity).await;
        for refusal in [refused.map(|_| ()), refusal.map(|_| ())] {
            let Refusal { text, is_lasting } = refusal.expect_err("refused");
            assert!(text.contains(told), "{text} for {hello:?}");
            assert_eq!(is_lasting, lasting, "{text}");
        }
    }
    assert!(shake(admin, &identity).await.0.is_ok());
}

#[tokio::test]
async fn another_version_is_told_which_one_is_spoken() {
    let mut out = encode_hello(&HELLO_TO_2).expect("short");
    out[9..11].copy_from_slice(&9u16.to_be_bytes());
    let (mut here, mut there) = tokio::io::duplex(256);
    here.write_all(&out).await.expect("there is room");
    let received = receive(&mut there, &member(Some(OURS)), async |_| Ok(())).await;
    assert!(received.expect("it is heard").is_err());
    let answer = frame::read_one(&mut here, 256).await.expect("an answer");
    let text = decode_answer(answer).expect("an answer").expect_err("refused").to_string();
    assert!(text.contains("protocol version 9: this member speaks version 1"), "{text}");
}

#[tokio::test]
async fn a_joiner_belongs_to_the_first_cluster_that_reaches_it_once_that_is_written_down() {
    let identity = member(None);
    let full = async |_| Err(io::Error::other("the disk is full"));
    let refused = identity.admit(&HELLO_TO_2, full).await.expect_err("refused");
    assert!(refused.text.contains("disk is full"), "{refused}");
    // Nor does it belong to one that means another folder.
    let to_folder = Some(FolderId([3; 16]));
    assert!(shake(Hello { to_folder, ..HELLO_TO_2 }, &identity).await.1.is_err());
    assert_eq!(identity.cluster(), None);
    assert!(shake(HELLO_TO_2, &identity).await.1.is_ok());
    assert_eq!(identity.cluster(), Some(OURS));
    let late = Hello { cluster: Some(ClusterId([9; 16])), ..HELLO_TO_2 };
    assert!(shake(late, &identity).await.1.is_err());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_is_given_up_in_time() {
    #[derive(Debug)]
    struct Silent;
    impl Net for Silent {
        fn connect<'a>(&'a self, _: &'a str) -> crate::net::NetFuture<'a, Box<dyn Stream>> {
            Box::pin(async {
                let (here, there) = tokio::io::duplex(256);
                std::mem::forget(there);
                Ok(Box::new(here) as Box<dyn Stream>)
            })
        }
        fn listen<'a>(
            &'a self,
            _: &'a str,
        ) -> crate::net::NetFuture<'a, Box<dyn crate::net::Listener>> {
            Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
        }
    }
    let outcome = connect(&Silent, "there:1", &HELLO_TO_2, Duration::from_millis(50)).await;
    let text = outcome.err().expect("given up").to_string();
    assert_eq!(text, "cannot connect to there:1: no answer within 50 ms");
}

proptest! {
    #[test]
    fn no_input_panics(kind in 0u8..5, body in proptest::collection::vec(any::<u8>(), 0..120)) {
        let mut with_magic = MAGIC.to_vec();
        with_magic.extend(&body);
        for body in [body, with_magic] {
            let frame = Frame { kind, body: body.into() };
            let _ = decode_hello(frame.clone());
            let _ = decode_answer(frame);
        }
    }

    #[test]
    fn every_cut_of_a_hello_is_refused(cut in 0usize..95) {
        let whole = encode_hello(&whole_hello()).expect("short");
        let body = Bytes::copy_from_slice(&whole[5..]);
        prop_assert_eq!(body.len(), 95);
        let cut = Frame { kind: HELLO, body: body.slice(..cut) };
        prop_assert!(decode_hello(cut).is_err());
    }
}

/// A search by fuzzing begins from these.
pub(in crate::replica) fn samples() -> [(&'static str, BytesMut); 4] {
    let accepted =
        Welcome { id: 2, cluster: Some(OURS), folder: FOLDER, has_begun: true, is_removed: false };
    let refused = Refusal::lasting("no");
    [
        ("hello", encode_hello(&whole_hello()).expect("short")),
        ("hello-of-admin", encode_hello(&Hello::of_admin(100)).expect("short")),
        ("accepted", encode_answer(Ok(&accepted)).expect("short")),
        ("refused", encode_answer(Err(&refused)).expect("short")),
    ]
}
