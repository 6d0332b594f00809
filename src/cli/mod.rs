//! The command line: one file a command. Only this room and `main` print.

mod cleanup;
mod config;
mod conformance;
mod controller;
mod crd;
mod credentials;
mod doctor;
mod judged;
mod kubeconfig;
mod operator;
mod reference;
mod setup;
mod trust_policy;
mod webhook;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::telemetry::logs;

/// Pod identity for Alibaba Cloud on Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "rrsa", version, about, long_about = None, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Delete what the operator made by itself: for the chart, after an uninstallation.
    Cleanup(cleanup::Args),
    /// Tell whether the cluster's webhook does what is documented for ack-pod-identity-webhook.
    Conformance(Box<conformance::Args>),
    /// Check and describe the operator's configuration file.
    Config(config::Args),
    /// Turn AlibabaRoleBinding objects into Secrets with fresh credentials.
    Controller(controller::Args),
    /// Get, use and hand on credentials of Alibaba Cloud.
    Credentials(credentials::Args),
    /// Print the custom resource definition as YAML.
    Crd(crd::Args),
    /// Look for what is wrong in a cluster, and say what to do about it.
    Doctor(doctor::Args),
    /// Print the trust policy that lends a RAM role to ServiceAccounts.
    TrustPolicy(trust_policy::Args),
    /// Inject pods that ask for a role with what the SDKs need.
    Webhook(Box<webhook::Args>),
    /// Print the reference of all commands as Markdown.
    #[command(hide = true)]
    Reference(reference::Args),
}

/// Logging flags of the commands that serve.
#[derive(Debug, clap::Args)]
struct LogArgs {
    /// What is logged: a level, or directives such as "info,rrsa=debug".
    #[arg(
        long = "log",
        env = "RRSA_LOG",
        hide_env_values = true,
        default_value = "info",
        value_name = "FILTER"
    )]
    filter: String,
    /// Shape of a log line.
    #[arg(
        long = "log-format",
        env = "RRSA_LOG_FORMAT",
        hide_env_values = true,
        default_value = "text",
        value_name = "FORMAT"
    )]
    format: logs::Format,
}

impl LogArgs {
    fn start(&self) -> anyhow::Result<()> {
        logs::start(&self.filter, self.format)
    }
}

impl Cli {
    /// Runs the chosen command. The exit code is that of a program that it ran, if it did.
    ///
    /// # Errors
    /// What went wrong, for a person to read.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Cleanup(args) => args.run()?,
            Command::Conformance(args) => return Ok(args.run()),
            Command::Config(args) => return args.run(),
            Command::Controller(args) => args.run()?,
            Command::Credentials(args) => return args.run(),
            Command::Crd(args) => args.run()?,
            Command::Doctor(args) => return args.run(),
            Command::TrustPolicy(args) => args.run()?,
            Command::Webhook(args) => args.run()?,
            Command::Reference(args) => args.run()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes to standard output at once: whoever reads a pipe waits for it, or has left, which is an error
/// and no panic.
fn print(text: &str) -> io::Result<()> {
    use io::Write as _;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
