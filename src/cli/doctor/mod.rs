//! `rrsa doctor`: looks for what is wrong in a cluster, and says what to do about it.

mod injection;
mod pods;

use std::process::ExitCode;

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
    /// Find pods that asked for a role and do not have it, and labels that only look like asking.
    Pods(Box<pods::Args>),
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Injection(args) => args.run()?,
            Command::Pods(args) => return Ok(args.run()),
        }
        Ok(ExitCode::SUCCESS)
    }
}
