//! Memory by the number of objects, the peak while listing included.

use std::time::Duration;

use anyhow::Result;

use crate::process::{self, Memory};
use crate::servers::{Kind, Stage};

/// The head of the table that [`row`] goes on with.
pub(crate) const HEAD: &str = "| objects | server | VmRSS MiB | VmHWM MiB | anonymous MiB |\n\
    |---|---|---:|---:|---:|";
/// How long a server has to list everything after it injects for the first time. Ours injects
/// before it has listed all.
const SETTLE: Duration = Duration::from_secs(15);

/// Starts each server anew, lets it list, and looks.
pub(crate) async fn measure(stage: &Stage<'_>, objects: &str, neighbours: bool) -> Result<()> {
    for kind in stage.kinds() {
        if kind == Kind::Floor || kind != Kind::Ours && !neighbours {
            continue;
        }
        let server = stage.start(kind).await?;
        tokio::time::sleep(SETTLE).await;
        println!("{}", row(objects, kind, process::memory(server.pid())?));
        server.end().await?;
    }
    Ok(())
}

pub(crate) fn row(objects: &str, kind: Kind, memory: Memory) -> String {
    let Memory {
        resident,
        peak,
        anonymous,
    } = memory;
    format!(
        "| {objects} | {} | {resident:.1} | {peak:.1} | {anonymous:.1} |",
        kind.name()
    )
}
