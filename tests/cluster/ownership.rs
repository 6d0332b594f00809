//! Whose Secret it is: what happens when it is taken away, given away or replaced, and when its
//! binding, its ServiceAccount or its role changes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::bindings::{SOON, Scene, data_of};
use crate::installation::{role, subject};
use crate::simulators::faults::{Effect, Fault, Hold};
use crate::support::wait;
use crate::with_scene;

/// The controller gives STS ten seconds for an answer. What a test does meanwhile may take longer on a
/// busy machine: then it does it once more, with another binding.
const CHANCES: usize = 4;
/// How long it takes until the watch of Secrets shows one, where nothing goes wrong if it does not.
const SHOWN: Duration = Duration::from_secs(2);
/// How long nothing may happen.
const QUIET: Duration = Duration::from_secs(3);
/// How often it is looked whether something happens.
const GLANCE: Duration = Duration::from_millis(100);

fn secret(object: Value) -> Result<Secret> {
    Ok(serde_json::from_value(object)?)
}

/// How often STS was asked for the scene's role; a call counts before its answer is sent.
fn calls(scene: &Scene<'_>) -> usize {
    let calls = scene.installation.sts.calls();
    calls.by_role(&scene.role_arn()).len()
}

/// The same for the binding of this name alone.
fn calls_for(scene: &Scene<'_>, binding: &str) -> usize {
    let session = format!("{}.{binding}", scene.namespace.name());
    let calls = scene.installation.sts.calls();
    calls.count(|call| call.parameters.get("RoleSessionName") == Some(&session))
}

/// Waits until STS has been asked for this binding that often.
async fn asked(scene: &Scene<'_>, binding: &str, times: usize) -> Result<()> {
    wait::until("the exchange to begin", SOON, async || {
        let calls = calls_for(scene, binding);
        ensure!(calls >= times, "{calls} calls");
        Ok(Some(()))
    })
    .await
}

/// Keeps the answer to the next call back.
fn sts_thinks(scene: &Scene<'_>) -> Hold {
    let hold = Hold::default();
    let held = Fault::for_role(&scene.role_arn(), Effect::Hold(hold.clone()));
    scene.installation.sts.faults().next(1, held);
    hold
}

/// Waits until the controller has seen what happened to the bindings so far: it acts on a later one.
async fn seen(scene: &Scene<'_>, witness: &str) -> Result<()> {
    scene.bind_as(witness, scene.spec()).await?;
    asked(scene, witness, 1).await
}

fn too_busy() -> anyhow::Error {
    anyhow::anyhow!("the machine is too busy: {CHANCES} times STS was not waited for so long")
}

#[tokio::test]
async fn a_secret_that_got_another_owner_is_given_up_and_not_fought_over() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        let before = scene.data().await?;
        let map = serde_json::from_value(json!({"metadata": {"name": "owner"}}))?;
        let map = scene
            .namespace
            .api::<ConfigMap>()
            .create(&PostParams::default(), &map)
            .await?;
        let other = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "owner",
            "uid": map.metadata.uid, "controller": true,
        }]);
        let plain = PatchParams::default();
        for (owners, said) in [(other, "belongs to owner")] {
            let change = Patch::Merge(json!({"metadata": {"ownerReferences": owners}}));
            let changed = scene
                .secrets()
                .patch("app-credentials", &plain, &change)
                .await?;
            let binding = wait::until("the conflict", SOON, async || {
                let binding = scene.says("Ready", "False", "SecretConflict").await?;
                let failure = binding
                    .status
                    .as_ref()
                    .and_then(|status| status.failure.clone());
                let failure = failure.context("no failure")?;
                ensure!(failure.message.contains(said), "{}", failure.message);
                Ok(Some(binding))
            })
            .await?;
            ensure!(binding.metadata.deletion_timestamp.is_none());
            tokio::time::sleep(QUIET).await;
            let now = scene.secrets().get("app-credentials").await?;
            ensure!(
                now.metadata.resource_version == changed.metadata.resource_version,
                "the Secret of somebody else was written"
            );
            ensure!(scene.data().await? == before);
        }
        // Without any controller the marks on it say whose it is, and it gets its owner back; that
        // costs no exchange.
        let asked = calls(scene);
        let none = Patch::Merge(json!({"metadata": {"ownerReferences": null}}));
        scene
            .secrets()
            .patch("app-credentials", &plain, &none)
            .await?;
        let binding = scene.ready().await?;
        let now = scene.secrets().get("app-credentials").await?;
        let owners = now.metadata.owner_references.unwrap_or_default();
        ensure!(owners.first().map(|owner| &owner.uid) == binding.metadata.uid.as_ref());
        ensure!(calls(scene) == asked && scene.data().await? == before);
        // When it goes, it comes back.
        scene
            .secrets()
            .delete("app-credentials", &DeleteParams::default())
            .await?;
        let data = wait::until("the Secret to come back", SOON, async || {
            Ok(Some(scene.data().await?))
        })
        .await?;
        scene.verify(&data)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_foreign_secret_that_comes_during_the_exchange_is_left_alone() -> Result<()> {
    with_scene(async |scene| {
        for chance in 0..CHANCES {
            let binding = format!("app-{chance}");
            let name = format!("{binding}-credentials");
            scene.bind_as(&binding, scene.spec()).await?;
            scene
                .says_of(&binding, "Ready", "True", "CredentialsFresh")
                .await?;
            let hold = sts_thinks(scene);
            scene
                .secrets()
                .delete(&name, &DeleteParams::default())
                .await?;
            asked(scene, &binding, 2).await?;
            // With the operator's own label, so that the watch shows it.
            let foreign = secret(json!({
                "metadata": {
                    "name": name,
                    "labels": {"app.kubernetes.io/managed-by": "rrsa"},
                },
                "stringData": {"password": "of somebody else"},
            }))?;
            let made = scene
                .secrets()
                .create(&PostParams::default(), &foreign)
                .await?;
            tokio::time::sleep(SHOWN).await;
            if !hold.release() {
                continue;
            }
            scene
                .says_of(&binding, "Ready", "False", "SecretConflict")
                .await?;
            tokio::time::sleep(QUIET).await;
            let now = scene.secrets().get(&name).await?;
            ensure!(now.metadata.resource_version == made.metadata.resource_version);
            ensure!(
                calls_for(scene, &binding) == 2,
                "a taken name costs exchanges"
            );
            return Ok(());
        }
        Err(too_busy())
    })
    .await
}

#[tokio::test]
async fn forged_marks_make_no_secret_the_bindings() -> Result<()> {
    with_scene(async |scene| {
        let plain = PostParams::default();
        let mut spec = scene.spec();
        spec["suspend"] = json!(true);
        let binding = scene.bind(spec).await?;
        let owner = |uid: &str, controller: bool| {
            json!([{
                "apiVersion": "rrsa.io/v1alpha1", "kind": "AlibabaRoleBinding", "name": "app",
                "uid": uid, "controller": controller,
            }])
        };
        let own_uid = binding.metadata.uid.clone().unwrap_or_default();
        // A uid that nothing has would let the garbage collector take the Secret away.
        let other = scene.namespace.api::<ServiceAccount>().get("app").await?;
        let foreign = json!([{
            "apiVersion": "v1", "kind": "ServiceAccount", "name": "app",
            "uid": other.metadata.uid, "controller": true,
        }]);
        let label = json!({"app.kubernetes.io/managed-by": "rrsa"});
        let marks = json!({"rrsa.io/binding": "other", "rrsa.io/binding-uid": own_uid});
        for (case, metadata) in [
            ("the label", json!({"labels": label})),
            (
                "the mark of another binding",
                json!({"labels": label, "annotations": marks}),
            ),
            (
                "an owner that is no controller",
                json!({"labels": label, "ownerReferences": owner(&own_uid, false)}),
            ),
            (
                "another controller",
                json!({"labels": label, "ownerReferences": foreign}),
            ),
        ] {
            let mut object = json!({"metadata": metadata, "stringData": {"password": "theirs"}});
            object["metadata"]["name"] = json!("app-credentials");
            let made = scene.secrets().create(&plain, &secret(object)?).await?;
            scene.change(json!({"suspend": false})).await?;
            scene
                .says("Ready", "False", "SecretConflict")
                .await
                .with_context(|| case.to_owned())?;
            let now = scene.secrets().get("app-credentials").await?;
            ensure!(
                now.metadata.resource_version == made.metadata.resource_version,
                "{case}"
            );
            scene.change(json!({"suspend": true})).await?;
            scene.says("Ready", "Unknown", "Suspended").await?;
            scene
                .secrets()
                .delete("app-credentials", &DeleteParams::default())
                .await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_secret_that_cannot_be_written_any_more_is_a_conflict() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        let before = scene.data().await?;
        let freeze = Patch::Merge(json!({"immutable": true}));
        let plain = PatchParams::default();
        scene
            .secrets()
            .patch("app-credentials", &plain, &freeze)
            .await?;
        scene
            .change(json!({"session": {"durationSeconds": 1800}}))
            .await?;
        let binding = scene.says("Ready", "False", "SecretConflict").await?;
        let failure = binding.status.and_then(|status| status.failure);
        let failure = failure.context("no failure")?;
        ensure!(failure.message.contains("immutable"), "{}", failure.message);
        ensure!(scene.data().await? == before);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_binding_deleted_while_sts_thinks_gets_nothing() -> Result<()> {
    with_scene(async |scene| {
        for chance in 0..CHANCES {
            let name = format!("gone-{chance}");
            let hold = sts_thinks(scene);
            scene.bind_as(&name, scene.spec()).await?;
            asked(scene, &name, 1).await?;
            scene
                .bindings()
                .delete(&name, &DeleteParams::default())
                .await?;
            seen(scene, &format!("witness-{chance}")).await?;
            if !hold.release() {
                continue;
            }
            // Kubernetes, too, would delete it.
            for _ in 0..QUIET.as_millis() / GLANCE.as_millis() {
                let secret = scene
                    .secrets()
                    .get_opt(&format!("{name}-credentials"))
                    .await?;
                ensure!(
                    secret.is_none(),
                    "a Secret was made for a binding that is gone"
                );
                tokio::time::sleep(GLANCE).await;
            }
            return Ok(());
        }
        Err(too_busy())
    })
    .await
}

#[tokio::test]
async fn a_binding_made_anew_while_sts_thinks_is_another_one() -> Result<()> {
    with_scene(async |scene| {
        for chance in 0..CHANCES {
            let name = format!("anew-{chance}");
            let hold = sts_thinks(scene);
            let first = scene.bind_as(&name, scene.spec()).await?;
            asked(scene, &name, 1).await?;
            scene
                .bindings()
                .delete(&name, &DeleteParams::default())
                .await?;
            let second = scene.bind_as(&name, scene.spec()).await?;
            seen(scene, &format!("witness-{chance}")).await?;
            if !hold.release() {
                continue;
            }
            let secret = wait::until("the Secret of the second", SOON, async || {
                let name = format!("{name}-credentials");
                let secret = scene.secrets().get(&name).await?;
                let owners = secret.metadata.owner_references.iter().flatten();
                let owners: Vec<_> = owners.map(|owner| Some(owner.uid.clone())).collect();
                if owners.contains(&first.metadata.uid) {
                    let error = anyhow::anyhow!("a Secret was made for the first, which is gone");
                    return Err(wait::hopeless(error));
                }
                Ok((owners == [second.metadata.uid.clone()]).then_some(secret))
            })
            .await?;
            scene.verify(&data_of(&secret)?)?;
            scene
                .says_of(&name, "Ready", "True", "CredentialsFresh")
                .await?;
            ensure!(first.metadata.uid != second.metadata.uid);
            return Ok(());
        }
        Err(too_busy())
    })
    .await
}

#[tokio::test]
async fn without_its_service_account_a_binding_keeps_what_it_has() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        let before = scene.data().await?;
        scene
            .namespace
            .api::<ServiceAccount>()
            .delete("app", &DeleteParams::default())
            .await?;
        scene
            .says("CredentialsIssued", "False", "ServiceAccountNotFound")
            .await?;
        ensure!(scene.data().await? == before, "valid credentials were lost");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn another_role_replaces_the_credentials_in_one_write() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        let other = role(&format!("{}-other", scene.namespace.name()));
        let trusted = [subject(scene.namespace.name(), "app")];
        scene.installation.trust(&other, &trusted);
        scene.change(json!({"role": {"arn": other}})).await?;
        scene.ready().await?;
        let session = scene.verify(&scene.data().await?)?;
        ensure!(session.role_arn == other, "{}", session.role_arn);
        Ok(())
    })
    .await
}
