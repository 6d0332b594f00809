//! Where the programs of Kubernetes come from: built once per machine by `tests/kubernetes`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Prints the folder of the programs; the first run on a machine builds them.
const BUILD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kubernetes/build.sh");
/// The first build takes 6 minutes on 2 cores; a slow network comes on top.
const CEILING: Duration = Duration::from_mins(45);

/// The folder that holds etcd, kube-apiserver, kubectl and the others.
///
/// # Errors
/// When they cannot be built; the builder's own message is on standard error, unfiltered.
pub(super) async fn folder() -> Result<PathBuf> {
    let work = tokio::process::Command::new(BUILD)
        .stdin(Stdio::null())
        // Progress and errors belong in front of the person who waits.
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(CEILING, work)
        .await
        .with_context(|| format!("{BUILD} did not end within {CEILING:?}"))?
        .with_context(|| format!("run {BUILD}"))?;
    ensure!(
        output.status.success(),
        "the cluster tests cannot run: {BUILD} failed ({}; its message is above). It needs Go \
         (the version in tests/kubernetes/go.mod or newer) on the PATH and, the first time, access \
         to Go modules; or set RRSA_TEST_KUBECONFIG to the kubeconfig of a cluster that exists",
        output.status
    );
    let printed = String::from_utf8(output.stdout).context("read what build.sh printed")?;
    Ok(PathBuf::from(printed.trim()))
}
