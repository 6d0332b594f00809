//! `rrsa credentials get`.

use std::process::ExitCode;

use super::explain::{Explained, explain};
use super::format::{self, Format, Secrets};
use super::source::SourceArgs;
use super::{failure, print, wait};
use crate::credentials::Credentials;

const EXAMPLES: &str = "\
Examples:
  Which credentials would a program find here, and why those?
    rrsa credentials get --explain
  Can this machine assume that role?
    rrsa credentials get --role-arn acs:ram::1234567890123456:role/reader
  The same for this shell:
    eval \"$(rrsa credentials get --role-arn acs:ram::1234567890123456:role/reader \\
      --format env --show-secrets)\"
  For the Alibaba Cloud CLI and the SDKs, as the process_command of an External profile (which must
  not be asked for itself):
    rrsa credentials get --without cli_profile --format json --show-secrets";

#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Args {
    /// Print them for a program, instead of a summary for you.
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Print secrets, instead of asterisks in their places.
    #[arg(long)]
    show_secrets: bool,
    /// Tell which sources were asked, in order, and what each said.
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    source: SourceArgs,
}

impl Args {
    #[expect(
        clippy::print_stderr,
        reason = "standard output is for credentials alone"
    )]
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Self {
            format,
            show_secrets,
            explain: explained,
            source,
        } = self;
        let asked = source.on_this_machine()?;
        let (clock, region) = (asked.world.clock.clone(), asked.region.clone());
        let credentials = if explained {
            let Explained {
                account,
                credentials,
            } = wait(async { Ok(explain(asked).await) })?;
            eprintln!("{account}");
            credentials.ok_or_else(|| anyhow::anyhow!("there are no credentials"))?
        } else {
            let client = asked.client().map_err(failure)?;
            wait(async {
                let current = client.credentials().await.map_err(failure)?;
                Ok(Credentials::clone(&current))
            })?
        };
        let secrets = if show_secrets {
            Secrets::Shown
        } else {
            Secrets::Masked
        };
        let Some(format) = format else {
            let text = format::summary(&credentials, secrets, clock.now())?;
            print(text.expose())?;
            return Ok(ExitCode::SUCCESS);
        };
        let text = format::rendered(&credentials, format, secrets, region.as_deref())?;
        if secrets == Secrets::Masked {
            eprintln!("rrsa: the secrets are masked, so nothing can use this; add --show-secrets");
        }
        print(text.expose())?;
        Ok(ExitCode::SUCCESS)
    }
}
