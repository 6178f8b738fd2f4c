//! Cases of who holds a lock and what can be done about it, of owners that enter again, and of locks in
//! the layouts of other libraries; for every ground, and with connections that break and servers that
//! are restarted and killed.

use std::time::Duration;

use synod::guard::Released;
use synod::lock::Owner;
use synod::{
    Client, DoubleBarrier, Election, Error, Fence, Group, Guard, Layout, Lock, LossReason,
    MultiLock, RwLock, Semaphore,
};

use super::cases::{cancel_at, in_line, lock, until_children};
use super::ground::{Ground, soon};

const LOCK: &str = "/locks/report";
const INDEX: &str = "/locks/index";

/// The longest that the servers grant.
const LONG_SESSION: Duration = Duration::from_secs(10);

async fn holder(client: &Client) -> Owner {
    client.sync().await.expect("connected");
    lock(client).holder().await.expect("can be asked").expect("it is held")
}

pub async fn holders_and_waiters_are_told_with_what_they_say_of_themselves(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    assert_eq!(lock(&b).holder().await.expect("can be asked"), None);
    let held = lock(&a).with_label("nightly").acquire().await.expect("free");
    let waiting = in_line(&b, &b, 1).await;
    let shown = holder(&b).await;
    assert_eq!((shown.token, &shown.path), (held.token(), held.path()));
    assert_eq!((shown.label.as_str(), shown.pid), ("nightly", Some(std::process::id())));
    assert_eq!(shown.session, Some(a.session().id()));
    let waiters = lock(&b).waiters().await.expect("can be asked");
    assert_eq!(waiters.iter().map(|one| one.session).collect::<Vec<_>>(), [Some(b.session().id())]);
    held.release().await.expect("connected");
    let next = soon(waiting).await.expect("no panic").expect("its turn");
    assert_eq!(holder(&a).await.token, next.token());

    let index = |client| RwLock::new(client, INDEX).expect("valid").with_label("index");
    let (first, second) = (index(&a).read().await.expect("free"), index(&b).read().await);
    let second = second.expect("readers share");
    let writer = index(&a);
    let writing = tokio::spawn(async move { writer.write().await });
    until_children(&b, INDEX, 3).await;
    let holders = index(&b).holders().await.expect("can be asked");
    let tokens: Vec<_> = holders.iter().map(|one| (one.token, one.shares)).collect();
    assert_eq!(tokens, [(first.token(), true), (second.token(), true)]);
    let waiters = index(&b).waiters().await.expect("can be asked");
    assert!(matches!(&waiters[..], [one] if !one.shares && one.label == "index"), "{waiters:?}");
    drop((first, second));
    let writing = soon(writing).await.expect("no panic").expect("its turn");
    let reading = writing.downgrade().await.expect("held");
    b.sync().await.expect("connected");
    let holders = index(&b).holders().await.expect("can be asked");
    assert!(matches!(&holders[..], [one] if one.shares && one.path == *reading.path()));
}

pub async fn a_holder_is_asked_to_let_go_and_then_made_to(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let (held, resource) = (lock(&a).acquire().await.expect("free"), Fence::new());
    resource.admit(held.token()).expect("the first");
    let waiting = in_line(&b, &b, 1).await;
    let (shown, operator) = (holder(&b).await, lock(&b));
    let (seen, asked) =
        tokio::join!(soon(held.revocation_requested()), operator.revoke_request(&shown));
    seen.expect("held all the while");
    let asked = asked.expect("allowed").expect("it holds");
    assert!(asked.revocation_requested && !waiting.is_finished(), "it is a wish");
    let error = lock(&b).force_release(&shown).await.expect_err("it was written to since");
    assert!(matches!(error, Error::Client(_)), "{error}");
    assert!(lock(&b).force_release(&asked).await.expect("allowed"));
    assert_eq!(soon(held.lost()).await.reason, LossReason::Removed);
    let next = soon(waiting).await.expect("no panic").expect("its turn");
    resource.admit(next.token()).expect("the newest");
    assert!(resource.admit(held.token()).is_err() && next.token() > held.token());
    assert!(!lock(&b).force_release(&asked).await.expect("allowed"), "it is gone");
    next.txn().create("/held", b"").commit().await.expect("the next one is left alone");

    let index = |client| RwLock::new(client, INDEX).expect("valid");
    let writing = index(&a).write().await.expect("free");
    let shown = index(&a).holders().await.expect("can be asked").pop().expect("held");
    index(&a).revoke_request(&shown).await.expect("allowed").expect("it holds");
    let reading = writing.downgrade().await.expect("held");
    soon(reading.revocation_requested()).await.expect("the request stays with it");
    let shown = index(&a).holders().await.expect("can be asked").pop().expect("held");
    assert!(index(&a).force_release(&shown).await.expect("allowed"));
    assert_eq!(soon(reading.lost()).await.reason, LossReason::Removed);
}

pub async fn an_owner_enters_again_and_its_last_exit_releases(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let owner = lock(&a).reentrant();
    let outer = soon(owner.enter()).await.expect("free");
    let inner = soon(owner.clone().enter()).await.expect("it is in");
    assert_eq!(outer.token(), inner.token());
    let waiting = in_line(&b, &b, 1).await;
    assert_eq!(outer.exit().await.expect("no request"), None);
    assert!(!waiting.is_finished());
    inner.txn().create("/inside", b"").commit().await.expect("held");
    assert_eq!(inner.exit().await.expect("connected"), Some(Released::Confirmed));
    let next = soon(waiting).await.expect("no panic").expect("its turn");
    next.release().await.expect("connected");
    // A loss is that of all entries, and of whoever enters before all have exited.
    let (outer, inner) = (owner.enter().await.expect("free"), owner.enter().await.expect("in"));
    b.delete(outer.path()).await.expect("forced");
    assert_eq!(soon(inner.lost()).await.reason, LossReason::Removed);
    assert!(soon(owner.enter()).await.expect_err("lost").is_lost());
    drop((outer, inner));
    drop(soon(owner.enter()).await.expect("free again"));
    until_children(&b, LOCK, 0).await;
}

pub async fn a_cancelled_enter_leaves_no_contender(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    for n in 1.. {
        let held = lock(&a).acquire().await.expect("free");
        let observer = a.clone();
        let releasing = tokio::spawn(async move {
            until_children(&observer, LOCK, 2).await;
            held.release().await.expect("connected");
        });
        let owner = lock(&b).reentrant();
        let done = soon(cancel_at(n, async { (owner.enter().await, owner.enter().await) })).await;
        let finished = done.is_some();
        drop(done);
        releasing.abort();
        until_children(&a, LOCK, 0).await;
        assert_eq!(owner.entries(), 0);
        if finished {
            break;
        }
    }
}

/// Layouts, and the name of a contender of the library itself.
const LAYOUTS: [(Layout, &str); 2] = [
    (Layout::Curator, "_c_53345f98-9423-4e0c-a7b5-9f819e3ec2e1-lock-"),
    (Layout::Kazoo, "f0d3c1a2b4e5968778695a4b3c2d1e0f__lock__"),
];

pub async fn locks_in_the_layouts_of_others_wait_for_them_and_leave_no_contender(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    for (layout, theirs) in LAYOUTS {
        let path = format!("/mixed-{layout:?}");
        let ours = |client: &Client| Lock::new(client, &*path).expect("valid").with_layout(layout);
        b.create(&path, b"").await.expect("new");
        let enter = || b.create(format!("{path}/{theirs}"), "worker-7").ephemeral().sequential();
        let held = enter().await.expect("new");
        a.sync().await.expect("connected");
        assert!(ours(&a).try_acquire().await.expect("can be tried").is_none());
        let shown = ours(&a).holder().await.expect("can be asked").expect("it is held");
        assert_eq!((&shown.path, shown.label.as_str()), (&held, "worker-7"));
        let lock = ours(&a);
        let waiting = tokio::spawn(async move { lock.acquire().await });
        until_children(&b, &path, 2).await;
        b.delete(&held).await.expect("it releases");
        let guard = soon(waiting).await.expect("no panic").expect("its turn");
        guard.txn().create(format!("{path}-done"), b"").commit().await.expect("held");
        assert_eq!(guard.release().await.expect("connected"), Released::Confirmed);
        for n in 1.. {
            let held = enter().await.expect("new");
            let (observer, parent) = (b.clone(), path.clone());
            let releasing = tokio::spawn(async move {
                until_children(&observer, &parent, 2).await;
                observer.delete(held).await.expect("it releases");
            });
            let done = soon(cancel_at(n, ours(&a).acquire())).await;
            let finished = done.is_some();
            drop(done);
            if !finished {
                // It came and went, or never came: theirs releases in any case.
                releasing.abort();
                let _ = releasing.await;
                for name in b.children(&path).await.expect("it is there") {
                    if name.starts_with(theirs) {
                        let _ = b.delete(format!("{path}/{name}")).await;
                    }
                }
            }
            until_children(&b, &path, 0).await;
            if finished {
                break;
            }
        }
    }
}

pub async fn requests_and_forced_releases_come_through_cuts_and_lost_replies(ground: &Ground) {
    let (a, b) = (ground.client().await, ground.client().await);
    let mut last = synod::Zxid::ZERO;
    for round in 0..8 {
        let held = soon(lock(&a).acquire()).await.expect("free");
        assert!(held.token() > last, "round {round}");
        last = held.token();
        let shown = soon(async {
            loop {
                // A connection that was cut a moment ago is found out by the first request.
                if let Ok(Some(shown)) = lock(&b).holder().await
                    && shown.token == held.token()
                {
                    return shown;
                }
            }
        });
        let shown = shown.await;
        let fail = || match round % 2 {
            0 => ground.faults().proxy.cut(),
            _ => ground.faults().proxy.lose_next_reply(),
        };
        fail();
        let operator = lock(&b);
        let asking = soon(operator.revoke_request(&shown));
        let (seen, asked) = tokio::join!(soon(held.revocation_requested()), asking);
        seen.expect("no session is lost");
        let asked = asked.expect("asked until it is known").expect("it holds");
        fail();
        assert!(soon(lock(&b).force_release(&asked)).await.expect("until it is known"));
        let loss = soon(held.lost()).await;
        assert_eq!(loss.reason, LossReason::Removed, "round {round}");
        drop(held);
    }
    let observer = ground.unharmed_client().await;
    until_children(&observer, LOCK, 0).await;
}

/// A client whose session outlives any outage here, on a busy machine too.
async fn patient_client(ground: &Ground) -> Client {
    let builder = ground.builder().session_timeout(LONG_SESSION);
    builder.connect().await.expect("the coordinator is reachable")
}

/// One of each kind, in one session.
struct Holdings(Vec<(&'static str, Guard)>, Others);

struct Others {
    reading: synod::rwlock::ReadGuard,
    writing: synod::rwlock::WriteGuard,
    both: synod::multi_lock::MultiGuard,
    permits: synod::semaphore::Permits,
    leadership: synod::election::Leadership,
    membership: synod::membership::Membership,
    cohort: synod::barrier::Cohort,
}

fn barrier(client: &Client) -> DoubleBarrier {
    DoubleBarrier::new(client, "/barriers/step", 1).expect("valid")
}

async fn hold_all(client: &Client) -> Holdings {
    let rwlock = |path: &str| RwLock::new(client, path.to_owned()).expect("valid");
    let others = Others {
        reading: rwlock("/all/read").read().await.expect("free"),
        writing: rwlock("/all/write").write().await.expect("free"),
        both: MultiLock::new(client, ["/all/a", "/all/b"])
            .expect("valid")
            .acquire()
            .await
            .expect("free"),
        permits: Semaphore::new(client, "/all/jobs", 2)
            .expect("valid")
            .acquire_many(2)
            .await
            .expect("free"),
        leadership: Election::new(client, "/all/lead")
            .expect("valid")
            .campaign()
            .await
            .expect("free"),
        membership: Group::new(client, "/all/group")
            .expect("valid")
            .join("a", "")
            .await
            .expect("joins"),
        cohort: barrier(client).enter().await.expect("alone"),
    };
    let lock = Lock::new(client, "/all/lock").expect("valid").acquire().await.expect("free");
    let kazoo = Lock::new(client, "/all/kazoo").expect("valid").with_layout(Layout::Kazoo);
    let kazoo = kazoo.acquire().await.expect("free");
    Holdings(vec![("lock", lock), ("kazoo", kazoo)], others)
}

/// Each writes while it is held; a reply that is lost is asked for again.
async fn each_writes(holdings: &Holdings, round: &str) {
    macro_rules! write {
        ($name:expr, $guard:expr) => {{
            let path = format!("/written-{round}-{}", $name);
            soon(async {
                while let Err(error) = $guard.txn().create(&path, b"").commit().await {
                    let done = matches!(&error, Error::Client(e) if e.is(synod::Code::NodeExists));
                    if done {
                        break;
                    }
                    assert!(error.retryable() || error.maybe_applied(), "{}: {error}", $name);
                }
            })
            .await;
        }};
    }
    let Holdings(locks, others) = holdings;
    for (name, guard) in locks {
        write!(name, guard);
    }
    write!("reading", others.reading);
    write!("writing", others.writing);
    write!("both", others.both);
    write!("permits", others.permits);
    write!("leadership", others.leadership);
    write!("membership", others.membership);
    write!("cohort", others.cohort);
}

pub async fn all_that_is_held_outlives_restarts_and_kills(ground: &Ground) {
    let (client, faults) = (patient_client(ground).await, ground.faults());
    let (session, holdings) = (client.session(), hold_all(&client).await);
    for round in ["restart", "kill"] {
        match round {
            "restart" => faults.restart().await,
            _ => {
                faults.kill().await;
                faults.start_again().await;
            }
        }
        each_writes(&holdings, round).await;
    }
    assert_eq!(session.end(), None, "the session outlives the server");
    let Holdings(locks, others) = holdings;
    for (name, guard) in &locks {
        assert_eq!(soon(guard.release()).await.expect("connected"), Released::Confirmed, "{name}");
    }
    soon(others.cohort.leave()).await.expect("alone");
    let Others { reading, writing, both, permits, leadership, membership, .. } = others;
    drop((reading, writing, both, permits, leadership, membership));
    let observer = ground.unharmed_client().await;
    soon(async { while !observer.ephemerals("/").await.expect("connected").is_empty() {} }).await;
    assert_eq!(session.end(), None, "released, not expired");
}

pub async fn those_who_wait_keep_their_place_through_a_kill(ground: &Ground) {
    let (a, b, faults) =
        (patient_client(ground).await, patient_client(ground).await, ground.faults());
    let observer = ground.unharmed_client().await;
    let index = |client| RwLock::new(client, INDEX).expect("valid");
    let jobs = |client| Semaphore::new(client, "/jobs", 1).expect("valid");
    let lead = |client| Election::new(client, "/lead").expect("valid");
    let held = (
        index(&a).write().await.expect("free"),
        jobs(&a).acquire().await.expect("free"),
        lead(&a).campaign().await.expect("nobody leads"),
    );
    let (reader, permit, candidate) = (index(&b), jobs(&b), lead(&b));
    let waiting = (
        tokio::spawn(async move { reader.read().await }),
        tokio::spawn(async move { permit.acquire().await }),
        tokio::spawn(async move { candidate.campaign().await }),
    );
    for (path, line) in [(INDEX, 2), ("/jobs/line", 1), ("/lead", 2)] {
        until_children(&observer, path, line).await;
    }
    faults.kill().await;
    faults.start_again().await;
    soon(held.0.session().connected()).await;
    assert!(!waiting.0.is_finished() && !waiting.1.is_finished() && !waiting.2.is_finished());
    let tokens = (held.0.token(), held.1.slots()[0].token, held.2.term());
    drop(held);
    let read = soon(waiting.0).await.expect("no panic").expect("its turn");
    let permit = soon(waiting.1).await.expect("no panic").expect("its turn");
    let leads = soon(waiting.2).await.expect("no panic").expect("its turn");
    let slot = permit.slots()[0];
    assert!(read.token() > tokens.0 && slot.token > tokens.1 && leads.term() > tokens.2);
    assert_eq!(slot.number, 0);
    // They hold in the session that they have waited in.
    tokio::time::timeout(Duration::from_millis(1), read.lost()).await.expect_err("held");
}
