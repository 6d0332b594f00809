//! A real Kubernetes for tests: etcd, API server, controller manager and scheduler on loopback.
//!
//! ```text
//! Cluster ─┬─ binaries       where the programs come from (tests/kubernetes/build.sh)
//!          ├─ control_plane  starts them, waits until they work ── certificates (kubeadm)
//!          ├─ access         clients, kubeconfigs of ServiceAccounts, token keys
//!          ├─ namespace      a test's own namespace; diagnosis when the test fails
//!          ├─ audit          who called the API server
//!          ├─ node           a real node, where the test program runs on a machine of its own
//!          └─ process, run   programs beside it ── reaper: nothing outlives the test program
//! ```
//!
//! With `RRSA_TEST_KUBECONFIG=/path` the tests use that cluster, as its administrator, and start
//! none. What needs the API server to reach this machine's loopback (a webhook by URL) or a file of
//! the control plane (the audit log) cannot run there: it fails and says so, see
//! [`Cluster::require_own`].
//!
//! Without a node no pod ever runs; pods can be created, and admission sees them. A node needs root,
//! containerd and a machine of its own: see [`node`].

mod access;
pub(crate) mod audit;
mod binaries;
mod certificates;
mod control_plane;
pub(crate) mod namespace;
pub(crate) mod node;
mod process;
pub(crate) mod reaper;
mod run;

use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::sync::OnceCell;

use audit::AuditLog;
use reaper::Reaper;

pub(crate) use process::Process;
pub(crate) use run::Output;

/// The variable that names the kubeconfig of a cluster to use instead of starting one.
pub(crate) const EXISTING: &str = "RRSA_TEST_KUBECONFIG";
/// How long kubectl may take; `kubectl wait` has its own `--timeout`.
const KUBECTL: Duration = Duration::from_mins(5);
/// How long helm may take; its `--wait` has its own `--timeout`.
const HELM: Duration = Duration::from_mins(5);
/// How long a cluster that exists may take to say its version.
const ANSWER: Duration = Duration::from_secs(15);

/// What can be chosen about a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Where the API server listens. Another address than loopback must exist already.
    pub(crate) address: IpAddr,
    /// Whether the API server keeps an audit log.
    pub(crate) audit: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::LOCALHOST.into(),
            audit: true,
        }
    }
}

/// A cluster that works. Dropping it ends it; so does the end of the test program, whatever its
/// cause. It holds nothing of an async runtime, so tests with runtimes of their own can share it.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Empty for a cluster that existed before. Dropped before the reaper.
    components: Vec<Process>,
    admin: PathBuf,
    bin: PathBuf,
    audit: Option<AuditLog>,
    started_in: Duration,
    reaper: Arc<Reaper>,
}

impl Cluster {
    /// Starts a control plane, or takes the cluster that `RRSA_TEST_KUBECONFIG` names.
    ///
    /// # Errors
    /// Names what is missing and the remedy, or holds the ends of the components' logs.
    pub(crate) async fn start() -> Result<Self> {
        Self::start_with(&Options::default()).await
    }

    /// The same with options; a cluster that exists ignores them.
    ///
    /// # Errors
    /// As for [`Cluster::start`].
    pub(crate) async fn start_with(options: &Options) -> Result<Self> {
        let bin = binaries::folder().await?;
        if let Some(kubeconfig) = env::var_os(EXISTING).filter(|path| !path.is_empty()) {
            return Self::existing(bin, Path::new(&kubeconfig)).await;
        }
        let started = Instant::now();
        let made = control_plane::start(&bin, options).await?;
        let audit = made.reaper.folder().join(control_plane::AUDIT);
        Ok(Self {
            components: made.components,
            admin: made.admin,
            bin,
            audit: options.audit.then(|| AuditLog::at(audit)),
            started_in: started.elapsed(),
            reaper: made.reaper,
        })
    }

    /// The cluster that all tests of this program share; the first one to ask starts it.
    ///
    /// # Errors
    /// As for [`Cluster::start`]; all tests get the same error, and it is tried only once.
    pub(crate) async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Result<Cluster, String>> = OnceCell::const_new();
        let shared = SHARED
            .get_or_init(async || Self::start().await.map_err(|error| format!("{error:#}")))
            .await;
        shared
            .as_ref()
            .map_err(|error| anyhow!("the shared test cluster: {error}"))
    }

    async fn existing(bin: PathBuf, kubeconfig: &Path) -> Result<Self> {
        let admin = fs::canonicalize(kubeconfig)
            .with_context(|| format!("{EXISTING} names {}", kubeconfig.display()))?;
        let cluster = Self {
            components: Vec::new(),
            admin,
            bin,
            audit: None,
            started_in: Duration::ZERO,
            reaper: Reaper::start()?,
        };
        let client = cluster.client().await?;
        tokio::time::timeout(ANSWER, client.apiserver_version())
            .await?
            .with_context(|| format!("reach the cluster of {EXISTING}={}", kubeconfig.display()))?;
        Ok(cluster)
    }

    /// Whether this cluster was started here, so that its API server reaches loopback.
    pub(crate) fn is_own(&self) -> bool {
        !self.components.is_empty()
    }

    /// For what cannot be tested on a cluster that existed before.
    ///
    /// # Errors
    /// On such a cluster: names what cannot run and the remedy.
    pub(crate) fn require_own(&self, what: &str) -> Result<()> {
        ensure!(
            self.is_own(),
            "{what} needs a control plane on this machine: run these tests without {EXISTING}"
        );
        Ok(())
    }

    /// How long the start took, without building the programs.
    pub(crate) fn started_in(&self) -> Duration {
        self.started_in
    }

    /// The components' processes, none for a cluster that existed before.
    pub(crate) fn components(&self) -> &[Process] {
        &self.components
    }

    /// The script that cleans up.
    pub(crate) fn reaper(&self) -> &Reaper {
        &self.reaper
    }

    /// The administrator's kubeconfig.
    pub(crate) fn admin_kubeconfig(&self) -> &Path {
        &self.admin
    }

    /// The folder of kubectl, helm and the others.
    pub(crate) fn bin_dir(&self) -> &Path {
        &self.bin
    }

    /// A folder for files that go with the cluster.
    pub(crate) fn state_dir(&self) -> &Path {
        self.reaper.folder()
    }

    /// The logs of the components and of the [`Cluster::spawn`]ed processes.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.state_dir().join("log")
    }

    /// The audit log of the API server.
    ///
    /// # Errors
    /// On a cluster that existed before, or that was started without.
    pub(crate) fn audit(&self) -> Result<&AuditLog> {
        self.require_own("the audit log")?;
        self.audit
            .as_ref()
            .context("this cluster was started without an audit log")
    }

    /// Starts a program beside the cluster, with `log/<name>.log` as its outputs. It ends with the
    /// handle, and with the test program at the latest.
    ///
    /// # Errors
    /// When it cannot be started. That it fails later is seen by [`Process::ensure_running`].
    pub(crate) fn spawn(&self, name: &str, command: &Command) -> Result<Process> {
        Process::spawn(&self.reaper, name, command)
    }

    /// Runs kubectl as the administrator.
    ///
    /// # Errors
    /// When it does not end in time. Its own failure is in [`Output::status`].
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        self.kubectl_with(&self.admin, arguments, "").await
    }

    /// Runs kubectl with another kubeconfig and with text on its standard input.
    ///
    /// # Errors
    /// As for [`Cluster::kubectl`].
    pub(crate) async fn kubectl_with(
        &self,
        kubeconfig: &Path,
        arguments: &[&str],
        input: &str,
    ) -> Result<Output> {
        let mut command = Command::new(self.bin.join("kubectl"));
        command
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            // Its cache and its preferences are the person's, not the test's.
            .env("HOME", self.state_dir())
            .env("KUBECTL_KUBERC", "false");
        run::run(&self.reaper, &command, input.as_bytes(), KUBECTL).await
    }

    /// Runs helm as the administrator.
    ///
    /// # Errors
    /// When it does not end in time. Its own failure is in [`Output::status`].
    pub(crate) async fn helm(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(self.bin.join("helm"));
        command
            .args(arguments)
            .env("KUBECONFIG", &self.admin)
            // Its caches and plugins are the person's, not the test's.
            .env("HOME", self.state_dir());
        run::run(&self.reaper, &command, b"", HELM).await
    }

    /// Runs another program to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time. Its own failure is in [`Output::status`].
    pub(crate) async fn run(&self, command: &Command) -> Result<Output> {
        run::run(&self.reaper, command, b"", KUBECTL).await
    }

    /// Applies YAML documents of any kind, as `kubectl apply --server-side` does. Returns what
    /// kubectl says, one line per object.
    ///
    /// # Errors
    /// Holds the API server's refusal.
    pub(crate) async fn apply_yaml(&self, documents: &str) -> Result<String> {
        let arguments = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--filename=-",
        ];
        self.kubectl_with(&self.admin, &arguments, documents)
            .await?
            .success()
    }
}
