//! `rrsa conformance`.

use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::judged::{EXIT_CODES, Output, exit_code};
use super::kubeconfig::KubeconfigArgs;
use super::operator::{self, shutdown_signal};
use super::print;
use super::setup::SetupArgs;
use crate::conformance::{self, Options, Parameters};
use crate::world::{SystemFiles, SystemRandom};

/// Makes namespaces and ServiceAccounts for a moment; its pods are dry runs and never run.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXIT_CODES)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: KubeconfigArgs,
    #[command(flatten)]
    setup: SetupArgs,
    /// Also play what the documentation leaves open, and tell where the webhook differs from
    /// rrsa. That is no failure.
    #[arg(long)]
    corners: bool,
    /// How the names of the namespaces begin.
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "rrsa-conformance",
        value_parser = prefix
    )]
    namespace_prefix: String,
    /// Seconds in which the webhook may come to hear of new namespaces and ServiceAccounts.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    patience: Duration,
    /// Shape of the report.
    #[arg(long, short, value_name = "SHAPE", default_value = "text")]
    output: Output,
    /// Only remove what an earlier run, killed before its end, left in the cluster.
    #[arg(long, conflicts_with_all = ["corners", "config", "oidc_provider_arn", "region"])]
    cleanup: bool,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        exit_code(self.judge())
    }

    #[expect(clippy::print_stdout, reason = "printing is what this command is for")]
    fn judge(self) -> anyhow::Result<bool> {
        let Self {
            cluster,
            setup,
            corners,
            namespace_prefix: prefix,
            patience,
            output,
            cleanup,
        } = self;
        if cleanup {
            let removed = operator::runtime()?
                .block_on(async { conformance::cleanup(cluster.client().await?, &prefix).await })?;
            match removed.as_slice() {
                [] => println!("nothing is left of earlier runs"),
                names => println!("removed {}", names.join(", ")),
            }
            return Ok(true);
        }
        let report = operator::runtime()?.block_on(async {
            let client = cluster.client().await?;
            let configuration = setup.configuration(&SystemFiles, &client).await?;
            let options = Options {
                parameters: Parameters::from(&configuration),
                corners,
                prefix,
                patience,
            };
            let stop = CancellationToken::new();
            let told = shutdown_signal()?;
            let run = conformance::run(client, &SystemRandom, &options, &stop);
            tokio::pin!(run);
            tokio::select! {
                report = &mut run => report,
                // It ends by itself at the next call, and takes everything away before.
                () = told => {
                    stop.cancel();
                    run.await
                }
            }
        })?;
        match output {
            Output::Text => print(&report.text())?,
            Output::Json => print(&(serde_json::to_string_pretty(&report)? + "\n"))?,
        }
        Ok(report.conforms())
    }
}

fn seconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_secs)
}

/// Names of namespaces have at most 63 characters, of which a run takes 13.
fn prefix(text: &str) -> Result<String, String> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let starts = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    if starts && text.len() <= 50 && text.bytes().all(legal) {
        return Ok(text.to_owned());
    }
    Err("write 1 to 50 small letters, digits or '-', a letter first".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_leaves_room_for_the_rest_of_the_name() {
        assert!(prefix("rrsa-conformance").is_ok());
        for bad in ["", "-a", "A", "1a", "a.b", &"a".repeat(51)] {
            assert!(prefix(bad).is_err(), "{bad}");
        }
    }
}
