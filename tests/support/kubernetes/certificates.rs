//! Certificates and kubeconfigs of the control plane, made by kubeadm as on a real cluster.
//!
//! Keys are ECDSA, which saves about a second; only the key that signs ServiceAccount tokens is
//! RSA as on almost every cluster, because consumers of its public key must cope with RS256.
//! kubeadm refuses a loopback address to advertise; the address that it is given instead ends up in
//! the kubeconfigs of controller manager and scheduler only, which are started with `--master`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::reaper::Reaper;
use super::run::run;

/// One phase takes 0.1 to 0.5 s; a busy machine gets more.
const CEILING: Duration = Duration::from_mins(2);

/// Makes `pki/` and `*.conf` in the state folder for an API server at `address`.
///
/// # Errors
/// When kubeadm fails; the error holds what it said.
pub(super) async fn make(
    reaper: &Arc<Reaper>,
    bin: &Path,
    address: SocketAddr,
    advertised: &str,
) -> Result<()> {
    let folder = reaper.folder();
    let kubeadm = |arguments: &[&str]| {
        let mut command = Command::new(bin.join("kubeadm"));
        command.args(arguments);
        command
    };
    let version = run(reaper, &kubeadm(&["version", "-o", "short"]), b"", CEILING)
        .await?
        .success()?;
    for (algorithm, phases) in [
        ("RSA-2048", &[&["certs", "sa"][..]][..]),
        (
            "ECDSA-P256",
            &[
                &["certs", "all"][..],
                &["kubeconfig", "all", "--kubeconfig-dir", "."],
            ],
        ),
    ] {
        let file = format!("kubeadm-{algorithm}.yaml");
        let text = configuration(folder, version.trim(), address, advertised, algorithm);
        fs::write(folder.join(&file), text).with_context(|| format!("write {file}"))?;
        for phase in phases {
            let mut command = kubeadm(&["init", "phase"]);
            command.args(*phase).args(["--config", &file]);
            run(reaper, &command, b"", CEILING).await?.success()?;
        }
    }
    Ok(())
}

/// kubeadm's configuration. It names the version because kubeadm would ask the internet for it.
fn configuration(
    folder: &Path,
    version: &str,
    address: SocketAddr,
    advertised: &str,
    algorithm: &str,
) -> String {
    let pki = folder.join("pki");
    let (pki, ip, port) = (pki.display(), address.ip(), address.port());
    format!(
        r#"
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: "{advertised}", bindPort: {port}}}
nodeRegistration: {{name: node1, criSocket: "unix:///run/containerd/containerd.sock"}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: {version}
encryptionAlgorithm: {algorithm}
certificatesDir: "{pki}"
controlPlaneEndpoint: "{address}"
apiServer: {{certSANs: ["{ip}", "127.0.0.1", localhost]}}
networking: {{serviceSubnet: "{services}"}}
"#,
        services = super::control_plane::SERVICES,
    )
}
