//! A real node: containerd, kubelet and kube-proxy, on which pods really run.
//!
//! It needs root, and it would change the machine that it runs on. So the test program runs inside
//! `tests/node/namespace.sh`: a network, mounts and processes of its own, which end with it. What is
//! started here may therefore use the usual paths (`/run`, `/var/lib`, `/var/log`), which are empty
//! and private in there, and need not be undone.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;

use super::control_plane;
use super::process::Process;
use super::run::{Output, run};
use super::{Cluster, Options};
use crate::support::wait;

/// Runs a program on a machine of its own.
pub(crate) const NAMESPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/namespace.sh");
/// Builds the images that every node needs, and prints their folder.
const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/node/images.sh");
/// Set in there: the name of the cgroup folder.
const INSIDE: &str = "RRSA_NODE";
/// The node's address, as `namespace.sh` makes it. Pods reach it.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Another one, for a service that pods shall take for STS.
pub(crate) const STS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// The address of the ECS metadata service, as on a real instance.
pub(crate) const METADATA_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
/// The bridge that has the node's addresses, as `namespace.sh` makes it.
const BRIDGE: &str = "node0";
/// The node's name; kubeadm made certificates for it.
pub(crate) const NAME: &str = "node1";
/// The addresses of pods.
const PODS: &str = "10.244.0.0/24";
/// Where containerd listens.
const SOCKET: &str = "/run/containerd/containerd.sock";
/// The start takes 3 s on 2 idle cores.
const CEILING: Duration = Duration::from_mins(2);

/// Whether this program runs on a machine of its own.
pub(crate) fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// The node of a cluster. Dropping it ends its programs.
#[derive(Debug)]
pub(crate) struct Node {
    /// Those that run now, the first to be ended first.
    programs: Mutex<Vec<Process>>,
    bin: PathBuf,
    /// Of all pods, below each hierarchy.
    cgroup: String,
}

impl Cluster {
    /// Starts a control plane with one node that is ready.
    ///
    /// # Errors
    /// Outside `namespace.sh`; when something does not start, with the ends of the logs.
    pub(crate) async fn start_with_node() -> Result<(Self, Node)> {
        let cgroup = env::var(INSIDE)
            .with_context(|| format!("a node needs a machine of its own: run it by {NAMESPACE}"))?;
        let options = Options {
            address: IpAddr::V4(ADDRESS),
            audit: true,
        };
        let cluster = Self::start_with(&options).await?;
        let node = Node {
            programs: Mutex::default(),
            bin: cluster.bin_dir().to_owned(),
            cgroup,
        };
        node.prepare(&cluster).await?;
        node.start(&cluster).await?;
        Ok((cluster, node))
    }
}

impl Node {
    /// What is done once: rights, folders, configuration files.
    async fn prepare(&self, cluster: &Cluster) -> Result<()> {
        // Nothing is routed out of here, but the API server calls Services: their rules come after a route.
        let mut route = Command::new("ip");
        route.args(["route", "replace", control_plane::SERVICES, "dev", BRIDGE]);
        run(&cluster.reaper, &route, b"", CEILING)
            .await?
            .success()?;
        // Logs and commands in pods: the API server asks the kubelet with its own certificate.
        cluster.apply_yaml(KUBELET_RIGHTS).await?;
        let state = cluster.state_dir();
        fs::create_dir_all(state.join("cni"))?;
        fs::write(state.join("cni/10-pods.conflist"), cni())?;
        fs::write(state.join("containerd.toml"), containerd(state))?;
        fs::write(state.join("kubelet.yaml"), kubelet(state, &self.cgroup))?;
        // Pods must not inherit a resolver that is not there.
        fs::write(state.join("resolv.conf"), "")?;
        Ok(())
    }

    /// Starts the programs (again) and waits until the node is ready.
    ///
    /// # Errors
    /// Names what did not come, with the ends of the logs.
    pub(crate) async fn start(&self, cluster: &Cluster) -> Result<()> {
        let mut containerd = Command::new("containerd");
        containerd.arg("--config=containerd.toml");
        self.spawn(cluster, "containerd", &containerd)?;
        wait::until("containerd to answer", CEILING, async || {
            self.all_run()?;
            self.ctr(cluster, &["version"]).await?.success()?;
            Ok(Some(()))
        })
        .await?;
        for image in ["pause", "busybox"] {
            let file = images().await?.join(format!("{image}.tar"));
            self.import(cluster, &file).await?;
        }
        self.start_kubelet(cluster)?;
        let mut proxy = Command::new(self.bin.join("kube-proxy"));
        proxy
            .args([
                "--kubeconfig=super-admin.conf",
                "--proxy-mode=iptables",
                // A setting of the whole machine.
                "--conntrack-max-per-core=0",
            ])
            .arg(format!("--cluster-cidr={PODS}"))
            .arg(format!("--hostname-override={NAME}"));
        self.spawn(cluster, "kube-proxy", &proxy)?;
        let nodes = Api::<NodeObject>::all(cluster.client().await?);
        wait::until("the node to be ready", CEILING, async || {
            self.all_run()?;
            let conditions = nodes
                .get(NAME)
                .await?
                .status
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            let ready = conditions
                .iter()
                .find(|condition| condition.type_ == "Ready");
            let ready = ready.context("it has no condition yet")?;
            ensure!(ready.status == "True", "it says {:?}", ready.message);
            Ok(Some(()))
        })
        .await
    }

    fn start_kubelet(&self, cluster: &Cluster) -> Result<()> {
        let mut kubelet = Command::new(self.bin.join("kubelet"));
        kubelet
            .args(["--config=kubelet.yaml", "--kubeconfig=kubelet.conf"])
            .arg(format!("--hostname-override={NAME}"))
            .arg(format!("--node-ip={ADDRESS}"));
        self.spawn(cluster, "kubelet", &kubelet)
    }

    /// Ends the kubelet and starts it anew, as an upgrade does; pods go on meanwhile. It knows none of
    /// the tokens that it asked for, and asks for new ones.
    ///
    /// # Errors
    /// When it does not run, or cannot be started.
    pub(crate) fn restart_kubelet(&self, cluster: &Cluster) -> Result<()> {
        let found = {
            let mut programs = self.programs();
            let index = programs
                .iter()
                .position(|program| program.name() == "kubelet");
            programs.remove(index.context("there is no kubelet")?)
        };
        found.kill9()?;
        self.start_kubelet(cluster)
    }

    /// What a loss of power does: kubelet, containerd and everything in pods ends at once, and what
    /// `/run` held is gone. [`Node::start`] is the machine's next boot.
    ///
    /// # Errors
    /// When something does not end.
    pub(crate) async fn power_off(&self) -> Result<()> {
        let programs = std::mem::take(&mut *self.programs());
        for program in &programs {
            program.kill9()?;
        }
        wait::until("the processes of the pods to end", CEILING, async || {
            let left = self.pod_processes()?;
            for pid in &left {
                // It may end by itself meanwhile.
                Command::new("kill")
                    .args(["-9", &pid.to_string()])
                    .output()?;
            }
            Ok(left.is_empty().then_some(()))
        })
        .await?;
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            if name.starts_with("containerd-shim")
                && let Some(pid) = path.file_name().and_then(|name| name.to_str())
            {
                Command::new("kill").args(["-9", pid]).output()?;
            }
        }
        unmount_below(Path::new("/run"))?;
        unmount_below(Path::new("/var/lib/kubelet"))?;
        for entry in fs::read_dir("/run")? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("lock") {
                fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
        fs::create_dir_all("/run/netns")?;
        Ok(())
    }

    /// Loads an image archive; pods use it by `imagePullPolicy: Never`.
    ///
    /// # Errors
    /// When containerd refuses it.
    pub(crate) async fn import(&self, cluster: &Cluster, archive: &Path) -> Result<()> {
        let archive = archive.display().to_string();
        let arguments = ["--namespace=k8s.io", "images", "import", &archive];
        self.ctr(cluster, &arguments).await?.success()?;
        Ok(())
    }

    /// Gives an image that is on the node another name as well.
    ///
    /// # Errors
    /// When containerd refuses it.
    pub(crate) async fn tag(&self, cluster: &Cluster, image: &str, name: &str) -> Result<()> {
        let arguments = [
            "--namespace=k8s.io",
            "images",
            "tag",
            "--force",
            image,
            name,
        ];
        self.ctr(cluster, &arguments).await?.success()?;
        Ok(())
    }

    /// Fails when one of the programs has ended.
    ///
    /// # Errors
    /// Shows the end of its log.
    pub(crate) fn all_run(&self) -> Result<()> {
        self.programs()
            .iter()
            .try_for_each(Process::ensure_running)
            .map_err(wait::hopeless)
    }

    async fn ctr(&self, cluster: &Cluster, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new("ctr");
        command.args(["--address", SOCKET]).args(arguments);
        run(&cluster.reaper, &command, b"", CEILING).await
    }

    fn spawn(&self, cluster: &Cluster, name: &str, command: &Command) -> Result<()> {
        let process = cluster.spawn(name, command)?;
        self.programs().insert(0, process);
        Ok(())
    }

    fn programs(&self) -> std::sync::MutexGuard<'_, Vec<Process>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The processes in the cgroups of pods, which are there before and after the kubelet.
    fn pod_processes(&self) -> Result<BTreeSet<u32>> {
        let mut found = BTreeSet::new();
        for hierarchy in fs::read_dir("/sys/fs/cgroup")? {
            let own = hierarchy?.path().join(&self.cgroup);
            collect_processes(&own, &mut found)?;
        }
        collect_processes(&Path::new("/sys/fs/cgroup").join(&self.cgroup), &mut found)?;
        Ok(found)
    }
}

/// The folder of the images that every node needs.
async fn images() -> Result<PathBuf> {
    let work = tokio::process::Command::new(IMAGES)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(CEILING, work)
        .await
        .with_context(|| format!("{IMAGES} did not end within {CEILING:?}"))??;
    ensure!(
        output.status.success(),
        "{IMAGES} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// The processes of a cgroup and those below it; none where it does not exist.
fn collect_processes(cgroup: &Path, found: &mut BTreeSet<u32>) -> io::Result<()> {
    let Ok(text) = fs::read_to_string(cgroup.join("cgroup.procs")) else {
        return Ok(());
    };
    found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect_processes(&entry.path(), found)?;
        }
    }
    Ok(())
}

/// Unmounts what is mounted below a folder, the deepest first.
fn unmount_below(folder: &Path) -> Result<()> {
    let text = fs::read_to_string("/proc/mounts")?;
    let mounts = text.lines().filter_map(|line| line.split(' ').nth(1));
    let mut below: Vec<_> = mounts
        .map(Path::new)
        .filter(|path| path.starts_with(folder) && *path != folder)
        .collect();
    below.sort();
    for path in below.iter().rev() {
        let output = Command::new("umount").arg("--lazy").arg(path).output()?;
        ensure!(
            output.status.success(),
            "umount {}: {}",
            path.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

const KUBELET_RIGHTS: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kubelet-api}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:kubelet-api-admin'}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: kube-apiserver-kubelet-client}]
";

/// Pods are connected point to point: all their packets pass the node's rules, also those to a
/// Service whose pod is on the same node.
fn cni() -> String {
    format!(
        r#"{{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {{"type": "ptp", "ipMasq": true, "ipam": {{
    "type": "host-local", "ranges": [[{{"subnet": "{PODS}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}
"#
    )
}

fn containerd(state: &Path) -> String {
    let cni = state.join("cni");
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  # Some virtual machines have no CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  # A profile would be loaded into the kernel of the whole machine.
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
"#,
        cni = cni.display()
    )
}

fn kubelet(state: &Path, cgroup: &str) -> String {
    let state = state.display();
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
# The machine may have cgroup v1, and swap.
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
enforceNodeAllocatable: []
containerRuntimeEndpoint: unix://{SOCKET}
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: "{state}/pki/ca.crt"}}}}
authorization: {{mode: Webhook}}
resolvConf: "{state}/resolv.conf"
# Mounted Secrets follow within seconds; the default of a minute only makes tests slow.
syncFrequency: 5s
# A full disk of the tests' machine is no matter of theirs.
evictionHard: {{memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}}
imageGCHighThresholdPercent: 100
"#
    )
}
