//! Somebody who makes pods all the time, while something happens to the release.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use tokio::sync::watch;

use crate::rrsa::role;
use crate::stage::{Stage, variable};

/// Pause between two pods.
const PAUSE: Duration = Duration::from_millis(100);

/// What must hold of each pod; that it is not refused always must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// It has its role.
    Role,
    /// It may be without.
    Anything,
}

/// Makes pods in a new namespace that opted in, each right after its ServiceAccount as one `apply`
/// does it, from before `events` begins until after it has ended. Returns how many.
///
/// # Errors
/// Those of `events`; a pod that was refused, or that is not as expected; none while it happened.
pub(crate) async fn beside(
    stage: &Stage,
    namespace: &str,
    expect: Expect,
    events: impl AsyncFnOnce() -> Result<()>,
) -> Result<usize> {
    let opted_in = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": namespace,
            "labels": {"pod-identity.alibabacloud.com/injection": "on"},
        },
    });
    stage.cluster.apply_yaml(&opted_in.to_string()).await?;
    let client = stage.cluster.client().await?;
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let pods = Api::<Pod>::namespaced(client, namespace);
    let (stop, told) = watch::channel(false);
    let events = async {
        let outcome = events().await;
        stop.send_replace(true);
        outcome
    };
    let (happened, made) = tokio::join!(events, make(&accounts, &pods, expect, told));
    happened?;
    let made = made?;
    ensure!(made > 20, "only {made} pods were made meanwhile");
    stage.forget(namespace).await?;
    Ok(made)
}

async fn make(
    accounts: &Api<ServiceAccount>,
    pods: &Api<Pod>,
    expect: Expect,
    mut stop: watch::Receiver<bool>,
) -> Result<usize> {
    let parameters = PostParams::default();
    let mut made = 0;
    while !*stop.borrow_and_update() {
        let name = format!("made-{made}");
        let account = serde_json::from_value(json!({
            "metadata": {
                "name": name,
                "annotations": {"pod-identity.alibabacloud.com/role-name": name},
            },
        }))?;
        accounts.create(&parameters, &account).await?;
        let pod = serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "serviceAccountName": name,
                // It need not run.
                "schedulingGates": [{"name": "rrsa.io/never"}],
                "containers": [{"name": "main", "image": "localhost/busybox:1"}],
            },
        }))?;
        let pod = pods
            .create(&parameters, &pod)
            .await
            .with_context(|| format!("a pod was refused after {made} good ones"))?;
        let arn = variable(&pod, "ALIBABA_CLOUD_ROLE_ARN");
        ensure!(
            expect == Expect::Anything || arn == Some(role(&name)),
            "after {made} good pods one has the role {arn:?}"
        );
        made += 1;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(made)
}
