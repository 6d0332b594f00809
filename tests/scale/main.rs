//! `make scale`: what thousands of bindings cost, on a real API server, with the release build.
//!
//! ```text
//! stage     control plane, STS simulator (a process of its own), controller (the release binary)
//! objects   namespaces, ServiceAccounts, bindings
//! meter     CPU and memory of a process, from /proc
//! ledger    calls to the API server (audit log) and to STS (the simulator's log), by kind
//! cases     new, restart, steady: one after the other on the same bindings
//! fairness  STS throttles while many are due and one tenant asks for more and more
//! ```
//!
//! Every figure stands beside the one to reach (design 9, issue 5), and the exit code is not 0 when
//! one that does not depend on the machine is missed: calls, writes, reads, refusals, memory.

#![expect(
    clippy::disallowed_methods,
    reason = "a measurement stands outside the product: it reads the real clock and files"
)]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "each program uses its part of the support tree")]
mod support;

mod cases;
mod fairness;
mod ledger;
mod meter;
mod objects;
mod stage;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use stage::Stage;
use table::Table;

/// Measures `rrsa controller` with many bindings.
#[derive(Debug, Parser)]
#[command(name = "scale")]
struct Arguments {
    /// The controller to measure; a release build
    #[arg(long, default_value = "target/release/rrsa")]
    rrsa: PathBuf,

    /// The simulator of STS
    #[arg(long, default_value = "target/release/examples/simulators")]
    simulators: PathBuf,

    /// How many bindings
    #[arg(long, default_value_t = 500)]
    bindings: usize,

    /// In how many namespaces
    #[arg(long, default_value_t = 25)]
    namespaces: usize,

    /// What STS lets through in a second
    #[arg(long, default_value_t = 100)]
    sts_limit: u32,

    /// sts.callsPerSecond of the operator's configuration
    #[arg(long, default_value_t = 95)]
    pace: u32,

    /// How many seconds the steady state is watched
    #[arg(long, default_value_t = 30)]
    steady: u64,

    /// How many bindings are due at once in the fairness case; 0 leaves it out
    #[arg(long, default_value_t = 100)]
    due: usize,

    /// In how many namespaces those are
    #[arg(long, default_value_t = 10)]
    due_namespaces: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut table = Table::default();
    let outcome = measure(&arguments, &mut table).await;
    table.print();
    match outcome {
        Ok(()) if table.all_hold() => ExitCode::SUCCESS,
        Ok(()) => {
            table::say("a figure that does not depend on the machine was missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            table::say(&format!("{error:?}"));
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments, table: &mut Table) -> Result<()> {
    let stage = Stage::set(arguments).await?;
    let steady = Duration::from_secs(arguments.steady);
    if arguments.bindings > 0 {
        cases::run(&stage, arguments, steady, table).await?;
    }
    if arguments.due > 0 {
        fairness::run(&stage, arguments, table).await?;
    }
    Ok(())
}
