//! The official SDKs in pods: programs that ask for credentials by the default chain, and are given the
//! role of their ServiceAccount.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::rrsa::{Rrsa, STS_HOST, role};
use crate::stage::{Stage, condition};
use crate::support::kubernetes::node;
use crate::support::wait;

/// Builds the images, and prints their folder.
const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/sdk.sh");
/// The first build fetches Python packages and compiles the Go SDK.
const BUILD: Duration = Duration::from_mins(10);
/// A start of Python, or a refresh and its way through the kubelet.
const CEILING: Duration = Duration::from_mins(3);
/// The label by which a namespace opts in.
const OPTED_IN: &str = "pod-identity.alibabacloud.com/injection: \"on\"";

/// An SDK, as its image is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sdk {
    Go,
    Python,
}

impl Sdk {
    pub(crate) const ALL: [Self; 2] = [Self::Go, Self::Python];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Python => "python",
        }
    }

    /// Its program's argument for "every two seconds".
    fn pause(self) -> &'static str {
        match self {
            Self::Go => "2s",
            Self::Python => "2",
        }
    }

    /// A pod of that name and namespace whose program tells its credentials every two seconds.
    pub(crate) fn pod(self, (namespace, name): (&str, &str), account: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "serviceAccountName": account,
                "terminationGracePeriodSeconds": 0,
                "hostAliases": [{"ip": node::STS_ADDRESS.to_string(), "hostnames": [STS_HOST]}],
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532},
                "containers": [{
                    "name": "main",
                    "image": format!("localhost/sdk-{}:1", self.name()),
                    "imagePullPolicy": "Never",
                    "args": [self.pause()],
                    // How these languages are told of another certificate authority.
                    "env": [
                        {"name": "SSL_CERT_FILE", "value": "/ca/ca.pem"},
                        {"name": "REQUESTS_CA_BUNDLE", "value": "/ca/ca.pem"},
                    ],
                    "volumeMounts": [{"name": "ca", "mountPath": "/ca"}],
                }],
                "volumes": [{"name": "ca", "configMap": {"name": "sts-ca"}}],
            },
        })
    }
}

/// Loads the images of the SDKs into the node, once.
async fn import_images(stage: &Stage) -> Result<()> {
    static LOADED: OnceCell<()> = OnceCell::const_new();
    LOADED
        .get_or_try_init(async || load_images(stage).await)
        .await?;
    Ok(())
}

async fn load_images(stage: &Stage) -> Result<()> {
    let work = tokio::process::Command::new(IMAGES)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(BUILD, work)
        .await
        .with_context(|| format!("{IMAGES} did not end within {BUILD:?}"))??;
    ensure!(
        output.status.success(),
        "{IMAGES} failed; `make node` runs it where there is a network: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let folder = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    for sdk in Sdk::ALL {
        let archive = folder.join(format!("sdk-{}.tar", sdk.name()));
        stage.node.import(&stage.cluster, &archive).await?;
    }
    Ok(())
}

/// A namespace for pods of SDKs: their images are on the node, and they find the certificate authority
/// of STS in it.
pub(crate) async fn namespace(
    stage: &Stage,
    rrsa: &Rrsa,
    name: &str,
    opted_in: bool,
) -> Result<()> {
    import_images(stage).await?;
    let labels = if opted_in { OPTED_IN } else { "" };
    let namespace = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n"
    );
    stage.cluster.apply_yaml(&namespace).await?;
    let authority = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "sts-ca", "namespace": name},
        "data": {"ca.pem": rrsa.sts.ca_pem()},
    });
    stage.cluster.apply_yaml(&authority.to_string()).await?;
    Ok(())
}

/// A ServiceAccount, with the annotation of the official webhook when it names a role.
pub(crate) async fn account(
    stage: &Stage,
    namespace: &str,
    name: &str,
    role_name: Option<&str>,
) -> Result<()> {
    let annotations = role_name.map_or_else(
        || json!({}),
        |role| json!({"pod-identity.alibabacloud.com/role-name": role}),
    );
    let account = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
    });
    stage.cluster.apply_yaml(&account.to_string()).await?;
    Ok(())
}

/// The last thing that the program of a pod told.
pub(crate) async fn last_answer(stage: &Stage, namespace: &str, pod: &str) -> Result<Value> {
    let log = stage
        .kubectl(&["--namespace", namespace, "logs", pod, "--tail=1"])
        .await?;
    let line = log.lines().last().context("it has told nothing yet")?;
    serde_json::from_str(line).with_context(|| format!("it says {line}"))
}

/// Waits until the program of a pod has credentials of that role.
pub(crate) async fn has_role(
    stage: &Stage,
    rrsa: &Rrsa,
    (namespace, pod): (&str, &str),
    role_name: &str,
) -> Result<Value> {
    let what = format!("{namespace}/{pod} to have the role {role_name}");
    wait::until(&what, CEILING, async || {
        let answer = last_answer(stage, namespace, pod).await?;
        if let Some(error) = answer["error"].as_str() {
            bail!("the SDK says: {error}");
        }
        let found = rrsa.role_of(&answer)?;
        ensure!(found == role(role_name), "it has {found}");
        Ok(Some(answer))
    })
    .await
}

/// Each pod is given its own role, by nothing but an annotation and a label; and after the kubelet has
/// replaced the tokens, the SDKs exchange the new ones.
pub(crate) async fn each_gets_its_role(stage: &'static Stage) -> Result<()> {
    let rrsa = Rrsa::shared(stage).await?;
    namespace(stage, rrsa, "team-a", true).await?;
    for sdk in Sdk::ALL {
        let name = sdk.name();
        rrsa.trust(&format!("{name}-app"), &format!("team-a:{name}"));
        account(stage, "team-a", name, Some(&format!("{name}-app"))).await?;
        let pod = sdk.pod(("team-a", name), name);
        stage.cluster.apply_yaml(&pod.to_string()).await?;
    }
    for sdk in Sdk::ALL {
        let name = sdk.name();
        let role_name = format!("{name}-app");
        let answer = has_role(stage, rrsa, ("team-a", name), &role_name).await?;
        let provider = answer["provider"].as_str().unwrap_or_default();
        ensure!(
            provider.contains("oidc_role_arn"),
            "the {name} SDK says that they come from {provider}"
        );
    }

    let before = Sdk::ALL.map(|sdk| rrsa.tokens_for(&format!("{}-app", sdk.name())).len());
    stage.node.restart_kubelet(&stage.cluster)?;
    for (sdk, before) in Sdk::ALL.into_iter().zip(before) {
        let name = sdk.name();
        let role_name = format!("{name}-app");
        wait::until(
            &format!("{name} to exchange a new token"),
            CEILING,
            async || {
                let tokens = rrsa.tokens_for(&role_name);
                ensure!(tokens.len() > before, "it has exchanged {}", tokens.len());
                Ok(Some(()))
            },
        )
        .await?;
        has_role(stage, rrsa, ("team-a", name), &role_name).await?;
    }
    Ok(())
}

/// The pod, kept from its node's role, to which the official chains would go on after a refusal.
fn without_metadata(mut pod: Value) -> Value {
    let env = &mut pod["spec"]["containers"][0]["env"];
    if let Some(env) = env.as_array_mut() {
        env.push(json!({"name": "ALIBABA_CLOUD_ECS_METADATA_DISABLED", "value": "true"}));
    }
    pod
}

/// Whatever a tenant writes, STS gives nobody another tenant's role, and nobody falls back to something
/// else in silence.
pub(crate) async fn tenants_are_apart(stage: &'static Stage) -> Result<()> {
    let rrsa = Rrsa::shared(stage).await?;
    namespace(stage, rrsa, "team-b", true).await?;
    rrsa.trust("go-app", "team-a:go");
    // By the official annotation, and by our own on the pod with the whole ARN.
    account(stage, "team-b", "by-name", Some("go-app")).await?;
    account(stage, "team-b", "by-arn", None).await?;
    let by_name = without_metadata(Sdk::Go.pod(("team-b", "by-name"), "by-name"));
    let mut by_arn = without_metadata(Sdk::Go.pod(("team-b", "by-arn"), "by-arn"));
    by_arn["metadata"]["annotations"] = json!({"rrsa.io/role-arn": role("go-app")});
    for pod in [by_name, by_arn] {
        stage.cluster.apply_yaml(&pod.to_string()).await?;
    }
    for pod in ["by-name", "by-arn"] {
        let what = format!("team-b/{pod} to be refused");
        // What it says first: after a failure the Go SDK asks only the last member of its chain again.
        wait::until(&what, CEILING, async || {
            let log = stage.kubectl(&["--namespace=team-b", "logs", pod]).await?;
            ensure!(!log.contains("accessKeyId"), "it was given credentials");
            let first = log.lines().next().context("it has told nothing yet")?;
            ensure!(first.contains("NoPermission"), "the SDK says: {first}");
            Ok(Some(()))
        })
        .await?;
    }

    let binding = json!({
        "apiVersion": "rrsa.io/v1alpha1",
        "kind": "AlibabaRoleBinding",
        "metadata": {"name": "thief", "namespace": "team-b"},
        "spec": {"role": {"name": "go-app"}, "serviceAccountName": "by-name"},
    });
    stage.cluster.apply_yaml(&binding.to_string()).await?;
    wait::until("the binding to be refused", CEILING, async || {
        let found = stage.json(&["arb", "thief", "--namespace=team-b"]).await?;
        let ready = condition(&found, "Ready").context("it says nothing yet")?;
        ensure!(ready["reason"] == "NotTrusted", "it says {ready}");
        Ok(Some(()))
    })
    .await?;
    let secrets = stage.json(&["secrets", "--namespace=team-b"]).await?;
    ensure!(
        secrets["items"] == json!([]),
        "there are Secrets: {secrets}"
    );
    // Nobody of team-b was ever given anything.
    let stolen = rrsa.sts.calls().count(|call| {
        call.succeeded()
            && call
                .parameters
                .get("RoleSessionName")
                .is_some_and(|name| name.contains("team-b"))
    });
    ensure!(stolen == 0, "STS gave team-b {stolen} sessions");
    stage.forget("team-b").await
}
