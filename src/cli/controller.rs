//! `rrsa controller`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::LogArgs;
use super::operator::{self, ConfigurationArgs, bind, shutdown_signal};
use crate::controller::election::{Election, Timing};
use crate::controller::{self, Options};
use crate::world::{Random as _, SystemClock, SystemFiles, SystemRandom};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    configuration: ConfigurationArgs,
    /// Where /healthz, /readyz and /metrics are, over plain HTTP. Port 0 takes a free one.
    #[arg(
        long,
        env = "RRSA_CONTROLLER_ADMIN_LISTEN",
        hide_env_values = true,
        value_name = "ADDRESS",
        default_value = "[::]:9440"
    )]
    admin_listen: SocketAddr,
    /// A file to write when all is ready: JSON with "adminAddress".
    #[arg(
        long,
        env = "RRSA_CONTROLLER_READY_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    election: ElectionArgs,
    #[command(flatten)]
    log: LogArgs,
}

/// How several replicas agree on the one that works.
#[derive(Debug, clap::Args)]
struct ElectionArgs {
    /// Whether replicas agree by a Lease on the one that works. Without it there must be only one.
    #[arg(
        long,
        env = "RRSA_LEADER_ELECT",
        hide_env_values = true,
        value_name = "BOOL",
        default_value = "true",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    leader_elect: bool,
    /// Namespace of the Lease: the operator's own.
    #[arg(
        long,
        env = "RRSA_NAMESPACE",
        hide_env_values = true,
        value_name = "NAMESPACE",
        default_value = "rrsa-system"
    )]
    namespace: String,
    /// Name of the Lease.
    #[arg(
        long,
        env = "RRSA_LEASE_NAME",
        hide_env_values = true,
        value_name = "NAME",
        default_value = "rrsa-controller"
    )]
    lease_name: String,
    /// What this replica is called in the Lease; a random part is added. In a pod: the pod's name.
    #[arg(
        long,
        env = "RRSA_POD_NAME",
        hide_env_values = true,
        value_name = "NAME",
        default_value = "rrsa-controller"
    )]
    replica_name: String,
    /// So long the others leave a Lease alone that is not renewed any more: the longest pause when
    /// a replica dies is this and the retry period.
    #[arg(
        long,
        env = "RRSA_LEASE_DURATION",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "12",
        value_parser = seconds
    )]
    lease_duration: Duration,
    /// So long the replica that works tries to renew the Lease before it ends itself.
    #[arg(
        long,
        env = "RRSA_RENEW_DEADLINE",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "8",
        value_parser = seconds
    )]
    renew_deadline: Duration,
    /// Pause between renewals, and between looks of those that stand by.
    #[arg(
        long,
        env = "RRSA_RETRY_PERIOD",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value = "2",
        value_parser = seconds
    )]
    retry_period: Duration,
}

impl ElectionArgs {
    fn election(self, client: kube::Client) -> anyhow::Result<Option<Election>> {
        let Self {
            leader_elect,
            namespace,
            lease_name,
            replica_name,
            lease_duration,
            renew_deadline,
            retry_period,
        } = self;
        if !leader_elect {
            return Ok(None);
        }
        let timing = Timing {
            lease_duration,
            renew_deadline,
            retry_period,
        }
        .check()
        .context("--lease-duration, --renew-deadline and --retry-period")?;
        // A restarted container is not the one before it: that one may still hold the Lease.
        let unique = SystemRandom.bytes()?;
        Ok(Some(Election {
            client,
            namespace,
            name: lease_name,
            identity: format!("{replica_name}_{:032x}", u128::from_be_bytes(unique)),
            timing,
            clock: Arc::new(SystemClock),
        }))
    }
}

/// Seconds, with a fraction where need be.
fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| format!("{text:?} is no number of seconds"))?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self {
            configuration,
            admin_listen,
            ready_file,
            election,
            log,
        } = self;
        log.start()?;
        operator::runtime()?.block_on(async {
            let metadata = configuration.metadata_address();
            let configuration = configuration.load().await?;
            let client = operator::client().await?;
            let election = election.election(client.clone())?;
            let options = Options {
                client,
                configuration,
                clock: Arc::new(SystemClock),
                files: Arc::new(SystemFiles),
                admin_listener: bind(admin_listen)?,
                ready_file,
                election,
                metadata,
            };
            // Boxed: the future of a whole controller is too large for the frame of its caller.
            Box::pin(controller::run(options, shutdown_signal()?)).await
        })
    }
}
