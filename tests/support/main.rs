//! `cargo run --example cluster`: the test cluster for a person, until Ctrl-C.

#[path = "mod.rs"]
#[allow(dead_code, reason = "each program uses its part of the support tree")]
mod support;

use anyhow::Result;
use support::kubernetes::Cluster;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "a program for people")]
async fn main() -> Result<()> {
    let cluster = Cluster::start().await?;
    println!(
        "# a control plane without nodes, ready after {:.1?}",
        cluster.started_in()
    );
    println!(
        "# logs are in {}; Ctrl-C ends everything",
        cluster.log_dir().display()
    );
    println!("export KUBECONFIG={}", cluster.admin_kubeconfig().display());
    println!("export PATH={}:$PATH", cluster.bin_dir().display());
    tokio::signal::ctrl_c().await?;
    Ok(())
}
