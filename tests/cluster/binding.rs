//! A binding becomes a Secret, stays one, and says what is wrong when it cannot.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::DateTime;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use rrsa::controller::report::Reporter;
use serde_json::json;

use crate::bindings::SOON;
use crate::installation::subject;
use crate::support::kubernetes::Cluster;
use crate::support::wait;
use crate::with_scene;

/// Longest wait for the garbage collector, which looks for new kinds every 30 s only.
const COLLECTED: Duration = Duration::from_mins(2);

#[tokio::test]
async fn a_binding_becomes_a_secret_in_all_formats() -> Result<()> {
    with_scene(async |scene| {
        let mut spec = scene.spec();
        spec["secret"] = json!({
            "template": {"AWS_ACCESS_KEY_ID": "{{ access_key_id }}"},
            "labels": {"team": "a"},
            "annotations": {"note": "kept"},
        });
        spec["session"] = json!({"durationSeconds": 1800});
        scene.bind(spec).await?;
        let binding = scene.ready().await?;
        let data = scene.data().await?;
        let session = scene.verify(&data)?;
        let namespace = scene.namespace.name();
        assert_eq!(session.role_arn, scene.role_arn());
        assert_eq!(session.name, format!("{namespace}.app"));
        assert_eq!(
            session.subject.as_deref(),
            Some(&*subject(namespace, "app"))
        );
        assert_eq!(
            data["AWS_ACCESS_KEY_ID"],
            data["ALIBABA_CLOUD_ACCESS_KEY_ID"]
        );
        assert_eq!(data.len(), 8);

        let status = binding.status.unwrap_or_default();
        assert_eq!(
            status.access_key_id.as_deref(),
            Some(&*data["ALIBABA_CLOUD_ACCESS_KEY_ID"])
        );
        assert_eq!(
            status.expiration.as_deref(),
            Some(&*data["ALIBABA_CLOUD_CREDENTIALS_EXPIRATION"])
        );
        assert_eq!(status.secret_name.as_deref(), Some("app-credentials"));
        assert!(status.failure.is_none());

        let secret = scene.secrets().get("app-credentials").await?;
        assert_eq!(secret.type_.as_deref(), Some("Opaque"));
        let labels = secret.metadata.labels.unwrap_or_default();
        assert_eq!(labels.get("team").map(String::as_str), Some("a"));
        let owner = &secret.metadata.owner_references.unwrap_or_default()[0];
        assert_eq!(Some(&owner.uid), binding.metadata.uid.as_ref());

        // It comes after the status.
        wait::until("the event", SOON, async || {
            let events = scene.namespace.api::<Event>();
            let events = events.list(&ListParams::default()).await?.items;
            let reasons: Vec<_> = events.iter().filter_map(|e| e.reason.as_deref()).collect();
            ensure!(reasons == ["CredentialsIssued"], "there are {reasons:?}");
            Ok(Some(()))
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_status_reaches_no_other_binding_of_that_name() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        let binding = scene.ready().await?;
        let status = binding.status.clone().unwrap_or_default();
        let mut former = binding.clone();
        former.metadata.uid = Some("5f1c3a0e-0000-4000-8000-000000000000".to_owned());
        let mut of_former = status.clone();
        of_former.secret_name = Some("of-the-former".to_owned());
        let reporter = Reporter::new(Cluster::shared().await?.client().await?);
        let report = reporter.report(&former, None, &of_former, None, DateTime::UNIX_EPOCH);
        ensure!(!report.await, "another binding's status was written");
        assert_eq!(scene.ready().await?.status.as_ref(), Some(&status));
        let report = reporter.report(&binding, None, &status, None, DateTime::UNIX_EPOCH);
        ensure!(report.await, "the binding's own status was not written");

        // By this the reporter knows a namesake's refusal from that of a status that is wrong.
        let of_former = json!([{"op": "test", "path": "/metadata/uid", "value": "former"}]);
        let patch = Patch::Json::<()>(serde_json::from_value(of_former)?);
        let name = binding.metadata.name.as_deref().context("no name")?;
        let (bindings, parameters) = (scene.bindings(), PatchParams::default());
        let patched = bindings.patch_status(name, &parameters, &patch);
        let Err(kube::Error::Api(refusal)) = patched.await else {
            anyhow::bail!("the patch was not refused");
        };
        ensure!(refusal.code == 422, "{refusal:?}");
        let causes = refusal.details.map(|details| details.causes);
        ensure!(causes.unwrap_or_default().is_empty(), "it names causes");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn kubectl_shows_what_matters() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        let cluster = Cluster::shared().await?;
        let table = cluster
            .kubectl(&["-n", scene.namespace.name(), "get", "arb", "-o", "wide"])
            .await?
            .success()?;
        let (head, row) = table.split_once('\n').context("no row")?;
        let columns: Vec<_> = head.split_whitespace().collect();
        assert_eq!(
            columns,
            [
                "NAME",
                "ROLE",
                "SERVICEACCOUNT",
                "READY",
                "REASON",
                "EXPIRES",
                "SOURCE",
                "SECRET",
                "NEXT",
                "REFRESH",
                "AGE"
            ]
        );
        for part in ["app", &scene.role_arn(), "True", "CredentialsFresh", "OIDC"] {
            assert!(row.contains(part), "{part} is not in {row}");
        }
        let explained = cluster
            .kubectl(&["explain", "arb.spec.session"])
            .await?
            .success()?;
        assert!(explained.contains("durationSeconds") && explained.contains("Default: 3600"));
        let waited = [
            "-n",
            scene.namespace.name(),
            "wait",
            "--for=condition=Ready",
            "arb/app",
        ];
        cluster.kubectl(&waited).await?.success()?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn two_bindings_for_one_secret_leave_it_to_its_owner() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        let before = scene.data().await?;
        let mut second = scene.bindings().get("app").await?;
        second.metadata = kube::api::ObjectMeta {
            name: Some("second".to_owned()),
            ..kube::api::ObjectMeta::default()
        };
        second.status = None;
        second.spec.secret = Some(serde_json::from_value(json!({"name": "app-credentials"}))?);
        scene
            .bindings()
            .create(&PostParams::default(), &second)
            .await?;
        wait::until("a conflict on binding second", SOON, async || {
            let binding = scene.bindings().get("second").await?;
            let failure = binding.status.and_then(|status| status.failure);
            let failure = failure.context("no failure yet")?;
            ensure!(
                failure.message.contains("belongs to app"),
                "{}",
                failure.message
            );
            Ok(Some(()))
        })
        .await?;
        assert_eq!(scene.data().await?, before);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn deleting_a_binding_deletes_its_secret() -> Result<()> {
    with_scene(async |scene| {
        let binding = scene.bind(scene.spec()).await?;
        assert!(binding.metadata.finalizers.is_none());
        scene.ready().await?;
        scene
            .bindings()
            .delete("app", &DeleteParams::default())
            .await?;
        wait::until("the Secret to be collected", COLLECTED, async || {
            Ok(scene
                .secrets()
                .get_opt("app-credentials")
                .await?
                .is_none()
                .then_some(()))
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_deleted_secret_comes_back_with_new_credentials() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        let before = scene.data().await?;
        scene
            .secrets()
            .delete("app-credentials", &DeleteParams::default())
            .await?;
        let after = wait::until("the Secret to come back", SOON, async || {
            Ok(Some(scene.data().await?))
        })
        .await?;
        scene.verify(&after)?;
        assert_ne!(
            before["ALIBABA_CLOUD_ACCESS_KEY_ID"],
            after["ALIBABA_CLOUD_ACCESS_KEY_ID"]
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_foreign_edit_is_repaired() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        let before = scene.data().await?;
        let edit = Patch::Merge(json!({"data": {
            "ALIBABA_CLOUD_ACCESS_KEY_ID": "ZXZpbA==",
            "foreign": "ZXZpbA==",
            "config.json": null,
        }}));
        let parameters = PatchParams {
            field_manager: Some("kubectl-edit".to_owned()),
            ..PatchParams::default()
        };
        scene
            .secrets()
            .patch("app-credentials", &parameters, &edit)
            .await?;
        let after = wait::until("the repair", SOON, async || {
            let data = scene.data().await?;
            scene.verify(&data)?;
            ensure!(
                data.contains_key("config.json"),
                "config.json is still missing"
            );
            Ok(Some(data))
        })
        .await?;
        assert_ne!(
            before["ALIBABA_CLOUD_ACCESS_KEY_ID"],
            after["ALIBABA_CLOUD_ACCESS_KEY_ID"]
        );
        assert!(!after.contains_key("foreign"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_touch_that_changes_nothing_costs_no_exchange() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        let calls = || {
            scene
                .installation
                .sts
                .calls()
                .by_role(&scene.role_arn())
                .len()
        };
        let before = (calls(), scene.data().await?);
        // Another manager adds a key of its own and a label.
        let touch = Patch::Merge(json!({
            "metadata": {"labels": {"touched": "yes"}},
            "data": {"extra": "eA=="},
        }));
        let parameters = PatchParams {
            field_manager: Some("somebody".to_owned()),
            ..PatchParams::default()
        };
        scene
            .secrets()
            .patch("app-credentials", &parameters, &touch)
            .await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut data = scene.data().await?;
        data.remove("extra");
        assert_eq!((calls(), data), before);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn other_formats_replace_the_keys_in_one_write() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        scene
            .change(json!({"secret": {"formats": ["json"]}}))
            .await?;
        scene.ready().await?;
        let data = scene.data().await?;
        assert_eq!(data.keys().collect::<Vec<_>>(), ["credentials.json"]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_renamed_secret_does_not_leave_the_former_behind() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        scene.change(json!({"secret": {"name": "renamed"}})).await?;
        scene.ready().await?;
        scene.secrets().get("renamed").await?;
        wait::until("the former Secret to go", SOON, async || {
            Ok(scene
                .secrets()
                .get_opt("app-credentials")
                .await?
                .is_none()
                .then_some(()))
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_recreated_service_account_is_exchanged_anew() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        let before = scene.data().await?;
        let accounts = scene.namespace.api::<ServiceAccount>();
        accounts.delete("app", &DeleteParams::default()).await?;
        scene.make_service_account("app").await?;
        wait::until("new credentials", SOON, async || {
            let data = scene.data().await?;
            ensure!(data != before, "the Secret is as it was");
            Ok(Some(scene.verify(&data)?))
        })
        .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_refresh_request_is_answered_once() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        let before = scene.data().await?;
        let request = Patch::Merge(json!({"metadata": {"annotations": {
            "rrsa.io/refresh-requested-at": "2026-01-01T00:00:00Z",
        }}}));
        scene
            .bindings()
            .patch("app", &PatchParams::default(), &request)
            .await?;
        wait::until("new credentials", SOON, async || {
            Ok((scene.data().await? != before).then_some(()))
        })
        .await?;
        let calls = scene
            .installation
            .sts
            .calls()
            .by_role(&scene.role_arn())
            .len();
        assert_eq!(calls, 2);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_suspended_binding_is_left_alone() -> Result<()> {
    with_scene(async |scene| {
        let mut spec = scene.spec();
        spec["suspend"] = json!(true);
        scene.bind(spec).await?;
        scene.says("Ready", "Unknown", "Suspended").await?;
        assert!(scene.secrets().get_opt("app-credentials").await?.is_none());
        scene.change(json!({"suspend": false})).await?;
        scene.ready().await?;
        Ok(())
    })
    .await
}
