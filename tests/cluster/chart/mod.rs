//! The chart on a real API server: installed by helm, on a control plane of its own, because the shared
//! one has rrsa from `deploy/`. No pod runs here; the node tier runs them.
#![expect(
    clippy::disallowed_methods,
    reason = "tests read real files and run real programs"
)]

mod objects;
mod releases;
mod rights;
mod schemas;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};

use crate::support::kubernetes::Cluster;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/rrsa");
/// The least values that the chart takes.
const LEAST: &str = "manifests.yaml";
const NAMESPACE: &str = "rrsa-system";
const DEFINITION: &str = "crd/alibabarolebindings.rrsa.io";

/// Runs a test on the control plane of the chart's tests. They take turns: the custom resource
/// definition and the names of the policies are one for all.
async fn with_cluster(test: impl AsyncFnOnce(&'static Cluster) -> Result<()>) -> Result<()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    let _turn = TURN.lock().await;
    let cluster = cluster().await?;
    let outcome = async {
        // Releases leave it behind on purpose. Its bindings go first: the API server would delete them
        // by itself, but looks only every so often whether they are gone.
        let there = ["get", DEFINITION, "--ignore-not-found", "--output=name"];
        if !cluster.kubectl(&there).await?.success()?.is_empty() {
            let bindings = ["delete", "alibabarolebindings", "--all", "--all-namespaces"];
            cluster.kubectl(&bindings).await?.success()?;
            cluster.kubectl(&["delete", DEFINITION]).await?.success()?;
        }
        test(cluster).await
    };
    crate::reported(outcome.await)
}

async fn cluster() -> Result<&'static Cluster> {
    static SHARED: OnceCell<Result<Cluster, String>> = OnceCell::const_new();
    let start = async || {
        let cluster = Cluster::start().await?;
        cluster.require_own("an installation by helm")?;
        for entry in std::fs::read_dir(tools()?.join("definitions"))? {
            let text = std::fs::read_to_string(entry?.path())?;
            cluster.apply_yaml(&text).await?;
        }
        let namespace = Path::new(CHART).join("../../deploy/namespace.yaml");
        cluster
            .apply_yaml(&std::fs::read_to_string(namespace)?)
            .await?;
        for name in ["team-a", "team-b", "elsewhere"] {
            let arguments = ["create", "namespace", name];
            cluster.kubectl(&arguments).await?.success()?;
        }
        anyhow::Ok(cluster)
    };
    let shared = SHARED
        .get_or_init(async || start().await.map_err(|error| format!("{error:#}")))
        .await;
    shared
        .as_ref()
        .map_err(|error| anyhow!("the control plane of the chart's tests: {error}"))
}

/// The folder of kubeconform, and of custom resources that others bring.
fn tools() -> Result<PathBuf> {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/kubernetes/chart-tools.sh"
    );
    let output = Command::new(script).output().context(script)?;
    ensure!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// The path of an example.
fn example(name: &str) -> String {
    format!("{CHART}/examples/{name}")
}

fn examples() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(format!("{CHART}/examples"))? {
        let name = entry?.file_name().into_string();
        names.push(name.map_err(|name| anyhow!("{}", name.display()))?);
    }
    names.sort();
    ensure!(names.len() > 8, "examples: {names:?}");
    Ok(names)
}

/// What the chart renders with an example, as release `rrsa` in `rrsa-system`.
async fn rendered(cluster: &Cluster, example_name: &str) -> Result<String> {
    let values = example(example_name);
    let arguments = [
        "template",
        "rrsa",
        CHART,
        "--namespace",
        NAMESPACE,
        "--values",
    ];
    let arguments = [&arguments[..], &[&values]].concat();
    cluster.helm(&arguments).await?.success()
}

/// `helm install` of a chart, whose hooks are left out: they are pods, and none runs here.
async fn install(cluster: &Cluster, chart: &str, release: &str, more: &[&str]) -> Result<String> {
    let values = example(LEAST);
    let arguments = ["install", release, chart, "--no-hooks", "--values", &values];
    cluster
        .helm(&[&arguments[..], more].concat())
        .await?
        .success()
}

/// `helm uninstall`, likewise without hooks.
async fn uninstall(cluster: &Cluster, release: &str, namespace: &str) -> Result<String> {
    let arguments = ["uninstall", release, "--no-hooks", "--namespace", namespace];
    cluster.helm(&arguments).await?.success()
}

/// An object as the API server has it.
async fn get(cluster: &Cluster, arguments: &[&str]) -> Result<Value> {
    let text = cluster
        .kubectl(&[&["get", "--output=json"], arguments].concat())
        .await?
        .success()?;
    Ok(serde_json::from_str(&text)?)
}
