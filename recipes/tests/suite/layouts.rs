//! Locks and elections in the layouts of Curator and Kazoo, under virtual time.
//!
//! The others are played by znodes of theirs, and by their rule of who is before whom, as it stands
//! in their sources.

use std::time::Duration;

use crate::common::{cancel_at, children, soon, until_children};
use synod::election::Leadership;
use synod::testing::Coordinator;
use synod::{Client, Election, Error, Guard, Layout, Lock, Path};
use tokio::task::JoinHandle;
use tokio::time::sleep;

const PATH: &str = "/locks/report";

/// What stands between id and suffix, and how another library numbers those before.
#[derive(Clone, Copy, Debug)]
struct Other {
    layout: Layout,
    /// What its names begin with, before the suffix.
    stem: &'static str,
    marker: &'static str,
}

const MUTEX: Other = Other {
    layout: Layout::Curator,
    stem: "_c_53345f98-9423-4e0c-a7b5-9f819e3ec2e1-lock-",
    marker: "lock-",
};
const LATCH: Other = Other {
    layout: Layout::Curator,
    stem: "_c_53345f98-9423-4e0c-a7b5-9f819e3ec2e1-latch-",
    marker: "latch-",
};
const KAZOO: Other = Other {
    layout: Layout::Kazoo,
    stem: "f0d3c1a2b4e5968778695a4b3c2d1e0f__lock__",
    marker: "__lock__",
};

impl Other {
    /// Who the other waits for.
    async fn predecessor(self, client: &Client, path: &Path) -> Option<String> {
        let names = children(client, PATH).await;
        match self.layout {
            Layout::Kazoo => self.kazoo_predecessor(&names, path.name()),
            _ => self.curator_predecessor(names, path.name()),
        }
    }

    /// `LockInternals.getSortedChildren`, with `standardFixForSorting`, and the one before.
    fn curator_predecessor(self, mut names: Vec<String>, own: &str) -> Option<String> {
        let key = |name: &String| match name.rfind(self.marker) {
            Some(at) => name[at + self.marker.len()..].to_owned(),
            None => name.clone(),
        };
        names.sort_by_key(key);
        let place = names.iter().position(|name| name == own).expect("it is there");
        place.checked_sub(1).map(|before| names[before].clone())
    }

    /// `Lock._get_predecessor`: `(?:__lock__)(-?\d{10})$`, and lower as a text.
    fn kazoo_predecessor(self, names: &[String], own: &str) -> Option<String> {
        let sequence = |name: &str| {
            let (_, suffix) = name.rsplit_once(self.marker)?;
            let digits = suffix.strip_prefix('-').unwrap_or(suffix);
            let matches = digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
            matches.then(|| suffix.to_owned())
        };
        assert!(names.iter().any(|name| name == own), "it is there");
        let own = own[self.stem.len()..].to_owned();
        let before = names.iter().filter(|name| sequence(name).is_some_and(|other| other < own));
        before.max_by_key(|name| sequence(name)).cloned()
    }

    /// One of theirs enters.
    async fn enter(self, client: &Client, data: &str) -> Path {
        let create = client.create(format!("{PATH}/{}", self.stem), data);
        create.ephemeral().sequential().await.expect("the parent is there")
    }

    /// Makes the parent, as they do.
    async fn parent(self, client: &Client) {
        client.create("/locks", b"").await.expect("new");
        match self.layout {
            Layout::Kazoo => drop(client.create(PATH, b"").await.expect("new")),
            _ => drop(client.create(PATH, b"").container().await.expect("new")),
        }
    }

    fn lock(self, client: &Client) -> Lock {
        Lock::new(client, PATH).expect("a valid path").with_layout(self.layout)
    }

    fn election(self, client: &Client, name: &str) -> Election {
        let election = Election::new(client, PATH).expect("a valid path");
        election.with_layout(self.layout).with_name(name)
    }
}

async fn acquiring(lock: Lock, client: &Client) -> JoinHandle<Result<Guard, Error>> {
    let before = children(client, PATH).await.len();
    let waiting = tokio::spawn(async move { lock.acquire().await });
    until_children(client, PATH, before + 1).await;
    waiting
}

async fn campaigning(election: Election, client: &Client) -> JoinHandle<Result<Leadership, Error>> {
    let before = children(client, PATH).await.len();
    let waiting = tokio::spawn(async move { election.campaign().await });
    until_children(client, PATH, before + 1).await;
    waiting
}

#[tokio::test(start_paused = true)]
async fn locks_of_two_libraries_exclude_each_other_whoever_comes_first() {
    for other in [MUTEX, KAZOO] {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        other.parent(&b).await;

        let theirs = other.enter(&b, "").await;
        assert_eq!(other.predecessor(&b, &theirs).await, None, "theirs holds");
        assert!(other.lock(&a).try_acquire().await.expect("can be tried").is_none());
        let waiting = acquiring(other.lock(&a), &b).await;
        let behind = other.enter(&b, "").await;
        sleep(Duration::from_secs(60)).await;
        assert!(!waiting.is_finished(), "{other:?}");
        b.delete(&theirs).await.expect("it releases");

        let ours = soon(waiting).await.expect("no panic").expect("its turn");
        let before = other.predecessor(&b, &behind).await;
        assert_eq!(before.as_deref(), Some(ours.path().name()), "theirs waits for ours");
        ours.release().await.expect("connected");
        assert_eq!(other.predecessor(&b, &behind).await, None, "its turn");
    }
}

#[tokio::test(start_paused = true)]
async fn one_of_a_mixed_line_holds_at_a_time_in_the_order_in_which_they_came() {
    for other in [MUTEX, KAZOO] {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        other.parent(&b).await;
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for _ in 0..4 {
            theirs.push(other.enter(&b, "").await);
            ours.push(acquiring(other.lock(&a), &b).await);
        }
        // One of theirs that waits gives up, and the sequence ticks over to more places.
        b.delete(theirs.remove(2)).await.expect("it is there");
        zk.set_sequence(PATH, 999_999_999).expect("it exists");
        for _ in 0..2 {
            ours.push(acquiring(other.lock(&a), &b).await);
            theirs.push(other.enter(&b, "").await);
        }
        let (mut ours, mut theirs) = (ours.into_iter(), theirs.into_iter());
        let order = [false, true, false, true, true, false, true, true, false, true, false];
        let mut left = order.len();
        for our_turn in order {
            if our_turn {
                let guard = soon(ours.next().expect("one waits")).await.expect("no panic");
                let guard = guard.expect("its turn");
                for path in theirs.as_slice() {
                    assert!(other.predecessor(&b, path).await.is_some(), "one at a time");
                }
                guard.release().await.expect("connected");
            } else {
                let path = theirs.next().expect("one waits");
                assert_eq!(other.predecessor(&b, &path).await, None, "it is theirs");
                sleep(Duration::from_secs(60)).await;
                assert!(ours.as_slice().iter().all(|ours| !ours.is_finished()), "one at a time");
                b.delete(&path).await.expect("it releases");
            }
            left -= 1;
            until_children(&b, PATH, left).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn elections_of_two_libraries_have_one_leader_whoever_comes_first() {
    for other in [LATCH, KAZOO] {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        other.parent(&b).await;
        let theirs = other.enter(&b, "their-1").await;
        let election = other.election(&a, "our-2");
        let waiting = campaigning(election.clone(), &b).await;
        let behind = other.enter(&b, "their-3").await;
        // Others may write there what they like: in these layouts nobody is passed over.
        b.set(PATH, b"about").await.expect("it is there");
        let leader = election.leader().await.expect("can be asked").expect("theirs leads");
        assert_eq!((leader.name.as_str(), leader.value), ("their-1", None));
        let candidates = election.candidates().await.expect("can be asked");
        let names: Vec<_> = candidates.into_iter().map(|candidate| candidate.name).collect();
        assert_eq!(names, ["their-1", "our-2", "their-3"]);
        sleep(Duration::from_secs(60)).await;
        assert!(!waiting.is_finished(), "{other:?}");
        b.delete(&theirs).await.expect("it resigns");

        let leading = soon(waiting).await.expect("no panic").expect("its turn");
        let own = leading.path().name();
        assert_eq!(other.predecessor(&b, &behind).await.as_deref(), Some(own), "it waits for ours");
        let (data, stat) = b.get(leading.path()).await.expect("it is there");
        assert_eq!(
            (&data[..], stat.czxid),
            (&b"our-2"[..], leading.term()),
            "their id is the name"
        );
        let error = leading.hand_over("their-3", Duration::from_secs(1)).await;
        let error = error.expect_err("it would take no notice").to_string();
        assert!(error.contains("their-3") && error.contains("hand-over"), "{error}");
        leading.proclaim("10.0.0.7:80").await.expect("it leads on");
        assert!(b.get(leading.path()).await.expect("it is there").0.starts_with(b"our-2\n"));

        leading.resign().await.expect("connected");
        assert_eq!(other.predecessor(&b, &behind).await, None, "its turn");
        let leader = election.leader().await.expect("can be asked").expect("theirs leads");
        assert_eq!(leader.name, "their-3");
    }
}

#[tokio::test(start_paused = true)]
async fn contenders_of_another_layout_are_passed_over() {
    for other in [MUTEX, KAZOO, LATCH] {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        other.parent(&b).await;
        other.enter(&b, "").await;
        let lock = Lock::new(&a, PATH).expect("a valid path");
        // Of the three, Curator's mutex alone is named as this library's own lock.
        let excluded = lock.try_acquire().await.expect("can be tried").is_none();
        assert_eq!(excluded, other.marker == MUTEX.marker, "{other:?}");
        let election = Election::new(&a, PATH).expect("a valid path");
        drop(soon(election.campaign()).await.expect("nobody stands"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_names_are_theirs() {
    let zk = Coordinator::start();
    let client = zk.client().await;
    for (other, leads) in [(MUTEX, false), (KAZOO, false), (LATCH, true), (KAZOO, true)] {
        let (path, held): (Path, Box<dyn std::any::Any>) = match leads {
            false => {
                let guard = other.lock(&client).acquire().await.expect("free");
                (guard.path().clone(), Box::new(guard))
            }
            true => {
                let leading = other.election(&client, "").campaign().await.expect("free");
                (leading.path().clone(), Box::new(leading))
            }
        };
        let form = |name: &str| -> String {
            let shape = |c: char| if c.is_ascii_hexdigit() { 'x' } else { c };
            name[..other.stem.len() - other.marker.len()].chars().map(shape).collect()
        };
        let (name, suffix) = path.name().split_at(other.stem.len());
        assert_eq!(form(name), form(other.stem));
        assert!(name.ends_with(other.marker), "{name}");
        assert!(suffix.len() == 10 && suffix.parse::<u32>().is_ok(), "{suffix}");
        drop(held);
        until_children(&client, PATH, 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_parent_of_a_kazoo_lock_stays() {
    let zk = Coordinator::start();
    let (a, b) = (zk.client().await, zk.client().await);
    let lock = KAZOO.lock(&a);
    lock.acquire().await.expect("free").release().await.expect("connected");
    // Far beyond where the parent of a lock is deleted to begin anew.
    zk.set_sequence(PATH, i32::MAX - 1_000).expect("it exists");
    for n in 1.. {
        let done = cancel_at(n, lock.acquire()).await;
        let finished = done.is_some();
        drop(done);
        until_children(&b, PATH, 0).await;
        zk.reap();
        assert!(b.exists(PATH).await.expect("can be asked").is_some(), "nobody makes it again");
        if finished {
            break;
        }
    }
    lock.acquire().await.expect("free").release().await.expect("connected");
    zk.reap();
    assert!(b.exists(PATH).await.expect("can be asked").is_some(), "nobody makes it again");
    b.delete(PATH).await.expect("it is empty");

    MUTEX.lock(&a).acquire().await.expect("free").release().await.expect("connected");
    zk.reap();
    assert_eq!(b.exists(PATH).await.expect("can be asked"), None, "Curator makes it again");
}

#[tokio::test(start_paused = true)]
async fn owners_of_other_libraries_are_shown_with_what_is_in_their_znodes() {
    for other in [MUTEX, KAZOO] {
        let zk = Coordinator::start();
        let (a, b) = (zk.client().await, zk.client().await);
        other.parent(&b).await;
        let theirs = other.enter(&b, "worker-7").await;
        let lock = other.lock(&a).with_label("nightly report");
        let waiting = acquiring(lock.clone(), &b).await;
        let holder = lock.holder().await.expect("can be asked").expect("theirs");
        assert_eq!((&holder.path, holder.label.as_str()), (&theirs, "worker-7"));
        let waiters = lock.waiters().await.expect("can be asked");
        assert_eq!((waiters.len(), waiters[0].label.as_str()), (1, "nightly report"));
        let asked = lock.revoke_request(&holder).await.expect("allowed").expect("it holds");
        assert!(asked.revocation_requested);
        assert!(lock.force_release(&asked).await.expect("allowed"));
        drop(soon(waiting).await.expect("no panic").expect("its turn"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_acquire_or_campaign_leaves_nobody_in_line() {
    for (other, leads) in [(MUTEX, false), (KAZOO, false), (LATCH, true), (KAZOO, true)] {
        for n in 1.. {
            let zk = Coordinator::start();
            let (a, b) = (zk.client().await, zk.client().await);
            other.parent(&b).await;
            let theirs = other.enter(&b, "").await;
            let release = async {
                sleep(Duration::from_secs(1)).await;
                b.delete(&theirs).await.expect("it is there");
            };
            let (lock, election) = (other.lock(&a), other.election(&a, ""));
            let finished = match leads {
                false => {
                    let acquire = async { tokio::join!(lock.acquire(), release).0 };
                    cancel_at(n, acquire).await.is_some()
                }
                true => {
                    let campaign = async { tokio::join!(election.campaign(), release).0 };
                    cancel_at(n, campaign).await.is_some()
                }
            };
            if b.exists(&theirs).await.expect("can be asked").is_some() {
                b.delete(&theirs).await.expect("it is there");
            }
            until_children(&b, PATH, 0).await;
            soon(async {
                while a.session().cleanups_reserved() > 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
            if finished {
                assert!(n > 5, "cancelled at {n} awaits only");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_the_create_makes_no_second_contender() {
    for other in [MUTEX, KAZOO] {
        let zk = Coordinator::start();
        let client = zk.client().await;
        other.parent(&client).await;
        zk.lose_next_reply(&client);
        let guard = soon(other.lock(&client).acquire()).await.expect("found again by its id");
        assert_eq!(children(&client, PATH).await, [guard.path().name()]);
    }
}
