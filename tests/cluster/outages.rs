//! What others do wrong: the API server or STS is away, STS is short of breath, a neighbour asks for
//! too much. Each on a cluster and an installation of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use rrsa::api::v1alpha1::AlibabaRoleBinding;
use serde_json::{Value, json};

use crate::bindings::{SOON, Scene, data_of, verify};
use crate::installation::Installation;
use crate::simulators::calls::Call;
use crate::simulators::faults::{Effect, Fault};
use crate::support::kubernetes::Cluster;
use crate::support::link::{Link, Wire};
use crate::support::wait;
use crate::{own_installation, reported};

/// Longest wait for what comes after an outage.
const AFTERWARDS: Duration = Duration::from_mins(2);

async fn bind(scene: &Scene<'_>, name: &str, spec: Value) -> Result<()> {
    let binding = AlibabaRoleBinding::new(name, serde_json::from_value(spec)?);
    scene
        .bindings()
        .create(&PostParams::default(), &binding)
        .await?;
    Ok(())
}

fn secret_of(binding: &str) -> String {
    format!("{binding}-credentials")
}

/// Waits until the binding's Secret holds good credentials, other than these.
async fn issued(scene: &Scene<'_>, binding: &str, other_than: Option<&str>) -> Result<String> {
    let what = format!("credentials of {binding}");
    wait::until(&what, AFTERWARDS, async || {
        let secret = scene.secrets().get(&secret_of(binding)).await?;
        let data = data_of(&secret)?;
        let session = verify(scene.installation, &data)?;
        let id = data["ALIBABA_CLOUD_ACCESS_KEY_ID"].clone();
        ensure!(
            !session.expired,
            "{binding} holds credentials that have ended"
        );
        Ok((Some(id.as_str()) != other_than).then_some(id))
    })
    .await
}

/// How long the API server is away: first refusing, then silent.
const REFUSING: Duration = Duration::from_secs(35);
const SILENT: Duration = Duration::from_secs(25);
/// Sessions whose refresh falls into the outage, and whose end does not: due after 45 to 58 s.
const NINETY: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_minute_without_the_api_server_loses_nothing() -> Result<()> {
    let (cluster, installation) = own_installation(Some(NINETY)).await?;
    let scene = Scene::set(&installation, cluster.test_namespace().await?).await?;
    reported(a_minute_without(&cluster, &scene).await)
}

async fn a_minute_without(cluster: &Cluster, scene: &Scene<'_>) -> Result<()> {
    let installation = scene.installation;
    let link = Link::to(installation.api_server_of_controller()?)?;
    installation.kill_controller()?;
    installation.lead_controller_through(link.address())?;
    installation.start_controller(cluster)?;
    for name in ["due", "robbed", "gone"] {
        bind(scene, name, scene.spec()).await?;
    }
    let due = issued(scene, "due", None).await?;
    let robbed = issued(scene, "robbed", None).await?;
    issued(scene, "gone", None).await?;
    let calls = installation.sts.calls().all().len();

    link.set(Wire::Cut);
    // Meanwhile the world goes on.
    bind(scene, "new", scene.spec()).await?;
    let robbed_of = secret_of("robbed");
    let how = DeleteParams::default();
    scene.secrets().delete(&robbed_of, &how).await?;
    scene.bindings().delete("gone", &how).await?;
    tokio::time::sleep(REFUSING).await;
    installation.ensure_running()?;
    link.set(Wire::Silent);
    tokio::time::sleep(SILENT).await;
    installation.ensure_running()?;
    let spent = installation.sts.calls().all().len() - calls;
    ensure!(
        spent == 0,
        "{spent} exchanges for which no Secret could be written"
    );
    link.set(Wire::Whole);

    issued(scene, "new", None).await?;
    issued(scene, "due", Some(&due)).await?;
    issued(scene, "robbed", Some(&robbed)).await?;
    ensure!(scene.bindings().get_opt("gone").await?.is_none());
    installation.ensure_running()?;
    installation.assert_no_secret_in_logs(cluster)
}

/// Sessions for the outage of STS: due after 20 to 26 s.
const FORTY: Duration = Duration::from_secs(40);
/// From the first issue until STS is back: the first sessions have some seconds left.
const AWAY: Duration = Duration::from_secs(31);
/// Bindings that are made one after the other.
const STAGGERED: usize = 5;
const BETWEEN: Duration = Duration::from_secs(2);

#[tokio::test]
async fn when_sts_is_back_before_the_end_nothing_has_expired() -> Result<()> {
    let (cluster, installation) = own_installation(Some(FORTY)).await?;
    let scene = Scene::set(&installation, cluster.test_namespace().await?).await?;
    reported(back_before_the_end(&cluster, &scene).await)
}

async fn versions(secrets: &Api<Secret>) -> Result<BTreeMap<String, String>> {
    let list = secrets.list(&ListParams::default()).await?;
    let versions = list.items.into_iter().map(|secret| {
        let meta = secret.metadata;
        (
            meta.name.unwrap_or_default(),
            meta.resource_version.unwrap_or_default(),
        )
    });
    Ok(versions.collect())
}

async fn back_before_the_end(cluster: &Cluster, scene: &Scene<'_>) -> Result<()> {
    let installation = scene.installation;
    let names: Vec<_> = (0..STAGGERED)
        .map(|number| format!("app-{number}"))
        .collect();
    let mut first = BTreeMap::new();
    let mut outage = None;
    for name in &names {
        bind(scene, name, scene.spec()).await?;
        first.insert(name, issued(scene, name, None).await?);
        // Its time runs from here.
        outage.get_or_insert_with(|| tokio::time::sleep(AWAY));
        tokio::time::sleep(BETWEEN).await;
    }
    let away = Effect::Status { status: 503 };
    installation.sts.faults().until_cleared(Fault::always(away));
    let before = versions(&scene.secrets()).await?;
    outage.context("no binding")?.await;
    ensure!(
        versions(&scene.secrets()).await? == before,
        "a Secret was changed while STS was away"
    );
    installation.sts.faults().clear();
    // Every reading is of credentials that have not ended.
    let mut waiting = names.clone();
    while let Some(name) = waiting.pop() {
        for other in &waiting {
            let secret = scene.secrets().get(&secret_of(other)).await?;
            let session = verify(installation, &data_of(&secret)?)?;
            ensure!(
                !session.expired,
                "{other} ended, though STS was back in time"
            );
        }
        issued(scene, &name, Some(&first[&name])).await?;
    }
    installation.assert_no_secret_in_logs(cluster)
}

/// How long sessions of the waiting bindings last: due after 35 to 46 s.
const SEVENTY: Duration = Duration::from_secs(70);
/// Bindings that wait for STS, each of whose sessions ends a second after the one before, because
/// the controller makes one call a second.
const WAITING: usize = 16;
/// From the first issue until STS is back: all are due, and no session has ended.
const BACK: Duration = Duration::from_secs(64);
/// How long one that was tried in vain may stay away: its pause after a failure is a quarter of what
/// is left of its session, and a busy machine gets more.
const PAUSED: chrono::TimeDelta = chrono::TimeDelta::seconds(11);

#[tokio::test]
async fn after_an_outage_whoever_ends_soonest_is_served_first() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.require_own("a second installation")?;
    let mut choices = crate::choices(Some(SEVENTY));
    // So that there is a queue.
    choices.calls_per_second = Some(1);
    let installation = Installation::start(&cluster, choices).await?;
    let scene = Scene::set(&installation, cluster.test_namespace().await?).await?;
    reported(soonest_first(&cluster, &scene).await)
}

/// A call after the first issues: when, for which binding, whether it succeeded.
type Attempt = (chrono::DateTime<chrono::Utc>, usize, bool);

async fn soonest_first(cluster: &Cluster, scene: &Scene<'_>) -> Result<()> {
    let sts = &scene.installation.sts;
    let mut ends = Vec::new();
    let mut back = None;
    for number in 0..WAITING {
        let name = format!("w{number:02}");
        bind(scene, &name, scene.spec()).await?;
        back.get_or_insert_with(|| Box::pin(tokio::time::sleep(BACK)));
    }
    for number in 0..WAITING {
        let name = format!("w{number:02}");
        issued(scene, &name, None).await?;
        let data = data_of(&scene.secrets().get(&secret_of(&name)).await?)?;
        ends.push(verify(scene.installation, &data)?.expiration);
    }
    let first_issues = sts.calls().last().context("no call")?.number;
    let away = Effect::Status { status: 503 };
    sts.faults().until_cleared(Fault::always(away));
    back.context("no binding")?.await;
    sts.faults().clear();
    let of = |call: &Call| {
        let session = call.parameters.get("RoleSessionName")?;
        let (_, number) = session.rsplit_once(".w")?;
        Some((call.time, number.parse().ok()?, call.succeeded()))
    };
    let attempts = || -> Vec<Attempt> {
        let calls = sts.calls().after(first_issues);
        calls.iter().filter_map(of).collect()
    };
    let served = wait::until("all to be served", AFTERWARDS, async || {
        let attempts = attempts();
        let served: BTreeSet<_> = attempts
            .iter()
            .filter(|(.., good)| *good)
            .map(|(_, number, _)| *number)
            .collect();
        ensure!(
            served.len() == WAITING,
            "{} of {WAITING} are served",
            served.len()
        );
        Ok(Some(attempts))
    })
    .await?;
    let vain = served.iter().filter(|(.., good)| !good).count();
    ensure!(
        vain >= WAITING / 2,
        "only {vain} were tried in vain: there was no outage"
    );
    // Of each the first success; later ones are the next refresh.
    let mut order = Vec::new();
    for &(when, number, good) in &served {
        if good && !order.iter().any(|(_, other)| *other == number) {
            order.push((when, number));
        }
    }
    for (place, &(when, number)) in order.iter().enumerate() {
        for &(_, later) in &order[place + 1..] {
            if ends[later] >= ends[number] {
                continue;
            }
            // It ended sooner and was passed over: only because it had been tried just before.
            let tried = served.iter().any(|&(tried, of, good)| {
                of == later && !good && tried <= when && when - tried < PAUSED
            });
            ensure!(
                tried,
                "w{number:02} was served at {when}, before w{later:02}, which ends sooner and waited: {order:?} {ends:?}"
            );
        }
    }
    scene.installation.assert_no_secret_in_logs(cluster)
}

/// Calls a second of the controller: few, so that a busy machine, on which seconds pass until the
/// controller hears of a binding, is not taken for an unfair controller.
const SLOW: u32 = 2;
/// Bindings of the greedy tenant, all at once.
const GREEDY: usize = 50;
/// Exchanges of the greedy tenant that may come between a modest tenant's wish and its fulfilment.
/// Fair shares are one to one; the others are those of the time until the wish is known.
const IN_BETWEEN: usize = 20;

#[tokio::test]
async fn a_greedy_neighbour_delays_nobody_by_more_than_its_share() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.require_own("a second installation")?;
    let mut choices = crate::choices(None);
    choices.calls_per_second = Some(SLOW);
    let installation = Installation::start(&cluster, choices).await?;
    let greedy = Scene::set(&installation, cluster.test_namespace().await?).await?;
    let modest = Scene::set(&installation, cluster.test_namespace().await?).await?;
    reported(greedy_and_modest(&cluster, &greedy, &modest).await)
}

async fn greedy_and_modest(
    cluster: &Cluster,
    greedy: &Scene<'_>,
    modest: &Scene<'_>,
) -> Result<()> {
    bind_all(greedy, GREEDY).await?;
    wait::until("the greedy tenant's first credentials", SOON, async || {
        Ok((served(greedy) > 0).then_some(()))
    })
    .await?;
    let before = served(greedy);
    bind(modest, "app", modest.spec()).await?;
    modest.ready().await?;
    let between = served(greedy) - before;
    ensure!(
        between <= IN_BETWEEN && before + between < GREEDY,
        "{between} exchanges of the greedy tenant came first ({before} before them)"
    );
    wait::until(
        "all of the greedy tenant's credentials",
        AFTERWARDS,
        async || Ok((served(greedy) == GREEDY).then_some(())),
    )
    .await?;
    greedy.installation.assert_no_secret_in_logs(cluster)
}

/// STS calls a second of the account: a fifth of what the controller makes unless told.
const LIMIT: u32 = 10;
/// Bindings that come at once to such an STS.
const CROWD: usize = 120;

#[tokio::test]
async fn an_sts_that_throttles_serves_everybody_without_a_storm() -> Result<()> {
    let (cluster, installation) = own_installation(None).await?;
    let scene = Scene::set(&installation, cluster.test_namespace().await?).await?;
    installation.sts.update(|config| {
        config.requests_per_second = std::num::NonZeroU32::new(LIMIT);
    });
    let outcome = async {
        bind_all(&scene, CROWD).await?;
        wait::until("all credentials", AFTERWARDS, async || {
            Ok((served(&scene) == CROWD).then_some(()))
        })
        .await?;
        let refused = asked(&scene) - CROWD;
        ensure!(refused > 0, "STS did not throttle");
        ensure!(refused <= CROWD, "{refused} calls were refused");
        installation.assert_no_secret_in_logs(&cluster)
    };
    reported(outcome.await)
}

/// Creates that many bindings of `scene` together, so that most of them wait at the same time,
/// however slow the machine is.
async fn bind_all(scene: &Scene<'_>, count: usize) -> Result<()> {
    let all = (0..count).map(async |number| {
        let name = format!("app-{number}");
        bind(scene, &name, scene.spec()).await
    });
    futures::future::try_join_all(all).await?;
    Ok(())
}

/// Calls for the role of `scene`.
fn asked(scene: &Scene<'_>) -> usize {
    let calls = scene.installation.sts.calls();
    calls.by_role(&scene.role_arn()).len()
}

/// Those of them that got credentials.
fn served(scene: &Scene<'_>) -> usize {
    let calls = scene.installation.sts.calls().by_role(&scene.role_arn());
    calls.iter().filter(|call| call.succeeded()).count()
}

/// How often the restless tenant does what it can do, and the pause between.
const ROUNDS: usize = 80;
const PAUSE: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_restless_tenant_gets_one_forced_exchange_a_minute() -> Result<()> {
    let (cluster, installation) = own_installation(None).await?;
    let scene = Scene::set(&installation, cluster.test_namespace().await?).await?;
    reported(restless(&cluster, &scene).await)
}

async fn restless(cluster: &Cluster, scene: &Scene<'_>) -> Result<()> {
    let installation = scene.installation;
    for name in ["edits", "deletes", "asks", "dates", "specs"] {
        bind(scene, name, scene.spec()).await?;
        issued(scene, name, None).await?;
    }
    let calls = installation.sts.calls().all().len();
    let plain = PatchParams::default();
    for round in 0..ROUNDS {
        let edit = Patch::Merge(json!({"data": {"ALIBABA_CLOUD_ACCESS_KEY_ID": "eA=="}}));
        let past = "2000-01-01T00:00:00Z";
        let dates = Patch::Merge(json!({"metadata": {"annotations": {
            "rrsa.io/issued-at": past, "rrsa.io/expiration": past,
        }}}));
        let ask = Patch::Merge(json!({"metadata": {"annotations": {
            "rrsa.io/refresh-requested-at": format!("round {round}"),
        }}}));
        let spec = Patch::Merge(json!({"spec": {"session": {"name": format!("round-{round}")}}}));
        let (secrets, bindings) = (scene.secrets(), scene.bindings());
        // Some come while there is nothing to change: that is no matter here.
        let _ = secrets.patch(&secret_of("edits"), &plain, &edit).await;
        let _ = secrets
            .delete(&secret_of("deletes"), &DeleteParams::default())
            .await;
        let _ = secrets.patch(&secret_of("dates"), &plain, &dates).await;
        bindings.patch("asks", &plain, &ask).await?;
        bindings.patch("specs", &plain, &spec).await?;
        tokio::time::sleep(PAUSE).await;
    }
    // Each of the five: one at once, and one more where the minute turned meanwhile.
    let forced = installation.sts.calls().all().len() - calls;
    ensure!(forced <= 10, "{ROUNDS} rounds forced {forced} exchanges");
    ensure!(forced >= 5, "only {forced} of five wishes were answered");
    installation.ensure_running()?;
    installation.assert_no_secret_in_logs(cluster)
}
