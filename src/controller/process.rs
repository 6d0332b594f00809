//! The controller as a process: health, readiness and metrics around the election, and that around
//! the work.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt as _;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::bindings::Bindings;
use super::census::Census;
use super::election::Election;
use super::metrics::Metrics;
use super::reach;
use super::run::{self, Work};
use super::scope::Scope;
use super::settings::{self, Live};
use crate::api::configuration::Configuration;
use crate::serving::admin::{self, Admin};
use crate::serving::liveness::Liveness;
use crate::serving::readiness::Readiness;
use crate::serving::ready_file::{self, Addresses};
use crate::serving::reload::{Load, Reload};
use crate::serving::server::{self, Stop};
use crate::telemetry;
use crate::world::{Clock, Files};

/// After so long without a sign of the loop that hands out the work only a restart helps.
const STUCK: Duration = Duration::from_mins(3);

/// What the controller runs with.
pub struct Options {
    /// Talks to the API server.
    pub client: kube::Client,
    /// Reads the operator's configuration, at the start and again and again.
    pub configuration: Load<Configuration>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The operator's token files and CA bundle.
    pub files: Arc<dyn Files>,
    /// Where the ECS metadata service is, if not at its fixed address.
    pub metadata: Option<SocketAddr>,
    /// Where health, readiness and metrics are asked for, over plain HTTP.
    pub admin_listener: TcpListener,
    /// A file that appears when all is ready, with the address.
    pub ready_file: Option<PathBuf>,
    /// How the replicas agree on who works; `None`: there is only this one.
    pub election: Option<Election>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("election", &self.election)
            .finish_non_exhaustive()
    }
}

/// Runs until `shutdown` completes; exchanges under way are finished, then the Lease is given back.
/// Health goes last.
///
/// # Errors
/// When leadership is lost, the cluster lacks the custom resource, a watch task ended, or the listener or the ready
/// file cannot be used.
pub async fn run(
    options: Options,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let Options {
        client,
        configuration,
        clock,
        files,
        metadata,
        admin_listener,
        ready_file,
        election,
    } = options;
    let addresses = Addresses {
        address: None,
        admin_address: admin_listener
            .local_addr()
            .context("the address for health")?,
    };
    if let Some(path) = &ready_file {
        ready_file::clear(path).with_context(|| format!("ready file {}", path.display()))?;
    }

    let load = settings::loader(configuration, Arc::clone(&files));
    let first = load().map_err(anyhow::Error::msg)?;
    let scope = Scope::new(first.configuration().namespaces.clone());
    let mut registry = telemetry::metrics::registry();
    let metrics = Metrics::register(&mut registry);
    let bindings = Bindings::default();
    let secrets = Arc::default();
    let census = Census {
        clock: Arc::clone(&clock),
        bindings: bindings.clone(),
        secrets: Arc::clone(&secrets),
    };
    census.register(&mut registry);
    let readiness = Readiness::new();
    let api_server = readiness.condition("api-server", "not asked yet");
    // A replica that stands by is as ready as it can be.
    let ready_to_work = readiness.condition("work", "the Lease was not seen yet");
    let reload = Reload::new(first, load, readiness.note("configuration"), &mut registry);
    let liveness = Liveness::new(Arc::clone(&clock));
    let heart = liveness.heart("the controller's loop", STUCK);
    let admin = Admin {
        readiness: readiness.clone(),
        liveness,
        registry: Arc::new(registry),
    };
    let health = server::serve_plain(admin_listener, admin::router(admin), Stop::default());
    info!(admin_address = %addresses.admin_address, "controller starting");

    let work = Work {
        client: client.clone(),
        scope,
        settings: Live::new(reload.subscribe()),
        clock,
        files,
        secrets,
        bindings,
        metrics,
        ready: ready_to_work,
        heart,
        metadata,
    };
    let announce = async {
        readiness.ready().await;
        if let Some(path) = &ready_file {
            ready_file::write(path, &addresses)
                .with_context(|| format!("ready file {}", path.display()))?;
        }
        std::future::pending::<anyhow::Result<()>>().await
    };
    let ended = tokio::select! {
        worked = lead(election, work, shutdown.shared()) => worked,
        served = health => match served {
            Ok(()) => Err(anyhow::anyhow!("health is not served any more")),
            Err(error) => Err(error).context("health cannot be served"),
        },
        failed = announce => failed,
        never = reach::watch(client, api_server) => match never {},
        never = reload.run() => match never {},
    };
    // Whoever starts the next run must not find the address of this one.
    if let Some(path) = &ready_file
        && let Err(error) = ready_file::clear(path)
    {
        warn!(%error, path = %path.display(), "the ready file stays");
    }
    ended
}

/// Works when it is this replica's turn, and only then.
async fn lead(
    election: Option<Election>,
    work: Work,
    shutdown: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let Some(election) = election else {
        work.metrics.leading(true);
        return run::work(work, shutdown).await;
    };
    let won = election.win(
        |holder| {
            debug!(holder, "standing by");
            work.ready.ready();
        },
        |cause| {
            work.ready
                .not_ready(format!("the Lease cannot be had: {cause}"));
        },
    );
    let leadership = tokio::select! {
        leadership = won => leadership,
        () = shutdown.clone() => return Ok(()),
    };
    work.metrics.leading(true);
    // A task of its own: passes over bindings must not hold a renewal up.
    let (finished, release) = oneshot::channel();
    let mut kept = tokio::spawn(leadership.keep(release));
    let worked = tokio::select! {
        worked = run::work(work, shutdown) => worked,
        ended = &mut kept => {
            let lost = match ended {
                Ok(Err(lost)) => lost.into(),
                other => anyhow::anyhow!("the renewal of the Lease ended: {other:?}"),
            };
            return Err(lost.context(
                "leadership lost; this process ends so that nothing is done twice",
            ));
        }
    };
    // Everything that was under way is finished, or was given up: the next replica may start.
    let _ = finished.send(());
    match kept.await {
        Ok(Err(lost)) => warn!("the Lease was lost at the end: {lost}"),
        Ok(Ok(())) => {}
        Err(error) => warn!("the Lease was not given back: {error}"),
    }
    worked
}
