//! What the administrator's switches make of pods, through the API server: strict mode, the agent, the
//! fallback and the metadata service's variables; and that they are followed.
#![expect(clippy::disallowed_methods, reason = "tests write real files")]

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::bindings::{SOON, Scene};
use crate::installation::{Installation, role, swap};
use crate::pods::create_pod;
use crate::support::kubernetes::Cluster;
use crate::support::wait;
use crate::{choices, reported};

const SWITCHES: &str = r#"webhook:
  strict: true
  disableMetadata: true
  agent: {port: 9999}
  ecsFallback:
    - {namespaces: ["rrsa-test-*"], nodeRole: worker}
"#;
const DISABLED: &str = "ALIBABA_CLOUD_ECS_METADATA_DISABLED";

#[tokio::test]
async fn the_administrators_switches_decide_what_pods_get() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.require_own("a webhook by URL")?;
    let choices = crate::installation::Choices {
        configuration: SWITCHES,
        ..choices(None)
    };
    let installation = Installation::start(&cluster, choices).await?;
    let on = [("pod-identity.alibabacloud.com/injection", "on")];
    let namespace = cluster.test_namespace_with(&on).await?;
    let scene = Scene::set(&installation, namespace).await?;
    let outcome = switches(&scene).await;
    reported(outcome.and_then(|()| installation.assert_no_secret_in_logs(&cluster)))
}

async fn switches(scene: &Scene<'_>) -> Result<()> {
    let plain = json!({"rrsa.io/role-arn": scene.role_arn()});
    let with = |more: Value| {
        let mut annotations = plain.clone();
        json_patch::merge(&mut annotations, &more);
        annotations
    };
    // For good, not only as a trial.
    let made = create(scene, scene.namespace.name(), "oidc", &plain, false).await?;
    let env = env_of(&made);
    assert_eq!(env["ALIBABA_CLOUD_ROLE_ARN"]["value"], scene.role_arn());
    assert_eq!(env[DISABLED]["value"], "true");

    let fallback = with(json!({"rrsa.io/fallback": "ecs-metadata"}));
    let made = attempt(scene, "fallback", &fallback).await?;
    let env = env_of(&made);
    assert_eq!(env["ALIBABA_CLOUD_ECS_METADATA"]["value"], "worker");
    assert!(env[DISABLED].is_null() && !env["ALIBABA_CLOUD_OIDC_TOKEN_FILE"].is_null());

    let agent = with(json!({"rrsa.io/mode": "agent"}));
    let made = attempt(scene, "agent", &agent).await?;
    let env = env_of(&made);
    let field = |name: &str| env[name]["valueFrom"]["fieldRef"]["fieldPath"].clone();
    assert_eq!(field("RRSA_HOST_IP"), "status.hostIP");
    assert_eq!(field("RRSA_POD_UID"), "metadata.uid");
    assert_eq!(
        env["ALIBABA_CLOUD_CREDENTIALS_URI"]["value"],
        "http://$(RRSA_HOST_IP):9999/v1/pods/$(RRSA_POD_UID)/credentials"
    );
    assert_eq!(env[DISABLED]["value"], "true");
    let marked = &made["metadata"]["annotations"]["rrsa.io/injected-role-arn"];
    assert_eq!(*marked, scene.role_arn());

    secret(scene).await?;
    strict(scene, &plain).await
}

/// Mode secret: refused while there is no binding, and served by one that is not ready yet.
async fn secret(scene: &Scene<'_>) -> Result<()> {
    let asks = json!({"rrsa.io/mode": "secret"});
    refused(scene, scene.namespace.name(), &asks, "BindingMissing").await?;
    scene.bind(scene.spec()).await?;
    let made = wait::until("the pod of the binding", SOON, async || {
        Ok(Some(attempt(scene, "secret", &asks).await?))
    })
    .await?;
    let env = env_of(&made);
    assert_eq!(
        env["ALIBABA_CLOUD_CREDENTIALS_FILE"]["value"],
        "/var/run/secrets/rrsa.io/credentials/credentials.ini"
    );
    assert!(env["ALIBABA_CLOUD_ROLE_ARN"].is_null(), "two identities");
    Ok(())
}

/// What the author can mend is refused with the remedy; as soon as the switch is off it is let in.
async fn strict(scene: &Scene<'_>, plain: &Value) -> Result<()> {
    let here = scene.namespace.name();
    for (annotations, word) in [
        (
            json!({"rrsa.io/role-arn": "acs:ram::1:user/me"}),
            "RoleArnIllegal",
        ),
        (
            json!({"rrsa.io/role-arn": role("a"), "rrsa.io/mode": "Agent"}),
            "ModeIllegal",
        ),
        (
            json!({"rrsa.io/role-arn": role("a"), "rrsa.io/fallback": "node"}),
            "FallbackIllegal",
        ),
        (
            json!({
                "rrsa.io/role-arn": role("a"),
                "pod-identity.alibabacloud.com/service-account-token-expiration": "1h",
            }),
            "ExpirationIllegal",
        ),
    ] {
        refused(scene, here, &annotations, word).await?;
    }
    // A namespace that no entry names.
    let name = format!("elsewhere-{here}");
    let elsewhere: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    let namespaces = Api::<Namespace>::all(scene.namespace.client());
    namespaces
        .create(&PostParams::default(), &elsewhere)
        .await?;
    let mut fallback = plain.clone();
    fallback["rrsa.io/fallback"] = json!("ecs-metadata");
    // Pods come after the namespace's ServiceAccount.
    wait::until("the refusal", SOON, async || {
        refused(scene, &name, &fallback, "FallbackNotAllowed").await?;
        Ok(Some(()))
    })
    .await?;
    // Nothing that the pod's author did wrong.
    attempt(scene, "good", plain).await?;

    let file = scene.installation.configuration();
    let text = std::fs::read_to_string(&file)?;
    swap(&file, &text.replace("strict: true", "strict: false"))?;
    let wrong = json!({"rrsa.io/role-arn": "acs:ram::1:user/me"});
    let made = wait::until("strict mode to end", SOON * 2, async || {
        Ok(Some(attempt(scene, "wrong", &wrong).await?))
    })
    .await?;
    ensure!(
        env_of(&made)["ALIBABA_CLOUD_ROLE_ARN"].is_null(),
        "{made:#}"
    );
    Ok(())
}

/// The variables of the pod's container, by name.
fn env_of(pod: &Value) -> Value {
    let env = pod["spec"]["containers"][0]["env"].as_array();
    let named = |variable: &Value| Some((variable["name"].as_str()?.to_owned(), variable.clone()));
    let map: serde_json::Map<_, _> = env.into_iter().flatten().filter_map(named).collect();
    map.into()
}

async fn create(
    scene: &Scene<'_>,
    namespace: &str,
    name: &str,
    annotations: &Value,
    dry_run: bool,
) -> Result<Value> {
    let account = if namespace == scene.namespace.name() {
        "app"
    } else {
        "default"
    };
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "serviceAccountName": account,
            "containers": [{"name": "main", "image": "registry.example.com/app:1"}],
        },
    });
    create_pod(scene.namespace.client(), namespace, pod, dry_run).await
}

/// Creates the pod as a trial.
async fn attempt(scene: &Scene<'_>, name: &str, annotations: &Value) -> Result<Value> {
    create(scene, scene.namespace.name(), name, annotations, true).await
}

/// Fails unless the webhook refuses the pod for this reason and says what to do.
async fn refused(
    scene: &Scene<'_>,
    namespace: &str,
    annotations: &Value,
    word: &str,
) -> Result<()> {
    let said = match create(scene, namespace, "refused", annotations, true).await {
        Ok(made) => bail!("{annotations} was let in: {made:#}"),
        Err(error) => error,
    };
    let status = said.downcast_ref::<kube::Error>().context("no answer")?;
    let kube::Error::Api(status) = status else {
        bail!("{annotations}: {status}");
    };
    ensure!(
        (400..500).contains(&status.code) && status.message.contains(word),
        "{annotations}: {} {}",
        status.code,
        status.message
    );
    let remedy = ["write ", "create it", "ask the administrator"];
    ensure!(
        remedy.iter().any(|remedy| status.message.contains(remedy)),
        "no remedy in {}",
        status.message
    );
    Ok(())
}
