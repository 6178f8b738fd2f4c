//! What holds of every recipe alike: nobody else's znode wedges it, and it leaves nothing behind.

use crate::common::everything::use_every_recipe;
use crate::common::{children, soon};
use synod::testing::Coordinator;
use synod::{Client, Code, Queue};
use tokio::time::{Duration, sleep};

/// Children of other kinds: of people, of other libraries, and of what is almost one of ours.
const FOREIGN: [&str; 8] = [
    "notes",
    "-lock-0000000000",
    "_c_-lock-",
    "_c_0-sema-0000000000",
    "_m_",
    "_d_",
    "i-",
    "9f1c__lock__0000000000",
];

/// Every znode there is but the coordinator's own, parents first.
async fn all_znodes(client: &Client) -> Vec<String> {
    let (mut found, mut next) = (vec![], 0);
    let below = |parent: &str, names: Vec<String>| {
        let parent = parent.trim_end_matches('/').to_owned();
        names.into_iter().map(move |name| format!("{parent}/{name}"))
    };
    found.extend(below("/", children(client, "/").await));
    found.retain(|path| path != "/zookeeper");
    while let Some(path) = found.get(next).cloned() {
        found.extend(below(&path, children(client, &path).await));
        next += 1;
    }
    found
}

/// Puts an item in line and finishes it.
async fn use_a_queue(client: &Client) {
    let queue: Queue<u32> = Queue::open(client, "/queue").await.expect("connected");
    queue.put(&7).await.expect("connected");
    let delivery = soon(queue.take()).await.expect("connected").expect("not shut down");
    assert_eq!(*delivery, 7);
    delivery.ack().await.expect("held");
}

#[tokio::test(start_paused = true)]
async fn a_foreign_child_wedges_no_recipe() {
    let zk = Coordinator::start();
    let (client, other) = (zk.client().await, zk.client().await);
    // So that all the places are there when the others come.
    use_every_recipe(&client).await;
    use_a_queue(&client).await;
    let mut planted = 0;
    for parent in all_znodes(&other).await {
        // A path that is missing, and what is another's own data, are theirs.
        for name in FOREIGN {
            match other.create(format!("{parent}/{name}"), "not ours").await {
                Err(error) if error.is(Code::NoNode) => {}
                created => planted += created.map(|_| 1).expect("connected"),
            }
        }
    }
    assert!(planted > 100, "{planted} foreign children");
    soon(use_every_recipe(&client)).await;
    soon(use_a_queue(&client)).await;
    let left = all_znodes(&other).await;
    let foreign = left.iter().filter(|path| FOREIGN.iter().any(|name| path.ends_with(name)));
    assert_eq!(foreign.count(), planted, "nobody deletes what is another's");
}

/// What is to outlive its users: what was counted, how many permits there are, who was let in last.
const KEPT: [&str; 6] =
    ["/counter", "/double", "/double/ready", "/latch", "/semaphore", "/semaphore/limit"];

#[tokio::test(start_paused = true)]
async fn when_nobody_uses_them_any_more_recipes_leave_no_watch_no_cleanup_and_no_empty_parent() {
    let zk = Coordinator::start();
    let (client, other) = (zk.client().await, zk.client().await);
    use_every_recipe(&client).await;
    soon(async {
        while zk.watch_count() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(client.session().cleanups_reserved(), 0);
    // Parents of parents that were containers go one after the other.
    for _ in 0..4 {
        zk.reap();
    }
    let mut left = all_znodes(&other).await;
    left.sort_unstable();
    assert_eq!(left, KEPT);
}
