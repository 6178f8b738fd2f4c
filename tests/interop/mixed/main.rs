//! Programs of ours, and of Kazoo or Curator, that contend for one lock or one leadership. Called by
//! `interop/run`, since it needs Python and Java.

mod member;

use std::time::Duration;

use member::{Member, Side, Taking};
use synod::Client;
use synod_tests::recipes::cases::until_children;
use synod_tests::recipes::ground::Ground;

/// How long somebody who must wait is watched doing so.
const WATCHED: Duration = Duration::from_millis(500);

/// Of each, while both want it.
const TURNS: usize = 25;

/// One holds; the other waits and gets it, when the first releases, and when it is killed.
async fn excludes(
    taking: Taking,
    holder: &mut Member,
    waiter: &mut Member,
    observer: &Client,
    path: &str,
) {
    holder.tell("acquire");
    holder.hears("held").await;
    waiter.tell("acquire");
    until_children(observer, path, 2).await;
    waiter.is_silent_for(WATCHED).await;
    if taking == Taking::Election {
        // What a mutex of Curator's says of itself is an address, and no name.
        holder.tell("line");
        holder.hears(&format!("line {} {}", holder.name, waiter.name)).await;
    }
    holder.tell("release");
    holder.hears("released").await;
    waiter.hears("held").await;

    holder.tell("acquire");
    until_children(observer, path, 2).await;
    holder.is_silent_for(WATCHED).await;
    waiter.kill();
    holder.hears("held").await;
    until_children(observer, path, 1).await;
    waiter.start_again();
    waiter.hears("ready").await;
    waiter.tell("acquire");
    until_children(observer, path, 2).await;
    waiter.is_silent_for(WATCHED).await;
    holder.tell("release");
    holder.hears("released").await;
    waiter.hears("held").await;
    waiter.tell("release");
    waiter.hears("released").await;
}

async fn a_mixed_fleet(ground: Ground, taking: Taking, side: Side) {
    let (path, observer) = ("/mixed", ground.unharmed_client().await);
    let servers = ground.faults().addresses();
    let start = |name, side| Member::start(side, taking, &servers, path, name);
    let mut ours = start("ours", Side::Ours(side.layout()));
    let mut theirs = start("theirs", side);
    for member in [&mut ours, &mut theirs] {
        member.hears("ready").await;
    }
    excludes(taking, &mut ours, &mut theirs, &observer, path).await;
    excludes(taking, &mut theirs, &mut ours, &observer, path).await;

    let folder = tempfile::tempdir().expect("can be made");
    for member in [&mut ours, &mut theirs] {
        member.tell(&format!("turns {TURNS} {}", folder.path().display()));
    }
    for member in [&mut ours, &mut theirs] {
        member.hears("done").await;
    }
    until_children(&observer, path, 0).await;
}

macro_rules! mixed {
    ($($name:ident: $ground:ident $taking:ident $side:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                a_mixed_fleet(Ground::$ground().await, Taking::$taking, Side::$side).await;
            }
        )*
    };
}

mixed! {
    our_lock_and_kazoos_exclude_each_other: synod Lock Kazoo
    our_election_and_kazoos_exclude_each_other: synod Election Kazoo
    our_lock_and_curators_mutex_exclude_each_other: synod Lock Curator
    our_election_and_curators_latch_exclude_each_other: synod Election Curator
    our_lock_and_kazoos_exclude_each_other_on_apache: apache Lock Kazoo
    our_election_and_kazoos_exclude_each_other_on_apache: apache Election Kazoo
    our_lock_and_curators_mutex_exclude_each_other_on_apache: apache Lock Curator
    our_election_and_curators_latch_exclude_each_other_on_apache: apache Election Curator
}
