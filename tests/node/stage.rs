//! What the tests of the node tier stand on: the cluster with its node, started once.
#![expect(clippy::disallowed_methods, reason = "logs are read from a time on")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::Pod;
use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::support::kubernetes::Cluster;
use crate::support::kubernetes::node::Node;
use crate::support::{logs, wait};

/// Where the kubelet keeps what containers print.
pub(crate) const POD_LOGS: &str = "/var/log/pods";
/// Longest wait for a pod: its image is here already.
pub(crate) const SOON: Duration = Duration::from_mins(4);

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
                let pods = logs::tails(Path::new(POD_LOGS), since, 10);
                Failed::from(format!("{error:?}\n{said}{pods}"))
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

    /// What helm prints, if it succeeds.
    pub(crate) async fn helm(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.helm(arguments).await?.success()
    }

    /// What a program prints, if it succeeds.
    pub(crate) async fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments);
        self.cluster.run(&command).await?.success()
    }

    /// An object, or a list of them.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [&["get", "--output=json"], arguments].concat();
        Ok(serde_json::from_str(&self.kubectl(&arguments).await?)?)
    }

    /// Begins to delete a namespace and everything in it.
    pub(crate) async fn forget(&self, namespace: &str) -> Result<()> {
        self.kubectl(&["delete", "namespace", namespace, "--wait=false"])
            .await?;
        Ok(())
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
                    ready["status"] == "True",
                    "it says {ready}; containers: {}",
                    pod["status"]["containerStatuses"]
                );
                Ok(Some(()))
            },
        )
        .await
    }
}

/// A variable of a pod's first container.
pub(crate) fn variable(pod: &Pod, name: &str) -> Option<String> {
    let container = pod.spec.as_ref()?.containers.first()?;
    let mut variables = container.env.iter().flatten();
    let found = variables.find(|variable| variable.name == name)?;
    found.value.clone()
}

/// Tells a figure to the person who runs the tests.
#[expect(clippy::print_stderr, reason = "figures are for people")]
pub(crate) fn tell(text: &str) {
    eprintln!("\n    {text}");
}

/// A condition of an object.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
}
