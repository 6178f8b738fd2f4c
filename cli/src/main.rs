//! The `synod` command: `synod serve` runs a server, the other commands look into one.

/// Says something on stderr. If nobody reads it, that is no reason to panic.
macro_rules! complain {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
pub(crate) use complain;

mod bench;
mod client;
mod cluster;
mod exit;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::Exit;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A coordination server with the ZooKeeper data model, and the commands to look into one.
#[derive(Parser)]
#[command(name = "synod", version, after_help = exit::HELP)]
struct Cli {
    #[command(flatten)]
    options: client::Options,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a server.
    Serve(Box<serve::Serve>),
    /// Look at the members of a cluster, or change them.
    Cluster(cluster::Cluster),
    /// Put a load on a server, hold every reply against what it must be, and tell how fast it is.
    Bench(bench::Bench),
    #[command(flatten)]
    Client(client::Command),
}

fn main() -> ExitCode {
    // The state behind a panic is half changed: better no server than one that goes on with it.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    // Clap ends the process by itself on a wrong command line, with Exit::Usage's number.
    let cli = Cli::parse();
    // Whoever took it for an option of these would have a server without TLS, or without users.
    let ignored = match &cli.command {
        Command::Serve(_) => cli.options.of_client(),
        Command::Cluster(_) => cli.options.of_identity(),
        Command::Bench(_) | Command::Client(_) => None,
    };
    if let Some(name) = ignored {
        crate::complain!(
            "synod: {name} is for the commands that look into a server; serve has --listen, \
             --tls-cert, --tls-key, --tls-client-ca, --sasl-users and --peer-tls-…, cluster has \
             --peer and --peer-tls-…"
        );
        return Exit::Usage.into();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            crate::complain!("synod: cannot start: {error}");
            return Exit::Failure.into();
        }
    };
    let exit = runtime.block_on(async {
        match cli.command {
            Command::Serve(serve) => serve.run().await,
            Command::Cluster(cluster) => cluster.run(cli.options).await,
            Command::Bench(bench) => bench.run(cli.options).await,
            Command::Client(command) => command.run(cli.options).await,
        }
    });
    // What still runs has nothing more to say.
    runtime.shutdown_background();
    exit.into()
}
