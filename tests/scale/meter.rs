//! CPU and memory of a process, as the kernel counts them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Clock ticks a second; fixed by Linux' interface to programs.
const TICKS: u64 = 100;

/// A look at a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// CPU time so far.
    pub(crate) cpu: Duration,
    /// Resident memory now, KiB.
    pub(crate) rss: u64,
    /// Its peak so far, KiB.
    pub(crate) peak: u64,
}

impl Usage {
    /// Of the process with this PID.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("the process {pid} is gone"))?;
        // The name in parentheses may hold anything.
        let (_, rest) = stat
            .rsplit_once(')')
            .context("a stat line without a name")?;
        let fields: Vec<_> = rest.split_whitespace().collect();
        let ticks = |index: usize| -> Result<u64> {
            Ok(fields.get(index).context("a short stat line")?.parse()?)
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |key: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|line| line.split_whitespace().next());
            Ok(number.with_context(|| format!("no {key}"))?.parse()?)
        };
        Ok(Self {
            cpu: Duration::from_millis((ticks(11)? + ticks(12)?) * 1000 / TICKS),
            rss: kib("VmRSS:")?,
            peak: kib("VmHWM:")?,
        })
    }

    /// `KiB` as MiB with one digit.
    pub(crate) fn mib(kib: u64) -> String {
        format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)
    }
}

/// How long a window is that counts as quiet, and how much CPU it may hold.
const WINDOW: Duration = Duration::from_millis(500);
const QUIET: Duration = Duration::from_millis(20);

/// Waits until the process has been quiet for `calm`; returns when that began, counted from
/// `since`.
pub(crate) async fn quiet_after(pid: u32, since: Instant, calm: Duration) -> Result<Duration> {
    let mut before = Usage::of(pid)?.cpu;
    let mut busy_until = since.elapsed();
    loop {
        tokio::time::sleep(WINDOW).await;
        let now = Usage::of(pid)?.cpu;
        if now.saturating_sub(before) > QUIET {
            busy_until = since.elapsed();
        }
        before = now;
        if since.elapsed().saturating_sub(busy_until) >= calm {
            return Ok(busy_until);
        }
    }
}
