//! Snapshots: what is restored is what was, and what is damaged is refused.

mod hostile;

use bytes::Bytes;

use super::*;
use crate::model::limits::SNAPSHOT_CHUNK_BYTES;
use crate::model::{Acl, Create, CreateMode, Password};

/// An engine, and who writes to it.
#[derive(Default)]
struct Hand {
    engine: Engine,
    sequences: std::collections::BTreeMap<SessionId, (Zxid, u64)>,
}

impl Hand {
    fn apply(&mut self, session: i64, request: Write) -> Applied {
        let session = SessionId(session);
        let (attachment, sequence) = match self.sequences.get_mut(&session) {
            None => (Zxid::ZERO, 0),
            Some((attachment, sequence)) => {
                *sequence += 1;
                (*attachment, *sequence)
            }
        };
        // The second is none that a client could put into an ACL itself, but `auth` stands for it.
        let identities = Arc::from([Identity::new("ip", "10.0.0.1"), Identity::new("own", "")]);
        let entry = Entry { session, attachment, sequence, identities, time_ms: 1_000, request };
        self.engine.apply(1, &entry, &mut Vec::new())
    }

    fn open(&mut self, id: i64) {
        let (id, password) = (SessionId(id), Password([id as u8; 16]));
        let request = Write::CreateSession { id, password, timeout_ms: 9_000 };
        let zxid = self.apply(0, request).zxid;
        self.sequences.insert(id, (zxid, 0));
    }

    fn create(&mut self, session: i64, path: &str, data: Option<Bytes>, mode: CreateMode) {
        let acl = match path.len() % 3 {
            0 => vec![
                Acl::new(Perms::ALL, "ip", "10.0.0.0/8"),
                Acl::new(Perms::READ, "world", "anyone"),
            ],
            _ => Acl::open(),
        };
        let create = Create { path: path.into(), data, acl, mode };
        let applied = self.apply(session, Write::Op(Op::Create(create)));
        assert!(applied.result.is_ok(), "{path}: {applied:?}");
    }

    /// Something of everything that a snapshot holds.
    fn rich() -> Hand {
        let mut hand = Hand::default();
        hand.open(7);
        hand.open(-5);
        let data = |text: &'static str| Some(Bytes::from(text));
        hand.create(7, "/a", data("one"), CreateMode::Persistent);
        hand.create(7, "/a/b", None, CreateMode::Persistent);
        hand.create(7, "/a/b/c", data(""), CreateMode::Container);
        hand.create(-5, "/a/b/c/d", data("two"), CreateMode::Ephemeral);
        hand.create(-5, "/a/s-", data("three"), CreateMode::EphemeralSequential);
        hand.create(7, "/é", Some(vec![b'x'; 3_000].into()), CreateMode::Ttl { ttl_ms: 1 });
        let acl = vec![Acl::new(Perms::ALL, "auth", "")];
        let create = Create { path: "/own".into(), data: None, acl, mode: CreateMode::Persistent };
        assert!(hand.apply(7, Write::Op(Op::Create(create))).result.is_ok());
        hand.create(7, "/gone", data(""), CreateMode::Persistent);
        for write in [
            Op::SetData { path: "/a".into(), data: None, version: -1 },
            Op::Delete { path: "/gone".into(), version: -1 },
        ] {
            assert!(hand.apply(7, Write::Op(write)).result.is_ok());
        }
        let (path, acl) = ("/a/b".into(), vec![Acl::new(Perms::ALL, "sasl", "one")]);
        assert!(hand.apply(7, Write::SetAcl { path, acl, version: -1 }).result.is_ok());
        hand
    }
}

fn written(engine: &Engine) -> Vec<u8> {
    engine.snapshot().chunks().flatten().collect()
}

fn restored(snapshot: &[u8]) -> Result<Engine, RestoreError> {
    let mut restore = Restore::new();
    restore.feed(snapshot)?;
    restore.finish()
}

/// All that an engine shows, in the order of siblings too.
fn dump(engine: &Engine) -> Vec<String> {
    let mut lines = vec![format!("{} {:#x}", engine.last_zxid(), engine.digest())];
    lines.extend(engine.sessions().map(|session| format!("{session:?}")));
    engine.view().visit(|path, znode| lines.push(format!("{path} {znode:?}")));
    lines.extend(engine.reapable(i64::MAX, usize::MAX).iter().map(|path| path.to_string()));
    lines.push(format!("{} {}", engine.ephemeral_count(), engine.approximate_data_bytes()));
    lines
}

#[test]
fn a_restored_engine_shows_what_the_first_one_showed() {
    for engine in [Engine::new(), Hand::rich().engine] {
        let again = restored(&written(&engine)).expect("restored");
        assert_eq!(dump(&again), dump(&engine));
        assert_eq!(written(&again), written(&engine));
        assert_eq!(again.admits(SessionId(7), &[7; 16]), engine.admits(SessionId(7), &[7; 16]));
    }
}

#[test]
fn a_snapshot_can_be_written_and_read_on_another_thread() {
    let engine = Hand::rich().engine;
    let mut chunks = engine.snapshot().chunks();
    let writer = std::thread::spawn(move || {
        let mut restore = Restore::new();
        chunks.try_for_each(|chunk| restore.feed(&chunk)).map(|()| restore)
    });
    let restore = writer.join().expect("no panic").expect("a snapshot");
    assert_eq!(dump(&restore.finish().expect("restored")), dump(&engine));
}

#[test]
fn a_snapshot_can_be_fed_in_any_pieces() {
    let engine = Hand::rich().engine;
    let snapshot = written(&engine);
    for piece_bytes in [1, 2, 3, 7, 50, 1_000] {
        let mut restore = Restore::new();
        for piece in snapshot.chunks(piece_bytes) {
            restore.feed(piece).expect("a part of a snapshot");
        }
        assert_eq!(dump(&restore.finish().expect("restored")), dump(&engine));
    }
}

#[test]
fn pieces_have_about_the_bytes_they_should_have_and_are_of_one_moment() {
    let mut hand = Hand::rich();
    for i in 0..6 {
        let data = Some(Bytes::from(vec![i as u8; 700_000]));
        hand.create(7, &format!("/large-{i}"), data, CreateMode::Persistent);
    }
    let before = dump(&hand.engine);
    let mut restore = Restore::new();
    let mut chunks = hand.engine.snapshot().chunks().peekable();
    let mut pieces = 0;
    while let Some(piece) = chunks.next() {
        pieces += 1;
        assert!(piece.len() < SNAPSHOT_CHUNK_BYTES * 2, "{} bytes", piece.len());
        assert!(piece.len() >= SNAPSHOT_CHUNK_BYTES || chunks.peek().is_none());
        restore.feed(&piece).expect("a piece");
        let path = format!("/large-{}", 6 - pieces).into();
        let _ = hand.apply(7, Write::Op(Op::Delete { path, version: -1 }));
        hand.open(100 + pieces);
    }
    assert!(pieces > 2);
    assert_eq!(dump(&restore.finish().expect("restored")), before);
}

/// Links between siblings, lifetimes and the index are made anew: the same changes must find them.
#[test]
fn a_restored_engine_goes_on_as_the_first_one() {
    let mut hand = Hand::rich();
    for name in ["p", "q", "r", "s"] {
        hand.create(7, &format!("/a/{name}"), None, CreateMode::PersistentSequential);
    }
    let restored = restored(&written(&hand.engine)).expect("restored");
    let mut again = Hand { engine: restored, sequences: hand.sequences.clone() };
    let delete = |path: &str| Write::Op(Op::Delete { path: path.into(), version: -1 });
    for (session, write) in [
        (7, delete("/a/q0000000003")),
        (7, delete("/a/s0000000005")),
        (7, delete("/a/p0000000002")),
        (7, delete("/a/none")),
        (0, Write::Reap { path: "/é".into() }),
        (7, Write::Op(Op::SetData { path: "/a/b/c".into(), data: None, version: 0 })),
        (-5, Write::CloseSession),
        (0, Write::Reap { path: "/a/b/c".into() }),
        (-5, delete("/a")),
        (0, Write::Configure { members: "server.1=a:1:1:participant".into() }),
        (-5, Write::Attach { timeout_ms: 5 }),
        (7, Write::Attach { timeout_ms: 5 }),
    ] {
        let applied = hand.apply(session, write.clone());
        assert_eq!(again.apply(session, write.clone()), applied, "{write:?}");
        assert_eq!(dump(&again.engine), dump(&hand.engine), "{write:?}");
    }
}

/// What a quota has used is in no record of its own: it is counted anew.
#[test]
fn a_restored_engine_keeps_its_quotas() {
    let mut hand = Hand::rich();
    let data = |text: &'static str| Some(Bytes::from(text));
    hand.create(7, "/zookeeper/quota/a", None, CreateMode::Persistent);
    let limits = "/zookeeper/quota/a/zookeeper_limits";
    hand.create(7, limits, data("countHardLimit=6"), CreateMode::Persistent);
    let stats = "/zookeeper/quota/a/zookeeper_stats";
    hand.create(7, stats, None, CreateMode::Persistent);
    let restored = restored(&written(&hand.engine)).expect("restored");
    assert_eq!(restored.digest(), hand.engine.digest());
    let mut again = Hand { engine: restored, sequences: hand.sequences.clone() };
    // Five were there, and one more may come.
    for (path, fits) in [("/a/new", true), ("/a/b/new", false)] {
        let (path, acl, mode) = (path.into(), Acl::open(), CreateMode::Persistent);
        let write = Write::Op(Op::Create(Create { path, data: data("xyz"), acl, mode }));
        let applied = hand.apply(7, write.clone());
        assert_eq!(applied.result.is_ok(), fits, "{applied:?}");
        assert_eq!(again.apply(7, write), applied);
        assert_eq!(dump(&again.engine), dump(&hand.engine));
    }
}
