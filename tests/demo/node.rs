//! The last step of the demo: a pod that really runs. It needs a node, and so a machine of its own
//! (`tests/node/namespace.sh`): where that can be had the demo starts itself once more in there, and
//! elsewhere it says what is missing.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::installation::{Choices, Installation, role, subject};
use crate::stage::{file, kubectl, kubectl_as, say, seen, step};
use crate::story::{TEAM, beside_this_program};
use crate::support::kubernetes::{Cluster, node};

/// Longest time of everything in there; 15 s on 2 idle cores.
const CEILING: Duration = Duration::from_mins(8);

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: runs, namespace: team-a}
spec:
  serviceAccountName: app
  terminationGracePeriodSeconds: 0
  containers:
    - name: main
      image: localhost/busybox:1
      imagePullPolicy: Never
      command: [sh, -c, "while :; do sleep 1; done"]
"#;

/// Shows the step on a machine of its own, or says why not.
pub(crate) async fn show(number: usize) -> Result<()> {
    step(number, "A pod that really runs, on a real node");
    let check = Command::new(node::NAMESPACE).arg("--check").output()?;
    ensure!(
        check.status.success(),
        "{} --check: {}",
        node::NAMESPACE,
        String::from_utf8_lossy(&check.stderr)
    );
    let missing = String::from_utf8(check.stdout)?;
    if !missing.trim().is_empty() {
        let missing = missing.trim().replace('\n', "; ");
        say(&format!("   Not shown on this machine: it needs {missing}"));
        return Ok(());
    }
    let mut inside = tokio::process::Command::new(node::NAMESPACE);
    inside.arg(std::env::current_exe()?).kill_on_drop(true);
    let status = tokio::time::timeout(CEILING, inside.status())
        .await
        .with_context(|| format!("it did not end within {CEILING:?}"))??;
    ensure!(status.success(), "in there: {status}");
    Ok(())
}

/// What is shown in there.
pub(crate) async fn tell() -> Result<()> {
    let (cluster, _node) = Cluster::start_with_node().await?;
    let choices = Choices {
        rrsa: beside_this_program("rrsa")?,
        ..Choices::default()
    };
    let installation = Installation::start(&cluster, choices).await?;
    kubectl(&cluster, "get nodes").await?;
    let admin = cluster.admin_kubeconfig();
    cluster.apply_yaml(TEAM).await?;
    file(POD);
    kubectl_as(&cluster, admin, "apply -f -", POD).await?;
    let ready = "-n team-a wait --for=condition=Ready pod/runs --timeout=110s";
    kubectl(&cluster, ready).await?;

    let env = kubectl(&cluster, "-n team-a exec runs -- env").await?;
    let variable = |name: &str| {
        let mut lines = env.lines().filter_map(|line| line.split_once('='));
        lines.find(|(known, _)| *known == name).map(|found| found.1)
    };
    ensure!(
        variable("ALIBABA_CLOUD_ROLE_ARN") == Some(role("app").as_str()),
        "another role"
    );
    let path = variable("ALIBABA_CLOUD_OIDC_TOKEN_FILE").context("no token file")?;
    // A token is a secret: it is read, not shown.
    let cat = ["-n", "team-a", "exec", "runs", "--", "cat", path];
    let token = cluster.kubectl(&cat).await?.success()?;
    let claims = token.split('.').nth(1).context("the token has no claims")?;
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims)?)?;
    say(&format!(
        "   Its token says: sub {}, aud {}, for pod {}",
        claims["sub"], claims["aud"], claims["kubernetes.io"]["pod"]["name"]
    ));
    ensure!(claims["sub"] == subject("team-a", "app"), "another subject");
    ensure!(claims["aud"][0] == "sts.aliyuncs.com", "another audience");
    seen("the container runs with its role, and with a token that the kubelet made and renews");
    installation.ensure_running()
}
