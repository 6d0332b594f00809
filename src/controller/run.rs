//! Wires the work and does it until told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::SinkExt as _;
use futures::channel::mpsc;
use kube::api::ListParams;
use kube::runtime::watcher;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::api::TIMEOUT;
use super::bindings::Bindings;
use super::clock::ServiceClock;
use super::context::Context;
use super::exchange::Exchanger;
use super::exchanges::{Exchanges, dispatch};
use super::gate::StsGate;
use super::looks::Looks;
use super::metrics::Metrics;
use super::oidc_watch;
use super::pod_look::PodLook;
use super::report::Reporter;
use super::scope::Scope;
use super::secrets::SecretIndex;
use super::service_accounts::ServiceAccountIndex;
use super::settings::Live;
use super::watches::{self, PAGE, Wake};
use crate::api::v1alpha1::AlibabaRoleBinding;
use crate::imds;
use crate::serving::liveness::Heart;
use crate::serving::readiness::Condition;
use crate::sts;
use crate::telemetry::flood::FloodGate;
use crate::world::{Clock, Files, HttpClient, HttpOptions, SystemRandom};

/// Wake-ups that may wait.
const WAKE_QUEUE: usize = 1024;
/// Lines of one reason that are logged ...
const LINES: u32 = 10;
/// ... in such a time.
const LINES_PERIOD: Duration = Duration::from_mins(1);
/// How often what is remembered of deleted bindings is dropped.
const FORGET_EVERY: Duration = Duration::from_mins(10);

/// What the work is done with.
pub(super) struct Work {
    pub(super) client: kube::Client,
    pub(super) scope: Scope,
    pub(super) settings: Live,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) files: Arc<dyn Files>,
    pub(super) secrets: Arc<SecretIndex>,
    pub(super) bindings: Bindings,
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
        scope,
        settings,
        clock,
        files,
        secrets,
        bindings,
        metrics,
        ready,
        heart,
        metadata,
    } = work;
    ready.not_ready("Secrets and ServiceAccounts are not listed yet");
    probe(&scope, &client).await?;
    let gate = StsGate::new(
        sts::Client::new(Arc::new(settings.clone()), clock.clone()),
        settings.configuration().sts.calls_per_second,
    );
    let pod_look = PodLook::new(&client, &settings, &clock, &metrics);
    let context = Arc::new(Context {
        clock: ServiceClock::new(clock.clone()),
        exchanger: Exchanger {
            client: client.clone(),
            files,
            configuration: settings.clone(),
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
        lines: FloodGate::new(LINES, LINES_PERIOD),
        metrics: metrics.clone(),
    });

    let mut tasks = JoinSet::new();
    let (wake, woken) = mpsc::channel(WAKE_QUEUE);
    let lists = follow(&mut tasks, &client, &scope, &context, &wake);
    listed(lists, &mut tasks).await?;
    tasks.spawn(pod_look.run());
    info!("Secrets and ServiceAccounts are listed; reconciling");
    ready.ready();
    tasks.spawn(forget(context.clone()));
    let everything = (scope.clone(), gate.clone(), bindings.clone());
    tasks.spawn(reconfigure(settings, everything, wake.clone()));

    let stop = CancellationToken::new();
    let (all_seen, known) = oneshot::channel();
    let dispatcher = dispatch(context.clone(), wake.clone(), known, stop.clone());
    tasks.spawn(oidc_watch::watch_oidc(context.clone(), wake));

    let config = watcher::Config::default().page_size(PAGE);
    let waiting = context.clone();
    let beat = move || {
        heart.beat();
        metrics.sts_rate(gate.pace());
        metrics.queue_depth(waiting.exchanges.waiting());
    };
    let looks = Looks {
        events: watches::events(
            "AlibabaRoleBindings",
            scope.watch::<AlibabaRoleBinding>(&client, &config),
        ),
        context,
        woken,
        all_seen,
    };
    let looks = async {
        looks.go_round(beat, shutdown).await;
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
async fn listed(lists: Vec<watch::Receiver<bool>>, tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
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

/// Puts each change of the settings to use: the next exchange is made with them, and every binding
/// is looked at. Whose inputs are the same costs STS nothing.
async fn reconfigure(
    mut settings: Live,
    (scope, gate, bindings): (Scope, StsGate, Bindings),
    mut wake: Wake,
) {
    loop {
        settings.changed().await;
        let configuration = settings.configuration();
        gate.configure(configuration.sts.calls_per_second);
        if Scope::new(configuration.namespaces.clone()) != scope {
            warn!(
                "namespaces of the configuration changed; that needs a restart of the controller"
            );
        }
        for name in bindings.names(|_| true) {
            // An error means that the controller is gone, and this task ends with it.
            let _ = wake.send(name).await;
        }
    }
}

/// Starts the watches beside that of the bindings. Each receiver turns true with the first list.
fn follow(
    tasks: &mut JoinSet<()>,
    client: &kube::Client,
    scope: &Scope,
    context: &Context,
    wake: &Wake,
) -> Vec<watch::Receiver<bool>> {
    let (secrets, secrets_are_listed) = watch::channel(false);
    tasks.spawn(watches::secrets(
        client.clone(),
        scope.clone(),
        context.secrets.clone(),
        context.claims.clone(),
        wake.clone(),
        secrets,
    ));
    let (accounts, accounts_are_listed) = watch::channel(false);
    tasks.spawn(watches::service_accounts(
        client.clone(),
        scope.clone(),
        context.service_accounts.clone(),
        context.claims.clone(),
        wake.clone(),
        accounts,
    ));
    let mut lists = vec![secrets_are_listed, accounts_are_listed];
    // With Roles alone namespaces cannot be seen: whether they opted in stays unknown.
    if scope.is_everything() {
        let (namespaces, namespaces_are_listed) = watch::channel(false);
        tasks.spawn(watches::opted_in(
            client.clone(),
            context.opted_in.clone(),
            context.bindings.clone(),
            wake.clone(),
            namespaces,
        ));
        lists.push(namespaces_are_listed);
    }
    lists
}

/// The way to the role of the operator's node.
fn node(metadata: Option<SocketAddr>, clock: Arc<dyn Clock>) -> anyhow::Result<imds::Client> {
    let http = Arc::new(HttpClient::new(&HttpOptions::metadata())?);
    Ok(match metadata {
        Some(address) => imds::Client::at(address, http, clock),
        None => imds::Client::new(http, clock),
    })
}

/// Tells whoever installed this what is missing, before anything is watched.
async fn probe(scope: &Scope, client: &kube::Client) -> anyhow::Result<()> {
    let one = ListParams::default().limit(1);
    for api in scope.apis::<AlibabaRoleBinding>(client) {
        let place = api.namespace().map_or_else(String::new, |namespace| {
            format!(" in namespace {namespace}")
        });
        tokio::time::timeout(TIMEOUT, api.list(&one))
            .await
            .with_context(|| {
                format!("the API server did not answer when asked for AlibabaRoleBindings{place}")
            })?
            .with_context(|| {
                format!("AlibabaRoleBindings cannot be listed{place}; is the custom resource definition installed (rrsa crd | kubectl apply --server-side -f -), and may this ServiceAccount list them there?")
            })?;
    }
    Ok(())
}
