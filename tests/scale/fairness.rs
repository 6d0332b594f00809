//! STS throttles while many bindings are due, and one tenant edits, deletes and asks for refreshes
//! in a loop.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, FixedOffset, TimeDelta, Utc};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use rrsa::api::v1alpha1::AlibabaRoleBinding;
use rrsa::contract::annotations::secret as keys;
use serde_json::json;

use super::Arguments;
use super::ledger::StsCall;
use super::objects::Objects;
use super::stage::{ROLE, Stage};
use super::table::{Table, say};

/// What STS lets through while it throttles.
const THROTTLED: u32 = 10;
/// The pace that is configured meanwhile: five times as much.
const PACE: u32 = 50;
/// Bindings of the tenant that asks for more and more.
const GREEDY: usize = 10;
/// Log lines that one reason may fill in a minute, a dozen reasons at most, and what a start says.
const LINES: usize = 10;
const LINES_AT_START: usize = 60;

/// When the credentials of each binding end, by namespace and name.
type Ends = HashMap<(String, String), DateTime<FixedOffset>>;

pub(crate) async fn run(stage: &Stage, arguments: &Arguments, table: &mut Table) -> Result<()> {
    let due = Objects {
        prefix: "due",
        namespaces: arguments.due_namespaces,
        bindings: arguments.due,
        role: ROLE.to_owned(),
        duration_seconds: 3600,
    };
    let greedy = Objects {
        prefix: "greedy",
        namespaces: 1,
        bindings: GREEDY,
        ..due.clone()
    };
    table.case(&format!(
        "fairness: {} due in {} namespaces at {THROTTLED} calls/s, one tenant forcing",
        due.bindings, due.namespaces
    ));
    let lifetime = make_all_due(stage, arguments, &due, &greedy).await?;
    let ends = ends(&stage.client).await?;
    stage.change_sts(THROTTLED, Some(lifetime)).await?;
    let mut sts = stage.sts_calls();
    sts.reset()?;
    let forcing = tokio::spawn(force(stage.client.clone(), greedy.clone()));
    let controller = stage.start_controller(PACE)?;
    let log = controller.process.log().to_owned();
    let lines_before = std::fs::read_to_string(&log)?.lines().count();
    let of_due = |call: &StsCall| call.binding().is_some_and(|(ns, _)| ns.starts_with("due-"));
    let served = loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        controller.process.ensure_running()?;
        sts.read()?;
        let served = sts
            .calls
            .iter()
            .filter(|call| call.succeeded() && of_due(call))
            .count();
        if served >= due.bindings || controller.started.elapsed() > lifetime {
            break served;
        }
    };
    let took = controller.started.elapsed();
    forcing.abort();
    let lines = std::fs::read_to_string(&log)?.lines().count() - lines_before;
    let usage = controller.usage()?;
    controller.stop().await?;

    table.figure(
        "took",
        format!("{:.0} s", took.as_secs_f64()),
        &format!("{} s at the limit", sts.calls.len() / THROTTLED as usize),
    );
    let minutes = usize::try_from(took.as_secs() / 60 + 1)?;
    let bound = LINES_AT_START + 3 * LINES * minutes;
    table.must(
        "log lines",
        lines,
        &format!("{bound} ({LINES} a reason and minute)"),
        lines <= bound,
    );
    table.note("CPU", format!("{:.1} s", usage.cpu.as_secs_f64()));
    tell(&sts.calls, &ends, &due, served, took, table)
}

/// Issues credentials to all, and waits until all those of `due` are to be renewed. Returns how long
/// they last.
async fn make_all_due(
    stage: &Stage,
    arguments: &Arguments,
    due: &Objects,
    greedy: &Objects,
) -> Result<Duration> {
    // All are due after two thirds of this, and the last third suffices for all at 8 calls a second.
    let lifetime =
        Duration::from_secs(u64::try_from(due.bindings)? * 2 / 5).max(Duration::from_mins(1));
    due.make(&stage.client).await?;
    greedy.make(&stage.client).await?;
    stage
        .change_sts(arguments.sts_limit, Some(lifetime))
        .await?;
    let controller = stage.start_controller(arguments.pace)?;
    let all = due.bindings + greedy.bindings;
    let begun = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let ready = due.ready(&stage.client).await? + greedy.ready(&stage.client).await?;
        if ready == all {
            break;
        }
        ensure!(
            begun.elapsed() < lifetime / 2,
            "{ready} of {all} are ready; the machine is too slow for this case"
        );
    }
    controller.stop().await?;
    // Until the last one is due.
    let wait = lifetime.mul_f64(0.66);
    say(&format!("   waiting {wait:?} until all are due"));
    tokio::time::sleep(wait).await;
    Ok(lifetime)
}

/// When the credentials in each Secret of ours end.
async fn ends(client: &Client) -> Result<Ends> {
    let api = Api::<Secret>::all(client.clone());
    let mut page = ListParams::default()
        .labels("app.kubernetes.io/managed-by=rrsa")
        .limit(1000);
    let mut ends = Ends::new();
    loop {
        let list = api.list_metadata(&page).await?;
        for secret in list.items {
            let annotation = |key: &str| {
                let value = secret.annotations().get(key);
                value.cloned().with_context(|| format!("no {key}"))
            };
            let end = DateTime::parse_from_rfc3339(&annotation(keys::EXPIRATION)?)?;
            let namespace = secret.namespace().unwrap_or_default();
            ends.insert((namespace, annotation(keys::BINDING)?), end);
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page.continue_token = Some(token),
            None => return Ok(ends),
        }
    }
}

/// The figures that the calls of STS show.
fn tell(
    calls: &[StsCall],
    ends: &Ends,
    due: &Objects,
    served: usize,
    took: Duration,
    table: &mut Table,
) -> Result<()> {
    table.must(
        "served",
        served,
        &due.bindings.to_string(),
        served >= due.bindings,
    );
    let refused = calls.iter().filter(|call| !call.succeeded()).count();
    table.figure(
        "refused by STS",
        format!("{refused} of {} calls", calls.len()),
        "a few at each step of the pace",
    );
    let spread = spread(calls, due);
    table.must(
        "most that one namespace was ahead of another",
        spread,
        "2",
        spread <= 2,
    );
    let (inversions, judged) = inversions(calls, ends);
    table.must(
        "served before one of its namespace whose credentials ended sooner",
        inversions,
        &format!("0 of the {judged} that were never refused"),
        inversions == 0 && judged > 0,
    );
    let forced = calls
        .iter()
        .filter(|call| {
            call.binding()
                .is_some_and(|(ns, _)| ns.starts_with("greedy"))
        })
        .count();
    let minutes = took.as_secs() / 60 + 1;
    let allowed = GREEDY * usize::try_from(minutes + 1)?;
    table.must(
        "calls of the forcing tenant",
        forced,
        &format!("{allowed} (one a binding and minute)"),
        forced <= allowed + refused,
    );
    Ok(())
}

/// Edits, deletes and asks for refreshes without end, on every binding of the tenant.
async fn force(client: Client, greedy: Objects) {
    let namespace = greedy.namespace(0);
    let bindings = Api::<AlibabaRoleBinding>::namespaced(client.clone(), &namespace);
    let secrets = Api::<Secret>::namespaced(client, &namespace);
    let parameters = PatchParams::default();
    for round in 0_u64.. {
        for number in 0..greedy.bindings {
            let name = format!("app-{number}");
            let patch = match round % 3 {
                0 => json!({"spec": {"session": {"durationSeconds": 900 + round}}}),
                1 => json!({"metadata": {"annotations":
                    {"rrsa.io/refresh-requested-at": round.to_string()}}}),
                _ => {
                    let secret = format!("{name}-credentials");
                    // It may be deleted already: that is the point.
                    let _ = secrets.delete(&secret, &DeleteParams::default()).await;
                    continue;
                }
            };
            // A refusal ends nothing: the next round asks again.
            let _ = bindings
                .patch(&name, &parameters, &Patch::Merge(patch))
                .await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// By how many calls one namespace, the forcing tenant's too, was ahead of another that still had
/// somebody waiting.
fn spread(calls: &[StsCall], due: &Objects) -> usize {
    let total = due.bindings / due.namespaces;
    let mut served: BTreeMap<String, usize> = (0..due.namespaces)
        .map(|number| (due.namespace(number), 0))
        .collect();
    let (mut spread, mut forced) = (0, 0);
    for call in calls {
        let Some((namespace, _)) = call.binding() else {
            continue;
        };
        let count = served.get_mut(namespace).unwrap_or(&mut forced);
        *count += 1;
        let ahead = *count;
        let waiting = served.values().filter(|count| **count < total).min();
        spread = spread.max(waiting.map_or(0, |least| ahead.saturating_sub(*least)));
    }
    spread
}

/// Exchanges that are answered within so long were under way together, and one may overtake the other.
const TOGETHER: TimeDelta = TimeDelta::seconds(2);

/// When an exchange was made, and when the credentials ended that it replaced.
type Served<'a> = (DateTime<Utc>, &'a DateTime<FixedOffset>);

/// How many exchanges came after one of the same namespace whose credentials ended later, and how many
/// were judged. Who was refused has to wait, and is served after others for that.
fn inversions(calls: &[StsCall], ends: &Ends) -> (usize, usize) {
    let refused: HashSet<_> = calls
        .iter()
        .filter(|call| !call.succeeded())
        .filter_map(StsCall::binding)
        .collect();
    let mut seen = HashSet::new();
    let mut before: HashMap<&str, Vec<Served>> = HashMap::new();
    let (mut inversions, mut judged) = (0, 0);
    for (time, (namespace, name)) in calls
        .iter()
        .filter_map(|call| Some((call.time, call.binding()?)))
        .filter(|(_, (namespace, _))| namespace.starts_with("due-"))
        .filter(|(_, binding)| !refused.contains(binding))
    {
        let end = ends.get(&(namespace.to_owned(), name.to_owned()));
        // A second exchange is of what the first one issued.
        let (Some(end), true) = (end, seen.insert((namespace, name))) else {
            continue;
        };
        judged += 1;
        let before = before.entry(namespace).or_default();
        let overtaken = before
            .iter()
            .any(|(served, other)| end < *other && *served + TOGETHER < time);
        inversions += usize::from(overtaken);
        before.push((time, end));
    }
    (inversions, judged)
}
