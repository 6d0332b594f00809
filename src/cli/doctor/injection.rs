//! `rrsa doctor injection`: asks the API server for a pod with a role, as a dry run that creates
//! nothing, and looks at the pod that it would have stored.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::cli::operator;
use crate::contract::annotations::ROLE_ARN;
use crate::contract::{env, token_volume};

/// A role that exists nowhere: the pod never runs.
const ROLE: &str = "acs:ram::1000000000000000:role/rrsa-doctor";
/// How long one question may take: longer than the webhook's own time-out.
const CALL_TIMEOUT: Duration = Duration::from_secs(35);
/// Pause before the question is asked again.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
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
        let Self { namespace, wait } = self;
        let found = operator::runtime()?.block_on(async {
            let client = operator::client().await?;
            let pods = Api::namespaced(client, &namespace);
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
async fn ask(pods: &Api<Pod>) -> anyhow::Result<Vec<(String, String)>> {
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let wanted = pod()?;
    let answer = timeout(CALL_TIMEOUT, pods.create(&parameters, &wanted))
        .await
        .with_context(|| format!("no answer from the API server in {CALL_TIMEOUT:?}"))?
        .context("the API server refuses the pod; if it cannot call the webhook, look at the webhook's pods and at what lies between (network policies, security groups)")?;
    given(&answer)
}

/// A pod that every level of Pod Security accepts.
fn pod() -> serde_json::Result<Pod> {
    serde_json::from_value(json!({
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
fn given(pod: &Pod) -> anyhow::Result<Vec<(String, String)>> {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let container = container.context("the API server answered with a pod without containers")?;
    let variables = variables(container);
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
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    anyhow::ensure!(
        mounts.iter().any(|mount| mount.name == token_volume::NAME
            && mount.mount_path == token_volume::MOUNT_PATH),
        "the pod would find no token: the volume {} is not mounted at {}",
        token_volume::NAME,
        token_volume::MOUNT_PATH
    );
    Ok(variables)
}

fn variables(container: &Container) -> Vec<(String, String)> {
    let env = container.env.iter().flatten();
    env.map(|variable| {
        let value = variable.value.clone().unwrap_or_default();
        (variable.name.clone(), value)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{EnvVar, VolumeMount};

    fn injected() -> Pod {
        let mut pod = pod().unwrap();
        let container = &mut pod.spec.as_mut().unwrap().containers[0];
        let variable = |name: &str, value: &str| EnvVar {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            ..EnvVar::default()
        };
        container.env = Some(vec![
            variable(env::ROLE_ARN, ROLE),
            variable(env::OIDC_PROVIDER_ARN, "provider"),
            variable(env::OIDC_TOKEN_FILE, token_volume::TOKEN_FILE),
        ]);
        container.volume_mounts = Some(vec![VolumeMount {
            name: token_volume::NAME.to_owned(),
            mount_path: token_volume::MOUNT_PATH.to_owned(),
            ..VolumeMount::default()
        }]);
        pod
    }

    #[test]
    fn an_injected_pod_is_good() {
        assert_eq!(given(&injected()).unwrap().len(), 3);
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut pod = injected();
        let container = &mut pod.spec.as_mut().unwrap().containers[0];
        container.env.as_mut().unwrap().remove(1);
        let error = given(&pod).unwrap_err().to_string();
        assert!(
            error.contains("lack ALIBABA_CLOUD_OIDC_PROVIDER_ARN:"),
            "{error}"
        );

        let mut pod = injected();
        pod.spec.as_mut().unwrap().containers[0].volume_mounts = None;
        let error = given(&pod).unwrap_err().to_string();
        assert!(error.contains("no token"), "{error}");
    }

    #[test]
    fn a_plain_pod_is_told_where_to_look() {
        let error = given(&pod().unwrap()).unwrap_err().to_string();
        assert!(error.contains("MutatingWebhookConfiguration"), "{error}");
    }
}
