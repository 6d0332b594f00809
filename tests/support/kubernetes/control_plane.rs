//! Starts etcd, API server, controller manager and scheduler, and waits until they really work.
//!
//! Only the API server takes a port: etcd listens on a Unix socket, and the other two serve nothing.
//! The port is one that was free a moment ago; if somebody took it meanwhile, all is done again.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};

use super::process::Process;
use super::reaper::Reaper;
use super::{Options, access, certificates};
use crate::support::{logs, wait};

/// The range of Service addresses; nothing routes there.
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// The kubeconfig of a member of `system:masters`: it needs no binding to be made first.
const ADMIN: &str = "super-admin.conf";
/// The API server's audit log, below the state folder.
pub(super) const AUDIT: &str = "log/audit.json";
/// Documentation address (RFC 5737): kubeadm and the API server refuse to advertise loopback.
const NOWHERE: &str = "192.0.2.1";
/// How often a port may be taken between looking and using, and how often the controller manager is
/// started.
const ATTEMPTS: usize = 3;
/// The whole start takes 4 s on 2 idle cores; a busy machine gets more.
const CEILING: Duration = Duration::from_mins(3);
/// After this a controller manager that does nothing is taken for one that gave up.
const GIVEN_UP: Duration = Duration::from_mins(1);
const CONTROLLER_MANAGER: &str = "kube-controller-manager";

/// A control plane that runs.
#[derive(Debug)]
pub(super) struct ControlPlane {
    /// Dropped in this order: what depends on others first.
    pub(super) components: Vec<Process>,
    /// Owner of the state folder.
    pub(super) reaper: Arc<Reaper>,
    /// The administrator's kubeconfig.
    pub(super) admin: PathBuf,
}

impl ControlPlane {
    fn spawn(&mut self, bin: &Path, name: &str, arguments: &[String]) -> Result<()> {
        let mut command = Command::new(bin.join(name));
        command.args(arguments);
        self.components
            .push(Process::spawn(&self.reaper, name, &command)?);
        Ok(())
    }

    /// Starts a component anew, in its place among the others.
    fn restart(&mut self, bin: &Path, name: &str, arguments: &[String]) -> Result<()> {
        let mut components = self.components.iter();
        let place = components.position(|process| process.name() == name);
        let place = place.with_context(|| format!("{name} was never started"))?;
        drop(self.components.remove(place));
        self.spawn(bin, name, arguments)?;
        self.components[place..].rotate_right(1);
        Ok(())
    }
}

/// Starts a control plane and waits until it is ready.
///
/// # Errors
/// Holds the ends of the components' logs.
pub(super) async fn start(bin: &Path, options: &Options) -> Result<ControlPlane> {
    let mut attempt = 1;
    loop {
        let since = SystemTime::now();
        let reaper = Reaper::start()?;
        let address = free_address(options.address)?;
        let mut started = ControlPlane {
            components: Vec::new(),
            admin: reaper.folder().join(ADMIN),
            reaper: Arc::clone(&reaper),
        };
        match start_at(&mut started, bin, options, address).await {
            Ok(()) => {
                started.components.reverse();
                return Ok(started);
            }
            Err(_) if attempt < ATTEMPTS && port_was_taken(reaper.folder()) => attempt += 1,
            Err(error) => {
                // Read before the folder goes.
                let said = logs::tails(&reaper.folder().join("log"), since, 15);
                return Err(error)
                    .with_context(|| format!("start a control plane at {address}; logs:\n{said}"));
            }
        }
    }
}

/// An address whose port nobody uses right now.
fn free_address(address: IpAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind((address, 0))
        .with_context(|| format!("find a free port on {address}"))?;
    Ok(listener.local_addr()?)
}

/// Whether the API server found its port in use.
fn port_was_taken(folder: &Path) -> bool {
    logs::tail(&folder.join("log/kube-apiserver.log"), 50).contains("address already in use")
}

async fn start_at(
    started: &mut ControlPlane,
    bin: &Path,
    options: &Options,
    address: SocketAddr,
) -> Result<()> {
    let reaper = Arc::clone(&started.reaper);
    let advertised = match options.address {
        address if address.is_loopback() => NOWHERE.to_owned(),
        address => address.to_string(),
    };
    // etcd and kubeadm do not need each other.
    started.spawn(bin, "etcd", &etcd(reaper.folder()))?;
    certificates::make(&reaper, bin, address, &advertised).await?;
    if options.audit {
        std::fs::write(reaper.folder().join("audit-policy.yaml"), AUDIT_POLICY)?;
    }
    started.spawn(
        bin,
        "kube-apiserver",
        &api_server(reaper.folder(), options, address, &advertised),
    )?;
    let client = access::client(&started.admin, |config| config.proxy_url = None).await?;
    answers(&started.components, &client).await?;

    let arguments = controller_manager(address);
    started.spawn(bin, CONTROLLER_MANAGER, &arguments)?;
    started.spawn(bin, "kube-scheduler", &scheduler(address))?;
    let mut attempt = 1;
    while let Err(error) = serves_namespaces(&started.components, &client).await {
        ensure!(attempt < ATTEMPTS, error);
        attempt += 1;
        started.restart(bin, CONTROLLER_MANAGER, &arguments)?;
    }
    all_run(&started.components)
}

/// Every component is alive. An ended one never comes back, so waiting on is pointless.
fn all_run(components: &[Process]) -> Result<()> {
    components
        .iter()
        .try_for_each(Process::ensure_running)
        .map_err(wait::hopeless)
}

/// The API server says that it is ready.
async fn answers(components: &[Process], client: &Client) -> Result<()> {
    wait::until("the API server's /readyz", CEILING, async || {
        all_run(components)?;
        let answer = client
            .request_text(http::Request::get("/readyz").body(Vec::new())?)
            .await?;
        ensure!(answer == "ok", "/readyz says {answer}");
        Ok(Some(()))
    })
    .await
}

/// The controller manager works: a new namespace gets its ServiceAccount. A controller manager that
/// cannot reach the API server gives up in silence after 10 s, so its being alive proves nothing.
async fn serves_namespaces(components: &[Process], client: &Client) -> Result<()> {
    let namespaces = Api::<Namespace>::all(client.clone());
    let mut probe = Namespace::default();
    probe.metadata.generate_name = Some("fixture-probe-".to_owned());
    let probe = namespaces.create(&PostParams::default(), &probe).await?;
    let name = probe
        .metadata
        .name
        .context("the API server names the namespace")?;
    let what = "the default ServiceAccount of a new namespace";
    wait::until(what, GIVEN_UP, async || {
        all_run(components)?;
        has_service_account(client, &name).await
    })
    .await?;
    namespaces
        .delete(&name, &DeleteParams::background())
        .await?;
    Ok(())
}

/// Whether the namespace has its `default` ServiceAccount, without which no pod can be made.
pub(super) async fn has_service_account(client: &Client, namespace: &str) -> Result<Option<()>> {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    Ok(accounts.get_opt("default").await?.map(|_| ()))
}

/// Who did what, without bodies: no Secret gets into it.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata, omitManagedFields: true}]
";

/// The socket that etcd listens on.
fn socket(folder: &Path) -> String {
    format!("unix://{}", folder.join("etcd.sock").display())
}

fn etcd(folder: &Path) -> Vec<String> {
    // A member must have URLs of the form host:port, but one alone never uses them.
    let unused = "http://127.0.0.1:1";
    vec![
        "--name=only".to_owned(),
        "--data-dir=etcd".to_owned(),
        // The data need not survive anything.
        "--unsafe-no-fsync".to_owned(),
        format!("--listen-client-urls={}", socket(folder)),
        format!("--advertise-client-urls={unused}"),
        format!(
            "--listen-peer-urls=unix://{}",
            folder.join("etcd-peer.sock").display()
        ),
        format!("--initial-advertise-peer-urls={unused}"),
        format!("--initial-cluster=only={unused}"),
    ]
}

fn api_server(
    folder: &Path,
    options: &Options,
    address: SocketAddr,
    advertised: &str,
) -> Vec<String> {
    let mut arguments = vec![
        format!("--etcd-servers={}", socket(folder)),
        format!("--bind-address={}", address.ip()),
        format!("--secure-port={}", address.port()),
        format!("--advertise-address={advertised}"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--client-ca-file=pki/ca.crt".to_owned(),
        "--tls-cert-file=pki/apiserver.crt".to_owned(),
        "--tls-private-key-file=pki/apiserver.key".to_owned(),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        "--service-account-key-file=pki/sa.pub".to_owned(),
        "--service-account-signing-key-file=pki/sa.key".to_owned(),
    ];
    // Nothing reaches another machine's loopback: there, no Service stands for the API server.
    if address.ip().is_loopback() {
        arguments.push("--endpoint-reconciler-type=none".to_owned());
    } else {
        arguments.extend(
            [
                "--kubelet-client-certificate=pki/apiserver-kubelet-client.crt",
                "--kubelet-client-key=pki/apiserver-kubelet-client.key",
                "--kubelet-preferred-address-types=InternalIP",
            ]
            .map(ToOwned::to_owned),
        );
    }
    if options.audit {
        arguments.push("--audit-policy-file=audit-policy.yaml".to_owned());
        arguments.push(format!("--audit-log-path={AUDIT}"));
        // In one file: a test that counts calls needs the first ones too.
        arguments.push("--audit-log-maxsize=100000".to_owned());
    }
    arguments
}

/// What controller manager and scheduler have in common: one instance, no port, and the real
/// address instead of the advertised one of their kubeconfigs.
fn client_of(address: SocketAddr, kubeconfig: &str) -> Vec<String> {
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--master=https://{address}"),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ]
}

fn controller_manager(address: SocketAddr) -> Vec<String> {
    let mut arguments = client_of(address, "controller-manager.conf");
    arguments.extend(
        [
            "--use-service-account-credentials",
            "--service-account-private-key-file=pki/sa.key",
            "--root-ca-file=pki/ca.crt",
            // With the default of 20 a second it is 5 s until its last controller has started.
            "--kube-api-qps=1000",
            "--kube-api-burst=1000",
        ]
        .map(ToOwned::to_owned),
    );
    arguments
}

fn scheduler(address: SocketAddr) -> Vec<String> {
    client_of(address, "scheduler.conf")
}
