//! Where OIDC cannot work in the cluster, the node's role stands in for those whom the administrator
//! allows it, and for nobody else; OIDC wins as soon as it works. On an installation of its own,
//! because what is known about OIDC is known to the whole process.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams};
use rrsa::api::v1alpha1::CredentialSource;
use serde_json::{Value, json};

use crate::bindings::{POLICY, SOON, Scene, data_of, verify};
use crate::installation::{DEAD_HOST, FALLBACK_ID, NODE_ROLE, role, subject};
use crate::simulators::issuance::Session;
use crate::support::kubernetes::Cluster;
use crate::support::wait;
use crate::{own_installation, reported};

#[tokio::test]
async fn the_nodes_role_stands_in_where_it_may_and_oidc_wins_when_it_works() -> Result<()> {
    let (cluster, installation) = own_installation(None).await?;
    let namespace = cluster.test_namespace().await?;
    let scene = Scene::set(&installation, namespace).await?;
    reported(stands_in(&cluster, &scene).await)
}

fn break_oidc(scene: &Scene<'_>, broken: bool) {
    scene
        .installation
        .sts
        .update(|config| config.providers[0].broken = broken);
}

fn asking(scene: &Scene<'_>, change: Value) -> Value {
    let mut spec = scene.spec();
    spec["fallback"] = json!({"type": "EcsMetadata"});
    if let Value::Object(change) = change {
        for (key, value) in change {
            spec[key] = value;
        }
    }
    spec
}

async fn session_of(scene: &Scene<'_>, name: &str) -> Result<Session> {
    let secret: Secret = scene.secrets().get(&format!("{name}-credentials")).await?;
    verify(scene.installation, &data_of(&secret)?)
}

async fn stands_in(cluster: &Cluster, scene: &Scene<'_>) -> Result<()> {
    let installation = scene.installation;
    let namespace = scene.namespace.name();
    let node = role(NODE_ROLE);
    let further = role(&format!("{namespace}-further"));
    installation.trust_role(&scene.role_arn(), &node, Some(FALLBACK_ID));
    installation.trust_role(&further, &scene.role_arn(), None);
    installation.trust(&node, &[subject(namespace, "app")]);
    break_oidc(scene, true);

    let policy = POLICY;
    let session = json!({"session": {"name": "chosen", "policy": policy}});
    scene.bind(asking(scene, session)).await?;
    let binding = scene.says("Ready", "True", "FallbackInUse").await?;
    let status = binding.status.unwrap_or_default();
    assert_eq!(status.source, Some(CredentialSource::EcsMetadata));
    let issued = session_of(scene, "app").await?;
    assert_eq!(issued.role_arn, scene.role_arn());
    // The session is the operator's doing, so the operator names it; the policy binds it.
    assert_eq!(issued.name, format!("{namespace}.app"));
    assert_eq!(issued.policy.as_deref(), Some(policy));
    // It comes after the status.
    let told = wait::until("the event of the fallback", SOON, async || {
        let events = scene.namespace.api::<Event>();
        let mut events = events.list(&ListParams::default()).await?.items.into_iter();
        Ok(events.find(|event| event.reason.as_deref() == Some("FallbackInUse")))
    })
    .await?;
    assert_eq!(told.type_.as_deref(), Some("Warning"));

    // The chain goes on from there, and the node's own credentials go where the administrator says.
    let chain = asking(scene, json!({"assume": [{"arn": further}]}));
    scene.bind_as("chained", chain).await?;
    scene
        .says_of("chained", "Ready", "True", "FallbackInUse")
        .await?;
    assert_eq!(session_of(scene, "chained").await?.role_arn, further);
    let own = asking(scene, json!({"role": {"arn": node}}));
    scene.bind_as("own", own).await?;
    scene
        .says_of("own", "Ready", "True", "FallbackInUse")
        .await?;
    assert_eq!(session_of(scene, "own").await?.role_arn, node);

    refused(scene, &node).await?;
    back_to_oidc(scene).await?;
    installation.ensure_running()?;
    installation.assert_no_secret_in_logs(cluster)
}

/// What must not lead to the node's role, though OIDC does not work.
async fn refused(scene: &Scene<'_>, node: &str) -> Result<()> {
    let nonsense = "acs:ram::1234567890123456:oidc-provider/nonsense";
    for (name, change, reason) in [
        (
            "provider",
            json!({"oidcProviderArn": nonsense}),
            "FallbackNotAllowed",
        ),
        (
            "endpoint",
            json!({"sts": {"endpoint": DEAD_HOST}}),
            "FallbackNotAllowed",
        ),
        (
            "role",
            json!({"role": {"arn": role("prod")}}),
            "FallbackNotAllowed",
        ),
        (
            "chain-end",
            json!({"assume": [{"arn": role("prod")}]}),
            "FallbackNotAllowed",
        ),
        (
            "nobody",
            json!({"serviceAccountName": "nobody"}),
            "ServiceAccountNotFound",
        ),
        ("not-asked", json!({"fallback": null}), "IssuerBroken"),
        // A policy would not bind the node's own credentials, and the node's role does not trust itself.
        (
            "policy",
            json!({"role": {"arn": node}, "session": {"policy": POLICY}}),
            "NotTrusted",
        ),
    ] {
        let mut spec = asking(scene, change);
        if spec["fallback"].is_null() {
            spec.as_object_mut()
                .context("no object")?
                .remove("fallback");
        }
        scene.bind_as(name, spec).await?;
        let binding = scene.says_of(name, "Ready", "False", reason).await?;
        let secret = scene
            .secrets()
            .get_opt(&format!("{name}-credentials"))
            .await?;
        ensure!(secret.is_none(), "{name} got a Secret");
        let failure = binding.status.and_then(|status| status.failure);
        let failure = failure.context("no failure")?;
        let shown = format!("{} {}", failure.message, failure.remedy);
        ensure!(!shown.contains(FALLBACK_ID), "the external id is shown");
    }
    Ok(())
}

async fn back_to_oidc(scene: &Scene<'_>) -> Result<()> {
    break_oidc(scene, false);
    // A person who asks is answered by a token, also where one was sent in vain a moment ago.
    let request = Patch::Merge(json!({"metadata": {"annotations": {
        "rrsa.io/refresh-requested-at": "now",
    }}}));
    let parameters = PatchParams::default();
    scene.bindings().patch("app", &parameters, &request).await?;
    let binding = scene.ready().await?;
    let source = binding.status.and_then(|status| status.source);
    assert_eq!(source, Some(CredentialSource::Oidc));
    assert_eq!(session_of(scene, "app").await?.name, "chosen");
    // That it works is heard by those that nobody asked about.
    for name in ["chained", "own"] {
        scene
            .says_of(name, "Ready", "True", "CredentialsFresh")
            .await?;
        let session = session_of(scene, name).await?;
        ensure!(!session.expired);
    }
    Ok(())
}
