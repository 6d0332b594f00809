//! Every object that the chart renders is one that the API server takes, whatever the values.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{CHART, NAMESPACE, examples, get, install, rendered, uninstall, with_cluster};
use crate::support::kubernetes::Cluster;
use crate::support::wait;

/// How long the controller manager may take to look at a policy.
const SOON: Duration = Duration::from_mins(3);

/// A dry run leaves nothing behind, so the pod of `helm test` would not find its ServiceAccount.
const OF_THE_TEST_POD: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: rrsa-test, namespace: rrsa-system}
";

/// A server-side dry run in which a misspelt, misplaced or doubled field is an error. Returns what was
/// warned of.
async fn judge(cluster: &Cluster, objects: &str) -> Result<String> {
    let arguments = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--validate=strict",
        "--filename=-",
    ];
    let output = cluster
        .kubectl_with(cluster.admin_kubeconfig(), &arguments, objects)
        .await?;
    let warnings = output.stderr.clone();
    output.success()?;
    Ok(warnings)
}

#[tokio::test]
async fn the_api_server_takes_every_object_of_every_example() -> Result<()> {
    with_cluster(async |cluster| {
        cluster.apply_yaml(OF_THE_TEST_POD).await?;
        for example in examples()? {
            let text = rendered(cluster, &example).await?;
            let warnings = judge(cluster, &text).await.context(example.clone())?;
            // The namespace is restricted, and the host's network is all that must not be there.
            if text.contains("hostNetwork: true") {
                ensure!(
                    warnings.contains("host namespaces"),
                    "{example}: {warnings}"
                );
                ensure!(
                    warnings.matches("would violate").count() == 1,
                    "{example}: {warnings}"
                );
            } else {
                ensure!(warnings.is_empty(), "{example}: {warnings}");
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_misspelt_field_would_have_been_refused() -> Result<()> {
    with_cluster(async |cluster| {
        cluster.apply_yaml(OF_THE_TEST_POD).await?;
        let text = rendered(cluster, "everything.yaml").await?;
        judge(cluster, &text).await?;
        for (right, wrong) in [
            ("maxUnavailable: 1", "maxUnavailabel: 1"),
            ("podMetricsEndpoints:", "podMetricsEndpoint:"),
        ] {
            ensure!(text.contains(right), "{right} is not in what is rendered");
            let refused = judge(cluster, &text.replacen(right, wrong, 1)).await;
            ensure!(refused.is_err(), "{wrong} was taken");
        }
        Ok(())
    })
    .await
}

/// The API server compiles expressions when a policy is made, and the controller manager then checks
/// them against the types of what they look at.
#[tokio::test]
async fn the_policies_expressions_are_sound() -> Result<()> {
    with_cluster(async |cluster| {
        install(cluster, CHART, "rrsa", &["--namespace", NAMESPACE]).await?;
        let policies = async || -> Result<Vec<Value>> {
            let list = get(cluster, &["validatingadmissionpolicies"]).await?;
            let items = list["items"].as_array().context("no list")?;
            let name = |item: &Value| item["metadata"]["name"].as_str().map(str::to_owned);
            Ok(items
                .iter()
                .filter(|item| name(item).is_some_and(|name| name.starts_with("rrsa-")))
                .cloned()
                .collect())
        };
        let seen = wait::until("the check of the policies' types", SOON, async || {
            let policies = policies().await?;
            ensure!(policies.len() == 4, "there are {}", policies.len());
            for policy in &policies {
                ensure!(
                    policy["status"]["observedGeneration"] == policy["metadata"]["generation"],
                    "{} is not looked at yet",
                    policy["metadata"]["name"]
                );
            }
            Ok(Some(policies))
        })
        .await?;
        for policy in seen {
            let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
            ensure!(
                warnings.is_null(),
                "{}: {warnings}",
                policy["metadata"]["name"]
            );
        }
        uninstall(cluster, "rrsa", NAMESPACE).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_controller_of_some_namespaces_has_nothing_elsewhere() -> Result<()> {
    with_cluster(async |cluster| {
        let values = super::example("namespaces.yaml");
        let more = ["--namespace", NAMESPACE, "--values", &values];
        install(cluster, CHART, "rrsa", &more).await?;
        let may = async |namespace: &str, account: &str| -> Result<bool> {
            let user = format!("--as=system:serviceaccount:{NAMESPACE}:{account}");
            let arguments = ["auth", "can-i", "list", "secrets", "--namespace", namespace];
            let output = cluster
                .kubectl(&[&arguments[..], &[&user]].concat())
                .await?;
            Ok(output.stdout.trim() == "yes")
        };
        for (namespace, expected) in [
            ("team-a", true),
            ("team-b", true),
            ("elsewhere", false),
            (NAMESPACE, false),
            ("kube-system", false),
        ] {
            let name = format!("the controller's right in {namespace}");
            wait::until(&name, SOON, async || {
                let allowed = may(namespace, "rrsa-controller").await?;
                Ok((allowed == expected).then_some(()))
            })
            .await?;
            ensure!(!may(namespace, "rrsa-webhook").await?, "the webhook");
        }
        uninstall(cluster, "rrsa", NAMESPACE).await?;
        Ok(())
    })
    .await
}
