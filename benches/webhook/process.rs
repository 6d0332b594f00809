//! What the kernel knows about a process.

use anyhow::{Context, Result};

/// The kernel counts CPU time in so many parts of a second (`USER_HZ`, fixed on Linux).
const TICKS: f64 = 100.0;

/// CPU time of the process so far, of all its threads, in seconds.
pub(crate) fn cpu(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold blanks; user and system time are the 12th and 13th field
    // after it.
    let (_, fields) = text.rsplit_once(')').context("an odd stat file")?;
    let ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u32>)
        .sum::<std::result::Result<u32, _>>()?;
    Ok(f64::from(ticks) / TICKS)
}

/// Memory of a process in MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// What it has now.
    pub(crate) resident: f64,
    /// The most it ever had.
    pub(crate) peak: f64,
    /// The part of `resident` that is no file.
    pub(crate) anonymous: f64,
}

/// Memory of the process.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let line = line.with_context(|| format!("no {name} in the status file"))?;
        let kib: f64 = line.trim_end_matches("kB").trim().parse()?;
        Ok(kib / 1024.0)
    };
    Ok(Memory {
        resident: field("VmRSS:")?,
        peak: field("VmHWM:")?,
        anonymous: field("RssAnon:")?,
    })
}
