//! Disks that fail.

use std::path::Path;
use std::process::Command;

use synod_tests::faults::check::Checker;
use synod_tests::faults::cluster::{Cluster, Settings};
use synod_tests::faults::load::{self, Load};
use synod_tests::faults::segment::newest;

const CHANGES: u64 = 300;

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status();
    let status = status.unwrap_or_else(|error| panic!("{program} is wanted: {error}"));
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// Waits until the member ends by itself, and sees that it says why.
async fn fails(cluster: &mut Cluster, place: usize, says: &str) {
    let member = &mut cluster.members[place];
    let status = member.ended().await;
    let words = member.last_words();
    assert_eq!(status.code(), Some(1), "{words}");
    let folder = member.data.display().to_string();
    assert!(words.contains(&folder) && words.contains(says), "{folder}, {says}:\n{words}");
}

/// Checks everything once the member is back.
async fn comes_back(mut cluster: Cluster, mut load: Load, place: usize) {
    cluster.members[place].wrapper.clear();
    cluster.members[place].start();
    load.served(load.mark()).await;
    load.more(CHANGES).await;
    load.pause().await;
    Checker::default().check(&cluster, &load).await;
    load.finish().await;
}

/// Its fortieth sync fails, and no other: one that tried again would think that all is well.
async fn failing_sync(members: usize) {
    let mut cluster = Cluster::start(Settings::of(members)).await;
    let rate_min = 20.0;
    let settings = load::Settings { rate_min, ..load::Settings::default() };
    let load = Load::start(cluster.addresses(), settings).await;
    load.more(CHANGES).await;
    let place = cluster.leader().await;
    cluster.members[place].kill().await;
    let trace = cluster.folder().join("trace").display().to_string();
    let wrapper = ["strace", "-D", "-f", "-y", "-e", "trace=fdatasync", "-e", FAULT, "-o", &trace];
    cluster.members[place].wrapper = wrapper.map(str::to_owned).to_vec();
    cluster.members[place].start();
    fails(&mut cluster, place, "Input/output error").await;
    let words = cluster.members[place].last_words();
    let segment = newest(&cluster.members[place].data).display().to_string();
    assert!(words.contains(&format!("cannot sync {segment}")), "{segment}:\n{words}");
    let trace = std::fs::read_to_string(&trace).expect("strace was there");
    let (_, after) = trace.split_once("(INJECTED)").expect("the fault was made");
    assert!(!after.contains("log-"), "it has tried again:{after}");
    comes_back(cluster, load, place).await;
}

const FAULT: &str = "inject=fdatasync:error=EIO:when=40";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_sync_fails_ends_and_does_not_try_again_and_has_lost_nothing() {
    failing_sync(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_sync_fails_ends_and_the_others_go_on() {
    failing_sync(3).await;
}

/// A file system that is gone with this.
struct Mounted(String);

impl Mounted {
    fn on(folder: &Path, size: &str) -> Mounted {
        let folder = folder.display().to_string();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", &folder]);
        Mounted(folder)
    }

    fn resize(&self, size: &str) {
        run("mount", &["-o", &format!("remount,size={size}"), &self.0]);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: the cluster's processes may be about to die.
        let _ = Command::new("umount").args(["-l", &self.0]).status();
        // What was mounted on could not be removed before.
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_a_full_file_system_ends_and_comes_back_when_there_is_room() {
    let folder = tempfile::Builder::new().prefix("synod-full-").tempdir().expect("a folder");
    // Two segments, and not a third.
    let mounted = Mounted::on(folder.path(), "160m");
    let mut cluster = Cluster::start_in(Settings::of(1), folder).await;
    let settings =
        load::Settings { value_bytes: 30_000, rate_min: 20.0, ..load::Settings::default() };
    let load = Load::start(cluster.addresses(), settings).await;
    fails(&mut cluster, 0, "No space left on device").await;
    mounted.resize("1g");
    comes_back(cluster, load, 0).await;
}
