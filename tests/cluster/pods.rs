//! A namespace whose pods the webhook is asked about, and the ways to look at what came of them.
#![expect(clippy::disallowed_methods, reason = "tests read real files")]

use std::time::Duration;

use anyhow::Result;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use rrsa::api::v1alpha1::AlibabaRoleBinding;
use serde_json::{Value, json};

use crate::installation::Installation;
use crate::support::kubernetes::Cluster;
use crate::support::kubernetes::namespace::TestNamespace;
use crate::support::wait;
use crate::{installation, reported};

/// A namespace with the ServiceAccount `app`, and pods in it.
pub(crate) struct Pods<'a> {
    pub(crate) installation: &'a Installation,
    pub(crate) namespace: TestNamespace<'a>,
}

/// How long a pod is created again that was refused by nothing but a machine with much else to do.
const AGAIN: Duration = Duration::from_mins(2);

/// Whether a pod was refused only because the webhook, or the API server that it asks, took too long.
/// Who makes pods creates such a one again.
pub(crate) fn took_too_long(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if is_late(&status.message))
}

/// Whether that is said here.
pub(crate) fn is_late(message: &str) -> bool {
    let late = [
        "context deadline exceeded",
        "no decision within",
        "no answer within",
    ];
    message.contains("failed calling webhook") && late.iter().any(|late| message.contains(late))
}

/// Creates the pod as raw JSON and returns what the API server stored (or would store).
pub(crate) async fn create_pod(
    client: kube::Client,
    namespace: &str,
    pod: Value,
    dry_run: bool,
) -> Result<Value> {
    let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
    let parameters = PostParams {
        dry_run,
        ..PostParams::default()
    };
    let pod = serde_json::from_value(pod)?;
    let made = wait::until("an answer about the pod in time", AGAIN, async || match api
        .create(&parameters, &pod)
        .await
    {
        Err(error) if took_too_long(&error) => Err(error.into()),
        answer => Ok(Some(answer)),
    })
    .await??;
    Ok(serde_json::to_value(made)?)
}

impl Pods<'_> {
    pub(crate) async fn with(
        labels: &[(&str, &str)],
        account_annotations: Value,
        test: impl AsyncFnOnce(&Pods<'_>) -> Result<()>,
    ) -> Result<()> {
        Cluster::shared().await?.require_own("a webhook by URL")?;
        let installation = installation().await?;
        let namespace = Cluster::shared().await?.test_namespace_with(labels).await?;
        let pods = Pods {
            installation,
            namespace,
        };
        let account = serde_json::from_value(json!({
            "metadata": {"name": "app", "annotations": account_annotations},
        }))?;
        let accounts = pods
            .namespace
            .api::<k8s_openapi::api::core::v1::ServiceAccount>();
        accounts.create(&PostParams::default(), &account).await?;
        let outcome = test(&pods).await;
        let cluster = Cluster::shared().await?;
        reported(outcome.and_then(|()| installation.assert_no_secret_in_logs(cluster)))
    }

    /// Creates the pod as raw JSON and returns what the API server stored (or would store).
    pub(crate) async fn create(&self, pod: Value, dry_run: bool) -> Result<Value> {
        let client = self.namespace.client();
        create_pod(client, self.namespace.name(), pod, dry_run).await
    }

    /// What the webhook decided about pods of this namespace, by its own log.
    pub(crate) fn decisions(&self) -> Result<Vec<String>> {
        let log = std::fs::read_to_string(self.installation.webhook_log()?)?;
        let marker = format!("namespace=\"{}\"", self.namespace.name());
        Ok(log
            .lines()
            .filter(|line| line.contains("reviewed") && line.contains(&marker))
            .map(ToOwned::to_owned)
            .collect())
    }

    /// Whether the webhook decided about a pod of this namespace.
    pub(crate) fn was_asked(&self) -> Result<bool> {
        Ok(!self.decisions()?.is_empty())
    }

    pub(crate) async fn bind(&self, name: &str, spec: Value) -> Result<()> {
        let binding = serde_json::from_value(json!({
            "apiVersion": "rrsa.io/v1alpha1", "kind": "AlibabaRoleBinding",
            "metadata": {"name": name}, "spec": spec,
        }))?;
        let bindings = self.namespace.api::<AlibabaRoleBinding>();
        bindings.create(&PostParams::default(), &binding).await?;
        Ok(())
    }

    /// The warnings that kubectl prints when it creates the pod.
    pub(crate) async fn warnings(&self, pod: &Value) -> Result<String> {
        let cluster = Cluster::shared().await?;
        let arguments = [
            "-n",
            self.namespace.name(),
            "create",
            "--dry-run=server",
            "--filename=-",
        ];
        let kubeconfig = cluster.admin_kubeconfig();
        let text = pod.to_string();
        let output = cluster.kubectl_with(kubeconfig, &arguments, &text);
        Ok(output.await?.stderr)
    }
}
