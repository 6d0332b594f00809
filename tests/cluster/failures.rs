//! What cannot be had ends in a condition whose reason and remedy name the cause, and what the
//! Secret held before stays.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::json;

use crate::bindings::Scene;
use crate::installation::{role, subject};
use crate::with_scene;

/// A change that makes the next exchange impossible, and what the status must say then.
struct Broken {
    change: serde_json::Value,
    reason: &'static str,
    remedy: &'static str,
}

/// Issues once, breaks the binding, and checks that condition, reason and remedy name the cause
/// while the Secret keeps its last good content.
async fn breaks(scene: &Scene<'_>, broken: Broken) -> Result<()> {
    scene.issue().await?;
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
