//! A binding becomes a Secret, stays one, and says what is wrong when it cannot.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::bindings::{SOON, Scene};
use crate::installation::{role, subject};
use crate::support::kubernetes::Cluster;
use crate::support::wait;
use crate::with_scene;

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

        let events = scene
            .namespace
            .api::<Event>()
            .list(&ListParams::default())
            .await?;
        let reasons: Vec<_> = events
            .items
            .iter()
            .filter_map(|e| e.reason.as_deref())
            .collect();
        assert_eq!(reasons, ["CredentialsIssued"]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn kubectl_shows_what_matters() -> Result<()> {
    with_scene(async |scene| {
        scene.bind(scene.spec()).await?;
        scene.ready().await?;
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

/// A change that makes the next exchange impossible, and what the status must say then.
struct Broken {
    change: serde_json::Value,
    reason: &'static str,
    remedy: &'static str,
}

/// Issues once, breaks the binding, and checks that condition, reason and remedy name the cause
/// while the Secret keeps its last good content.
async fn breaks(scene: &Scene<'_>, broken: Broken) -> Result<()> {
    scene.bind(scene.spec()).await?;
    scene.ready().await?;
    let before = scene.data().await?;
    scene.change(broken.change).await?;
    let binding = scene.says("Ready", "False", broken.reason).await?;
    let failure = binding
        .status
        .and_then(|status| status.failure)
        .context("no failure")?;
    ensure!(
        failure.remedy.contains(broken.remedy),
        "the remedy does not name {:?}: {}",
        broken.remedy,
        failure.remedy
    );
    ensure!(
        scene.data().await? == before,
        "the Secret lost its last good content"
    );
    let session = scene.verify(&before)?;
    ensure!(!session.expired, "the credentials in it have ended");
    Ok(())
}

#[tokio::test]
async fn an_untrusted_subject_is_told_the_statement_to_add() -> Result<()> {
    with_scene(async |scene| {
        let other = role(&format!("{}-other", scene.namespace.name()));
        scene.installation.trust(&other, &[]);
        let statement = format!(r#""oidc:sub":"{}""#, subject(scene.namespace.name(), "app"));
        let remedy: &'static str = statement.leak();
        let change = json!({"role": {"arn": other}});
        breaks(
            scene,
            Broken {
                change,
                reason: "NotTrusted",
                remedy,
            },
        )
        .await
    })
    .await
}

#[tokio::test]
async fn an_unknown_role_is_named() -> Result<()> {
    with_scene(async |scene| {
        let change = json!({"role": {"arn": role("nobody-made-it")}});
        let remedy = "Create the role";
        breaks(
            scene,
            Broken {
                change,
                reason: "RoleNotFound",
                remedy,
            },
        )
        .await
    })
    .await
}

#[tokio::test]
async fn an_unknown_provider_is_named() -> Result<()> {
    with_scene(async |scene| {
        let change = json!({"oidcProviderArn": "acs:ram::1234567890123456:oidc-provider/other"});
        let remedy = "Enable RRSA";
        breaks(
            scene,
            Broken {
                change,
                reason: "ProviderNotFound",
                remedy,
            },
        )
        .await
    })
    .await
}

#[tokio::test]
async fn a_missing_service_account_is_named_and_awaited() -> Result<()> {
    with_scene(async |scene| {
        let change = json!({"serviceAccountName": "late"});
        let remedy = "Create the ServiceAccount";
        breaks(
            scene,
            Broken {
                change,
                reason: "ServiceAccountNotFound",
                remedy,
            },
        )
        .await?;
        scene.trust("late");
        scene.make_service_account("late").await?;
        scene.ready().await?;
        let session = scene.verify(&scene.data().await?)?;
        assert_eq!(
            session.subject.as_deref(),
            Some(&*subject(scene.namespace.name(), "late"))
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_operators_token_needs_a_delegation() -> Result<()> {
    with_scene(async |scene| {
        let change = json!({"tokenSource": {"type": "File", "file": "operator"}});
        let remedy = "delegation";
        breaks(
            scene,
            Broken {
                change,
                reason: "NotDelegated",
                remedy,
            },
        )
        .await
    })
    .await
}

#[tokio::test]
async fn a_wrong_audience_is_named() -> Result<()> {
    with_scene(async |scene| {
        let delegated = role("delegated-audience");
        scene
            .installation
            .trust(&delegated, &[subject("rrsa-system", "rrsa-controller")]);
        let change = json!({
            "role": {"arn": delegated},
            "tokenSource": {"type": "File", "file": "elsewhere"},
        });
        let remedy = "audience must be sts.aliyuncs.com";
        breaks(
            scene,
            Broken {
                change,
                reason: "AudienceMismatch",
                remedy,
            },
        )
        .await
    })
    .await
}

#[tokio::test]
async fn what_comes_later_is_unsupported_and_not_ignored() -> Result<()> {
    with_scene(async |scene| {
        let change = json!({"assume": [{"arn": role("next")}]});
        breaks(
            scene,
            Broken {
                change,
                reason: "Unsupported",
                remedy: "Remove the field",
            },
        )
        .await
    })
    .await
}

#[tokio::test]
async fn a_delegated_token_of_the_operator_is_exchanged() -> Result<()> {
    with_scene(async |scene| {
        let delegated = role("delegated-good");
        let operator = subject("rrsa-system", "rrsa-controller");
        scene
            .installation
            .trust(&delegated, std::slice::from_ref(&operator));
        let source = json!({"type": "File", "file": "operator"});
        scene
            .bind(json!({"role": {"arn": delegated}, "tokenSource": source}))
            .await?;
        scene.ready().await?;
        let session = scene.verify(&scene.data().await?)?;
        assert_eq!(session.subject, Some(operator));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_foreign_secret_of_that_name_is_left_alone() -> Result<()> {
    with_scene(async |scene| {
        let foreign: Secret = serde_json::from_value(json!({
            "metadata": {"name": "app-credentials"},
            "stringData": {"password": "of somebody else"},
        }))?;
        let made = scene
            .secrets()
            .create(&PostParams::default(), &foreign)
            .await?;
        scene.bind(scene.spec()).await?;
        let binding = scene.says("Ready", "False", "SecretConflict").await?;
        let failure = binding
            .status
            .and_then(|status| status.failure)
            .context("no failure")?;
        assert!(
            failure.message.contains("app-credentials"),
            "{}",
            failure.message
        );
        assert!(
            failure.remedy.contains("spec.secret.name"),
            "{}",
            failure.remedy
        );
        let seen = scene.secrets().get("app-credentials").await?;
        assert_eq!(
            seen.metadata.resource_version,
            made.metadata.resource_version
        );

        // With another name the binding gets its Secret.
        scene.change(json!({"secret": {"name": "mine"}})).await?;
        scene.ready().await?;
        scene.secrets().get("mine").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn two_bindings_for_one_secret_leave_it_to_its_owner() -> Result<()> {
    with_scene(async |scene| {
        scene.bind(scene.spec()).await?;
        scene.ready().await?;
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
        wait::until("the Secret to be collected", SOON, async || {
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
        scene.bind(scene.spec()).await?;
        scene.ready().await?;
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
        scene.bind(scene.spec()).await?;
        scene.ready().await?;
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
        scene.bind(scene.spec()).await?;
        scene.ready().await?;
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
        scene.bind(scene.spec()).await?;
        scene.ready().await?;
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
        scene.bind(scene.spec()).await?;
        scene.ready().await?;
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
        scene.bind(scene.spec()).await?;
        scene.ready().await?;
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
        scene.bind(scene.spec()).await?;
        scene.ready().await?;
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
