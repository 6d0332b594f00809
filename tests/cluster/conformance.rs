//! `rrsa conformance` on a real API server: what it says of our webhook, of a wrong one and of
//! none, with the rights that its page asks for and no others; and that nothing of it stays.

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::bindings::SOON;
use crate::installation::PROVIDER;
use crate::pods::is_late;
use crate::support::kubernetes::Cluster;
use crate::support::wait;
use crate::{installation, reported};

/// Longest a run may take, with all its patience.
const CEILING: Duration = Duration::from_mins(5);
/// How often a run may be made in which an answer came too late.
const RUNS: usize = 3;
/// What the page of the command asks for, and the ServiceAccount of the person.
const RIGHTS: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: conformance-tester, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: conformance-tester}
rules:
- {apiGroups: [''], resources: [namespaces], verbs: [create, delete, list]}
- {apiGroups: [''], resources: [serviceaccounts, pods], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: conformance-tester}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: conformance-tester}
subjects: [{kind: ServiceAccount, name: conformance-tester, namespace: default}]
";

/// A person who may do what the suite needs, and their runs.
struct Tester<'a> {
    cluster: &'a Cluster,
    kubeconfig: std::path::PathBuf,
    /// How the names of this test's namespaces begin.
    prefix: &'static str,
}

impl<'a> Tester<'a> {
    async fn on(cluster: &'a Cluster, prefix: &'static str) -> Result<Self> {
        cluster.apply_yaml(RIGHTS).await?;
        let kubeconfig = cluster
            .kubeconfig_for_service_account(
                "default",
                "conformance-tester",
                Duration::from_hours(1),
            )
            .await?;
        Ok(Self {
            cluster,
            kubeconfig,
            prefix,
        })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rrsa"));
        command
            .arg("conformance")
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--namespace-prefix")
            .arg(self.prefix)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Result<Output> {
        let run = self.command(arguments).output();
        timeout(CEILING, run)
            .await
            .context("rrsa conformance did not end")?
            .context("rrsa cannot be started")
    }

    /// The namespaces of this test that nobody has deleted yet.
    async fn namespaces(&self) -> Result<Vec<String>> {
        let namespaces = Api::<Namespace>::all(self.cluster.client().await?);
        let ours = ListParams::default().labels("rrsa.io/conformance");
        let listed = namespaces.list(&ours).await?;
        Ok(listed
            .iter()
            .filter(|namespace| namespace.metadata.deletion_timestamp.is_none())
            .map(ResourceExt::name_any)
            .filter(|name| name.starts_with(self.prefix))
            .collect())
    }

    async fn ensure_nothing_is_left(&self) -> Result<()> {
        let left = self.namespaces().await?;
        ensure!(left.is_empty(), "these are left: {left:?}");
        Ok(())
    }

    /// A run that has begun: its namespaces are there, and it waits for a webhook.
    async fn begun(&self) -> Result<Child> {
        let child = self
            .command(&[&of_cluster("cn-hangzhou")[..], &["--patience=600"]].concat())
            .spawn()?;
        wait::until("the namespaces of the run", SOON, async || {
            let made = self.namespaces().await?;
            Ok((made.len() > 2).then_some(()))
        })
        .await?;
        Ok(child)
    }
}

fn of_cluster(region: &str) -> Vec<&str> {
    vec!["--oidc-provider-arn", PROVIDER, "--region", region]
}

fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn report(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout).with_context(|| told(output))
}

#[tokio::test]
async fn our_webhook_does_what_is_documented_and_what_we_chose_beyond() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.require_own("a webhook by URL")?;
    installation().await?;
    let test = async {
        let tester = Tester::on(cluster, "conformant").await?;
        let arguments = [&of_cluster("cn-hangzhou")[..], &["--corners", "-ojson"]].concat();
        // A late answer is no other answer: whoever runs the suite on a busy machine runs it again.
        let mut runs = 1;
        let output = loop {
            let output = tester.run(&arguments).await?;
            if runs == RUNS || !is_late(&told(&output)) {
                break output;
            }
            runs += 1;
        };
        let report = report(&output)?;
        for case in report["cases"].as_array().context("no cases")? {
            ensure!(case["verdict"] == "pass", "{case:#}");
        }
        ensure!(output.status.code() == Some(0), "{}", told(&output));
        ensure!(report["answered"] == true && report["failed"] == 0);
        ensure!(report["passed"].as_u64() > Some(25), "{report:#}");
        ensure!(report["cornersSame"].as_u64() > Some(20), "{report:#}");
        tester.ensure_nothing_is_left().await
    };
    reported(test.await)
}

#[tokio::test]
async fn a_webhook_with_one_wrong_value_is_caught_and_the_value_is_told() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.require_own("a webhook by URL")?;
    installation().await?;
    let test = async {
        let tester = Tester::on(cluster, "wrong").await?;
        // For this cluster everything that our webhook says of the region is wrong.
        let arguments = [&of_cluster("cn-beijing")[..], &["--patience=10"]].concat();
        let output = tester.run(&arguments).await?;
        let text = told(&output);
        ensure!(output.status.code() == Some(1), "{text}");
        for part in [
            "FAIL     namespace-on",
            "spec.containers[app].env.ALIBABA_CLOUD_STS_REGION.value",
            "expected  \"cn-beijing\"",
            "seen      \"cn-hangzhou\"",
            "pass     role-absent",
        ] {
            ensure!(text.contains(part), "{part} is missing: {text}");
        }
        tester.ensure_nothing_is_left().await
    };
    reported(test.await)
}

#[tokio::test]
async fn without_a_webhook_it_says_so_and_nothing_stays_however_it_ends() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.require_own("a cluster without a webhook")?;
    let tester = Tester::on(&cluster, "silent").await?;

    let arguments = [&of_cluster("cn-hangzhou")[..], &["--patience=1"]].concat();
    let output = tester.run(&arguments).await?;
    let text = told(&output);
    ensure!(output.status.code() == Some(1), "{text}");
    ensure!(text.contains("No webhook answered"), "{text}");
    tester.ensure_nothing_is_left().await?;

    // Told to stop, as by Ctrl-C.
    let child = tester.begun().await?;
    let pid = child.id().context("it has ended")?.to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().await?;
    ensure!(sent.success());
    let output = timeout(SOON, child.wait_with_output()).await??;
    ensure!(output.status.code() == Some(2), "{}", told(&output));
    ensure!(told(&output).contains("told to stop"), "{}", told(&output));
    tester.ensure_nothing_is_left().await?;

    // Killed: then there is a command for what is left.
    let mut child = tester.begun().await?;
    child.kill().await?;
    ensure!(!tester.namespaces().await?.is_empty());
    let output = tester.run(&["--cleanup"]).await?;
    ensure!(output.status.success(), "{}", told(&output));
    ensure!(
        told(&output).contains("removed silent-"),
        "{}",
        told(&output)
    );
    tester.ensure_nothing_is_left().await
}
