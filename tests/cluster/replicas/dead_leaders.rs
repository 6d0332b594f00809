//! Leaders that are killed again and again: no reader ever finds credentials that have ended, and
//! nothing is exchanged or written twice.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ListParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use rrsa::api::v1alpha1::{AlibabaRoleBinding, AlibabaRoleBindingSpec};
use tokio::sync::watch;

use super::{Replicas, is_ready};
use crate::bindings::{SOON, Scene, data_of, verify};
use crate::installation::Installation;
use crate::support::kubernetes::Cluster;
use crate::support::wait;
use crate::{own_installation, reported};

const CONTROLLER: &str = "system:serviceaccount:rrsa-system:rrsa-controller";
/// A Lease that is over soon, so that the kills do not take ten minutes, and that a busy machine keeps.
const SHORT: [&str; 3] = [
    "--lease-duration=8",
    "--renew-deadline=6",
    "--retry-period=1",
];
/// How long sessions last while leaders are killed: due after 50 to 65 s.
const LIFETIME: Duration = Duration::from_secs(100);
/// What all sessions still last when a leader is killed, so that the next one has the time to work: a
/// busy machine is not asked for more than one change of leader within it.
const SPARE: Duration = Duration::from_secs(30);
const BINDINGS: usize = 30;
/// Between two bindings that are made, so that from then on one or other of them is due at any time.
const APART: Duration = Duration::from_millis(700);
const KILLS: usize = 12;

/// What was written: name and version of the Secret by access key.
type Written = BTreeMap<String, (String, String)>;

/// Follows every version of the Secrets: each must be whole and valid, and no credentials may be
/// written twice.
async fn follow(
    secrets: Api<Secret>,
    installation: &Installation,
    written: watch::Sender<Written>,
    mut stop: watch::Receiver<bool>,
) -> Result<()> {
    let mut versions = std::pin::pin!(
        watcher(secrets, watcher::Config::default())
            .default_backoff()
            .touched_objects()
    );
    loop {
        let next = tokio::select! {
            next = versions.next() => next.context("the watch of Secrets ended")?,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        // A watch that broke is taken up where it was.
        let Ok(secret) = next else { continue };
        let meta = &secret.metadata;
        let name = meta.name.clone().unwrap_or_default();
        let version = meta.resource_version.clone().unwrap_or_default();
        let data = data_of(&secret)?;
        let session = verify(installation, &data).with_context(|| name.clone())?;
        ensure!(
            !session.expired,
            "Secret {name} was shown with expired credentials"
        );
        let key = data["ALIBABA_CLOUD_ACCESS_KEY_ID"].clone();
        let mut first = None;
        written.send_modify(|written| first = written.insert(key, (name.clone(), version.clone())));
        if let Some(first) = first {
            ensure!(
                first == (name.clone(), version.clone()),
                "the same credentials were written to {first:?} and again to {name} {version}"
            );
        }
    }
}

/// Waits until whoever follows the Secrets has seen what they hold now.
async fn caught_up(secrets: &Api<Secret>, written: &watch::Sender<Written>) -> Result<()> {
    wait::until("the last versions of the Secrets", SOON, async || {
        for secret in secrets.list(&ListParams::default()).await? {
            let key = &data_of(&secret)?["ALIBABA_CLOUD_ACCESS_KEY_ID"];
            let name = secret.metadata.name.as_deref().unwrap_or_default();
            let is_seen = written.borrow().contains_key(key);
            ensure!(is_seen, "the present version of {name} was not seen yet");
        }
        Ok(Some(()))
    })
    .await
}

/// Waits until all Secrets hold what lasts for [`SPARE`].
async fn none_is_overdue(secrets: &Api<Secret>) -> Result<()> {
    wait::until("the refreshes that are due", LIFETIME, async || {
        for secret in secrets.list(&ListParams::default()).await? {
            let expiration = &data_of(&secret)?["ALIBABA_CLOUD_CREDENTIALS_EXPIRATION"];
            let left = expiration.parse::<DateTime<Utc>>()? - Utc::now();
            let name = secret.metadata.name.as_deref().unwrap_or_default();
            ensure!(left.to_std()? > SPARE, "{name} has {left} left");
        }
        Ok(Some(()))
    })
    .await
}

/// Reads all Secrets again and again: what they hold must be valid at every moment.
async fn read(
    secrets: Api<Secret>,
    installation: &Installation,
    stop: watch::Receiver<bool>,
) -> Result<usize> {
    let mut readings = 0;
    while !*stop.borrow() {
        for secret in secrets.list(&ListParams::default()).await? {
            let session = verify(installation, &data_of(&secret)?)?;
            ensure!(
                !session.expired,
                "a reader found expired credentials in {:?}",
                secret.metadata.name
            );
            readings += 1;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(readings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_leaders_lose_nothing_and_do_nothing_twice() -> Result<()> {
    let (cluster, installation) = own_installation(Some(LIFETIME)).await?;
    installation.kill_controller()?;
    let scene = Scene::set(&installation, cluster.test_namespace().await?).await?;
    reported(dead_leaders(&cluster, &scene).await)
}

#[expect(
    clippy::print_stdout,
    reason = "the figures, for whoever asks for them"
)]
async fn dead_leaders(cluster: &Cluster, scene: &Scene<'_>) -> Result<()> {
    let installation = scene.installation;
    let mut replicas = Replicas::new(cluster, installation, &SHORT);
    replicas.start(None)?;
    replicas.start(None)?;
    let (stop, stopped) = watch::channel(false);
    let (written, seen) = watch::channel(Written::new());
    let kill = async {
        let bindings = scene.bindings();
        let spec = serde_json::from_value::<AlibabaRoleBindingSpec>(scene.spec())?;
        for number in 0..BINDINGS {
            let binding = AlibabaRoleBinding::new(&format!("app-{number}"), spec.clone());
            bindings.create(&PostParams::default(), &binding).await?;
            tokio::time::sleep(APART).await;
        }
        all_ready(scene).await?;
        for number in 0..KILLS {
            replicas.leader().await?;
            none_is_overdue(&scene.secrets()).await?;
            let leader = replicas.leader().await?;
            // Every other time just after an answer of STS, when the Secret is being written.
            let random = RandomState::new().hash_one(number);
            if number % 2 == 0 {
                let calls = installation.sts.calls().all().len();
                wait::until("an exchange", LIFETIME, async || {
                    Ok((installation.sts.calls().all().len() > calls).then_some(()))
                })
                .await?;
                tokio::time::sleep(Duration::from_millis(random % 20)).await;
            } else {
                tokio::time::sleep(Duration::from_millis(random % 3000)).await;
            }
            // It may have lost the Lease meanwhile; then that is the one death more.
            if replicas.running[leader].process.is_running() {
                replicas.kill(leader)?;
                replicas.start(None)?;
            }
        }
        replicas.leader().await?;
        // Everything that the last death delayed.
        tokio::time::sleep(LIFETIME / 5).await;
        all_ready(scene).await?;
        // The last leader is stopped gracefully, so that nothing is under way while we count.
        for replica in &replicas.running {
            replica.process.terminate_and_wait(SOON).await?;
        }
        caught_up(&scene.secrets(), &written).await?;
        stop.send_replace(true);
        anyhow::Ok(())
    };
    let ((), (), readings) = tokio::try_join!(
        kill,
        follow(
            scene.secrets(),
            installation,
            written.clone(),
            stopped.clone()
        ),
        read(scene.secrets(), installation, stopped),
    )?;
    ensure!(readings > 0, "the reader read nothing");
    let refreshes = seen.borrow().len();
    let calls = installation.sts.calls().all();
    let failed: Vec<_> = calls.iter().filter(|call| !call.succeeded()).collect();
    ensure!(failed.is_empty(), "STS refused: {failed:?}");
    let writes = cluster
        .audit()?
        .calls_of(CONTROLLER)?
        .iter()
        .filter(|call| {
            call.object_ref.resource == "secrets"
                && matches!(call.verb.as_str(), "create" | "update" | "patch")
                && call.response_status.code < 300
        })
        .count();
    let cut_off = replicas.cut_off()?;
    println!(
        "{KILLS} kills: {} STS calls, {writes} Secret writes, {refreshes} refreshes seen, {cut_off} exchanges cut off, {readings} readings",
        calls.len(),
    );
    ensure!(
        writes >= BINDINGS * 2,
        "only {writes} refreshes: the test proved nothing"
    );
    // A write whose writer died before the answer may be missing in the audit log, and none may be
    // there twice: each is the first and only one of its credentials.
    ensure!(
        writes <= refreshes,
        "{writes} Secret writes for {refreshes} refreshes"
    );
    ensure!(
        calls.len() >= refreshes && calls.len() <= refreshes + cut_off,
        "{} STS calls for {refreshes} refreshes and {cut_off} exchanges that were cut off",
        calls.len()
    );
    installation.assert_no_secret_in_logs(cluster)
}

async fn all_ready(scene: &Scene<'_>) -> Result<()> {
    wait::until("all bindings to be ready", SOON, async || {
        let list = scene.bindings().list(&ListParams::default()).await?;
        let ready = list.iter().filter(|binding| is_ready(binding)).count();
        ensure!(ready == BINDINGS, "{ready} of {BINDINGS} are ready");
        Ok(Some(()))
    })
    .await
}
