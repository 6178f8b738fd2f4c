//! Others' clients, unchanged, on one server of ours and on three: Curator with its recipes, the C
//! client's programs, node-zookeeper-client and zkCli. Called by `interop/run`, which installs them.

mod talk;

use std::path::PathBuf;
use std::process::Command;

use synod_tests::recipes::ground::Ground;
use talk::converse;

const CLI_MT: &str = include_str!("cli_mt.txt");
const ZKCLI: &str = include_str!("zkcli.txt");

/// What Debian's package zookeeper-bin has.
const CLI_MT_PROGRAM: &str = "/usr/lib/zookeeper/bin/cli_mt";

/// What the program says whose parts all did what they are for.
const ALL: &str = "< all";

/// What `interop/run` says.
fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: tests/interop/run sets it"))
}

fn java(main: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
    command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error");
    command.args(["-cp", &setting("CURATOR_CLASSPATH"), main]);
    command
}

async fn curators_recipes(servers: &str) {
    let mut command = java("CuratorRecipes");
    command.arg(servers);
    converse(command, ALL).await;
}

async fn zkcli(servers: &str) {
    let mut command = java("org.apache.zookeeper.ZooKeeperMain");
    command.args(["-server", servers]);
    converse(command, ZKCLI).await;
}

async fn the_c_client(servers: &str) {
    // It says things when they fill a block, if nobody keeps it to lines.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", CLI_MT_PROGRAM, servers]);
    converse(command, CLI_MT).await;
}

async fn node(servers: &str) {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("interop/clients/node_client.js");
    let mut command = Command::new("node");
    command.env("NODE_PATH", setting("NODE_PATH")).arg(script).arg(servers);
    converse(command, ALL).await;
}

macro_rules! clients {
    ($($client:ident)*) => {
        mod on_one {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $client() {
                    let ground = super::Ground::synod().await;
                    super::$client(&ground.faults().addresses()).await;
                }
            )*
        }

        mod on_three {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $client() {
                    let ground = super::Ground::cluster().await;
                    super::$client(&ground.faults().addresses()).await;
                }
            )*
        }
    };
}

clients! { curators_recipes zkcli the_c_client node }
