//! CPU time with nothing to do.

use std::time::Duration;

use anyhow::Result;

use crate::process;
use crate::servers::{Kind, Stage};

/// Until the first list is read and the allocator has calmed down.
const SETTLE: Duration = Duration::from_secs(20);

pub(crate) async fn measure(stage: &Stage<'_>, accounts: usize, seconds: u64) -> Result<()> {
    println!("\n## idle for {seconds} s with {accounts} ServiceAccounts\n");
    println!("| server | CPU, ms per s |");
    println!("|---|---:|");
    let mut servers = Vec::new();
    for kind in stage.kinds() {
        if kind != Kind::Floor {
            servers.push(stage.start(kind).await?);
        }
    }
    tokio::time::sleep(SETTLE).await;
    let mut before = Vec::new();
    for server in &servers {
        before.push(process::cpu(server.pid())?);
    }
    let span = Duration::from_secs(seconds);
    tokio::time::sleep(span).await;
    for (server, before) in servers.iter().zip(before) {
        let used = process::cpu(server.pid())? - before;
        let name = server.kind.name();
        let per_second = used * 1e3 / span.as_secs_f64();
        println!("| {name} | {per_second:.2} |");
    }
    Ok(())
}
