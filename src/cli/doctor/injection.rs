//! `rrsa doctor injection`: asks the API server for a pod with a role, as a dry run that creates
//! nothing, and looks at the pod that it would have stored.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::cli::kubeconfig::{KubeconfigArgs, said};
use crate::cli::operator;
use crate::contract::annotations::ROLE_ARN;
use crate::contract::{env, token_volume};

/// A role that exists nowhere: the pod never runs.
const ROLE: &str = "acs:ram::1000000000000000:role/rrsa-doctor";
/// How long one question may take: longer than the webhook's own time-out.
const CALL_TIMEOUT: Duration = Duration::from_secs(35);
/// Pause before the question is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// What is looked at of the stored pod. The whole type would be a megabyte of program.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    containers: Vec<Container>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    env: Vec<Variable>,
    volume_mounts: Vec<Mount>,
}

#[derive(Debug, Deserialize)]
struct Variable {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    name: String,
    mount_path: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: KubeconfigArgs,
    /// Namespace of the pod; not that of the operator, whose pods are never injected.
    #[arg(long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Seconds to ask again when the answer is not good, as just after an installation.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
}

impl Args {
    #[expect(clippy::print_stdout, reason = "printing is what this command is for")]
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self {
            cluster,
            namespace,
            wait,
        } = self;
        let found = operator::runtime()?.block_on(async {
            let client = cluster.client().await?;
            let kind = ApiResource::erase::<Pod>(&());
            let pods = Api::namespaced_with(client, &namespace, &kind);
            let asking = async {
                loop {
                    match ask(&pods).await {
                        Ok(found) => return found,
                        Err(error) => tracing::debug!(error = format!("{error:#}"), "not yet"),
                    }
                    sleep(PAUSE).await;
                }
            };
            match timeout(Duration::from_secs(wait), asking).await {
                Ok(found) => Ok(found),
                // Once more, for the reason.
                Err(_) => ask(&pods).await,
            }
        })?;
        println!("A pod with the annotation {ROLE_ARN} in namespace {namespace} would find:");
        for (name, value) in found {
            println!("  {name}={value}");
        }
        Ok(())
    }
}

/// Asks for the pod, and returns the variables that it was given.
async fn ask(pods: &Api<DynamicObject>) -> anyhow::Result<Vec<(String, String)>> {
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let wanted = pod()?;
    let answer = timeout(CALL_TIMEOUT, pods.create(&parameters, &wanted))
        .await
        .with_context(|| format!("no answer from the API server in {CALL_TIMEOUT:?}"))?
        .map_err(|error| anyhow!(
            "the API server refuses the pod; if it cannot call the webhook, look at the webhook's pods and at what lies between (network policies, security groups): {}",
            said(&error)
        ))?;
    given(&answer)
}

/// A pod that every level of Pod Security accepts.
fn pod() -> serde_json::Result<DynamicObject> {
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "rrsa-doctor-", "annotations": {ROLE_ARN: ROLE}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "main",
                "image": "rrsa-doctor",
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    }))
}

/// The variables of the pod's container, if it can exchange its token.
fn given(pod: &DynamicObject) -> anyhow::Result<Vec<(String, String)>> {
    let spec = Spec::deserialize(&pod.data["spec"])
        .context("the API server answered with something that is no pod")?;
    let container = spec.containers.into_iter().next();
    let Container { env, volume_mounts } =
        container.context("the API server answered with a pod without containers")?;
    let variables: Vec<_> = env.into_iter().map(|set| (set.name, set.value)).collect();
    let value = |wanted: &str| {
        let found = variables.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    };
    let missing: Vec<_> = [env::ROLE_ARN, env::OIDC_PROVIDER_ARN, env::OIDC_TOKEN_FILE]
        .into_iter()
        .filter(|name| value(name).is_none())
        .collect();
    anyhow::ensure!(
        missing.is_empty(),
        "the pod would lack {}: the webhook was not asked or did not inject; is there a MutatingWebhookConfiguration with an entry for pods that carry the annotation {ROLE_ARN}, and is this namespace not one of those that it excludes?",
        missing.join(", ")
    );
    anyhow::ensure!(
        value(env::ROLE_ARN) == Some(ROLE),
        "the pod would find another role than it asked for: {:?}",
        value(env::ROLE_ARN)
    );
    anyhow::ensure!(
        volume_mounts
            .iter()
            .any(|mount| mount.name == token_volume::NAME
                && mount.mount_path == token_volume::MOUNT_PATH),
        "the pod would find no token: the volume {} is not mounted at {}",
        token_volume::NAME,
        token_volume::MOUNT_PATH
    );
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injected() -> DynamicObject {
        let mut pod = pod().unwrap();
        let container = &mut pod.data["spec"]["containers"][0];
        container["env"] = json!([
            {"name": env::ROLE_ARN, "value": ROLE},
            {"name": env::OIDC_PROVIDER_ARN, "value": "provider"},
            {"name": env::OIDC_TOKEN_FILE, "value": token_volume::TOKEN_FILE},
        ]);
        container["volumeMounts"] = json!([
            {"name": token_volume::NAME, "mountPath": token_volume::MOUNT_PATH},
        ]);
        pod
    }

    #[test]
    fn an_injected_pod_is_good() {
        assert_eq!(given(&injected()).unwrap().len(), 3);
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut pod = injected();
        let env = &mut pod.data["spec"]["containers"][0]["env"];
        env.as_array_mut().unwrap().remove(1);
        let error = given(&pod).unwrap_err().to_string();
        assert!(
            error.contains("lack ALIBABA_CLOUD_OIDC_PROVIDER_ARN:"),
            "{error}"
        );

        let mut pod = injected();
        pod.data["spec"]["containers"][0]["volumeMounts"] = json!([]);
        let error = given(&pod).unwrap_err().to_string();
        assert!(error.contains("no token"), "{error}");
    }

    #[test]
    fn a_plain_pod_is_told_where_to_look() {
        let error = given(&pod().unwrap()).unwrap_err().to_string();
        assert!(error.contains("MutatingWebhookConfiguration"), "{error}");
    }
}
