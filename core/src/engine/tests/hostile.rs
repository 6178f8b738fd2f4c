//! What is no snapshot is refused, whatever it is.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[test]
fn a_part_of_a_snapshot_is_cut_off() {
    let snapshot = written(&Hand::rich().engine);
    for length in 0..snapshot.len() {
        let error = restored(&snapshot[..length]).err();
        assert!(matches!(error, Some(RestoreError::CutOff { .. })), "{length} bytes: {error:?}");
    }
    let error = restored(&snapshot[..100]).err().expect("cut off").to_string();
    let rule = "the snapshot is cut off at byte 85: 1 sessions and 11 znodes are missing";
    assert_eq!(error, rule);
}

#[test]
fn a_flipped_bit_is_found() {
    let snapshot = written(&Hand::rich().engine);
    let mut digests_differ = 0;
    for bit in 0..snapshot.len() * 8 {
        let mut damaged = snapshot.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        match restored(&damaged) {
            Ok(_) => panic!("byte {} of {}, bit {}", bit / 8, snapshot.len(), bit % 8),
            Err(RestoreError::DigestDiffers { recorded, restored }) => {
                assert_ne!(recorded, restored);
                digests_differ += 1;
            }
            Err(_) => {}
        }
    }
    assert!(digests_differ > 1_000, "{digests_differ}");
}

/// A snapshot put together by hand, with numbers that need not be true.
struct Forgery {
    sessions: u64,
    znodes: u64,
    bytes: Vec<u8>,
}

const LAST_ZXID: i64 = 1 << 32;

// Flags of a znode.
const EPHEMERAL: u8 = 1;
const CONTAINER: u8 = 2;
const TTL: u8 = 3;
const NULL: u8 = 4;
const SET: u8 = 8;
const PARENT: u8 = 16;
const NEW_ACL: u8 = 64;

const OPEN_ACL: &[(u32, &str, &str)] = &[(31, "world", "anyone")];

impl Forgery {
    fn new() -> Forgery {
        Forgery { sessions: 0, znodes: 0, bytes: Vec::new() }
    }

    /// One with the coordinator's own znodes.
    fn own() -> Forgery {
        Forgery::new()
            .znode(NEW_ACL, 0, "", 0, &acl(OPEN_ACL))
            .znode(0, 0, "zookeeper", 0, &[])
            .znode(0, 0, "quota", 0, &[])
            .znode(0, 1, "config", 0, &[])
    }

    fn session(mut self, id: i64, attachment: i64) -> Forgery {
        self.sessions += 1;
        self.bytes.extend(id.to_be_bytes());
        self.bytes.extend([7; 16]);
        self.bytes.extend(9_000_u32.to_be_bytes());
        self.bytes.extend(attachment.to_be_bytes());
        self.bytes.extend([0; 8]);
        self
    }

    fn znode(self, flags: u8, up: u16, name: &str, acl: u32, fields: &[u8]) -> Forgery {
        self.raw_znode(flags, up, name.as_bytes(), acl, (0, 1), fields)
    }

    fn raw_znode(
        mut self,
        flags: u8,
        up: u16,
        name: &[u8],
        acl: u32,
        (data_bytes, czxid): (u32, i64),
        fields: &[u8],
    ) -> Forgery {
        self.znodes += 1;
        self.bytes.push(flags);
        self.bytes.extend(up.to_be_bytes());
        self.bytes.extend((name.len() as u16).to_be_bytes());
        self.bytes.extend(acl.to_be_bytes());
        self.bytes.extend(data_bytes.to_be_bytes());
        self.bytes.extend(czxid.to_be_bytes());
        self.bytes.extend([0; 8]);
        self.bytes.extend(fields);
        self.bytes.extend(name);
        self
    }

    fn written(&self) -> Vec<u8> {
        let head = [LAST_ZXID as u64, 0, self.sessions, self.znodes];
        let head = head.iter().flat_map(|number| number.to_be_bytes());
        b"synodsnp\x01".iter().copied().chain(head).chain(self.bytes.iter().copied()).collect()
    }

    /// Why it is refused. None has the right digest.
    fn refused(&self) -> String {
        restored(&self.written()).err().expect("refused").to_string()
    }
}

fn acl(lines: &[(u32, &str, &str)]) -> Vec<u8> {
    let mut bytes = (lines.len() as u16).to_be_bytes().to_vec();
    for (perms, scheme, id) in lines {
        bytes.extend(perms.to_be_bytes());
        for text in [scheme, id] {
            bytes.extend((text.len() as u32).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

#[test]
fn a_forgery_that_breaks_no_rule_differs_in_its_digest() {
    let owner = 7_i64.to_be_bytes();
    let ttl = 1_i64.to_be_bytes();
    let forgery = Forgery::own()
        .znode(EPHEMERAL, 2, "e", 0, &owner)
        .znode(TTL, 1, "t", 0, &ttl)
        .znode(CONTAINER | NULL, 0, "c", 0, &[])
        .znode(NEW_ACL, 2, "zookeepe", 1, &acl(&[(1, "ip", "::1"), (2, "ip", "::1")]));
    let forgery = Forgery { sessions: 0, ..forgery };
    let with_session = Forgery {
        bytes: [Forgery::new().session(7, 5).bytes, forgery.bytes].concat(),
        sessions: 1,
        ..forgery
    };
    let refused = with_session.refused();
    assert!(refused.starts_with("the digest of what was restored is 0x"), "{refused}");
    assert!(refused.contains("and that in the snapshot 0x0000000000000000"), "{refused}");
}

#[test]
fn every_broken_rule_is_named_with_what_breaks_it() {
    let negative = (-1_i32).to_be_bytes();
    let own = Forgery::own;
    let after = |forgery: Forgery| [&forgery.bytes[..], &[0; 8]].concat();
    let set_beyond = [&(LAST_ZXID + 1).to_be_bytes()[..], &[0; 12]].concat();
    let broken: Vec<(Forgery, &str, &str)> = vec![
        (Forgery::new(), r#"path "/""#, "are always there"),
        (Forgery::new().znode(NEW_ACL, 0, "", 0, &acl(OPEN_ACL)), "zookeeper", "always there"),
        (
            Forgery::new().znode(NEW_ACL, 1, "", 0, &acl(OPEN_ACL)),
            "1 levels up",
            "the persistent root",
        ),
        (Forgery::new().znode(NEW_ACL, 0, "a", 0, &acl(OPEN_ACL)), r#""a""#, "the persistent root"),
        (
            Forgery::new().znode(NEW_ACL | CONTAINER, 0, "", 0, &acl(OPEN_ACL)),
            r#""""#,
            "the persistent root",
        ),
        (own().znode(0, 1, "quota", 0, &[]), r#"path "/zookeeper/quota""#, "has one znode"),
        (
            own().znode(0, 2, "a", 0, &[]).znode(0, 0, "b", 0, &[]).znode(0, 2, "a", 0, &[]),
            r#"path "/a""#,
            "has one znode",
        ),
        (own().znode(0, 3, "a", 0, &[]), "3 levels above", "lies below the root"),
        (own().znode(0, u16::MAX, "a", 0, &[]), "65535 levels", "lies below the root"),
        (own().znode(0, 2, "", 0, &[]), r#"path "/""#, "one part"),
        (own().znode(0, 2, "a/b", 0, &[]), r#""/a/b""#, "one part"),
        (own().znode(0, 2, "..", 0, &[]), r#""/..""#, "no part . or .."),
        (own().znode(0, 2, "\u{1}", 0, &[]), r#""/\u{1}""#, "no control character"),
        (own().raw_znode(0, 2, b"\xFF", 0, (0, 1), &[]), "name [255]", "UTF-8"),
        (own().znode(0, 2, &"a".repeat(9_000), 0, &[]), "aaa", "8192 bytes"),
        (
            (0..3).fold(own().znode(0, 2, "a", 0, &[]), |forgery, _| {
                forgery.znode(0, 0, &"b".repeat(3_000), 0, &[])
            }),
            "bbb",
            "8192 bytes",
        ),
        (own().znode(128, 2, "a", 0, &[]), "flags 0x80", "bit 7"),
        (own().raw_znode(0, 2, b"a", 0, (1 << 20, 1), &[]), "1048576 bytes", "1048575"),
        (own().raw_znode(NULL, 2, b"a", 0, (1, 1), &[]), "1 bytes", "null has none"),
        (own().raw_znode(0, 2, b"a", 0, (0, LAST_ZXID + 1), &[]), "zxids of", "last change"),
        (own().raw_znode(0, 2, b"a", 0, (0, -1), &[]), "zxids of", "last change"),
        (own().znode(SET, 2, "a", 0, &set_beyond), "zxids of", "last change"),
        (
            own().znode(PARENT, 2, "a", 0, &[&[0; 8][..], &negative].concat()),
            "counter -1",
            "negative",
        ),
        (own().znode(TTL, 2, "a", 0, &[0; 8]), "time to live 0", "1 to 2^40"),
        (own().znode(0, 2, "a", 1, &[]), "ACL 1", "numbered by first use"),
        (own().znode(NEW_ACL, 2, "a", 0, &acl(OPEN_ACL)), "ACL 0", "numbered by first use"),
        (own().znode(NEW_ACL, 2, "a", 2, &acl(OPEN_ACL)), "ACL 2", "numbered by first use"),
        (own().znode(NEW_ACL, 2, "a", 1, &acl(&[])), "an ACL of 0 entries", "1 to 1024"),
        (own().znode(NEW_ACL, 2, "a", 1, &[0xFF; 2]), "65535 entries", "1 to 1024"),
        (
            own().znode(NEW_ACL, 2, "a", 1, &[&acl(OPEN_ACL)[..14], b"\xFFnyone"].concat()),
            "ACL",
            "UTF-8",
        ),
        (own().znode(EPHEMERAL, 2, "a", 0, &7_i64.to_be_bytes()), "session 0x7", "open session"),
        (
            own().znode(EPHEMERAL, 2, "a", 0, &7_i64.to_be_bytes()).znode(0, 0, "b", 0, &[]),
            r#""b" in "/a""#,
            "an ephemeral znode has no children",
        ),
        (Forgery { bytes: after(own()), ..own() }, "after the last of 4", "ends with"),
        (Forgery { znodes: 5, ..own() }, "1 znodes are missing", "cut off at byte"),
        (Forgery { znodes: u64::MAX, ..own() }, "znodes", "fewer than 2^32"),
        (Forgery { sessions: u64::MAX, ..own() }, "sessions", "fewer than 2^32"),
        (Forgery { sessions: 1, ..own() }, "session", ""),
        (Forgery::new().session(0, 0), "session 0x0", "none is 0"),
        (Forgery::new().session(7, 0).session(7, 0), "session 0x7", "go up"),
        (Forgery::new().session(7, 0).session(-7, 0), "session 0x", "go up"),
        (Forgery::new().session(7, LAST_ZXID + 1), "attachment 0x100000001", "last change"),
    ];
    for (forgery, what, rule) in broken {
        let error = forgery.refused();
        assert!(error.contains(what) && error.contains(rule), "{what}, {rule}: {error}");
        assert!(!error.starts_with("the digest"), "{what}, {rule}: {error}");
    }
}

#[test]
fn other_formats_and_other_files_are_told_apart() {
    let mut other = Forgery::own().written();
    other[8] = 2;
    let known = RestoreError::UnknownFormat { found: 2, known: 1 };
    assert_eq!(known.to_string(), "a snapshot of format 2: this version reads format 1 only");
    assert_eq!(restored(&other).err(), Some(known));
    other[0] = b'S';
    assert_eq!(restored(&other).err(), Some(RestoreError::NotASnapshot));
    let mut negative = Forgery::own().written();
    negative[9] = 0x80;
    let error = restored(&negative).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("byte 0") && error.contains("a zxid is not negative"), "{error}");
}

#[test]
fn an_error_stays() {
    let mut restore = Restore::new();
    let error = restore.feed(b"something else").expect_err("not a snapshot");
    assert_eq!(restore.feed(&written(&Engine::new())), Err(error.clone()));
    assert_eq!(restore.finish().err(), Some(error));
}

#[test]
fn the_offset_is_where_the_broken_record_begins() {
    let forgery = Forgery::own();
    let begins = forgery.written().len();
    let forgery = forgery.znode(0, 2, "..", 0, &[]);
    for piece_bytes in [1, 10, 1_000] {
        let mut restore = Restore::new();
        let snapshot = forgery.written();
        let error = snapshot.chunks(piece_bytes).find_map(|piece| restore.feed(piece).err());
        match error {
            Some(RestoreError::Damaged { offset, .. }) => assert_eq!(offset, begins as u64),
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_refused(bytes in vec(any::<u8>(), 0..400), kinds in vec(0..6_u8, 0..40)) {
        prop_assert!(restored(&bytes).is_err());
        // Records that each look right, but for what random bytes stand in them.
        let mut forgery = Forgery { bytes: Vec::new(), ..Forgery::own() };
        for (kind, field) in kinds.iter().zip(bytes.chunks(8).cycle()) {
            let flags = [0, EPHEMERAL, CONTAINER, SET, PARENT, NEW_ACL][usize::from(*kind)];
            let fields = [field, &[0; 20]].concat();
            let name = [b'a' + field[0] % 3];
            let up = u16::from(field[0] % 5);
            forgery = forgery.raw_znode(flags, up, &name, 0, (0, 1), &fields);
        }
        let own = Forgery::own();
        let forgery = Forgery { bytes: [own.bytes, forgery.bytes].concat(), ..forgery };
        prop_assert!(restored(&forgery.written()).is_err());
    }
}
