//! stub
use crate::exit::Exit;
use clap::Subcommand;
#[derive(Subcommand)]
pub(crate) enum Command {
    /// x
    Get,
}
impl Command {
    pub(crate) async fn run(self) -> Exit {
        Exit::Ok
    }
}
