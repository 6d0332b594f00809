//! `rrsa doctor`: looks for what is wrong in a cluster, and says what to do about it.

mod injection;

use clap::Subcommand;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check that a pod that asks for a role would find it.
    Injection(injection::Args),
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.command {
            Command::Injection(args) => args.run(),
        }
    }
}
