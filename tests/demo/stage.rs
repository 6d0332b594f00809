//! How the demo speaks: steps, commands with their output, and what was seen.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "speaking is its task"
)]

use std::path::Path;

use anyhow::Result;

use crate::support::kubernetes::Cluster;

/// Width of the rule under a step's title.
const WIDTH: usize = 100;

/// Begins a step.
pub(crate) fn step(number: usize, title: &str) {
    println!("\n{number}. {title}\n{}", "─".repeat(WIDTH));
}

/// Tells something.
pub(crate) fn say(text: &str) {
    println!("{text}");
}

/// Confirms what was checked.
pub(crate) fn seen(text: &str) {
    println!("   ✓ {text}");
}

/// Reports the failure that ends the demo.
pub(crate) fn failed(error: &anyhow::Error) {
    eprintln!("\n   ✗ the demo failed: {error:#}");
}

/// Shows a text as the content of a file.
pub(crate) fn file(text: &str) {
    for line in text.trim().lines() {
        println!("   │ {line}");
    }
}

/// Runs kubectl as a person would type it, shows command and output, and returns the output.
pub(crate) async fn kubectl(cluster: &Cluster, line: &str) -> Result<String> {
    kubectl_as(cluster, cluster.admin_kubeconfig(), line, "").await
}

/// The same with another kubeconfig or with input.
pub(crate) async fn kubectl_as(
    cluster: &Cluster,
    kubeconfig: &Path,
    line: &str,
    input: &str,
) -> Result<String> {
    println!("   $ kubectl {line}");
    let arguments: Vec<_> = line.split_whitespace().collect();
    let output = cluster
        .kubectl_with(kubeconfig, &arguments, input)
        .await?
        .success()?;
    for line in output.trim_end().lines() {
        println!("     {line}");
    }
    Ok(output)
}
