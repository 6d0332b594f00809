//! Wires the controller and runs it until it is told to stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt;
use futures::channel::mpsc;
use kube::Api;
use kube::api::ListParams;
use kube::runtime::controller::Config;
use kube::runtime::{Controller, WatchStreamExt, reflector, watcher};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::api::TIMEOUT;
use super::exchange::Exchanger;
use super::exchanges::{Exchanges, dispatch};
use super::failing::FailureLog;
use super::gate::StsGate;
use super::reconcile::{Context, reconcile};
use super::report::Reporter;
use super::secrets::SecretIndex;
use super::service_accounts::ServiceAccountIndex;
use super::watches;
use crate::api::configuration::Configuration;
use crate::api::v1alpha1::AlibabaRoleBinding;
use crate::sts;
use crate::world::{Clock, Files, HttpClient, HttpOptions};

/// Bindings that are looked at at the same time.
const CONCURRENCY: u16 = 32;
/// Wake-ups that may wait.
const WAKE_QUEUE: usize = 1024;
/// How often what is remembered of deleted bindings is dropped.
const FORGET_EVERY: Duration = Duration::from_mins(10);
/// Longest CA bundle.
const MAX_CA_FILE: usize = 1024 * 1024;

/// What the controller runs with.
#[derive(Clone)]
pub struct Options {
    /// Talks to the API server.
    pub client: kube::Client,
    /// The operator's configuration.
    pub configuration: Configuration,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The operator's token files and CA bundle.
    pub files: Arc<dyn Files>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("configuration", &self.configuration)
            .finish_non_exhaustive()
    }
}

/// Runs until `shutdown` completes; exchanges under way are finished.
///
/// # Errors
/// When the cluster lacks the custom resource, or a watch task ended.
pub async fn run(
    options: Options,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let Options {
        client,
        configuration,
        clock,
        files,
    } = options;
    let api = Api::<AlibabaRoleBinding>::all(client.clone());
    let probe = ListParams::default().limit(1);
    tokio::time::timeout(TIMEOUT, api.list(&probe))
        .await
        .context("the API server did not answer when asked for AlibabaRoleBindings")?
        .context("AlibabaRoleBindings cannot be listed; is the custom resource definition installed (rrsa crd | kubectl apply --server-side -f -), and may this ServiceAccount list them?")?;

    let http = http_client(configuration.sts.ca_file.as_ref(), files.as_ref())?;
    let gate = StsGate::new(
        sts::Client::new(Arc::new(http), clock.clone()),
        configuration.sts.calls_per_second,
    );
    let (bindings, writer) = reflector::store();
    let context = Arc::new(Context {
        clock,
        exchanger: Exchanger {
            client: client.clone(),
            files,
            configuration: Arc::new(configuration),
            gate,
        },
        reporter: Reporter::new(client.clone()),
        secrets: Arc::new(SecretIndex::default()),
        service_accounts: Arc::new(ServiceAccountIndex::default()),
        bindings: bindings.clone(),
        memory: std::sync::Mutex::default(),
        exchanges: Exchanges::default(),
        failure_log: FailureLog::default(),
    });

    let mut tasks = JoinSet::new();
    let (wake, woken) = mpsc::channel(WAKE_QUEUE);
    let (secrets_listed, secrets_are_listed) = watch::channel(false);
    tasks.spawn(watches::secrets(
        client.clone(),
        context.secrets.clone(),
        wake.clone(),
        secrets_listed,
    ));
    let (accounts_listed, accounts_are_listed) = watch::channel(false);
    tasks.spawn(watches::service_accounts(
        client,
        context.service_accounts.clone(),
        bindings.clone(),
        wake.clone(),
        accounts_listed,
    ));
    // Without both lists every binding would look as if its Secret were missing.
    for mut listed in [secrets_are_listed, accounts_are_listed] {
        tokio::select! {
            outcome = listed.wait_for(|listed| *listed) => {
                outcome.context("a watch ended before its first list")?;
            }
            Some(ended) = tasks.join_next() => {
                return Err(anyhow::anyhow!("a watch ended: {ended:?}"));
            }
        }
    }
    info!("Secrets and ServiceAccounts are listed; reconciling");
    let forgetful = context.clone();
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(FORGET_EVERY).await;
            forgetful.forget_the_gone();
        }
    });

    let stop = CancellationToken::new();
    let dispatcher = dispatch(context.clone(), wake, stop.clone());

    let stream = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|binding| binding.metadata.managed_fields = None)
        .reflect(writer)
        .applied_objects();
    let controller = Controller::for_stream(stream, bindings)
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(woken)
        .graceful_shutdown_on(shutdown)
        .run(reconcile, |_, never, _| match *never {}, context)
        .for_each(|outcome| async move {
            if let Err(error) = outcome {
                debug!("controller: {error}");
            }
        });
    let work = async {
        // Looks first, then what they had put into the queue: exchanges that were not begun wait
        // for the next process.
        let looks = async {
            controller.await;
            stop.cancel();
        };
        tokio::join!(looks, dispatcher);
    };
    tokio::select! {
        () = work => Ok(()),
        Some(ended) = tasks.join_next() => Err(anyhow::anyhow!("a watch ended: {ended:?}")),
    }
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
