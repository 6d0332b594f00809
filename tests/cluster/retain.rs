//! Whose a Secret is: kept when its binding goes, taken over, claimed by two, or marked by a forger.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::bindings::{SOON, Scene};
use crate::support::wait;
use crate::with_scene;

/// Longest wait for the garbage collector, which looks for new kinds every 30 s only.
const COLLECTED: Duration = Duration::from_mins(2);

fn kept(scene: &Scene<'_>) -> Value {
    let mut spec = scene.spec();
    spec["secret"] = json!({"deletionPolicy": "Retain"});
    spec
}

fn calls(scene: &Scene<'_>) -> usize {
    let sts = &scene.installation.sts;
    sts.calls().by_role(&scene.role_arn()).len()
}

async fn owners(scene: &Scene<'_>) -> Result<Vec<String>> {
    let secret = scene.secrets().get("app-credentials").await?;
    let owners = secret.metadata.owner_references.unwrap_or_default();
    Ok(owners.into_iter().map(|owner| owner.uid).collect())
}

/// Creates a binding of this name that asks for the Secret `app-credentials`.
async fn bind_too(scene: &Scene<'_>, name: &str) -> Result<()> {
    let mut spec = scene.spec();
    spec["secret"] = json!({"name": "app-credentials"});
    scene.bind_as(name, spec).await?;
    Ok(())
}

/// Waits until the binding says that the Secret is not its own, in words that contain `whose`.
async fn yields(scene: &Scene<'_>, name: &str, whose: &str) -> Result<()> {
    wait::until(&format!("{name} to yield to {whose}"), SOON, async || {
        let status = scene.bindings().get(name).await?.status.unwrap_or_default();
        let failure = status.failure.context("no failure yet")?;
        ensure!(failure.code == "SecretConflict", "{}", failure.code);
        ensure!(failure.message.contains(whose), "{}", failure.message);
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn a_retained_secret_outlives_its_binding_and_goes_to_the_next_of_that_name() -> Result<()> {
    with_scene(async |scene| {
        scene.bind(kept(scene)).await?;
        scene.ready().await?;
        ensure!(owners(scene).await?.is_empty(), "it would be collected");
        let (before, data) = (
            scene.secrets().get("app-credentials").await?,
            scene.data().await?,
        );
        scene
            .bindings()
            .delete("app", &DeleteParams::default())
            .await?;
        bind_too(scene, "other").await?;
        yields(scene, "other", "kept for app").await?;
        ensure!(scene.data().await? == data, "it did not stay as it was");

        let heir = scene.bind(kept(scene)).await?;
        scene.ready().await?;
        let after = scene.secrets().get("app-credentials").await?;
        assert_eq!(
            after.metadata.uid, before.metadata.uid,
            "it was made anew, not taken over"
        );
        let marks = after.metadata.annotations.unwrap_or_default();
        assert_eq!(marks.get("rrsa.io/binding-uid"), heir.metadata.uid.as_ref());
        let taken = scene.data().await?;
        ensure!(
            taken != data,
            "it was taken for the new binding's without an exchange"
        );
        scene.verify(&taken)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_changed_deletion_policy_changes_the_owner_without_an_exchange() -> Result<()> {
    with_scene(async |scene| {
        let binding = scene.bind(scene.spec()).await?;
        scene.ready().await?;
        let uid = binding.metadata.uid.context("no UID")?;
        let before = (calls(scene), scene.data().await?);
        for (policy, expected) in [
            ("Retain", vec![]),
            ("Delete", vec![uid.clone()]),
            ("Retain", vec![]),
        ] {
            scene
                .change(json!({"secret": {"deletionPolicy": policy}}))
                .await?;
            wait::until(&format!("the owner after {policy}"), SOON, async || {
                Ok((owners(scene).await? == expected).then_some(()))
            })
            .await?;
        }
        scene.ready().await?;
        assert_eq!((calls(scene), scene.data().await?), before);
        // Under another name it is made anew, and the former stays.
        scene.change(json!({"secret": {"name": "renamed"}})).await?;
        scene.ready().await?;
        scene.secrets().get("renamed").await?;
        assert_eq!(scene.data().await?, before.1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn where_nobody_owns_the_secret_age_decides_and_the_next_takes_over() -> Result<()> {
    with_scene(async |scene| {
        let foreign: Secret = serde_json::from_value(json!({
            "metadata": {"name": "app-credentials"}, "stringData": {"password": "x"},
        }))?;
        let parameters = PostParams::default();
        scene.secrets().create(&parameters, &foreign).await?;
        scene.bind(scene.spec()).await?;
        scene.says("Ready", "False", "SecretConflict").await?;
        // Creation times have whole seconds.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        bind_too(scene, "a-younger-one").await?;
        yields(scene, "a-younger-one", "app").await?;

        scene
            .secrets()
            .delete("app-credentials", &DeleteParams::default())
            .await?;
        // Nothing wakes a binding for a Secret without our label; a change does.
        for name in ["a-younger-one", "app"] {
            let touch = Patch::Merge(json!({"spec": {"session": {"durationSeconds": 1800}}}));
            let parameters = PatchParams::default();
            scene.bindings().patch(name, &parameters, &touch).await?;
        }
        scene.ready().await?;
        yields(scene, "a-younger-one", "app").await?;

        scene
            .bindings()
            .delete("app", &DeleteParams::default())
            .await?;
        wait::until("the other to take over", COLLECTED, async || {
            let binding = scene.bindings().get("a-younger-one").await?;
            let status = binding.status.unwrap_or_default();
            ensure!(status.failure.is_none(), "{:?}", status.failure);
            let owners = owners(scene).await?;
            Ok((Some(owners) == binding.metadata.uid.map(|uid| vec![uid])).then_some(()))
        })
        .await?;
        scene.verify(&scene.data().await?)?;
        Ok(())
    })
    .await
}

/// Whoever may create Secrets can write every mark that we write, also as our field manager; what
/// they put under them is not taken for ours.
#[tokio::test]
async fn forged_marks_do_not_pass_for_an_exchange() -> Result<()> {
    with_scene(async |scene| {
        scene.bind(kept(scene)).await?;
        scene.ready().await?;
        let genuine = scene.secrets().get("app-credentials").await?;
        scene
            .bindings()
            .delete("app", &DeleteParams::default())
            .await?;
        scene
            .secrets()
            .delete("app-credentials", &DeleteParams::default())
            .await?;

        // The same spec, so the same hash of the inputs, on a binding that was never exchanged.
        let mut spec = kept(scene);
        spec["suspend"] = json!(true);
        let binding = scene.bind(spec).await?;
        let mut forged = json!({
            "metadata": {
                "name": "app-credentials",
                "labels": genuine.metadata.labels,
                "annotations": genuine.metadata.annotations,
            },
            "data": genuine.data,
        });
        forged["metadata"]["annotations"]["rrsa.io/binding-uid"] = json!(binding.metadata.uid);
        forged["data"]["ALIBABA_CLOUD_ACCESS_KEY_ID"] = json!("ZXZpbA==");
        let parameters = PostParams {
            field_manager: Some("rrsa".to_owned()),
            ..PostParams::default()
        };
        scene
            .secrets()
            .create(&parameters, &serde_json::from_value(forged)?)
            .await?;
        let suspended = scene.says("Ready", "Unknown", "Suspended").await?;
        let status = suspended.status.unwrap_or_default();
        assert_eq!(
            status.expiration, None,
            "the forger's time is shown as ours"
        );

        scene.change(json!({"suspend": false})).await?;
        scene.ready().await?;
        scene.verify(&scene.data().await?)?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_lost_label_and_a_lost_owner_come_back() -> Result<()> {
    with_scene(async |scene| {
        let binding = scene.bind(scene.spec()).await?;
        scene.ready().await?;
        let before = (calls(scene), scene.data().await?);
        let parameters = PatchParams::default();
        let disowned = Patch::Merge(json!({"metadata": {"ownerReferences": null}}));
        let secrets = scene.secrets();
        secrets
            .patch("app-credentials", &parameters, &disowned)
            .await?;
        wait::until("the owner", SOON, async || {
            let expected = binding.metadata.uid.iter().cloned().collect::<Vec<_>>();
            Ok((owners(scene).await? == expected).then_some(()))
        })
        .await?;
        assert_eq!((calls(scene), scene.data().await?), before);

        let label = "app.kubernetes.io/managed-by";
        let unlabelled = Patch::Merge(json!({"metadata": {"labels": {label: null}}}));
        secrets
            .patch("app-credentials", &parameters, &unlabelled)
            .await?;
        wait::until("the label", SOON, async || {
            let secret = secrets.get("app-credentials").await?;
            let labels = secret.metadata.labels.unwrap_or_default();
            Ok((labels.get(label).map(String::as_str) == Some("rrsa")).then_some(()))
        })
        .await?;
        scene.verify(&scene.data().await?)?;
        Ok(())
    })
    .await
}
