//! Releases come, change and go; what users made stays.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{CHART, DEFINITION, LEAST, NAMESPACE, example, get, install, uninstall, with_cluster};
use crate::support::kubernetes::Cluster;

const BINDING: &str = "\
apiVersion: rrsa.io/v1alpha1
kind: AlibabaRoleBinding
metadata: {name: kept, namespace: team-a}
spec:
  role: {arn: \"acs:ram::1234567890123456:role/kept\"}
  serviceAccountName: default
";

/// The chart as it was before a field was added to the custom resource.
fn former_chart(folder: &Path) -> Result<String> {
    let chart = folder.join("rrsa");
    copy(Path::new(CHART), &chart)?;
    let file = chart.join("files/alibabarolebindings.yaml");
    let mut definition: Value = serde_saphyr::from_str(&std::fs::read_to_string(&file)?)?;
    let spec = definition
        .pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties")
        .and_then(Value::as_object_mut)
        .context("the definition's spec")?;
    spec.remove("suspend").context("there is a field suspend")?;
    std::fs::write(&file, definition.to_string())?;
    let about = chart.join("Chart.yaml");
    let text = std::fs::read_to_string(&about)?;
    let former = text.replace("\nversion: 0.1.0\n", "\nversion: 0.0.9\n");
    ensure!(former != text, "the chart's version");
    std::fs::write(&about, former)?;
    Ok(chart.display().to_string())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (path, target) = {
            let entry = entry?;
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// Whether the API server knows the field that the former chart lacks.
async fn knows_the_new_field(cluster: &Cluster) -> Result<bool> {
    let binding = BINDING.replace("spec:\n", "spec:\n  suspend: true\n");
    let arguments = [
        "apply",
        "--dry-run=server",
        "--validate=strict",
        "--filename=-",
    ];
    let output = cluster
        .kubectl_with(cluster.admin_kubeconfig(), &arguments, &binding)
        .await?;
    if !output.status.success() {
        ensure!(output.stderr.contains("unknown field"), "{output}");
    }
    Ok(output.status.success())
}

async fn uid(cluster: &Cluster) -> Result<Value> {
    let binding = get(cluster, &["-n", "team-a", "alibabarolebinding", "kept"]).await?;
    Ok(binding["metadata"]["uid"].clone())
}

/// Waits until the API server serves the definition as it is now.
async fn established(cluster: &Cluster) -> Result<()> {
    let arguments = ["wait", "--for=condition=Established", DEFINITION];
    cluster.kubectl(&arguments).await?.success()?;
    Ok(())
}

#[tokio::test]
async fn an_upgrade_brings_the_definition_and_bindings_outlive_the_release() -> Result<()> {
    with_cluster(async |cluster| {
        let folder = tempfile::tempdir()?;
        let former = former_chart(folder.path())?;
        let values = example(LEAST);
        let here = ["--namespace", NAMESPACE];
        install(cluster, &former, "rrsa", &here).await?;
        established(cluster).await?;
        cluster.apply_yaml(BINDING).await?;
        let before = uid(cluster).await?;
        ensure!(!knows_the_new_field(cluster).await?, "the former definition");

        let upgrade = ["upgrade", "rrsa", CHART, "--no-hooks", "--values", &values];
        let upgrade = [&upgrade[..], &here].concat();
        cluster.helm(&upgrade).await?.success()?;
        crate::support::wait::until("the new definition", crate::bindings::SOON, async || {
            Ok(knows_the_new_field(cluster).await?.then_some(()))
        })
        .await?;
        ensure!(uid(cluster).await? == before, "the binding was made anew");

        let rollback = ["rollback", "rrsa", "1", "--no-hooks"];
        cluster
            .helm(&[&rollback[..], &here].concat())
            .await?
            .success()?;
        ensure!(uid(cluster).await? == before, "the rollback took the binding");
        cluster.helm(&upgrade).await?.success()?;

        let said = uninstall(cluster, "rrsa", NAMESPACE).await?;
        ensure!(said.contains("kept"), "helm says what it keeps: {said}");
        ensure!(uid(cluster).await? == before, "the uninstallation took the binding");
        let left = cluster
            .kubectl(&[
                "get",
                "clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingadmissionpolicies",
                "--selector=app.kubernetes.io/part-of=rrsa",
                "--output=name",
            ])
            .await?
            .success()?;
        ensure!(left.is_empty(), "left: {left}");

        // The same release takes it over again; another needs a word.
        install(cluster, CHART, "rrsa", &here).await?;
        uninstall(cluster, "rrsa", NAMESPACE).await?;
        let refused = install(cluster, CHART, "other", &["--namespace", "elsewhere"]).await;
        let said = format!("{:#}", refused.err().context("another release took it")?);
        ensure!(said.contains("ownership"), "{said}");
        let more = ["--namespace", "elsewhere", "--take-ownership"];
        install(cluster, CHART, "other", &more).await?;
        uninstall(cluster, "other", "elsewhere").await?;
        ensure!(uid(cluster).await? == before, "the binding was made anew");

        // The documented purge.
        let bindings = ["delete", "alibabarolebindings", "--all", "--all-namespaces"];
        cluster.kubectl(&bindings).await?.success()?;
        cluster.kubectl(&["delete", DEFINITION]).await?.success()?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_kubectl_installed_helm_takes_over() -> Result<()> {
    with_cluster(async |cluster| {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/alibabarolebindings.yaml");
        cluster.apply_yaml(&std::fs::read_to_string(file)?).await?;
        let here = ["--namespace", NAMESPACE];
        let refused = install(cluster, CHART, "rrsa", &here).await;
        ensure!(refused.is_err(), "helm took over what was not its own");
        let more = ["--namespace", NAMESPACE, "--take-ownership"];
        install(cluster, CHART, "rrsa", &more).await?;
        uninstall(cluster, "rrsa", NAMESPACE).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn two_releases_stand_side_by_side() -> Result<()> {
    with_cluster(async |cluster| {
        install(cluster, CHART, "rrsa", &["--namespace", NAMESPACE]).await?;
        let more = ["--namespace", "elsewhere", "--set=crds.install=false"];
        install(cluster, CHART, "other", &more).await?;
        let entries = async |name: &str| -> Result<Value> {
            let object = get(cluster, &["mutatingwebhookconfiguration", name]).await?;
            Ok(object["webhooks"][0]["clientConfig"]["service"].clone())
        };
        let (one, other) = (entries("rrsa").await?, entries("other-rrsa").await?);
        ensure!(one["namespace"] == NAMESPACE, "{one}");
        ensure!(other["namespace"] == "elsewhere", "{other}");
        ensure!(other["name"] == "other-rrsa-webhook", "{other}");
        // One goes, and nothing of the other does.
        uninstall(cluster, "other", "elsewhere").await?;
        let status = ["status", "rrsa", "--namespace", NAMESPACE];
        cluster.helm(&status).await?.success()?;
        get(cluster, &["mutatingwebhookconfiguration", "rrsa"]).await?;
        get(cluster, &[DEFINITION]).await?;
        uninstall(cluster, "rrsa", NAMESPACE).await?;
        Ok(())
    })
    .await
}
