//! Wires the work and does it until told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::channel::mpsc;
use futures::{StreamExt, TryStreamExt};
use kube::Api;
use kube::api::ListParams;
use kube::runtime::controller::Config;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, WatchStreamExt, watcher};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::api::TIMEOUT;
use super::claims::Claims;
use super::clock::ServiceClock;
use super::exchange::Exchanger;
use super::exchanges::{Exchanges, dispatch};
use super::failing::FailureLog;
use super::gate::StsGate;
use super::metrics::Metrics;
use super::reconcile::{Context, reconcile};
use super::report::Reporter;
use super::secrets::SecretIndex;
use super::service_accounts::ServiceAccountIndex;
use super::status::fold;
use super::watches::Wake;
use super::{oidc_watch, watches};
use crate::api::configuration::Configuration;
use crate::api::v1alpha1::AlibabaRoleBinding;
use crate::imds;
use crate::serving::liveness::Heart;
use crate::serving::readiness::Condition;
use crate::sts;
use crate::world::{Clock, Files, HttpClient, HttpOptions, SystemRandom};

/// Bindings that are looked at at the same time.
const CONCURRENCY: u16 = 32;
/// Wake-ups that may wait.
const WAKE_QUEUE: usize = 1024;
/// How often what is remembered of deleted bindings is dropped.
const FORGET_EVERY: Duration = Duration::from_mins(10);
/// Longest CA bundle.
const MAX_CA_FILE: usize = 1024 * 1024;

/// How often the loop that hands out the work shows that it goes round.
const BEAT: Duration = Duration::from_secs(5);

/// What the work is done with.
pub(super) struct Work {
    pub(super) client: kube::Client,
    pub(super) configuration: Configuration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) files: Arc<dyn Files>,
    pub(super) secrets: Arc<SecretIndex>,
    pub(super) bindings: Store<AlibabaRoleBinding>,
    /// Fills `bindings`.
    pub(super) writer: Writer<AlibabaRoleBinding>,
    pub(super) metrics: Metrics,
    /// Met when Secrets and `ServiceAccount`s are listed.
    pub(super) ready: Condition,
    /// Beats while the work goes on.
    pub(super) heart: Heart,
    /// Where the ECS metadata service is, if not at its fixed address.
    pub(super) metadata: Option<SocketAddr>,
}

/// Works until `shutdown` completes; exchanges under way are finished.
///
/// # Errors
/// When the cluster lacks the custom resource, or a watch task ended.
pub(super) async fn work(
    work: Work,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let Work {
        client,
        configuration,
        clock,
        files,
        secrets,
        bindings,
        writer,
        metrics,
        ready,
        heart,
        metadata,
    } = work;
    ready.not_ready("Secrets and ServiceAccounts are not listed yet");
    let api = Api::<AlibabaRoleBinding>::all(client.clone());
    probe(&api).await?;
    let http = http_client(configuration.sts.ca_file.as_ref(), files.as_ref())?;
    let gate = StsGate::new(
        sts::Client::new(Arc::new(http), clock.clone()),
        configuration.sts.calls_per_second,
    );
    let context = Arc::new(Context {
        clock: ServiceClock::new(clock.clone()),
        exchanger: Exchanger {
            client: client.clone(),
            files,
            configuration: Arc::new(configuration),
            gate: gate.clone(),
            node: node(metadata, clock.clone())?,
            clock,
            random: Arc::new(SystemRandom),
            oidc: Arc::default(),
        },
        reporter: Reporter::new(client.clone()),
        secrets,
        service_accounts: Arc::new(ServiceAccountIndex::default()),
        bindings: bindings.clone(),
        claims: Arc::default(),
        opted_in: Arc::default(),
        memory: std::sync::Mutex::default(),
        exchanges: Exchanges::default(),
        failure_log: FailureLog::default(),
        metrics: metrics.clone(),
    });

    let mut tasks = JoinSet::new();
    let (wake, woken) = mpsc::channel(WAKE_QUEUE);
    listed(follow(&mut tasks, &client, &context, &wake), &mut tasks).await?;
    info!("Secrets and ServiceAccounts are listed; reconciling");
    ready.ready();
    tasks.spawn(forget(context.clone()));

    let stop = CancellationToken::new();
    let dispatcher = dispatch(context.clone(), wake.clone(), stop.clone());
    tasks.spawn(oidc_watch::watch_oidc(context.clone(), wake.clone()));

    let claims = context.claims.clone();
    let mut wake = wake;
    let stream = watcher(api, watcher::Config::default())
        .default_backoff()
        .inspect_ok(move |event| wake_concerned(&claims, event, &mut wake))
        .modify(strip)
        .reflect(writer)
        .applied_objects();
    let waiting = context.clone();
    let mut looks = pin!(
        Controller::for_stream(stream, bindings)
            .with_config(Config::default().concurrency(CONCURRENCY))
            .reconcile_on(woken)
            .graceful_shutdown_on(shutdown)
            .run(reconcile, |_, never, _| match *never {}, context)
    );
    let mut beats = tokio::time::interval(BEAT);
    let looks = async {
        loop {
            tokio::select! {
                outcome = looks.next() => match outcome {
                    None => break,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => debug!("controller: {error}"),
                },
                _ = beats.tick() => {
                    heart.beat();
                    metrics.sts_rate(gate.pace());
                    metrics.queue_depth(waiting.exchanges.waiting());
                }
            }
        }
        // Looks first, then what they had put into the queue: exchanges that were not begun wait
        // for the next process.
        stop.cancel();
    };
    let work = async { tokio::join!(looks, dispatcher) };
    tokio::select! {
        _ = work => Ok(()),
        Some(ended) = tasks.join_next() => Err(anyhow::anyhow!("a watch ended: {ended:?}")),
    }
}

/// Waits for the first lists: without them every binding would look as if its Secret were missing.
async fn listed(lists: [watch::Receiver<bool>; 3], tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
    for mut list in lists {
        tokio::select! {
            outcome = list.wait_for(|listed| *listed) => {
                outcome.context("a watch ended before its first list")?;
            }
            Some(ended) = tasks.join_next() => {
                return Err(anyhow::anyhow!("a watch ended: {ended:?}"));
            }
        }
    }
    Ok(())
}

async fn forget(context: Arc<Context>) {
    loop {
        tokio::time::sleep(FORGET_EVERY).await;
        context.forget_the_gone();
    }
}

/// Tells whoever installed this what is missing, before anything is watched.
async fn probe(api: &Api<AlibabaRoleBinding>) -> anyhow::Result<()> {
    let one = ListParams::default().limit(1);
    tokio::time::timeout(TIMEOUT, api.list(&one))
        .await
        .context("the API server did not answer when asked for AlibabaRoleBindings")?
        .context("AlibabaRoleBindings cannot be listed; is the custom resource definition installed (rrsa crd | kubectl apply --server-side -f -), and may this ServiceAccount list them?")?;
    Ok(())
}

/// Takes off what nobody needs of ten thousand bindings in memory.
fn strip(binding: &mut AlibabaRoleBinding) {
    binding.metadata.managed_fields = None;
    binding.status = binding.status.take().map(fold);
}

/// Wakes those that ask for what somebody else asks for no more, or now.
fn wake_concerned(claims: &Claims, event: &watcher::Event<AlibabaRoleBinding>, wake: &mut Wake) {
    for (namespace, name) in claims.take_in(event) {
        // Where the queue is full, the next look of that binding finds it out.
        let _ = wake.try_send(ObjectRef::new(&name).within(&namespace));
    }
}

/// Starts the watches beside that of the bindings. Each receiver turns true with the first list.
fn follow(
    tasks: &mut JoinSet<()>,
    client: &kube::Client,
    context: &Context,
    wake: &Wake,
) -> [watch::Receiver<bool>; 3] {
    let (secrets, secrets_are_listed) = watch::channel(false);
    tasks.spawn(watches::secrets(
        client.clone(),
        context.secrets.clone(),
        context.claims.clone(),
        wake.clone(),
        secrets,
    ));
    let (accounts, accounts_are_listed) = watch::channel(false);
    tasks.spawn(watches::service_accounts(
        client.clone(),
        context.service_accounts.clone(),
        context.bindings.clone(),
        wake.clone(),
        accounts,
    ));
    let (namespaces, namespaces_are_listed) = watch::channel(false);
    tasks.spawn(watches::opted_in(
        client.clone(),
        context.opted_in.clone(),
        context.bindings.clone(),
        wake.clone(),
        namespaces,
    ));
    [
        secrets_are_listed,
        accounts_are_listed,
        namespaces_are_listed,
    ]
}

/// The way to the role of the operator's node.
fn node(metadata: Option<SocketAddr>, clock: Arc<dyn Clock>) -> anyhow::Result<imds::Client> {
    let http = Arc::new(HttpClient::new(&HttpOptions::metadata())?);
    Ok(match metadata {
        Some(address) => imds::Client::at(address, http, clock),
        None => imds::Client::new(http, clock),
    })
}

fn http_client(ca_file: Option<&PathBuf>, files: &dyn Files) -> anyhow::Result<HttpClient> {
    let extra_roots = ca_file
        .map(|path| {
            files
                .read(path, MAX_CA_FILE)
                .with_context(|| format!("sts.caFile {} cannot be read", path.display()))
        })
        .transpose()?;
    Ok(HttpClient::new(&HttpOptions {
        extra_roots,
        ..HttpOptions::default()
    })?)
}
