//! The whole webhook as one future: wires the parts and takes them down in order.
//!
//! Going down: readiness falls, and each answer asks its caller to call elsewhere; then a pause in
//! which the balancers hear of it and callers leave; then the listener closes; then the reviews
//! under way are answered. Health goes last.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::caches::Caches;
use super::handler::Reviewer;
use super::metrics::{Metrics, families};
use super::registration::{Callee, Registration};
use crate::api::configuration::Configuration;
use crate::injection::facts::Cluster;
use crate::injection::settings::Settings;
use crate::serving::admin::{self, Admin};
use crate::serving::authority_secret::AuthoritySecret;
use crate::serving::keeper::Keeper;
use crate::serving::liveness::Liveness;
use crate::serving::mounted::Mounted;
use crate::serving::readiness::{Condition, Readiness};
use crate::serving::ready_file::{self, Addresses};
use crate::serving::reload::{Load, Reload};
use crate::serving::rotation::Times;
use crate::serving::server::{self, Stop};
use crate::serving::tls::{self, CertificateSlot};
use crate::telemetry;
use crate::world::{BoxFuture, Clock, SystemFiles};

/// What a webhook is run with.
pub struct Options {
    /// The cluster.
    pub client: Client,
    /// Reads the administrator's configuration, at the start and again and again.
    pub configuration: Load<Configuration>,
    /// The clock that certificates are renewed by.
    pub clock: Arc<dyn Clock>,
    /// Where reviews arrive, over TLS.
    pub listener: TcpListener,
    /// Where health, readiness and metrics are asked for, over plain HTTP.
    pub admin_listener: TcpListener,
    /// Where the certificate comes from.
    pub certificates: Certificates,
    /// Least pause between "not ready" and the closing of the listener.
    pub drain_delay: Duration,
    /// Longest pause, while callers still hold connections: a review that is written to one just
    /// as it closes is lost. The API server gives idle ones up after 90 s.
    pub drain_limit: Duration,
    /// A file that appears when all is ready, with the addresses.
    pub ready_file: Option<PathBuf>,
}

/// Where the certificate comes from.
#[derive(Debug, Clone)]
pub enum Certificates {
    /// Authorities of our own, which all replicas share.
    Own(Own),
    /// Mounted files, such as cert-manager's. Who brings them sets `caBundle`, too.
    Mounted {
        /// The certificate with its chain, in PEM.
        certificate: PathBuf,
        /// Its private key, in PEM.
        key: PathBuf,
    },
}

/// Authorities of our own.
#[derive(Debug, Clone)]
pub struct Own {
    /// Name of the Secret that holds them, in the namespace of the Service.
    pub secret_name: String,
    /// Name of the MutatingWebhookConfiguration whose caBundle is kept right.
    pub webhook_configuration_name: String,
    /// By which names the API server calls.
    pub callee: Callee,
    /// Lives and waits.
    pub times: Times,
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
        certificates,
        drain_delay,
        drain_limit,
        ready_file,
    } = options;
    let addresses = addresses(&listener, &admin_listener)?;
    if let Some(path) = &ready_file {
        ready_file::clear(path).with_context(|| format!("ready file {}", path.display()))?;
    }

    let load: Load<Settings> =
        Box::new(move || configuration().map(|configuration| Settings::from(&configuration)));
    let settings = load().map_err(anyhow::Error::msg)?;
    let mut registry = telemetry::metrics::registry();
    let metrics = Metrics::register(&mut registry);
    let readiness = Readiness::new();
    let note = readiness.note("configuration");
    let reload = Reload::new(settings.clone(), load, note, &mut registry);
    let changes = reload.subscribe();
    let serving = readiness.condition("serving", "not started");
    let certificate = readiness.condition("certificate", "not issued yet");
    let caches = Arc::new(Caches::new(client.clone(), &clock, &readiness));
    caches.register(families(&mut registry));
    let (slot, certified) = certificates.start(client, &clock, certificate, &mut registry);
    let cluster = Arc::clone(&caches) as Arc<dyn Cluster>;
    let reviewer = Reviewer::new(settings, cluster, metrics);
    let tls = tls::server_config(slot).context("TLS cannot be set up")?;

    let (stop, stop_admin) = (Stop::default(), Stop::default());
    let reviews = server::serve_tls(listener, tls, reviewer.clone(), stop.clone());
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

    // None ends before it is told to; all belong to the process.
    let upkeep = async {
        tokio::join!(
            caches.run(),
            certified,
            reload.run(),
            reconfigure(&reviewer, changes),
        );
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
        stop.say_goodbye();
        tokio::time::sleep(drain_delay).await;
        let rest = drain_limit.saturating_sub(drain_delay);
        if tokio::time::timeout(rest, stop.left()).await.is_err() {
            let connections = stop.connections();
            tracing::info!(
                connections,
                "callers still hold connections; they are closed"
            );
        }
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

impl Certificates {
    /// Where the certificate will be, and the work that keeps it and its registration right.
    fn start(
        self,
        client: Client,
        clock: &Arc<dyn Clock>,
        condition: Condition,
        registry: &mut Registry,
    ) -> (Arc<CertificateSlot>, BoxFuture<'static, ()>) {
        match self {
            Self::Own(own) => {
                let Own {
                    secret_name,
                    webhook_configuration_name,
                    callee,
                    times,
                } = own;
                let secret = AuthoritySecret::new(client.clone(), &callee.namespace, &secret_name);
                let names = callee.server_names.clone();
                let keeper = Keeper::new(Arc::new(secret), names, Arc::clone(clock), times);
                let keeper = Arc::new(keeper);
                let registration = Registration::new(
                    client,
                    &webhook_configuration_name,
                    callee,
                    Arc::clone(&keeper),
                    Arc::clone(clock),
                );
                let slot = keeper.slot();
                keeper.expiries().register(families(registry));
                let work = async move {
                    tokio::join!(keeper.run(condition), registration.run());
                };
                (slot, Box::pin(work))
            }
            Self::Mounted { certificate, key } => {
                let files = Arc::new(SystemFiles);
                let mounted = Mounted::new(certificate, key, files, Arc::clone(clock));
                let slot = mounted.slot();
                mounted.expiries().register(families(registry));
                (slot, Box::pin(async move { mounted.run(condition).await }))
            }
        }
    }
}

/// Puts each change of the settings to use.
async fn reconfigure(reviewer: &Reviewer, mut changes: watch::Receiver<Arc<Settings>>) {
    // The sender lives as long as the reload, which never ends.
    while changes.changed().await.is_ok() {
        let settings = Settings::clone(&changes.borrow_and_update());
        reviewer.configure(settings);
    }
}

/// Where the webhook listens.
fn addresses(listener: &TcpListener, admin: &TcpListener) -> anyhow::Result<Addresses> {
    let address = listener
        .local_addr()
        .context("the address of the listener")?;
    Ok(Addresses {
        address: Some(address),
        admin_address: admin.local_addr().context("the address for health")?,
    })
}
