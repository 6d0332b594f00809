//! The node itself keeps its promises: pods run as on any node, and nothing of it stays behind.
#![expect(
    clippy::disallowed_methods,
    reason = "tests stand outside the product's world"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::stage::Stage;
use crate::support::kubernetes::node;
use crate::support::wait;

const CEILING: Duration = Duration::from_mins(3);

const POD: &str = r#"
apiVersion: v1
kind: Namespace
metadata:
  name: basics
  labels: {pod-security.kubernetes.io/enforce: restricted}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: basics}
---
apiVersion: v1
kind: Pod
metadata: {name: looks-around, namespace: basics}
spec:
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: localhost/busybox:1
      imagePullPolicy: Never
      command: [sh, -c, "echo a word of the pod; while :; do sleep 1; done"]
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: token, mountPath: /token, readOnly: true}]
  volumes:
    - name: token
      projected: {sources: [{serviceAccountToken: {path: token, audience: sts.aliyuncs.com}}]}
"#;

/// A pod under restricted Pod Security has a token of the audience asked for, speaks to a Service,
/// and can be looked into.
pub(crate) async fn a_pod_runs(stage: &Stage) -> Result<()> {
    stage.cluster.apply_yaml(POD).await?;
    stage.pod_is_ready("basics", "looks-around").await?;
    let in_pod = ["--namespace=basics", "exec", "looks-around", "--"];
    let exec = async |command: &[&str]| stage.kubectl(&[&in_pod, command].concat()).await;

    let token = exec(&["cat", "/token/token"]).await?;
    let claims = token.split('.').nth(1).context("the token has no claims")?;
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims)?)?;
    ensure!(claims["aud"][0] == "sts.aliyuncs.com", "claims: {claims}");
    ensure!(
        claims["kubernetes.io"]["pod"]["name"] == "looks-around",
        "claims: {claims}"
    );

    let id = exec(&["id", "-u"]).await?;
    ensure!(id.trim() == "65532", "it runs as {id}");
    // The Service that stands for the API server: its rules are kube-proxy's.
    let reach =
        "nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null && echo open";
    wait::until("the Service to be reached", CEILING, async || {
        let reached = exec(&["sh", "-c", reach]).await?;
        ensure!(reached.trim() == "open", "{reached}");
        Ok(Some(()))
    })
    .await?;

    wait::until("the pod's log", CEILING, async || {
        let log = stage
            .kubectl(&["--namespace=basics", "logs", "looks-around"])
            .await?;
        ensure!(log.contains("a word of the pod"), "it says {log}");
        Ok(Some(()))
    })
    .await?;
    stage.forget("basics").await
}

/// A machine of its own is killed as hard as can be, from outside and without any farewell: its
/// processes end, and its files and cgroups go.
pub(crate) async fn nothing_stays(_: &Stage) -> Result<()> {
    let program = "echo $RRSA_NODE $TMPDIR; mkdir /run/mine; sleep 1000 & sleep 1000";
    let mut killed = tokio::process::Command::new(node::NAMESPACE)
        .args(["sh", "-c", program])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = killed.stdout.take().context("no output")?;
    let mut line = String::new();
    let mut output = BufReader::new(output);
    tokio::time::timeout(CEILING, output.read_line(&mut line)).await??;
    let (name, temporary) = line.trim().split_once(' ').context("no names")?;
    let folder = Path::new(temporary).parent().context("no folder")?;
    ensure!(folder.is_dir(), "{} is no folder", folder.display());
    ensure!(!cgroups(name)?.is_empty(), "there is no cgroup {name}");
    ensure!(!processes_of(name)?.is_empty(), "nothing runs in {name}");

    killed.kill().await?;
    wait::until("everything of it to be gone", CEILING, async || {
        let (processes, cgroups) = (processes_of(name)?, cgroups(name)?);
        ensure!(processes.is_empty(), "processes stay: {processes:?}");
        ensure!(cgroups.is_empty(), "cgroups stay: {cgroups:?}");
        ensure!(!folder.exists(), "{} stays", folder.display());
        Ok(Some(()))
    })
    .await?;
    ensure!(!Path::new("/run/mine").exists(), "it wrote to our /run");
    Ok(())
}

/// The folders of that name in the cgroup hierarchies.
fn cgroups(name: &str) -> Result<Vec<PathBuf>> {
    let root = Path::new("/sys/fs/cgroup");
    let mut found = vec![root.join(name)];
    for entry in fs::read_dir(root)? {
        found.push(entry?.path().join(name));
    }
    found.retain(|path| path.is_dir());
    Ok(found)
}

/// The processes whose environment names it.
fn processes_of(name: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let variables = fs::read(path.join("environ")).unwrap_or_default();
        let wanted = format!("RRSA_NODE={name}");
        if variables
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
        {
            found.push(path);
        }
    }
    Ok(found)
}
