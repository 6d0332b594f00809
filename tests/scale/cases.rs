//! New, restart, steady: one after the other on the same bindings.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::Utc;

use super::Arguments;
use super::ledger::{ApiCalls, StsCalls};
use super::meter::{Usage, quiet_after};
use super::objects::Objects;
use super::stage::{Controller, ROLE, Stage};
use super::table::{Table, say};

/// Half a day: nothing is due while it is measured.
const TWELVE_HOURS: u32 = 43_200;
/// How long a process must be calm to count as quiet.
const CALM: Duration = Duration::from_secs(5);
/// The memory figure of design 9.
const MEMORY_KIB: u64 = 64 * 1024;

pub(crate) async fn run(
    stage: &Stage,
    arguments: &Arguments,
    steady: Duration,
    table: &mut Table,
) -> Result<()> {
    let objects = Objects {
        prefix: "scale",
        namespaces: arguments.namespaces,
        bindings: arguments.bindings,
        role: ROLE.to_owned(),
        duration_seconds: TWELVE_HOURS,
    };
    say(&format!(
        "making {} bindings in {} namespaces",
        objects.bindings, objects.namespaces
    ));
    objects.make(&stage.client).await?;
    let mut api = stage.api_calls()?;
    let mut sts = stage.sts_calls();
    api.reset()?;
    sts.reset()?;
    let controller = new(stage, arguments, &objects, (&mut api, &mut sts), table).await?;
    controller.stop().await?;
    let controller = restart(stage, arguments, (&mut api, &mut sts), table).await?;
    table.case(&format!("steady, {} s", steady.as_secs()));
    api.reset()?;
    let before = controller.usage()?.cpu;
    tokio::time::sleep(steady).await;
    let usage = controller.usage()?;
    let share = usage.cpu.saturating_sub(before).as_secs_f64() / steady.as_secs_f64();
    api.read()?;
    sts.read()?;
    table.figure(
        "CPU, share of a core",
        format!("{:.2} %", share * 100.0),
        "< 2 %",
    );
    table.must(
        "API writes but the Lease's",
        api.writes(),
        "0",
        api.writes() == 0,
    );
    table.must("STS calls", sts.calls.len(), "0", sts.calls.is_empty());
    table.note("memory at rest", Usage::mib(usage.rss));
    table.note("API calls", api.kinds());
    controller.stop().await
}

async fn new(
    stage: &Stage,
    arguments: &Arguments,
    objects: &Objects,
    (api, sts): (&mut ApiCalls, &mut StsCalls),
    table: &mut Table,
) -> Result<Controller> {
    let count = objects.bindings;
    table.case(&format!("new: {count} bindings from nothing"));
    let (since, plane) = (Utc::now(), stage.control_plane_cpu()?);
    let controller = stage.start_controller(arguments.pace)?;
    let ceiling = Duration::from_secs(180 + u64::try_from(count)? / 10);
    loop {
        controller.process.ensure_running()?;
        ensure!(
            controller.started.elapsed() < ceiling,
            "not all are ready within {ceiling:?}: {}",
            api.kinds()
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
        api.read()?;
        let written = api.counts.get("patch alibabarolebindings/status");
        if written.copied().unwrap_or_default() >= count {
            break;
        }
    }
    let last = api.last.context("no call of the controller")?;
    quiet_after(controller.process.id(), controller.started, CALM).await?;
    let usage = controller.usage()?;
    let ready = objects.ready(&stage.client).await?;
    api.read()?;
    sts.read()?;
    table.must("ready", ready, &count.to_string(), ready == count);
    let took = (last - since).as_seconds_f64();
    table.figure(
        "all ready after",
        format!("{took:.1} s"),
        "115 s for 10,000",
    );
    let calls = sts.calls.len();
    table.must("STS calls", calls, &count.to_string(), calls == count);
    table.must("refused by STS", sts.refused(), "0", sts.refused() == 0);
    let (writes, gets) = (api.writes(), api.gets());
    table.must(
        "API writes",
        writes,
        &format!("{} (4 a binding)", 4 * count),
        writes <= 4 * count,
    );
    table.must("API reads of objects", gets, "0", gets == 0);
    table.figure(
        "CPU",
        format!("{:.1} s", usage.cpu.as_secs_f64()),
        "25 s for 10,000",
    );
    table.must(
        "peak memory",
        Usage::mib(usage.peak),
        "64 MiB",
        usage.peak < MEMORY_KIB,
    );
    table.note("memory after it", Usage::mib(usage.rss));
    let plane = stage.control_plane_cpu()?.saturating_sub(plane);
    table.note(
        "CPU of the control plane",
        format!("{:.0} s", plane.as_secs_f64()),
    );
    table.note("API calls", api.kinds());
    Ok(controller)
}

async fn restart(
    stage: &Stage,
    arguments: &Arguments,
    (api, sts): (&mut ApiCalls, &mut StsCalls),
    table: &mut Table,
) -> Result<Controller> {
    table.case("restart with everything fresh");
    api.reset()?;
    sts.reset()?;
    let controller = stage.start_controller(arguments.pace)?;
    let quiet = quiet_after(controller.process.id(), controller.started, CALM).await?;
    let usage = controller.usage()?;
    api.read()?;
    sts.read()?;
    table.figure(
        "quiet after",
        format!("{:.1} s", quiet.as_secs_f64()),
        "5 s for 10,000",
    );
    table.must("STS calls", sts.calls.len(), "0", sts.calls.is_empty());
    table.must(
        "API writes but the Lease's",
        api.writes(),
        "0",
        api.writes() == 0,
    );
    table.must("API reads of objects", api.gets(), "0", api.gets() == 0);
    table.note("CPU", format!("{:.1} s", usage.cpu.as_secs_f64()));
    table.must(
        "peak memory",
        Usage::mib(usage.peak),
        "64 MiB",
        usage.peak < MEMORY_KIB,
    );
    table.note("API calls", api.kinds());
    Ok(controller)
}
