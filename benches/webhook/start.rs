//! From the start of a process to the first review that it injects.

use std::time::Duration;

use anyhow::Result;

use crate::servers::{Beginning, Kind, Stage};

/// How often each server is started; medians are printed.
const RUNS: usize = 3;

pub(crate) async fn measure(stage: &Stage<'_>, accounts: usize) -> Result<()> {
    println!("\n## start with {accounts} ServiceAccounts\n");
    println!("| server | first injected review, s | pods passed un-injected for, s |");
    println!("|---|---:|---:|");
    for kind in stage.kinds() {
        if kind == Kind::Floor {
            continue;
        }
        let mut beginnings: Vec<Beginning> = Vec::new();
        for _ in 0..RUNS {
            let server = stage.spawn(kind)?;
            beginnings.push(server.first_injected().await?);
        }
        let median = |part: fn(&Beginning) -> Duration| {
            let mut spans: Vec<_> = beginnings.iter().map(part).collect();
            spans.sort_unstable();
            spans[RUNS / 2].as_secs_f64()
        };
        println!(
            "| {} | {:.3} | {:.3} |",
            kind.name(),
            median(|beginning| beginning.injected),
            median(|beginning| beginning.passed_by),
        );
    }
    Ok(())
}
