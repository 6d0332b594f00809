//! The whole webhook as one future: wires the parts and takes them down in order.
//!
//! Going down: readiness falls, then a pause in which the balancers hear of it, then the
//! listener closes, then the reviews under way are answered. Health goes last.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kube::Client;

use super::caches::Caches;
use super::handler::Reviewer;
use super::metrics::Metrics;
use super::registration::Registration;
use crate::api::configuration::Configuration;
use crate::injection::facts::Cluster;
use crate::injection::settings::Settings;
use crate::serving::admin::{self, Admin};
use crate::serving::authority_secret::AuthoritySecret;
use crate::serving::keeper::Keeper;
use crate::serving::liveness::Liveness;
use crate::serving::readiness::Readiness;
use crate::serving::ready_file::{self, Addresses};
use crate::serving::server::{self, Stop};
use crate::serving::tls;
use crate::telemetry;
use crate::world::Clock;

/// What a webhook is run with.
pub struct Options {
    /// The cluster.
    pub client: Client,
    /// The administrator's configuration.
    pub configuration: Configuration,
    /// The clock that certificates are renewed by.
    pub clock: Arc<dyn Clock>,
    /// Where reviews arrive, over TLS.
    pub listener: TcpListener,
    /// Where health, readiness and metrics are asked for, over plain HTTP.
    pub admin_listener: TcpListener,
    /// Namespace of the Secret that holds the authority.
    pub namespace: String,
    /// Name of that Secret.
    pub ca_secret_name: String,
    /// Name of the MutatingWebhookConfiguration whose caBundle is kept right.
    pub webhook_configuration_name: String,
    /// DNS names and addresses by which the API server calls.
    pub server_names: Vec<String>,
    /// Pause between "not ready" and the closing of the listener.
    pub drain_delay: Duration,
    /// A file that appears when all is ready, with the addresses.
    pub ready_file: Option<PathBuf>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

/// Serves until `shutdown`, then drains.
///
/// # Errors
/// When a listener or the ready file cannot be used. What the cluster refuses is no error: it is
/// tried again, and `/readyz` says why.
pub async fn run(
    options: Options,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let Options {
        client,
        configuration,
        clock,
        listener,
        admin_listener,
        namespace,
        ca_secret_name,
        webhook_configuration_name,
        server_names,
        drain_delay,
        ready_file,
    } = options;
    let addresses = Addresses {
        address: Some(
            listener
                .local_addr()
                .context("the address of the listener")?,
        ),
        admin_address: admin_listener
            .local_addr()
            .context("the address for health")?,
    };
    if let Some(path) = &ready_file {
        ready_file::clear(path).with_context(|| format!("ready file {}", path.display()))?;
    }

    // Further families of the webhook are registered here.
    let mut registry = telemetry::metrics::registry();
    let metrics = Metrics::register(&mut registry);
    let readiness = Readiness::new();
    let serving = readiness.condition("serving", "not started");
    let certificate = readiness.condition("certificate", "not issued yet");
    let caches = Arc::new(Caches::new(client.clone(), &clock, &readiness));
    let secret = Arc::new(AuthoritySecret::new(
        client.clone(),
        &namespace,
        &ca_secret_name,
    ));
    let keeper = Arc::new(Keeper::new(secret, server_names, Arc::clone(&clock)));
    let registration = Registration::new(client, &webhook_configuration_name, Arc::clone(&keeper));
    let cluster = Arc::clone(&caches) as Arc<dyn Cluster>;
    let reviewer = Reviewer::new(Settings::from(&configuration), cluster, metrics);
    let tls = tls::server_config(keeper.slot()).context("TLS cannot be set up")?;

    let (stop, stop_admin) = (Stop::default(), Stop::default());
    let reviews = server::serve_tls(listener, tls, reviewer.router(), stop.clone());
    let health = server::serve_plain(
        admin_listener,
        admin::router(Admin {
            readiness: readiness.clone(),
            liveness: Liveness::new(clock),
            registry: Arc::new(registry),
        }),
        stop_admin.clone(),
    );
    serving.ready();
    tracing::info!(
        address = ?addresses.address,
        admin_address = %addresses.admin_address,
        "webhook listening"
    );

    // Neither ends before it is told to; both belong to the process.
    let upkeep = async {
        tokio::join!(caches.run(), keeper.run(certificate), registration.run());
    };
    let announce = async {
        readiness.ready().await;
        if let Some(path) = &ready_file {
            ready_file::write(path, &addresses)
                .with_context(|| format!("ready file {}", path.display()))?;
        }
        std::future::pending::<anyhow::Result<()>>().await
    };
    let go_down = async {
        shutdown.await;
        tracing::info!("shutting down");
        serving.not_ready("shutting down");
        // Whoever starts the next run must not find the addresses of this one.
        if let Some(path) = &ready_file
            && let Err(error) = ready_file::clear(path)
        {
            tracing::warn!(%error, path = %path.display(), "the ready file stays");
        }
        tokio::time::sleep(drain_delay).await;
        stop.stop();
    };
    let serve = async {
        let (served, ()) = tokio::join!(reviews, go_down);
        stop_admin.stop();
        served.context("reviews cannot be served")
    };
    tokio::select! {
        served = async { tokio::try_join!(serve, async { health.await.context("health cannot be served") }) } => {
            served.map(|_| ())
        }
        failed = announce => failed,
        () = upkeep => Err(anyhow::anyhow!("a watch has ended, which it never should")),
    }
}
