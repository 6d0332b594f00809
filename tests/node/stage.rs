//! What the tests of the node tier stand on: the cluster with its node, started once.
#![expect(clippy::disallowed_methods, reason = "logs are read from a time on")]

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::support::kubernetes::Cluster;
use crate::support::kubernetes::node::Node;
use crate::support::{logs, wait};

/// Longest wait for a pod: its image is here already.
pub(crate) const SOON: Duration = Duration::from_mins(2);

/// The cluster of all tests of this program.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The control plane.
    pub(crate) cluster: Cluster,
    /// Its node.
    pub(crate) node: Node,
}

/// A test, with a runtime of its own. When it fails, its message ends with the ends of the logs.
pub(crate) fn trial(
    name: &'static str,
    test: impl AsyncFnOnce(&'static Stage) -> Result<()> + Send + 'static,
) -> Trial {
    Trial::test(name, move || {
        let since = SystemTime::now();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let stage = Stage::shared().await?;
            test(stage).await.map_err(|error| {
                let said = logs::tails(&stage.cluster.log_dir(), since, 15);
                Failed::from(format!("{error:?}\n{said}"))
            })
        })
    })
}

impl Stage {
    /// The stage that all tests share; the first one to ask sets it.
    async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Result<Stage, String>> = OnceCell::const_new();
        let start = async || {
            let (cluster, node) = Cluster::start_with_node().await?;
            anyhow::Ok(Self { cluster, node })
        };
        SHARED
            .get_or_init(async || start().await.map_err(|error| format!("{error:#}")))
            .await
            .as_ref()
            .map_err(|error| anyhow!("the cluster with a node: {error}"))
    }

    /// What kubectl prints, if it succeeds.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl(arguments).await?.success()
    }

    /// An object, or a list of them.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [&["get", "--output=json"], arguments].concat();
        Ok(serde_json::from_str(&self.kubectl(&arguments).await?)?)
    }

    /// Waits until a pod says that it is ready.
    pub(crate) async fn pod_is_ready(&self, namespace: &str, name: &str) -> Result<()> {
        wait::until(
            &format!("pod {namespace}/{name} to be ready"),
            SOON,
            async || {
                self.node.all_run()?;
                let pod = self.json(&["pod", name, "--namespace", namespace]).await?;
                let ready = condition(&pod, "Ready").context("it has no condition yet")?;
                ensure!(
                    ready == "True",
                    "it says {ready}; containers: {}",
                    pod["status"]["containerStatuses"]
                );
                Ok(Some(()))
            },
        )
        .await
    }
}

/// The status of a condition.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == kind)?;
    found["status"].as_str()
}
