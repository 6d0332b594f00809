//! What the webhook costs, beside its neighbours and beside a floor: one program, one table.
//!
//! ```text
//! reviews  reviews per CPU-second of the server over TLS, and their latency
//! memory   VmRSS and VmHWM (listing included) by the number of ServiceAccounts and bindings
//! start    time from the start of the process to the first injected review
//! idle     CPU time with nothing to do
//! ```
//!
//! The servers are processes of their own on a real API server (`tests/support`), and what is
//! counted is theirs alone (`/proc/PID`). Figures of one run may be compared with each other,
//! those of two machines may not.
//!
//! `neighbours.sh` builds the neighbours from checkouts; without them their columns stay empty.
//! `capture` asks the API server for the reviews in `reviews/` anew.
#![expect(clippy::print_stdout, reason = "a program for people")]
#![expect(
    clippy::disallowed_methods,
    reason = "measuring is reading clocks and files"
)]

mod capture;
mod floor;
mod idle;
mod load;
mod memory;
mod objects;
mod process;
mod reviews;
mod servers;
mod start;
#[path = "../../tests/support/mod.rs"]
#[allow(dead_code, reason = "each program uses its part of the support tree")]
mod support;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use objects::Objects;
use servers::Stage;
use support::kubernetes::{Cluster, Options};

/// Measures the webhook.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// The binary to measure; by default the one that was built together with this program.
    #[arg(long)]
    rrsa: Option<PathBuf>,
    /// The folder that neighbours.sh has filled.
    #[arg(long, env = "RRSA_BENCH_NEIGHBOURS")]
    neighbours: Option<PathBuf>,
    /// What to measure.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "reviews,memory,start,idle"
    )]
    only: Vec<Part>,
    /// Seconds of load for each cell of the table.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// How often the whole table of reviews is measured; medians are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Numbers of ServiceAccounts for memory and start, five in each namespace.
    #[arg(long, value_delimiter = ',', default_value = "10000,50000")]
    accounts: Vec<usize>,
    /// Bindings that are added to the first of these numbers.
    #[arg(long, default_value_t = 10_000)]
    bindings: usize,
    /// Seconds without work whose CPU time is counted.
    #[arg(long, default_value_t = 300)]
    idle_seconds: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Reviews,
    Memory,
    Start,
    Idle,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Writes the reviews that the API server sends for pods of 1, 10 and 100 containers.
    Capture,
    /// The server that does nothing but what cannot be avoided.
    #[command(hide = true)]
    Floor(floor::Args),
}

// As in the program that is measured.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .ok()
        .context("a TLS provider is installed already")?;
    let args = Args::parse();
    match &args.command {
        Some(Command::Floor(args)) => floor::run(args),
        Some(Command::Capture) => runtime()?.block_on(capture::run()),
        None => runtime()?.block_on(measure(&args)),
    }
}

/// The load must not be what limits the servers on two cores.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

async fn measure(args: &Args) -> Result<()> {
    // An audit log of 60,000 creations would only slow the API server down.
    let options = Options {
        audit: false,
        ..Options::default()
    };
    let cluster = Cluster::start_with(&options).await?;
    let rrsa = match &args.rrsa {
        Some(path) => found(path)?,
        None => beside_this_program()?,
    };
    let neighbours = args.neighbours.as_deref().map(found).transpose()?;
    let stage = Stage::set(&cluster, rrsa, neighbours).await?;
    let wanted = |part| args.only.contains(&part);
    if wanted(Part::Reviews) {
        reviews::measure(&stage, args.seconds, args.rounds).await?;
    }
    if wanted(Part::Memory) {
        println!("\n## memory\n\n{}", memory::HEAD);
        memory::measure(&stage, "none", true).await?;
    }
    let mut objects = Objects::new(&cluster).await?;
    for (index, &accounts) in args.accounts.iter().enumerate() {
        if [Part::Memory, Part::Start, Part::Idle]
            .iter()
            .all(|part| !wanted(*part))
        {
            break;
        }
        objects.accounts(accounts).await?;
        if wanted(Part::Memory) {
            memory::measure(&stage, &format!("{accounts} ServiceAccounts"), true).await?;
        }
        if wanted(Part::Start) {
            start::measure(&stage, accounts).await?;
        }
        if wanted(Part::Idle) && index == 0 {
            idle::measure(&stage, accounts, args.idle_seconds).await?;
        }
        if wanted(Part::Memory) && index == 0 && args.bindings > 0 {
            objects.bindings(args.bindings).await?;
            let label = format!("{accounts} and {} bindings", args.bindings);
            memory::measure(&stage, &label, false).await?;
        }
    }
    Ok(())
}

/// The path as processes with another working folder need it.
fn found(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)?;
    anyhow::ensure!(path.exists(), "there is no {}", path.display());
    Ok(path)
}

/// `target/release/rrsa` beside `target/release/examples/webhook-figures`.
fn beside_this_program() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().and_then(|folder| folder.parent());
    let rrsa = folder.context("no folder of binaries")?.join("rrsa");
    anyhow::ensure!(rrsa.exists(), "{} is not built", rrsa.display());
    Ok(rrsa)
}
