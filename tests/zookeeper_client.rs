//! A client that is none of ours against `synod serve`.
//!
//! The crate `zookeeper-client` was written from the protocol, and is tested by its authors against
//! Apache ZooKeeper. It has a lock of its own, so that two ideas of the recipe meet here too.

use std::time::Duration;

use synod_tests::recipes::ground::{Ground, SESSION_TIMEOUT, soon};
use zookeeper_client as zk;
use zookeeper_client::{AddWatchMode, CreateMode, Error, EventType, SessionState};

const OPEN: zk::CreateOptions<'static> = CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
const EPHEMERAL: zk::CreateOptions<'static> =
    CreateMode::Ephemeral.with_acls(zk::Acls::anyone_all());
const CONTAINER: zk::CreateOptions<'static> =
    CreateMode::Container.with_acls(zk::Acls::anyone_all());

fn connector() -> zk::Connector {
    zk::Client::connector().with_session_timeout(SESSION_TIMEOUT)
}

/// Connects through the proxy, whose faults it feels.
async fn connect(ground: &Ground, connector: zk::Connector) -> Result<zk::Client, Error> {
    soon(connector.connect(&ground.faults().proxy.servers())).await
}

async fn client(ground: &Ground) -> zk::Client {
    connect(ground, connector()).await.expect("the server gives a session")
}

/// Waits until `lock` has `line` contenders.
async fn until_in_line(observer: &zk::Client, lock: &str, line: usize) {
    soon(async {
        loop {
            match observer.list_and_watch_children(lock).await {
                Ok((names, _)) if names.len() == line => return,
                Ok((_, change)) => drop(change.changed().await),
                Err(Error::NoNode) => {
                    let (stat, made) =
                        observer.check_and_watch_stat(lock).await.expect("connected");
                    if stat.is_none() {
                        made.changed().await;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_given_with_a_timeout_within_the_bounds() {
    let ground = Ground::synod().await;
    let client = client(&ground).await;
    assert_eq!(client.session_timeout(), SESSION_TIMEOUT);
    assert_eq!(client.state(), SessionState::SyncConnected);
    assert!(client.session_id().0 != 0 && !client.session().is_readonly());
    // This client gives up connecting after about the timeout that it asks for.
    let brief = zk::Client::connector().with_session_timeout(Duration::from_millis(900));
    let brief = connect(&ground, brief).await.expect("the server gives a session");
    assert_eq!(brief.session_timeout(), Duration::from_secs(1), "two ticks are the least");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_znode_is_created_in_every_mode() {
    let ground = Ground::synod().await;
    let client = client(&ground).await;
    let (stat, _) = client.create("/p", b"1", &OPEN).await.expect("new");
    assert!(stat.czxid > 0 && stat.czxid == stat.mzxid && stat.ctime == stat.mtime, "{stat:?}");
    assert_eq!((stat.version, stat.data_length, stat.ephemeral_owner), (0, 1, 0));

    let anyone = zk::Acls::anyone_all();
    let (_, first) = client
        .create("/p/s-", b"", &CreateMode::PersistentSequential.with_acls(anyone))
        .await
        .expect("new");
    let (stat, second) = client
        .create("/p/s-", b"", &CreateMode::EphemeralSequential.with_acls(anyone))
        .await
        .expect("new");
    assert_eq!((first.into_i64(), second.into_i64()), (0, 1));
    assert_eq!(stat.ephemeral_owner, client.session_id().0);
    let (stat, _) = client.create("/p/e", b"", &EPHEMERAL).await.expect("new");
    assert_eq!(stat.ephemeral_owner, client.session_id().0);
    let error = client.create("/p/e/x", b"", &OPEN).await.expect_err("below an ephemeral");
    assert_eq!(error, Error::NoChildrenForEphemerals);

    client.create("/p/c", b"", &CONTAINER).await.expect("new");
    let brief = OPEN.with_ttl(Duration::from_secs(60));
    client.create("/p/t", b"", &brief).await.expect("new");
    let brief =
        CreateMode::PersistentSequential.with_acls(anyone).with_ttl(Duration::from_secs(60));
    let (_, third) = client.create("/p/t-", b"", &brief).await.expect("new");
    assert_eq!(third.to_string(), "0000000005", "creations in the parent are counted");

    let mut names = client.list_children("/p").await.expect("it is there");
    names.sort();
    assert_eq!(names, ["c", "e", "s-0000000000", "s-0000000001", "t", "t-0000000005"]);
    let mut mine = client.list_ephemerals("/p").await.expect("connected");
    mine.sort();
    assert_eq!(mine, ["/p/e", "/p/s-0000000001"]);
    assert_eq!(client.create("/p", b"", &OPEN).await.expect_err("there"), Error::NodeExists);
    assert_eq!(client.create("/x/y", b"", &OPEN).await.expect_err("no parent"), Error::NoNode);
    client.mkdir("/x/y/z", &OPEN).await.expect("new");
    assert!(client.check_stat("/x/y/z").await.expect("connected").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_znode_is_read_set_and_deleted_at_its_version() {
    let ground = Ground::synod().await;
    let client = client(&ground).await;
    let (created, _) = client.create("/a", b"1", &OPEN).await.expect("new");
    assert_eq!(client.get_data("/a").await.expect("it is there"), (b"1".to_vec(), created));
    assert_eq!(client.check_stat("/a").await.expect("connected"), Some(created));
    assert_eq!(client.set_data("/a", b"2", Some(7)).await.expect_err("0"), Error::BadVersion);
    let set = client.set_data("/a", b"22", Some(0)).await.expect("version 0");
    assert!(set.version == 1 && set.mzxid > created.mzxid && set.data_length == 2, "{set:?}");
    assert_eq!(set.czxid, created.czxid);
    client.set_data("/a", b"", None).await.expect("any version");
    client.sync("/a").await.expect("connected");
    let (data, stat) = client.get_data("/a").await.expect("it is there");
    assert!(data.is_empty() && stat.version == 2);

    client.create("/a/b", b"", &OPEN).await.expect("new");
    client.create("/a/b/c", b"", &OPEN).await.expect("new");
    let (names, stat) = client.get_children("/a").await.expect("it is there");
    assert_eq!((names, stat.num_children, stat.cversion), (vec!["b".to_owned()], 1, 1));
    assert_eq!(client.count_descendants_number("/a").await.expect("it is there"), 2);
    assert_eq!(client.delete("/a", None).await.expect_err("has a child"), Error::NotEmpty);
    assert_eq!(client.delete("/a/b/c", Some(3)).await.expect_err("0"), Error::BadVersion);
    client.delete("/a/b/c", Some(0)).await.expect("version 0");
    assert_eq!(client.get_data("/a/b/c").await.expect_err("gone"), Error::NoNode);
    assert_eq!(client.check_stat("/a/b/c").await.expect("connected"), None);
    let big = vec![7; 900_000];
    client.create("/big", &big, &OPEN).await.expect("below the limit");
    assert_eq!(client.get_data("/big").await.expect("it is there").0, big);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chroot_is_all_that_its_client_sees() {
    let ground = Ground::synod().await;
    let whole = client(&ground).await;
    whole.create("/app", b"", &OPEN).await.expect("new");
    let app = whole.clone().chroot("/app").expect("a valid path");
    let (_, made) = app.check_and_watch_stat("/x").await.expect("connected");
    app.create("/x", b"1", &OPEN).await.expect("new");
    let event = soon(made.changed()).await;
    assert_eq!((event.event_type, event.path.as_str()), (EventType::NodeCreated, "/x"));
    assert_eq!(whole.get_data("/app/x").await.expect("it is there").0, b"1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(deprecated, reason = "unlike a drop, `remove` tells what the server answered")]
async fn a_one_shot_watch_tells_of_the_next_change_and_its_zxid() {
    let ground = Ground::synod().await;
    let (a, b) = (client(&ground).await, client(&ground).await);
    let (stat, made) = a.check_and_watch_stat("/w").await.expect("connected");
    assert_eq!(stat, None);
    let (created, _) = b.create("/w", b"", &OPEN).await.expect("new");
    let event = soon(made.changed()).await;
    assert_eq!((event.event_type, event.path.as_str()), (EventType::NodeCreated, "/w"));
    assert_eq!(event.zxid, created.czxid);

    let (_, _, set) = a.get_and_watch_data("/w").await.expect("it is there");
    let changed = b.set_data("/w", b"1", None).await.expect("connected");
    let event = soon(set.changed()).await;
    assert_eq!((event.event_type, event.zxid), (EventType::NodeDataChanged, changed.mzxid));

    let (_, _, child) = a.get_and_watch_children("/w").await.expect("it is there");
    let (_, listed) = a.list_and_watch_children("/w").await.expect("it is there");
    let (made, _) = b.create("/w/c", b"", &OPEN).await.expect("new");
    for watch in [child, listed] {
        let event = soon(watch.changed()).await;
        assert_eq!((event.event_type, event.zxid), (EventType::NodeChildrenChanged, made.czxid));
        assert_eq!(event.path, "/w");
    }

    let (_, _, gone) = a.get_and_watch_data("/w/c").await.expect("it is there");
    let (_, _, removed) = a.get_and_watch_data("/w").await.expect("it is there");
    removed.remove().await.expect("there was such a watch");
    b.delete("/w/c", None).await.expect("it is there");
    assert_eq!(soon(gone.changed()).await.event_type, EventType::NodeDeleted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(deprecated, reason = "unlike a drop, `remove` tells what the server answered")]
async fn a_watch_that_stays_tells_of_every_change_of_its_kind() {
    let ground = Ground::synod().await;
    let (a, b) = (client(&ground).await, client(&ground).await);
    let mut one = a.watch("/w", AddWatchMode::Persistent).await.expect("connected");
    let mut all = a.watch("/r", AddWatchMode::PersistentRecursive).await.expect("connected");
    for root in ["/w", "/r"] {
        let child = format!("{root}/c");
        b.create(root, b"", &OPEN).await.expect("new");
        b.create(&child, b"", &OPEN).await.expect("new");
        b.set_data(root, b"1", None).await.expect("connected");
        b.set_data(&child, b"1", None).await.expect("connected");
        b.delete(&child, None).await.expect("it is there");
        b.delete(root, None).await.expect("it is there");
    }
    let mut told = Vec::new();
    for _ in 0..5 {
        let event = soon(one.changed()).await;
        assert!(event.zxid > 0, "{event:?}");
        told.push((event.event_type, event.path));
    }
    let expected = [
        (EventType::NodeCreated, "/w"),
        (EventType::NodeChildrenChanged, "/w"),
        (EventType::NodeDataChanged, "/w"),
        (EventType::NodeChildrenChanged, "/w"),
        (EventType::NodeDeleted, "/w"),
    ];
    assert_eq!(told, expected.map(|(kind, path)| (kind, path.to_owned())));
    let mut told = Vec::new();
    for _ in 0..6 {
        let event = soon(all.changed()).await;
        told.push((event.event_type, event.path));
    }
    let expected = [
        (EventType::NodeCreated, "/r"),
        (EventType::NodeCreated, "/r/c"),
        (EventType::NodeDataChanged, "/r"),
        (EventType::NodeDataChanged, "/r/c"),
        (EventType::NodeDeleted, "/r/c"),
        (EventType::NodeDeleted, "/r"),
    ];
    assert_eq!(told, expected.map(|(kind, path)| (kind, path.to_owned())));
    one.remove().await.expect("there was such a watch");
    all.remove().await.expect("there was such a watch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_is_done_whole_or_not_at_all() {
    let ground = Ground::synod().await;
    let client = client(&ground).await;
    let mut writer = client.new_multi_writer();
    writer.add_create("/t", b"", &OPEN).expect("a valid path");
    writer.add_check_version("/t", 0).expect("a valid path");
    writer.add_set_data("/t", b"1", Some(0)).expect("a valid path");
    let sequential = CreateMode::EphemeralSequential.with_acls(zk::Acls::anyone_all());
    writer.add_create("/t/s-", b"", &sequential).expect("a valid path");
    writer.add_create("/t/c", b"", &CONTAINER).expect("a valid path");
    writer.add_create("/t/t", b"", &OPEN.with_ttl(Duration::from_secs(60))).expect("a valid path");
    writer.add_delete("/t/c", None).expect("a valid path");
    let done = writer.commit().await.expect("valid");
    assert_eq!(done.len(), 7);
    assert!(
        matches!(&done[0], zk::MultiWriteResult::Create { path, stat }
            if path == "/t" && stat.czxid > 0 && stat.version == 0),
        "{done:?}"
    );
    assert_eq!(done[1], zk::MultiWriteResult::Check);
    assert!(matches!(&done[2], zk::MultiWriteResult::SetData { stat } if stat.version == 1));
    assert!(
        matches!(&done[3], zk::MultiWriteResult::Create { path, stat }
            if path == "/t/s-0000000000" && stat.ephemeral_owner == client.session_id().0),
        "{done:?}"
    );
    assert_eq!(done[6], zk::MultiWriteResult::Delete);

    writer.add_delete("/t/t", None).expect("a valid path");
    writer.add_check_version("/t", 7).expect("a valid path");
    writer.add_create("/u", b"", &OPEN).expect("a valid path");
    let error = writer.commit().await.expect_err("the version is 1");
    let refused = zk::MultiWriteError::OperationFailed { index: 1, source: Error::BadVersion };
    assert_eq!(error, refused);
    assert!(client.check_stat("/t/t").await.expect("connected").is_some(), "nothing half done");

    let mut guarded = client.new_check_writer("/t", Some(1)).expect("a valid path");
    guarded.add_set_data("/t", b"2", None).expect("a valid path");
    guarded.commit().await.expect("the version is 1");
    let mut guarded = client.new_check_writer("/t", Some(1)).expect("a valid path");
    guarded.add_set_data("/t", b"3", None).expect("a valid path");
    let error = guarded.commit().await.expect_err("the version is 2");
    assert_eq!(error, zk::CheckWriteError::CheckFailed { source: Error::BadVersion });

    let mut reader = client.new_multi_reader();
    reader.add_get_data("/t").expect("a valid path");
    reader.add_get_data("/none").expect("a valid path");
    reader.add_get_children("/t").expect("a valid path");
    let mut read = reader.commit().await.expect("connected").into_iter();
    assert!(matches!(read.next(), Some(zk::MultiReadResult::Data { data, stat })
        if data == b"2" && stat.version == 2));
    assert!(matches!(read.next(), Some(zk::MultiReadResult::Error { err: Error::NoNode })));
    let Some(zk::MultiReadResult::Children { mut children }) = read.next() else {
        panic!("the names of the children")
    };
    children.sort();
    assert_eq!(children, ["s-0000000000", "t"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ephemerals_of_a_client_go_when_it_is_closed() {
    let ground = Ground::synod().await;
    let (a, b) = (client(&ground).await, client(&ground).await);
    a.create("/e", b"", &EPHEMERAL).await.expect("new");
    let (stat, gone) = b.check_and_watch_stat("/e").await.expect("connected");
    assert_eq!(stat.map(|stat| stat.ephemeral_owner), Some(a.session_id().0));
    let closed_at = tokio::time::Instant::now();
    drop(a);
    assert_eq!(soon(gone.changed()).await.event_type, EventType::NodeDeleted);
    assert!(closed_at.elapsed() < SESSION_TIMEOUT, "closed, not expired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_proves_a_digest_may_do_what_its_acl_says() {
    let ground = Ground::synod().await;
    let (owner, other) = (client(&ground).await, client(&ground).await);
    owner.auth("digest", b"ann:secret").await.expect("any digest is accepted");
    let users = owner.list_auth_users().await.expect("connected");
    let digest = zk::AuthUser::new("digest", "ann");
    assert!(users.contains(&digest), "{users:?}");
    let private = CreateMode::Persistent.with_acls(zk::Acls::creator_all());
    owner.create("/private", b"1", &private).await.expect("new");
    assert_eq!(other.get_data("/private").await.expect_err("ann's"), Error::NoAuth);
    assert_eq!(other.set_data("/private", b"", None).await.expect_err("ann's"), Error::NoAuth);
    let error = other.create("/mine", b"", &private).await.expect_err("nobody was proved");
    assert_eq!(error, Error::InvalidAcl);

    let (acl, stat) = owner.get_acl("/private").await.expect("ann's");
    assert_eq!(
        (acl.len(), acl[0].scheme(), acl[0].permission()),
        (1, "digest", zk::Permission::ALL)
    );
    assert_eq!(acl[0].id(), "ann:7RJfAeIvrl4zdj6sS2fXrQHDvHM=", "SHA-1, as ZooKeeper does");
    let shared = [acl[0].clone(), zk::Acl::new(zk::Permission::READ, zk::AuthId::anyone())];
    let error = owner.set_acl("/private", &shared, Some(7)).await.expect_err("0");
    assert_eq!(error, Error::BadVersion);
    let set = owner.set_acl("/private", &shared, Some(stat.aversion)).await.expect("its version");
    assert_eq!(set.aversion, stat.aversion + 1);
    assert_eq!(other.get_data("/private").await.expect("open to read").0, b"1");
    assert_eq!(other.set_data("/private", b"", None).await.expect_err("ann's"), Error::NoAuth);

    let proved = connect(&ground, connector().with_auth("digest", b"ann:secret")).await;
    proved
        .expect("the server gives a session")
        .set_data("/private", b"2", None)
        .await
        .expect("ann");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_over_a_cut_with_its_watches_and_identities() {
    let ground = Ground::synod().await;
    let (a, b) = (client(&ground).await, ground.unharmed_client().await);
    a.auth("digest", b"ann:secret").await.expect("any digest is accepted");
    let private = CreateMode::Persistent.with_acls(zk::Acls::creator_all());
    a.create("/private", b"1", &private).await.expect("new");
    a.create("/e", b"", &EPHEMERAL).await.expect("new");
    a.create("/w", b"", &OPEN).await.expect("new");
    let (_, _, set) = a.get_and_watch_data("/w").await.expect("it is there");
    let (_, made) = a.check_and_watch_stat("/x").await.expect("connected");
    let (_, _, child) = a.get_and_watch_children("/w").await.expect("it is there");
    let (_, _, later) = a.get_and_watch_data("/e").await.expect("it is there");
    let (session, mut states) = (a.session_id(), a.state_watcher());
    ground.faults().proxy.close();
    assert_eq!(soon(states.changed()).await, SessionState::Disconnected);
    b.set("/w", b"1").await.expect("connected");
    b.create("/x", b"").await.expect("new");
    b.create("/w/c", b"").await.expect("new");
    ground.faults().proxy.open();
    assert_eq!(soon(states.changed()).await, SessionState::SyncConnected);
    assert_eq!(a.session_id(), session);
    // What changed meanwhile is told now.
    assert_eq!(soon(set.changed()).await.event_type, EventType::NodeDataChanged);
    assert_eq!(soon(made.changed()).await.event_type, EventType::NodeCreated);
    assert_eq!(soon(child.changed()).await.event_type, EventType::NodeChildrenChanged);
    // What did not change is watched on.
    b.set("/e", b"1").await.expect("still there");
    assert_eq!(soon(later.changed()).await.event_type, EventType::NodeDataChanged);
    a.set_data("/private", b"2", None).await.expect("proved again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detached_session_is_taken_up_by_another_client() {
    let ground = Ground::synod().await;
    let first = connect(&ground, connector().with_detached()).await.expect("a session");
    first.create("/e", b"", &EPHEMERAL).await.expect("new");
    let session = first.into_session();
    let id = session.id();
    let second = connect(&ground, connector().with_session(session)).await.expect("it lives on");
    assert_eq!(second.session_id(), id);
    let stat = second.check_stat("/e").await.expect("connected").expect("the session lives");
    assert_eq!(stat.ephemeral_owner, id.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_was_not_heard_of_is_expired_and_not_taken_up_again() {
    let ground = Ground::synod().await;
    let observer = client(&ground).await;
    let brief = connector().with_session_timeout(Duration::from_secs(1)).with_detached();
    let first = connect(&ground, brief).await.expect("a session");
    first.create("/e", b"", &EPHEMERAL).await.expect("new");
    let (_, gone) = observer.check_and_watch_stat("/e").await.expect("connected");
    let session = first.into_session();
    assert_eq!(soon(gone.changed()).await.event_type, EventType::NodeDeleted);
    let error = connect(&ground, connector().with_session(session)).await.expect_err("over");
    assert_eq!(error, Error::SessionExpired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reconfiguration_is_refused_and_the_connection_stays() {
    let ground = Ground::synod().await;
    let client = client(&ground).await;
    let update = zk::EnsembleUpdate::New { ensemble: ["server.1=a:1:2"].into_iter() };
    let error = client.update_ensemble(update, None).await.expect_err("there is one server");
    assert_eq!(error, Error::ReconfigDisabled);
    client.get_config().await.expect("the coordinator's own znode");
    assert_eq!(client.state(), SessionState::SyncConnected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_lock_excludes_two_clients_and_is_handed_over() {
    let ground = Ground::synod().await;
    let (a, b, observer) = (client(&ground).await, client(&ground).await, client(&ground).await);
    let options = zk::LockOptions::new(zk::Acls::anyone_all());
    let options = options.with_ancestor_options(CONTAINER).expect("a mode of a parent");
    let prefix = || zk::LockPrefix::new_curator("/locks/report", "lock-").expect("a valid path");
    let held = soon(a.lock(prefix(), b"a", options.clone())).await.expect("free");
    let waiting = tokio::spawn(async move {
        let held = b.lock(prefix(), b"b", options).await.expect("its turn");
        held.set_data("/report", b"b", None).await.expect("held");
        held.lock_path().to_owned()
    });
    until_in_line(&observer, "/locks/report", 2).await;
    held.create("/report", b"a", &OPEN).await.expect("held");
    assert!(!waiting.is_finished(), "one at a time");
    assert_eq!(observer.get_data("/report").await.expect("it is there").0, b"a");
    let first = held.lock_path().to_owned();
    drop(held);
    let second = soon(waiting).await.expect("no panic");
    assert!(first.ends_with("0000000000") && second.ends_with("0000000001"), "{second}");
    assert_eq!(observer.get_data("/report").await.expect("it is there").0, b"b");
    until_in_line(&observer, "/locks/report", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_lock_writes_nothing_once_it_is_lost() {
    let ground = Ground::synod().await;
    let (a, b) = (client(&ground).await, client(&ground).await);
    a.mkdir("/locks", &OPEN).await.expect("new");
    let prefix = zk::LockPrefix::new_shared("/locks/n-").expect("a valid path");
    let held = soon(a.lock(prefix, b"", zk::Acls::anyone_all())).await.expect("free");
    b.delete(held.lock_path(), None).await.expect("forced");
    let error = held.create("/report", b"", &OPEN).await.expect_err("not held");
    assert_eq!(error, Error::RuntimeInconsistent);
    assert_eq!(b.check_stat("/report").await.expect("connected"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_lock_and_ours_at_one_path_exclude_each_other() {
    let ground = Ground::synod().await;
    let (theirs, ours) = (client(&ground).await, ground.client().await);
    let lock = synod::Lock::new(&ours, "/locks/report").expect("a valid path");
    let guard = lock.acquire().await.expect("free");
    let prefix = || zk::LockPrefix::new_curator("/locks/report", "lock-").expect("a valid path");
    let (observer, path) = (theirs.clone(), "/locks/report");
    let waiting = tokio::spawn(async move {
        let held = theirs.lock(prefix(), b"", zk::Acls::anyone_all()).await.expect("its turn");
        held.into_owned()
    });
    until_in_line(&observer, path, 2).await;
    assert!(!waiting.is_finished(), "ours is held");
    guard.release().await.expect("connected");
    let held = soon(waiting).await.expect("no panic");
    assert!(lock.try_acquire().await.expect("connected").is_none(), "theirs is held");
    drop(held);
    drop(soon(lock.acquire()).await.expect("handed over"));
}
