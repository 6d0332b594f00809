//! The tests that need a real API server. Most share one control plane and one installation of
//! rrsa, each in a namespace of its own; what stops, restarts or hurries has its own.

#[path = "../installation/mod.rs"]
mod installation;
#[path = "../simulators/mod.rs"]
mod simulators;
#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "each program uses its part of the support tree")]
mod support;

mod binding;
mod bindings;
mod chain;
mod chaos;
mod chart;
mod clock;
mod configuration;
mod conformance;
mod doctor;
mod failures;
mod fallback;
mod fields;
mod fixture;
mod modes;
mod mounted;
mod namespaced;
mod operator;
mod outages;
mod ownership;
mod person;
mod pods;
mod policy;
mod proxied;
mod refresh;
mod replicas;
mod retain;
mod rights;
mod schema;
mod sharing;
mod tenant;
mod webhook;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::sync::OnceCell;

use bindings::Scene;
use installation::{Choices, Installation};
use support::kubernetes::Cluster;

fn choices(session_lifetime: Option<Duration>) -> Choices {
    Choices {
        rrsa: PathBuf::from(env!("CARGO_BIN_EXE_rrsa")),
        session_lifetime,
        ..Choices::default()
    }
}

/// The installation that most tests share; the first one to ask starts it.
async fn installation() -> Result<&'static Installation> {
    static SHARED: OnceCell<Result<Installation, String>> = OnceCell::const_new();
    let start = async || Installation::start(Cluster::shared().await?, choices(None)).await;
    let shared = SHARED
        .get_or_init(async || start().await.map_err(|error| format!("{error:#}")))
        .await;
    shared
        .as_ref()
        .map_err(|error| anyhow!("the shared installation: {error}"))
}

/// A cluster and an installation of one test alone.
async fn own_installation(lifetime: Option<Duration>) -> Result<(Cluster, Installation)> {
    let cluster = Cluster::start().await?;
    cluster.require_own("a second installation")?;
    let installation = Installation::start(&cluster, choices(lifetime)).await?;
    Ok((cluster, installation))
}

/// Runs a test in a namespace of its own on the shared installation. Afterwards no log may hold a
/// secret that was issued until then, by whatever test.
async fn with_scene(test: impl AsyncFnOnce(&Scene<'_>) -> Result<()>) -> Result<()> {
    let (cluster, installation) = (Cluster::shared().await?, installation().await?);
    let scene = Scene::set(installation, cluster.test_namespace().await?).await?;
    let outcome = test(&scene).await;
    reported(outcome.and_then(|()| installation.assert_no_secret_in_logs(cluster)))
}

/// Fails by a panic, while the namespace still exists: that prints the logs and objects that tell
/// why.
#[expect(
    clippy::panic,
    clippy::unnecessary_wraps,
    reason = "this is how a test fails"
)]
fn reported(outcome: Result<()>) -> Result<()> {
    if let Err(error) = outcome {
        panic!("{error:?}");
    }
    Ok(())
}
