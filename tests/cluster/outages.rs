//! What others do wrong: the API server or STS is away, STS is short of breath, a neighbour asks for
//! too much. Each on a cluster and an installation of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use rrsa::api::v1alpha1::AlibabaRoleBinding;
use serde_json::{Value, json};

use crate::bindings::{Scene, data_of, verify};
use crate::installation::Installation;
use crate::installation::waits::Wait;
use crate::simulators::calls::Call;
use crate::simulators::clock;
use crate::simulators::faults::{Effect, Fault};
use crate::support::kubernetes::Cluster;
use crate::support::link::{Link, Wire};
use crate::support::wait;
use crate::{own_installation, reported};

/// Longest wait for what comes after an outage.
const AFTERWARDS: Duration = Duration::from_mins(2);
/// Longest wait until all of many bindings are served.
const ALL_SERVED: Duration = Duration::from_mins(5);

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

/// Sessions for the outages of STS: due after 60 to 78 s.
const TWO_MINUTES: Duration = Duration::from_mins(2);

/// What stands in the Secret of a binding.
struct Standing {
    /// Of the Secret.
    version: String,
    access_key_id: String,
    /// As the Secret has it.
    expiration: DateTime<Utc>,
}

/// Reads what stands in the Secrets of these bindings, when what STS issued last is written.
async fn standing(scene: &Scene<'_>, names: &[String]) -> Result<BTreeMap<String, Standing>> {
    wait::until("what was issued to be written", AFTERWARDS, async || {
        let list = scene.secrets().list(&ListParams::default()).await?;
        let mut standing = BTreeMap::new();
        for name in names {
            let secret = list
                .items
                .iter()
                .find(|secret| secret.metadata.name.as_deref() == Some(&secret_of(name)))
                .with_context(|| format!("{name} has no Secret"))?;
            let data = data_of(secret)?;
            verify(scene.installation, &data)?;
            let expiration: DateTime<Utc> = data["ALIBABA_CLOUD_CREDENTIALS_EXPIRATION"].parse()?;
            let issued = attempts(scene, 0)
                .into_iter()
                .rfind(|attempt| attempt.binding == *name && attempt.good)
                .with_context(|| format!("{name} was issued nothing"))?
                .time;
            // The next session is issued half a life later at the earliest.
            ensure!(
                issued < expiration - TWO_MINUTES.mul_f64(0.75),
                "{name} holds what ends at {expiration}, though it was served at {issued}"
            );
            let found = Standing {
                version: secret.metadata.resource_version.clone().unwrap_or_default(),
                access_key_id: data["ALIBABA_CLOUD_ACCESS_KEY_ID"].clone(),
                expiration,
            };
            standing.insert(name.clone(), found);
        }
        Ok(Some(standing))
    })
    .await
}

/// A call of STS for a binding whose session has the default name.
struct Attempt {
    time: DateTime<Utc>,
    binding: String,
    good: bool,
}

/// The calls after the one with this number.
fn attempts(scene: &Scene<'_>, after: u64) -> Vec<Attempt> {
    let of = |call: &Call| {
        let session = call.parameters.get("RoleSessionName")?;
        let (_, binding) = session.rsplit_once('.')?;
        Some(Attempt {
            time: call.time,
            binding: binding.to_owned(),
            good: call.succeeded(),
        })
    };
    let calls = scene.installation.sts.calls().after(after);
    calls.iter().filter_map(of).collect()
}

/// STS fails from now on. Returns the number of its last call before.
fn sts_goes_away(scene: &Scene<'_>) -> Result<u64> {
    let away = Effect::Status { status: 503 };
    let sts = &scene.installation.sts;
    sts.faults().until_cleared(Fault::always(away));
    Ok(sts.calls().last().context("no call")?.number)
}

/// Waits until so much is left of the session that ends first.
async fn left(standing: &BTreeMap<String, Standing>, left: Duration) -> Result<()> {
    let ends = standing.values().map(|standing| standing.expiration);
    let moment = ends.min().context("nothing stands")? - left;
    // It may be over already.
    let wait = (moment - clock::now()).to_std().unwrap_or_default();
    tokio::time::sleep(wait).await;
    Ok(())
}

/// What is left of the session that ends first when STS is back: it was due 7 s before, or more, and
/// is tried again within a quarter of what is left.
const IN_TIME: Duration = Duration::from_secs(35);
/// How late a controller may be that was due by then.
const LAG: Duration = Duration::from_secs(10);
/// Bindings that are made one after the other.
const STAGGERED: usize = 5;
const BETWEEN: Duration = Duration::from_secs(2);

#[tokio::test]
async fn when_sts_is_back_before_the_end_nothing_has_expired() -> Result<()> {
    let (cluster, installation) = own_installation(Some(TWO_MINUTES)).await?;
    let scene = Scene::set(&installation, cluster.test_namespace().await?).await?;
    reported(back_before_the_end(&cluster, &scene).await)
}

async fn back_before_the_end(cluster: &Cluster, scene: &Scene<'_>) -> Result<()> {
    let installation = scene.installation;
    let names: Vec<_> = (0..STAGGERED).map(name_of).collect();
    for name in &names {
        bind(scene, name, scene.spec()).await?;
        tokio::time::sleep(BETWEEN).await;
    }
    for name in &names {
        issued(scene, name, None).await?;
    }
    let last = sts_goes_away(scene)?;
    let before = standing(scene, &names).await?;
    left(&before, IN_TIME).await?;
    wait::until("a refresh in vain", LAG, async || {
        Ok((!attempts(scene, last).is_empty()).then_some(()))
    })
    .await?;
    let after = standing(scene, &names).await?;
    for name in &names {
        ensure!(
            after[name].version == before[name].version,
            "the Secret of {name} was changed while STS was away"
        );
    }
    let back = installation.sts.calls().last().context("no call")?.number;
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
        issued(scene, &name, Some(&before[&name].access_key_id)).await?;
        let calls = attempts(scene, back);
        let good = calls.iter().find(|call| call.binding == name && call.good);
        let renewed = good.with_context(|| format!("no call for {name}"))?.time;
        let end = before[&name].expiration;
        ensure!(
            renewed < end,
            "{name} was renewed at {renewed}, its session ended at {end}"
        );
    }
    installation.assert_no_secret_in_logs(cluster)
}

/// Bindings that wait for STS, each of whose sessions ends a second after the one before, because
/// the controller makes one call a second.
const WAITING: usize = 16;
/// What is left of the session that ends first when STS is back: all are due.
const ALL_DUE: Duration = Duration::from_secs(15);
/// How long before a turn one must have come that should have had it: the log tells when a binding
/// is found to need an exchange, and a moment later it waits.
const A_MOMENT: TimeDelta = TimeDelta::seconds(1);
/// In how many of the 120 pairs the log may err, whose writers a busy machine stops anywhere. In an
/// order that does not look at the end, half of them are the wrong way round.
const ERRING: usize = 8;

#[tokio::test]
async fn after_an_outage_whoever_ends_soonest_is_served_first() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.require_own("a second installation")?;
    let mut choices = crate::choices(Some(TWO_MINUTES));
    // So that there is a queue.
    choices.calls_per_second = Some(1);
    let installation = Installation::start(&cluster, choices).await?;
    let scene = Scene::set(&installation, cluster.test_namespace().await?).await?;
    reported(soonest_first(&cluster, &scene).await)
}

async fn soonest_first(cluster: &Cluster, scene: &Scene<'_>) -> Result<()> {
    let names: Vec<_> = (0..WAITING).map(name_of).collect();
    bind_all(scene, WAITING).await?;
    all_served(scene, WAITING).await?;
    let last = sts_goes_away(scene)?;
    let ends = standing(scene, &names).await?;
    left(&ends, ALL_DUE).await?;
    let back = scene.installation.sts.calls().last();
    let back = back.context("no call")?.number;
    scene.installation.sts.faults().clear();
    // Of each the first success; later ones are the next refresh.
    let first_of_each = || {
        let mut first = BTreeMap::new();
        let good = attempts(scene, back).into_iter().filter(|call| call.good);
        for call in good {
            first.entry(call.binding).or_insert(call.time);
        }
        first
    };
    let served = wait::until("all to be served", ALL_SERVED, async || {
        let served = first_of_each();
        ensure!(
            served.len() == WAITING,
            "{} of {WAITING} are served",
            served.len()
        );
        Ok(Some(served))
    })
    .await?;
    let vain = attempts(scene, last)
        .iter()
        .filter(|call| !call.good)
        .count();
    ensure!(
        vain >= WAITING / 2,
        "only {vain} were tried in vain: there was no outage"
    );
    let waits = scene.installation.waits(0)?;
    let mut passed_over = Vec::new();
    for (name, called) in &served {
        let turn = waits
            .iter()
            .filter(|wait| wait.binding == *name)
            .filter_map(|wait| wait.turn)
            .rfind(|turn| turn <= called)
            .with_context(|| format!("the log tells of no turn of {name}"))?;
        for other in &names {
            let sooner = ends[other].expiration < ends[name].expiration;
            let waited = waits.iter().any(|wait| {
                wait.binding == *other
                    && wait.since < turn - A_MOMENT
                    && wait.turn.is_none_or(|its| its > turn)
            });
            if sooner && waited {
                passed_over.push(format!("{other} at {turn} for {name}"));
            }
        }
    }
    ensure!(
        passed_over.len() <= ERRING,
        "they waited and end sooner, but were passed over: {passed_over:#?}; {waits:#?}"
    );
    scene.installation.assert_no_secret_in_logs(cluster)
}

/// Calls a second of the controller: few, so that a busy machine, on which many seconds pass until
/// the controller hears of a binding, is not taken for an unfair controller.
const SLOW: u32 = 1;
/// Bindings of the greedy tenant, all at once.
const GREEDY: usize = 80;
/// Turns of the greedy tenant that may come between the moment at which the controller knows of a
/// modest tenant's wish and that tenant's turn. Fair shares are one to one; the others are those of
/// a machine that stops the controller in between.
const IN_BETWEEN: usize = 10;

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
    wait::until(
        "the greedy tenant's first credentials",
        AFTERWARDS,
        async || Ok((served(greedy) > 0).then_some(())),
    )
    .await?;
    bind(modest, "app", modest.spec()).await?;
    wait::until("the modest tenant's credentials", AFTERWARDS, async || {
        Ok((served(modest) > 0).then_some(()))
    })
    .await?;
    ensure!(
        served(greedy) < GREEDY,
        "the modest tenant was served after all of the greedy one"
    );
    let waits = greedy.installation.waits(0)?;
    let wish = waits
        .iter()
        .find(|wait| wait.namespace == modest.namespace.name())
        .context("the log tells of no wish")?;
    let turn = wish.turn.context("the log tells of no turn")?;
    let turns = || {
        let greedy = |wait: &&Wait| wait.namespace == greedy.namespace.name();
        waits.iter().filter(greedy).filter_map(|wait| wait.turn)
    };
    let before = turns().filter(|at| *at < wish.since).count();
    let between = turns().filter(|at| *at < turn).count() - before;
    ensure!(
        between <= IN_BETWEEN && before + IN_BETWEEN < GREEDY,
        "{between} turns of the greedy tenant came first ({before} before them)"
    );
    wait::until("the modest tenant to be ready", AFTERWARDS, async || {
        Ok(Some(modest.ready().await?))
    })
    .await?;
    all_served(greedy, GREEDY).await?;
    greedy.installation.assert_no_secret_in_logs(cluster)
}

/// STS calls a second of the account, at even times: so few that also a busy machine makes more.
const LIMIT: NonZeroU32 = NonZeroU32::new(2).unwrap();
/// Bindings that come at once to such an STS.
const CROWD: usize = 60;
/// Calls that may be refused. A controller that finds its pace has some 20 refused, on a machine
/// that takes seconds for a call some 60; one that only lets each binding wait has 4 for each.
const REFUSED: usize = CROWD * 3 / 2;

#[tokio::test]
async fn an_sts_that_throttles_serves_everybody_without_a_storm() -> Result<()> {
    let (cluster, installation) = own_installation(None).await?;
    let scene = Scene::set(&installation, cluster.test_namespace().await?).await?;
    installation.sts.update(|config| {
        config.requests_per_second = Some(LIMIT);
        config.burst = Some(NonZeroU32::MIN);
    });
    let outcome = async {
        bind_all(&scene, CROWD).await?;
        all_served(&scene, CROWD).await?;
        let calls = installation.sts.calls().by_role(&scene.role_arn());
        let refused = calls.iter().filter(|call| !call.succeeded()).count();
        ensure!(refused > 0, "STS did not throttle");
        ensure!(refused <= REFUSED, "{refused} calls were refused");
        installation.assert_no_secret_in_logs(&cluster)
    };
    reported(outcome.await)
}

/// Bindings that are created at the same time.
const TOGETHER: usize = 8;

fn name_of(number: usize) -> String {
    format!("app-{number}")
}

/// Creates that many bindings of `scene` together, so that most of them wait at the same time,
/// however slow the machine is.
async fn bind_all(scene: &Scene<'_>, count: usize) -> Result<()> {
    futures::stream::iter(0..count)
        .map(async |number| bind(scene, &name_of(number), scene.spec()).await)
        .buffer_unordered(TOGETHER)
        .try_collect()
        .await
}

/// How many bindings of `scene` STS has issued credentials for.
fn served(scene: &Scene<'_>) -> usize {
    let calls = scene.installation.sts.calls().by_role(&scene.role_arn());
    let served: BTreeSet<_> = calls
        .iter()
        .filter(|call| call.succeeded())
        .filter_map(|call| call.parameters.get("RoleSessionName"))
        .collect();
    served.len()
}

/// Waits until that many are.
async fn all_served(scene: &Scene<'_>, count: usize) -> Result<()> {
    wait::until("all credentials", ALL_SERVED, async || {
        let served = served(scene);
        ensure!(served == count, "{served} of {count} are served");
        Ok(Some(()))
    })
    .await
}

/// How often the restless tenant does what it can do, for how long at most, and the pause between.
const ROUNDS: usize = 80;
const RESTLESS: TimeDelta = TimeDelta::seconds(90);
const PAUSE: Duration = Duration::from_millis(200);
/// Its bindings, each of which does another thing.
const WISHES: [&str; 5] = ["edits", "deletes", "asks", "dates", "specs"];

#[tokio::test]
async fn a_restless_tenant_gets_one_forced_exchange_a_minute() -> Result<()> {
    let (cluster, installation) = own_installation(None).await?;
    let scene = Scene::set(&installation, cluster.test_namespace().await?).await?;
    reported(restless(&cluster, &scene).await)
}

async fn restless(cluster: &Cluster, scene: &Scene<'_>) -> Result<()> {
    let installation = scene.installation;
    for name in WISHES {
        bind(scene, name, scene.spec()).await?;
        issued(scene, name, None).await?;
    }
    let last = installation.sts.calls().last().context("no call")?.number;
    let started = clock::now();
    let plain = PatchParams::default();
    let mut rounds = 0;
    while rounds < ROUNDS && clock::now() - started < RESTLESS {
        let edit = Patch::Merge(json!({"data": {"ALIBABA_CLOUD_ACCESS_KEY_ID": "eA=="}}));
        let past = "2000-01-01T00:00:00Z";
        let dates = Patch::Merge(json!({"metadata": {"annotations": {
            "rrsa.io/issued-at": past, "rrsa.io/expiration": past,
        }}}));
        let ask = Patch::Merge(json!({"metadata": {"annotations": {
            "rrsa.io/refresh-requested-at": format!("round {rounds}"),
        }}}));
        let name = format!("round.specs-{rounds}");
        let spec = Patch::Merge(json!({"spec": {"session": {"name": name}}}));
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
        rounds += 1;
    }
    let forced = wait::until("each wish to be answered", AFTERWARDS, async || {
        let forced = attempts(scene, last);
        for wish in WISHES {
            let answered = forced.iter().any(|call| call.binding.starts_with(wish));
            ensure!(answered, "{wish} never was");
        }
        Ok(Some(forced.len()))
    })
    .await?;
    // Each of the five: one at once, one whenever the minute turned, and one for what a machine
    // that is too busy lets fail.
    let minutes = usize::try_from((clock::now() - started).num_minutes())?;
    let allowed = WISHES.len() * (minutes + 2);
    ensure!(
        forced <= allowed,
        "{rounds} rounds forced {forced} exchanges, in {minutes} minutes and a part"
    );
    installation.ensure_running()?;
    installation.assert_no_secret_in_logs(cluster)
}
