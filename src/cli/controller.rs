//! `rrsa controller`.

use std::path::PathBuf;
use std::sync::Arc;

use super::LogArgs;
use super::operator::{self, shutdown_signal};
use crate::controller::{self, Options};
use crate::world::{SystemClock, SystemFiles};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The operator's configuration file (YAML).
    #[arg(
        long,
        env = "RRSA_CONFIG",
        hide_env_values = true,
        value_name = "FILE",
        default_value = "/etc/rrsa/config.yaml"
    )]
    config: PathBuf,
    #[command(flatten)]
    log: LogArgs,
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self { config, log } = self;
        log.start()?;
        let configuration = operator::configuration(&config, &SystemFiles)?;
        operator::runtime()?.block_on(async {
            let client = operator::client().await?;
            let options = Options {
                client,
                configuration,
                clock: Arc::new(SystemClock),
                files: Arc::new(SystemFiles),
            };
            controller::run(options, shutdown_signal()?).await
        })
    }
}
