//! Several controllers and one Lease: who works, and that nothing is lost or done twice when that
//! one dies, stops or is cut off.
#![expect(
    clippy::disallowed_methods,
    reason = "tests read real files and clocks"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use rrsa::api::v1alpha1::AlibabaRoleBinding;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::bindings::{SOON, Scene};
use crate::installation::{Installation, NAMESPACE};
use crate::support::kubernetes::{Cluster, Process};
use crate::support::wait;
use crate::{own_installation, reported};

mod dead_leaders;

/// A Lease that is lost soon by whoever is cut off, and by nobody else.
const STEADY: [&str; 3] = [
    "--lease-duration=15",
    "--renew-deadline=10",
    "--retry-period=1",
];
/// A Lease that nobody can wait for.
const LONG: [&str; 3] = [
    "--lease-duration=600",
    "--renew-deadline=400",
    "--retry-period=0.4",
];
/// Longest wait for another leader of a Lease as it is shipped: it is over after 12 s, looked at
/// every 2 s, and a busy machine gets more.
const TAKEN_OVER: Duration = Duration::from_mins(3);
/// Controllers, each with a name of its own, also after a restart.
struct Replicas<'a> {
    cluster: &'a Cluster,
    installation: &'a Installation,
    arguments: &'a [&'a str],
    started: usize,
    running: Vec<Replica>,
    /// Logs of those that were killed.
    killed: Vec<PathBuf>,
}

struct Replica {
    name: String,
    process: Process,
    ready_file: PathBuf,
    /// Its way to the API server, where it has one of its own.
    kubeconfig: Option<PathBuf>,
}

impl<'a> Replicas<'a> {
    /// None yet.
    fn new(cluster: &'a Cluster, installation: &'a Installation, arguments: &'a [&'a str]) -> Self {
        Self {
            cluster,
            installation,
            arguments,
            started: 0,
            running: Vec::new(),
            killed: Vec::new(),
        }
    }

    fn start(&mut self, kubeconfig: Option<&Path>) -> Result<()> {
        self.started += 1;
        let name = format!("rrsa-replica-{}", self.started);
        let (process, ready_file) = self.installation.start_replica(
            self.cluster,
            &name,
            self.arguments,
            kubeconfig,
            None,
        )?;
        self.running.push(Replica {
            name,
            process,
            ready_file,
            kubeconfig: kubeconfig.map(Path::to_owned),
        });
        Ok(())
    }

    /// Starts one anew for each that has ended by itself: on a busy machine a short Lease can be
    /// lost, and the kubelet would do the same.
    fn restart_the_ended(&mut self) -> Result<()> {
        let ended: Vec<_> = self
            .running
            .extract_if(.., |replica| !replica.process.is_running())
            .collect();
        for replica in ended {
            let log = std::fs::read_to_string(replica.process.log())?;
            ensure!(
                log.contains("leadership lost"),
                "{} ended without losing the Lease",
                replica.name
            );
            self.killed.push(replica.process.log().to_owned());
            self.start(replica.kubeconfig.as_deref())?;
        }
        Ok(())
    }

    /// The one that holds the Lease and works.
    async fn leader(&mut self) -> Result<usize> {
        let leases = Api::<Lease>::namespaced(self.cluster.client().await?, NAMESPACE);
        wait::until("a replica to hold the Lease", SOON, async || {
            self.restart_the_ended()?;
            let lease = leases.get("rrsa-controller").await?;
            let holder = lease.spec.and_then(|spec| spec.holder_identity);
            let holder = holder.unwrap_or_default();
            let leader = self.running.iter().position(|replica| {
                holder
                    .strip_prefix(&replica.name)
                    .is_some_and(|rest| rest.starts_with('_'))
            });
            ensure!(leader.is_some(), "{holder:?} holds it");
            Ok(leader)
        })
        .await
    }

    fn kill(&mut self, index: usize) -> Result<()> {
        let replica = self.running.remove(index);
        replica.process.kill9()?;
        self.killed.push(replica.process.log().to_owned());
        Ok(())
    }

    /// Exchanges that had begun and were not finished when their process ended.
    fn cut_off(&self) -> Result<usize> {
        let mut total = 0;
        for log in &self.killed {
            let text = std::fs::read_to_string(log)?;
            let count = |word| text.lines().filter(|line| line.contains(word)).count();
            total += count("exchanging").saturating_sub(count("refreshed"));
        }
        Ok(total)
    }
}

impl Replica {
    async fn asks(&self, path: &str) -> Result<(u16, String)> {
        ask(&self.ready_file, path).await
    }
}

/// What the health listener says whose address that file tells.
pub(crate) async fn ask(ready_file: &Path, path: &str) -> Result<(u16, String)> {
    let text = std::fs::read_to_string(ready_file).context("no ready file yet")?;
    let ready: serde_json::Value = serde_json::from_str(&text)?;
    let address = ready["adminAddress"].as_str().context("no address")?;
    let answer = reqwest::get(format!("http://{address}{path}")).await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

fn is_ready(binding: &AlibabaRoleBinding) -> bool {
    let status = binding.status.as_ref();
    status.is_some_and(|status| {
        status
            .conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

/// A way to the API server that can be shut: bytes then go neither way, and connections stay.
struct Valve {
    address: std::net::SocketAddr,
    open: watch::Sender<bool>,
}

impl Valve {
    async fn before(server: std::net::SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (open, opened) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(server).await else {
                    continue;
                };
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                tokio::spawn(pour(near_in, far_out, opened.clone()));
                tokio::spawn(pour(far_in, near_out, opened.clone()));
            }
        });
        Ok(Self { address, open })
    }
}

async fn pour(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut open: watch::Receiver<bool>,
) -> Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = tokio::io::AsyncReadExt::read(&mut from, &mut buffer).await?;
        open.wait_for(|open| *open).await?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}

/// The controller's kubeconfig, by way of the valve.
fn through(valve: &Valve, kubeconfig: &Path, into: &Path) -> Result<()> {
    let mut value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(kubeconfig)?)?;
    value["clusters"][0]["cluster"]["server"] = format!("https://{}", valve.address).into();
    std::fs::write(into, value.to_string())?;
    Ok(())
}

fn server_of(kubeconfig: &Path) -> Result<std::net::SocketAddr> {
    let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(kubeconfig)?)?;
    let server = value["clusters"][0]["cluster"]["server"].as_str();
    let server = server.context("a kubeconfig without server")?;
    Ok(server.trim_start_matches("https://").parse()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lease_is_handed_over_at_a_stop_and_whoever_cannot_renew_it_ends() -> Result<()> {
    let (cluster, installation) = own_installation(None).await?;
    installation.kill_controller()?;
    let scene = Scene::set(&installation, cluster.test_namespace().await?).await?;
    reported(
        async {
            handed_over(&cluster, &scene).await?;
            cut_off_ends(&cluster, &scene).await?;
            installation.assert_no_secret_in_logs(&cluster)
        }
        .await,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replica_takes_over_with_the_lease_as_it_is_shipped() -> Result<()> {
    let (cluster, installation) = own_installation(None).await?;
    installation.kill_controller()?;
    let scene = Scene::set(&installation, cluster.test_namespace().await?).await?;
    reported(taken_over(&cluster, &scene).await)
}

/// Measures from the death of the leader until another one has issued credentials: that is what a
/// person waits for.
#[expect(
    clippy::print_stdout,
    reason = "the figures, for whoever asks for them"
)]
async fn taken_over(cluster: &Cluster, scene: &Scene<'_>) -> Result<()> {
    let mut replicas = Replicas::new(cluster, scene.installation, &[]);
    replicas.start(None)?;
    let first = replicas.leader().await?;
    replicas.start(None)?;
    for (death, how) in [(0, "kill -9"), (1, "kill -9"), (2, "a stop")] {
        let leader = if death == 0 {
            first
        } else {
            replicas.leader().await?
        };
        let standby = 1 - leader;
        wait::until("the other replica to stand by", SOON, async || {
            Ok((replicas.running[standby].asks("/readyz").await?.0 == 200).then_some(()))
        })
        .await?;
        if how == "a stop" {
            let stopped = replicas.running.remove(leader);
            ensure!(stopped.process.terminate_and_wait(SOON).await?.success());
        } else {
            replicas.kill(leader)?;
        }
        let died = std::time::Instant::now();
        let name = format!("after-{death}");
        scene.bind_as(&name, scene.spec()).await?;
        wait::until(&name, TAKEN_OVER, async || {
            let binding = scene.bindings().get(&name).await?;
            Ok(is_ready(&binding).then_some(()))
        })
        .await?;
        println!(
            "{how}: another replica had issued credentials after {:.1} s (12 s lease, 2 s retries)",
            died.elapsed().as_secs_f64()
        );
        replicas.start(None)?;
    }
    scene.installation.assert_no_secret_in_logs(cluster)
}

/// The others could not wait for the end of this Lease: if another works soon, it was given back.
async fn handed_over(cluster: &Cluster, scene: &Scene<'_>) -> Result<()> {
    let mut replicas = Replicas::new(cluster, scene.installation, &LONG);
    replicas.start(None)?;
    let first = replicas.leader().await?;
    replicas.start(None)?;
    scene.issue().await?;
    let standby = 1 - first;
    wait::until("the other replica to be ready", SOON, async || {
        let (status, text) = replicas.running[standby].asks("/readyz").await?;
        ensure!(status == 200, "{text}");
        Ok(Some(()))
    })
    .await?;
    for (replica, lines) in [
        (
            first,
            &[
                "rrsa_controller_leader 1",
                "rrsa_controller_exchanges_total{outcome=\"Issued\"} 1",
                "rrsa_controller_bindings{ready=\"true\"} 1",
                "rrsa_controller_secrets{left=\"longer\"} 1",
            ][..],
        ),
        (standby, &["rrsa_controller_leader 0"][..]),
    ] {
        let replica = &replicas.running[replica];
        wait::until(
            "the health and the metrics of a replica",
            SOON,
            async || {
                let (status, text) = replica.asks("/healthz").await?;
                ensure!(status == 200, "not healthy: {text}");
                let (status, metrics) = replica.asks("/metrics").await?;
                ensure!(status == 200, "/metrics says {status}: {metrics}");
                for line in lines {
                    ensure!(metrics.contains(line), "no {line} in {metrics}");
                }
                Ok(Some(()))
            },
        )
        .await?;
    }

    let stopped = replicas.running.remove(first);
    let status = stopped.process.terminate_and_wait(SOON).await?;
    ensure!(status.success(), "a stopped replica ended with {status}");
    ensure!(!stopped.ready_file.exists(), "its ready file stayed");
    ensure!(replicas.leader().await? == 0, "nobody took over");
    // It works: and it need not ask STS for what is fresh.
    scene
        .secrets()
        .delete("app-credentials", &kube::api::DeleteParams::default())
        .await?;
    wait::until("the deleted Secret to come back", SOON, async || {
        Ok(scene.secrets().get_opt("app-credentials").await?)
    })
    .await?;
    assert_eq!(scene.installation.sts.calls().all().len(), 2);
    // One that stands by is told to stop: it ends as well, and takes nothing with it.
    replicas.start(None)?;
    wait::until("the third replica to stand by", SOON, async || {
        Ok((replicas.running[1].asks("/readyz").await?.0 == 200).then_some(()))
    })
    .await?;
    let third = replicas.running.remove(1);
    ensure!(third.process.terminate_and_wait(SOON).await?.success());
    ensure!(replicas.leader().await? == 0);
    let last = replicas.running.remove(0);
    ensure!(last.process.terminate_and_wait(SOON).await?.success());
    Ok(())
}

/// A leader whose API server is too slow to renew the Lease ends itself; another takes over.
async fn cut_off_ends(cluster: &Cluster, scene: &Scene<'_>) -> Result<()> {
    let [(_, own), _] = scene.installation.identities();
    let valve = Valve::before(server_of(own)?).await?;
    let kubeconfig = cluster.state_dir().join("through-the-valve.json");
    through(&valve, own, &kubeconfig)?;
    let mut replicas = Replicas::new(cluster, scene.installation, &STEADY);
    replicas.start(Some(&kubeconfig))?;
    replicas.leader().await?;
    replicas.start(None)?;
    // On a busy machine it may have lost the Lease by itself: then the other one gives it back.
    let cut_off = loop {
        let leader = replicas.leader().await?;
        let leader = replicas.running.remove(leader);
        if leader.kubeconfig.is_some() {
            break leader;
        }
        leader.process.terminate_and_wait(SOON).await?;
        replicas.leader().await?;
        replicas.start(None)?;
    };

    valve.open.send_replace(false);
    wait::until("the replica that is cut off to end", SOON, async || {
        Ok((!cut_off.process.is_running()).then_some(()))
    })
    .await?;
    valve.open.send_replace(true);
    let error = cut_off
        .process
        .ensure_running()
        .err()
        .context("it runs")?
        .to_string();
    ensure!(error.contains("exit status: 1"), "{error}");
    ensure!(error.contains("leadership lost"), "{error}");
    ensure!(error.contains("could not be renewed"), "{error}");
    replicas.leader().await?;
    Ok(())
}
