//! What is measured, and what it is measured with.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Arguments;
use super::ledger::{ApiCalls, StsCalls};
use super::meter::Usage;
use super::support::kubernetes::{Cluster, Process};
use super::support::wait;
use super::table::say;

const ACCOUNT: &str = "1234567890123456";
const PROVIDER: &str = "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0scale";
/// The role that every binding asks for.
pub(crate) const ROLE: &str = "acs:ram::1234567890123456:role/scale";
const NAMESPACE: &str = "rrsa-system";
const CONTROLLER: &str = "system:serviceaccount:rrsa-system:rrsa-controller";
const KUBECONFIG_LIFE: Duration = Duration::from_hours(6);
const SOON: Duration = Duration::from_mins(1);

/// The manifests that the controller needs.
const MANIFESTS: [&str; 4] = [
    "deploy/namespace.yaml",
    "crds/alibabarolebindings.yaml",
    "deploy/controller.yaml",
    "deploy/policy.yaml",
];

/// A control plane, STS and a way to start the controller.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) client: kube::Client,
    rrsa: PathBuf,
    kubeconfig: PathBuf,
    folder: PathBuf,
    issuer: String,
    sts: String,
    _simulators: Process,
}

impl Stage {
    /// Starts everything but the controller.
    pub(crate) async fn set(arguments: &Arguments) -> Result<Self> {
        say("starting a control plane and the STS simulator");
        let absolute = |path: &Path| {
            std::fs::canonicalize(path).with_context(|| format!("{} is not built", path.display()))
        };
        let rrsa = absolute(&arguments.rrsa)?;
        let simulators = absolute(&arguments.simulators)?;
        let cluster = Cluster::start().await?;
        cluster.require_own("a measurement")?;
        for file in MANIFESTS {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
            let text = std::fs::read_to_string(&file)?;
            cluster.apply_yaml(&text).await?;
        }
        let established = [
            "wait",
            "--for=condition=Established",
            "crd/alibabarolebindings.rrsa.io",
        ];
        cluster.kubectl(&established).await?.success()?;
        let folder = cluster.state_dir().join("scale");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("jwks.json"), cluster.jwks().await?)?;
        let document = cluster
            .kubectl(&["get", "--raw", "/.well-known/openid-configuration"])
            .await?
            .success()?;
        let document: Value = serde_json::from_str(&document)?;
        let issuer = document["issuer"].as_str().context("no issuer")?.to_owned();
        let kubeconfig = cluster
            .kubeconfig_for_service_account(NAMESPACE, "rrsa-controller", KUBECONFIG_LIFE)
            .await?;

        write_trust(&folder, &issuer, arguments.sts_limit, None)?;
        let mut command = Command::new(simulators);
        for (option, file) in [
            ("--config", "trust.json"),
            ("--ca-out", "sts-ca.pem"),
            ("--ready-file", "ready.json"),
            ("--calls-out", "calls.json"),
        ] {
            command.arg(option).arg(folder.join(file));
        }
        let process = cluster.spawn("simulators", &command)?;
        let ready = wait::until("the STS simulator", SOON, async || {
            process.ensure_running().map_err(wait::hopeless)?;
            Ok(std::fs::read_to_string(folder.join("ready.json")).ok())
        })
        .await?;
        let ready: Value = serde_json::from_str(&ready)?;
        let sts = ready["sts"].as_str().context("no address of STS")?;
        Ok(Self {
            client: cluster.client().await?,
            sts: sts.replace("127.0.0.1", "localhost"),
            cluster,
            rrsa,
            kubeconfig,
            folder,
            issuer,
            _simulators: process,
        })
    }

    /// Changes STS: what it lets through in a second, and how long sessions really last.
    pub(crate) async fn change_sts(&self, limit: u32, lifetime: Option<Duration>) -> Result<()> {
        write_trust(&self.folder, &self.issuer, limit, lifetime)?;
        // The simulator looks at its file five times a second.
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(())
    }

    /// Starts the controller with this pace of STS calls.
    pub(crate) fn start_controller(&self, pace: u32) -> Result<Controller> {
        let (folder, sts) = (self.folder.display(), &self.sts);
        let configuration = format!(
            r#"accountId: "{ACCOUNT}"
oidcProviderArn: {PROVIDER}
region: cn-hangzhou
sts:
  endpoint: "{sts}"
  caFile: {folder}/sts-ca.pem
  callsPerSecond: {pace}
"#
        );
        let file = self.folder.join("config.yaml");
        std::fs::write(&file, configuration)?;
        let mut command = Command::new(&self.rrsa);
        command
            .args([
                "controller",
                "--log=info",
                "--admin-listen=127.0.0.1:0",
                "--config",
            ])
            .arg(file)
            .env("KUBECONFIG", &self.kubeconfig);
        let started = Instant::now();
        Ok(Controller {
            process: self.cluster.spawn("rrsa-controller", &command)?,
            started,
        })
    }

    /// The controller's calls to the API server, from the beginning of time.
    pub(crate) fn api_calls(&self) -> Result<ApiCalls> {
        Ok(ApiCalls::of(self.cluster.audit()?.file(), CONTROLLER))
    }

    /// The calls of STS, from the beginning of time.
    pub(crate) fn sts_calls(&self) -> StsCalls {
        StsCalls::of(&self.folder.join("calls.json"))
    }

    /// CPU time of the whole control plane.
    pub(crate) fn control_plane_cpu(&self) -> Result<Duration> {
        self.cluster
            .components()
            .iter()
            .map(|process| Ok(Usage::of(process.id())?.cpu))
            .sum()
    }
}

/// A running controller.
pub(crate) struct Controller {
    pub(crate) process: Process,
    pub(crate) started: Instant,
}

impl Controller {
    pub(crate) fn usage(&self) -> Result<Usage> {
        self.process.ensure_running()?;
        Usage::of(self.process.id())
    }

    pub(crate) async fn stop(self) -> Result<()> {
        self.process
            .terminate_and_wait(Duration::from_secs(40))
            .await?;
        Ok(())
    }
}

fn write_trust(folder: &Path, issuer: &str, limit: u32, lifetime: Option<Duration>) -> Result<()> {
    let mut trust = json!({
        "providers": [{"arn": PROVIDER, "issuer": issuer, "jwksFile": "jwks.json"}],
        "roles": [{
            "arn": ROLE,
            "maxSessionDuration": "12h",
            "trust": [{
                "providerArn": PROVIDER,
                "subjects": {"like": ["system:serviceaccount:*:app-*"]},
            }],
        }],
        "requestsPerSecond": limit,
        // No more at once than a tenth of a second's worth.
        "burst": (limit / 10).max(1),
    });
    if let Some(lifetime) = lifetime {
        trust["sessionLifetime"] = json!(format!("{}s", lifetime.as_secs()));
    }
    let partial = folder.join("trust.json.partial");
    std::fs::write(&partial, trust.to_string())?;
    std::fs::rename(partial, folder.join("trust.json"))?;
    Ok(())
}
