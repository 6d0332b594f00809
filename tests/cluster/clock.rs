//! The machine's clock jumps a year, forward and back, under a controller that works: it runs in this
//! process, with a clock that the test sets, against the real API server.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use kube::api::{Patch, PatchParams, PostParams};
use rrsa::api::configuration::Configuration;
use rrsa::api::v1alpha1::AlibabaRoleBinding;
use rrsa::controller;
use rrsa::world::{Clock, SystemClock, SystemFiles, Tick};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::bindings::{SOON, Scene, data_of, verify};
use crate::installation::Installation;
use crate::support::kubernetes::Cluster;
use crate::support::wait;
use crate::{own_installation, reported};

const YEAR: i64 = 365 * 24 * 60 * 60;
const NAMES: [&str; 3] = ["one", "two", "three"];
/// How long nothing may happen.
const QUIET: std::time::Duration = std::time::Duration::from_secs(5);

/// The machine's clock, which somebody has set.
#[derive(Debug, Default)]
struct SetClock {
    /// Seconds.
    ahead: AtomicI64,
}

impl SetClock {
    fn set(&self, ahead: i64) {
        self.ahead.store(ahead, Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> DateTime<Utc> {
        SystemClock.now() + TimeDelta::seconds(self.ahead.load(Ordering::SeqCst))
    }

    fn tick(&self) -> Tick {
        let wall = self.now().signed_duration_since(DateTime::UNIX_EPOCH);
        Tick {
            wall: wall.to_std().unwrap_or_default(),
            steady: SystemClock.steady(),
        }
    }
}

/// Runs a controller in this process until the token is cancelled.
async fn run_controller(
    cluster: &Cluster,
    installation: &Installation,
    clock: Arc<SetClock>,
    stop: CancellationToken,
) -> Result<tokio::task::JoinHandle<Result<()>>> {
    let [(_, kubeconfig), _] = installation.identities();
    let text = tokio::fs::read_to_string(installation.configuration()).await?;
    let options = controller::Options {
        client: cluster.client_of(kubeconfig).await?,
        configuration: Box::new(move || {
            Configuration::parse(&text).map_err(|error| error.to_string())
        }),
        clock,
        files: Arc::new(SystemFiles),
        metadata: None,
        admin_listener: std::net::TcpListener::bind("127.0.0.1:0")?,
        ready_file: None,
        election: None,
    };
    let shutdown = stop.cancelled_owned();
    Ok(tokio::spawn(controller::run(options, shutdown)))
}

/// Has every binding looked at, as any change of its object does.
async fn look(scene: &Scene<'_>, round: &str) -> Result<()> {
    let label = Patch::Merge(json!({"metadata": {"labels": {"round": round}}}));
    for name in NAMES {
        let parameters = PatchParams::default();
        scene.bindings().patch(name, &parameters, &label).await?;
    }
    Ok(())
}

/// Waits until every binding is ready by the status and good by STS, with credentials that were
/// issued now as STS and everybody else reckon.
async fn all_good(scene: &Scene<'_>) -> Result<()> {
    for name in NAMES {
        wait::until(&format!("good credentials of {name}"), SOON, async || {
            let binding = scene.bindings().get(name).await?;
            let status = binding.status.unwrap_or_default();
            let ready = status.conditions.iter().find(|c| c.type_ == "Ready");
            let ready = ready.context("no condition yet")?;
            ensure!(
                ready.status == "True",
                "{}: {}",
                ready.reason,
                ready.message
            );
            let secret = scene.secrets().get(&format!("{name}-credentials")).await?;
            let session = verify(scene.installation, &data_of(&secret)?)?;
            ensure!(!session.expired, "the credentials have ended");
            let annotations = secret.metadata.annotations.unwrap_or_default();
            let issued = annotations.get("rrsa.io/issued-at").context("no time")?;
            let issued = DateTime::parse_from_rfc3339(issued)?.to_utc();
            let off = (issued - SystemClock.now()).abs();
            ensure!(off < TimeDelta::minutes(5), "issued at {issued}");
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_year_forward_and_back_costs_an_exchange_and_no_credentials() -> Result<()> {
    let (cluster, installation) = own_installation(None).await?;
    installation.kill_controller()?;
    let clock = Arc::new(SetClock::default());
    let stop = CancellationToken::new();
    let scene = Scene::set(&installation, cluster.test_namespace().await?).await?;
    let running = run_controller(&cluster, &installation, clock.clone(), stop.clone()).await?;
    let outcome = forward_and_back(&scene, &clock).await;
    stop.cancel();
    let ended = running.await?;
    reported(outcome.and(ended))
}

async fn forward_and_back(scene: &Scene<'_>, clock: &SetClock) -> Result<()> {
    let calls = || {
        scene
            .installation
            .sts
            .calls()
            .by_role(&scene.role_arn())
            .len()
    };
    for name in NAMES {
        let spec = serde_json::from_value(scene.spec())?;
        let binding = AlibabaRoleBinding::new(name, spec);
        let parameters = PostParams::default();
        scene.bindings().create(&parameters, &binding).await?;
    }
    all_good(scene).await?;
    ensure!(calls() == NAMES.len(), "{} calls", calls());

    // Every jump makes all look wrong once; what STS says of the time ends that. Back to the right
    // time costs nothing.
    for (round, ahead, expected) in [
        ("forward", YEAR, 1..=NAMES.len()),
        ("right-again", 0, 0..=0),
        ("into-the-past", -YEAR, 1..=NAMES.len()),
        ("right-at-last", 0, 0..=0),
    ] {
        let before = calls();
        clock.set(ahead);
        for look_number in 0..3 {
            look(scene, &format!("{round}-{look_number}")).await?;
            tokio::time::sleep(QUIET).await;
        }
        all_good(scene).await.with_context(|| round.to_owned())?;
        let spent = calls() - before;
        ensure!(
            expected.contains(&spent),
            "{round}: {spent} exchanges, but {expected:?} make sense"
        );
    }

    // And nobody is deaf for a year.
    let before = calls();
    let ask = json!({"metadata": {"annotations": {"rrsa.io/refresh-requested-at": "now"}}});
    let parameters = PatchParams::default();
    let ask = Patch::Merge(ask);
    scene.bindings().patch("one", &parameters, &ask).await?;
    wait::until("the refresh that was asked for", SOON * 3, async || {
        Ok((calls() > before).then_some(()))
    })
    .await?;
    all_good(scene).await
}
