//! Pods are injected while everything around them changes: two replicas of the webhook restart in
//! turn, and their certificate authority is rotated again and again.
//!
//! The replicas stand behind a balancer that follows their readiness as a Service would.
//! `RRSA_TEST_CHAOS=full` (`make chaos`) makes 1,000 pods and 20 rotations of it.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the extent is a variable; a poisoned lock is a failed test"
)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::installation::NAMESPACE;
use crate::installation::webhook::Replica;
use crate::pods::took_too_long;
use crate::support::kubernetes::Cluster;
use crate::support::wait;

/// Pods that are made at once.
const AT_ONCE: usize = 4;
/// Longest wait for one step of a rotation, or for a replica.
const STEP: Duration = Duration::from_mins(3);
/// Short lives, so that rotations are quick and replicas renew their certificates meanwhile; long
/// enough for an API server and a balancer that have no time for some seconds.
const LIVES: [&str; 4] = [
    "--certificate-life=60",
    "--trust-delay=10",
    "--drain-delay=4",
    "--drain-limit=8",
];
/// Of so many pods one may have to be made again because the machine had much else to do.
const ONE_LATE_OF: usize = 20;

/// How much of it.
struct Extent {
    pods: usize,
    rotations: usize,
}

impl Extent {
    fn chosen() -> Self {
        match std::env::var("RRSA_TEST_CHAOS").as_deref() {
            Ok("full") => Self {
                pods: 1000,
                rotations: 20,
            },
            _ => Self {
                pods: 100,
                rotations: 3,
            },
        }
    }
}

/// Forwards connections to replicas that are ready.
struct Balancer {
    /// Those that are ready.
    replicas: Mutex<Vec<SocketAddr>>,
    next: AtomicUsize,
}

impl Balancer {
    /// Listens and forwards until the test ends.
    async fn start() -> Result<(Arc<Self>, SocketAddr)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let balancer = Arc::new(Self {
            replicas: Mutex::default(),
            next: AtomicUsize::new(0),
        });
        let forwarding = Arc::clone(&balancer);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let forwarding = Arc::clone(&forwarding);
                tokio::spawn(async move {
                    // Packets to an address that is gone are not answered; the API server gives
                    // up and says so. Here the connection just breaks.
                    if let Some(address) = forwarding.choose()
                        && let Ok(mut replica) = TcpStream::connect(address).await
                    {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut replica).await;
                    }
                });
            }
        });
        Ok((balancer, address))
    }

    fn choose(&self) -> Option<SocketAddr> {
        let ready = self.replicas.lock().unwrap();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        ready.get(turn % ready.len().max(1)).copied()
    }

    /// Follows a replica as the kubelet's probe and the endpoints do.
    fn follow(self: &Arc<Self>, replica: &Replica) {
        let (address, admin) = (replica.address, replica.admin);
        self.replicas.lock().unwrap().push(address);
        let balancer = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let answer = reqwest::get(format!("http://{admin}/readyz")).await;
                let is_gone = answer.is_err();
                let is_ready = answer.is_ok_and(|answer| answer.status().is_success());
                let mut replicas = balancer.replicas.lock().unwrap();
                replicas.retain(|known| *known != address);
                if is_ready {
                    replicas.push(address);
                } else if is_gone {
                    return;
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_are_injected_while_replicas_restart_and_the_authority_rotates() -> Result<()> {
    let (cluster, installation) = crate::own_installation(None).await?;
    let extent = Extent::chosen();
    installation.end_webhook().await?;
    let (balancer, address) = Balancer::start().await?;
    let mut replicas = Vec::new();
    for name in ["rrsa-webhook-a", "rrsa-webhook-b"] {
        let replica = installation.webhook_replica(&cluster, name, &LIVES).await?;
        balancer.follow(&replica);
        replicas.push(replica);
    }
    installation.register_webhook(&cluster, address).await?;

    let done = AtomicBool::new(false);
    let rotated = AtomicUsize::new(0);
    let restarted = AtomicUsize::new(0);
    let rotate = async {
        for number in 1..=extent.rotations {
            rotate(&cluster, number).await?;
            rotated.store(number, Ordering::Relaxed);
        }
        anyhow::Ok(())
    };
    let restart = async {
        while rotated.load(Ordering::Relaxed) < extent.rotations && !done.load(Ordering::Relaxed) {
            let replica = replicas.remove(0);
            let name = replica.process.name().to_owned();
            let status = replica.process.terminate_and_wait(STEP).await?;
            ensure!(status.success(), "{name} ended with {status}");
            let again = installation
                .webhook_replica(&cluster, &name, &LIVES)
                .await?;
            balancer.follow(&again);
            replicas.push(again);
            restarted.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        anyhow::Ok(())
    };
    let changes = async {
        let outcome = tokio::try_join!(rotate, restart).map(|_| ());
        done.store(true, Ordering::Relaxed);
        outcome
    };
    let namespace = cluster
        .test_namespace_with(&[("pod-identity.alibabacloud.com/injection", "on")])
        .await?;
    let accounts = namespace.api::<ServiceAccount>();
    let pods = namespace.api::<Pod>();
    let made = AtomicUsize::new(0);
    let late = AtomicUsize::new(0);
    // As long as things change, and as many as were promised.
    let numbers = futures::stream::iter(0..).take_while(|number| {
        let more = *number < extent.pods || !done.load(Ordering::Relaxed);
        futures::future::ready(more)
    });
    let creations = numbers
        .map(|number| {
            let (accounts, pods, made, late) = (&accounts, &pods, &made, &late);
            async move {
                // A pace at which the changes happen among the pods and not after them.
                tokio::time::sleep(Duration::from_millis(100)).await;
                let again = create(accounts, pods, number).await?;
                late.fetch_add(again, Ordering::Relaxed);
                made.fetch_add(1, Ordering::Relaxed);
                anyhow::Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>();
    let outcome = tokio::try_join!(changes, creations).map(|_| ());
    let (made, late, rotated, restarted) = (
        made.load(Ordering::Relaxed),
        late.load(Ordering::Relaxed),
        rotated.load(Ordering::Relaxed),
        restarted.load(Ordering::Relaxed),
    );
    println!("{made} pods injected, {late} made again, {rotated} rotations, {restarted} restarts");
    crate::reported(outcome)?;
    assert!(made >= extent.pods && restarted >= 2);
    assert!(
        late <= made / ONE_LATE_OF,
        "{late} of {made} answers came late"
    );
    installation.assert_no_secret_in_logs(&cluster)
}

/// A ServiceAccount and its pod in one breath; the pod must be injected. Returns how often it had to
/// be made again, which nothing but a late answer excuses.
async fn create(accounts: &Api<ServiceAccount>, pods: &Api<Pod>, number: usize) -> Result<usize> {
    let name = format!("app-{number}");
    let account = json!({"metadata": {"name": name, "annotations": {
        "pod-identity.alibabacloud.com/role-name": name}}});
    let pod = json!({"metadata": {"name": name}, "spec": {"serviceAccountName": name,
        "containers": [{"name": "app", "image": "registry.example.com/app:1"}]}});
    let params = PostParams::default();
    accounts
        .create(&params, &serde_json::from_value(account)?)
        .await?;
    let pod = serde_json::from_value(pod)?;
    let mut again = 0;
    let made = loop {
        match pods.create(&params, &pod).await {
            Err(error) if took_too_long(&error) && again < AT_ONCE => again += 1,
            made => break made,
        }
    };
    let made = serde_json::to_value(made.with_context(|| format!("pod {name}"))?)?;
    let role = &made["spec"]["containers"][0]["env"][0]["value"];
    let injected = role.as_str().is_some_and(|role| role.ends_with(&name));
    ensure!(injected, "pod {name} came back un-injected");
    Ok(again)
}

/// Asks for a rotation and waits until the successor signs.
async fn rotate(cluster: &Cluster, number: usize) -> Result<()> {
    let secrets = Api::<Secret>::namespaced(cluster.client().await?, NAMESPACE);
    let signing = async || {
        let secret = serde_json::to_value(secrets.get("rrsa-webhook-ca").await?)?;
        anyhow::Ok(secret["data"]["tls.crt"].clone())
    };
    let before: Value = signing().await?;
    let annotations = json!({"rrsa.io/rotation-requested-at": number.to_string()});
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    secrets
        .patch("rrsa-webhook-ca", &PatchParams::default(), &patch)
        .await?;
    wait::until("the successor to sign", STEP, async || {
        Ok((signing().await? != before).then_some(()))
    })
    .await
}
