//! Exchanges that ask STS for the same thing are made once; those that differ in anything that is
//! asked are not.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::bindings::{POLICY, SOON, Scene, data_of};
use crate::installation::waits::Wait;
use crate::installation::{role, subject};
use crate::simulators::calls::Call;
use crate::simulators::clock;
use crate::simulators::faults::{Effect, Fault, Hold};
use crate::simulators::issuance::Session;
use crate::support::wait;
use crate::with_scene;

/// Bindings that ask for the same session.
const SHARERS: usize = 5;
/// How long STS keeps the first of them waiting at most, until the others wait as well: shorter than
/// the controller does.
const HELD: TimeDelta = TimeDelta::seconds(7);
/// How often it is looked whether they do.
const GLANCE: Duration = Duration::from_millis(300);
const A_MOMENT: Duration = Duration::from_secs(1);
/// A call after so long was made because the controller had given up the one before.
const GIVEN_UP: TimeDelta = TimeDelta::milliseconds(9500);
/// A machine that was too busy to bring the others to the queue in that time is given more chances.
const CHANCES: usize = 6;
/// Longest wait of a binding for its Secret.
const SERVED: Duration = Duration::from_mins(3);

/// Makes bindings of this session, the first of which STS keeps waiting until the others wait for it.
/// Returns whether they came in time.
async fn bind_all(scene: &Scene<'_>, round: usize) -> Result<bool> {
    let installation = scene.installation;
    let hold = Hold::default();
    let held = Fault::for_role(&scene.role_arn(), Effect::Hold(hold.clone()));
    installation.sts.faults().next(1, held);
    let from = installation.end_of_log()?;
    let mut spec = scene.spec();
    spec["session"] = json!({"name": session_of_round(round)});
    let all = (0..SHARERS).map(async |number| {
        let name = name_of(round, number);
        scene.bind_as(&name, spec.clone()).await
    });
    futures::future::try_join_all(all).await?;
    let called = wait::until("the first call", SERVED, async || {
        let calls = calls_of(scene, &session_of_round(round));
        Ok(calls.first().map(|call| call.time))
    })
    .await?;
    loop {
        let waits = installation.waits(from)?;
        let all_wait = (0..SHARERS).all(|number| {
            let name = name_of(round, number);
            let is_it =
                |wait: &Wait| wait.namespace == scene.namespace.name() && wait.binding == name;
            waits.iter().any(is_it)
        });
        if all_wait {
            // The log tells that it was decided, and a moment later they wait.
            tokio::time::sleep(A_MOMENT).await;
            return Ok(hold.release());
        }
        if clock::now() - called > HELD {
            hold.release();
            return Ok(false);
        }
        tokio::time::sleep(GLANCE).await;
    }
}

fn session_of_round(round: usize) -> String {
    format!("shared-{round}")
}

fn name_of(round: usize, number: usize) -> String {
    format!("same-{round}-{number}")
}

/// The session in the Secret of this binding, and its access key id.
async fn session_of(scene: &Scene<'_>, binding: &str) -> Result<(Session, String)> {
    let name = format!("{binding}-credentials");
    let secret = wait::until(&name, SERVED, async || {
        Ok(scene.secrets().get_opt(&name).await?)
    })
    .await?;
    let data = data_of(&secret)?;
    let id = data["ALIBABA_CLOUD_ACCESS_KEY_ID"].clone();
    Ok((scene.verify(&data)?, id))
}

fn calls_of(scene: &Scene<'_>, session: &str) -> Vec<Call> {
    let of = |call: &Call| {
        call.parameters
            .get("RoleSessionName")
            .is_some_and(|name| name == session)
    };
    let calls = scene.installation.sts.calls().by_role(&scene.role_arn());
    calls.into_iter().filter(of).collect()
}

#[tokio::test]
async fn identical_exchanges_of_a_namespace_are_made_once() -> Result<()> {
    with_scene(async |scene| {
        for round in 0..CHANCES {
            let together = bind_all(scene, round).await?;
            let mut ids = BTreeMap::new();
            for number in 0..SHARERS {
                let (session, id) = session_of(scene, &name_of(round, number)).await?;
                assert_eq!(session.name, session_of_round(round));
                *ids.entry(id).or_insert(0) += 1;
            }
            let calls = calls_of(scene, &session_of_round(round));
            let given_up = calls
                .windows(2)
                .any(|pair| pair[1].time - pair[0].time > GIVEN_UP);
            // Who came when the answer was there already asked in its own right.
            if !together || given_up {
                continue;
            }
            ensure!(
                calls.len() == 1 && ids.len() == 1,
                "{} calls and {} sessions for one question",
                calls.len(),
                ids.len()
            );
            return Ok(());
        }
        anyhow::bail!(
            "the machine is too busy: in {CHANCES} rounds no five bindings came within {HELD}"
        )
    })
    .await
}

/// What a variant differs in, as a merge into the spec, and what its session must be like.
type Variant = (&'static str, Value, fn(&Session, &Names) -> bool);

/// The names that the variants use.
struct Names {
    role: String,
    other_role: String,
    last_role: String,
    namespace: String,
    other_host: String,
}

fn variants(names: &Names) -> Vec<Variant> {
    vec![
        (
            "role",
            json!({"role": {"arn": names.other_role}}),
            |session, names| session.role_arn == names.other_role,
        ),
        (
            "chain",
            json!({"assume": [{"arn": names.last_role}]}),
            |session, names| session.role_arn == names.last_role,
        ),
        (
            "external-id",
            json!({"assume": [{"arn": names.last_role, "externalId": "word"}]}),
            |session, names| session.role_arn == names.last_role,
        ),
        (
            "host",
            json!({"sts": {"endpoint": names.other_host}}),
            |session, names| session.role_arn == names.role,
        ),
        (
            "duration",
            json!({"session": {"durationSeconds": 1800}}),
            |session, _| session.expiration < clock::now() + chrono::TimeDelta::minutes(31),
        ),
        (
            "policy",
            json!({"session": {"policy": POLICY}}),
            |session, _| session.policy.as_deref() == Some(POLICY),
        ),
        (
            "session",
            json!({"session": {"name": "another"}}),
            |session, _| session.name == "another",
        ),
        (
            "account",
            json!({"serviceAccountName": "another"}),
            |session, names| {
                session.subject.as_deref() == Some(&*subject(&names.namespace, "another"))
            },
        ),
    ]
}

fn merged(mut spec: Value, change: &Value) -> Value {
    for (key, value) in change.as_object().cloned().unwrap_or_default() {
        match (spec.get_mut(&key).and_then(Value::as_object_mut), value) {
            (Some(known), Value::Object(more)) if key == "session" => known.extend(more),
            (_, value) => spec[key] = value,
        }
    }
    spec
}

/// How long that exchange hangs: long enough for the others to come, and shorter than the controller
/// waits, so that whoever wrongly waited for it would get its answer.
const HANGS: Duration = Duration::from_secs(8);

/// While one exchange hangs, whoever asks for anything else is answered with a session of its own.
#[tokio::test]
async fn exchanges_that_differ_in_anything_are_not_shared() -> Result<()> {
    with_scene(async |scene| {
        let installation = scene.installation;
        let namespace = scene.namespace.name();
        let names = Names {
            role: scene.role_arn(),
            other_role: role(&format!("{namespace}-other")),
            last_role: role(&format!("{namespace}-last")),
            namespace: namespace.to_owned(),
            // The operator knows it by its address.
            other_host: format!("localhost:{}", installation.sts.address().port()),
        };
        scene.make_service_account("another").await?;
        let accounts = ["app", "another"].map(|account| subject(namespace, account));
        for arn in [&names.role, &names.other_role] {
            installation.trust(arn, &accounts);
        }
        installation.trust(&names.last_role, &[]);
        installation.trust_role(&names.last_role, &names.role, None);

        // The same binding in another namespace: a ServiceAccount of the same name is another one.
        let neighbour = Scene::set(
            installation,
            crate::support::kubernetes::Cluster::shared()
                .await?
                .test_namespace()
                .await?,
        )
        .await?;
        let [app, another] = accounts;
        let neighbours = subject(neighbour.namespace.name(), "app");
        installation.trust(&names.role, &[app, another, neighbours]);

        let slow = Fault::for_role(&names.role, Effect::Delay { by: HANGS });
        installation.sts.faults().next(1, slow);
        let mut base = scene.spec();
        base["session"] = json!({"name": "same"});
        scene.bind_as("base", base.clone()).await?;
        wait::until("the first exchange to take the fault", SOON, async || {
            Ok((!installation.sts.faults().awaits(&names.role)).then_some(()))
        })
        .await?;
        let variants = variants(&names);
        for (name, change, _) in &variants {
            scene.bind_as(name, merged(base.clone(), change)).await?;
        }
        neighbour.bind_as("base", base).await?;

        let mut ids = BTreeMap::new();
        for (name, _, is_right) in &variants {
            let (session, id) = session_of(scene, name).await?;
            ensure!(is_right(&session, &names), "{name} got {session:?}");
            ids.insert(id, (*name).to_owned());
        }
        let (of_neighbour, id) = session_of(&neighbour, "base").await?;
        assert_eq!(
            of_neighbour.subject.as_deref(),
            Some(&*subject(neighbour.namespace.name(), "app"))
        );
        ids.insert(id, "the neighbour".to_owned());
        let (_, id) = session_of(scene, "base").await?;
        ids.insert(id, "base".to_owned());
        ensure!(
            ids.len() == variants.len() + 2,
            "some share a session: {ids:?}"
        );
        Ok(())
    })
    .await
}
