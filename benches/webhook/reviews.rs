//! Reviews per CPU-second.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::load;
use crate::process;
use crate::servers::{Kind, Server, Stage, reviews};

/// One row of the table.
type Row = (usize, usize);

#[derive(Debug, Default)]
struct Cell {
    per_cpu_second: Vec<f64>,
    p50: Vec<Duration>,
    p99: Vec<Duration>,
}

/// Measures all servers, one after another within a round, so that each round has all of them on
/// the machine as it was.
pub(crate) async fn measure(stage: &Stage<'_>, seconds: u64, rounds: usize) -> Result<()> {
    let span = Duration::from_secs(seconds);
    let mut servers = Vec::new();
    for kind in stage.kinds() {
        servers.push(stage.start(kind).await?);
    }
    let mut cells: BTreeMap<(Row, &'static str), Cell> = BTreeMap::new();
    for _ in 0..rounds {
        for review in reviews()? {
            for connections in [1, 32] {
                for server in &servers {
                    let before = process::cpu(server.pid())?;
                    let (target, body) = (server.target, &review.body);
                    let done = load::run(target, connections, span, body).await?;
                    let used = process::cpu(server.pid())? - before;
                    let row = (review.containers, connections);
                    let cell = cells.entry((row, server.kind.name())).or_default();
                    // The calls that open the connections are in the CPU time, too.
                    let all = done.reviews + connections as u64;
                    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
                    cell.per_cpu_second.push(all as f64 / used);
                    cell.p50.push(quantile(&done.latencies, 0.50));
                    cell.p99.push(quantile(&done.latencies, 0.99));
                }
            }
        }
    }
    print(&cells, &servers);
    for server in servers {
        server.end().await?;
    }
    Ok(())
}

fn print(cells: &BTreeMap<(Row, &'static str), Cell>, servers: &[Server]) {
    println!("\n## reviews per CPU-second of the server\n");
    println!(
        "| containers | connections | rrsa | floor | of the floor | aws | times aws | azure \
         | rrsa p50 / p99 ms | aws p50 / p99 ms |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut rows: Vec<Row> = cells.keys().map(|(row, _)| *row).collect();
    rows.dedup();
    for row in rows {
        let of = |kind: Kind| cells.get(&(row, kind.name()));
        let rate = |kind| of(kind).map(|cell| median(&cell.per_cpu_second));
        let show = |rate: Option<f64>| rate.map_or("–".to_owned(), |rate| format!("{rate:.0}"));
        let (ours, floor, aws) = (rate(Kind::Ours), rate(Kind::Floor), rate(Kind::Aws));
        let ratio = |other: Option<f64>| Some(ours? / other?);
        let times = |kind| {
            of(kind).map_or("–".to_owned(), |cell| {
                let ms = |spans: &[Duration]| {
                    median(&spans.iter().map(Duration::as_secs_f64).collect::<Vec<_>>()) * 1e3
                };
                format!("{:.2} / {:.2}", ms(&cell.p50), ms(&cell.p99))
            })
        };
        let (containers, connections) = row;
        println!(
            "| {containers} | {connections} | {} | {} | {} | {} | {} | {} | {} | {} |",
            show(ours),
            show(floor),
            ratio(floor).map_or("–".to_owned(), |ratio| format!("{:.0} %", ratio * 100.0)),
            show(aws),
            ratio(aws).map_or("–".to_owned(), |ratio| format!("{ratio:.1}")),
            show(rate(Kind::Azure)),
            times(Kind::Ours),
            times(Kind::Aws),
        );
    }
    println!("\nafter that load:\n\n{}", crate::memory::HEAD);
    for server in servers {
        if let Ok(memory) = process::memory(server.pid()) {
            println!("{}", crate::memory::row("load", server.kind, memory));
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a place in a list of some thousands"
)]
fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * part) as usize;
    sorted.get(at).copied().unwrap_or_default()
}
