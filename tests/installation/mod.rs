//! rrsa on a test cluster, as an administrator installs it: custom resource, rights and policies
//! from `crds/` and `deploy/`, controller and webhook as processes with the rights of their
//! ServiceAccounts, and the STS simulator in the place of STS.
//!
//! Both processes log at TRACE, so that [`Installation::assert_no_secret_in_logs`] means something.
#![allow(
    dead_code,
    reason = "the demo and the cluster tests use different parts"
)]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests read real files; a poisoned lock is a failed test"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::simulators::config::{
    FederatedTrust, PrincipalTrust, Provider, Role, SimulatorConfig, Subjects, Trust,
};
use crate::simulators::metadata::{Metadata, MetadataConfig};
use crate::simulators::sts::Sts;
use crate::support::background::Background;
use crate::support::kubernetes::{Cluster, Process};
use crate::support::logs;

pub(crate) mod waits;
pub(crate) mod webhook;

/// The account of the operator's configuration.
pub(crate) const ACCOUNT: &str = "1234567890123456";
/// The provider that the simulator registers for the cluster.
pub(crate) const PROVIDER: &str = "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0test";
/// Name of the RAM role of the operator's node.
pub(crate) const NODE_ROLE: &str = "node-own";
/// An STS host that bindings may name and where nobody answers.
pub(crate) const DEAD_HOST: &str = "localhost:1";
/// External id of the administrator's delegation entry for the roles `chained-*`.
pub(crate) const DELEGATED_ID: &str = "delegated/external-id";
/// External id of the administrator's entry for the fallback.
pub(crate) const FALLBACK_ID: &str = "fallback/external-id";
/// Where the operator lives.
pub(crate) const NAMESPACE: &str = "rrsa-system";
/// Life of the tokens that controller and webhook run with: longer than any test.
const KUBECONFIG_LIFE: Duration = Duration::from_hours(2);

/// The manifests of an installation, in order.
const MANIFESTS: [&str; 7] = [
    "deploy/namespace.yaml",
    "crds/alibabarolebindings.yaml",
    "deploy/controller.yaml",
    "deploy/users.yaml",
    "deploy/policy.yaml",
    "deploy/webhook.yaml",
    WEBHOOK_CONFIGURATION,
];
const WEBHOOK_CONFIGURATION: &str = "deploy/webhook-configuration.yaml";

/// What a test can choose.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choices {
    /// The binary.
    pub(crate) rrsa: PathBuf,
    /// How long sessions really last; the simulator's one unfaithful knob.
    pub(crate) session_lifetime: Option<Duration>,
    /// How many STS calls the controller makes a second, where not the default.
    pub(crate) calls_per_second: Option<u32>,
    /// Further lines of the configuration.
    pub(crate) configuration: &'static str,
}

/// rrsa on a cluster. Dropping it ends its processes.
pub(crate) struct Installation {
    choices: Choices,
    controller: Mutex<Option<Process>>,
    webhook: Mutex<Option<Process>>,
    folder: PathBuf,
    controller_kubeconfig: PathBuf,
    webhook_kubeconfig: PathBuf,
    /// Who signs the cluster's tokens.
    issuer: String,
    /// STS; it lives on its own runtime, because every test has one of its own.
    pub(crate) sts: Sts,
    /// The metadata service of the operator's node.
    pub(crate) metadata: Metadata,
    _runtime: Background,
}

impl Installation {
    /// Installs everything and starts controller and webhook. On a cluster that existed before,
    /// whose API server does not reach this machine, there is no webhook.
    ///
    /// # Errors
    /// What failed, with the ends of the logs.
    pub(crate) async fn start(cluster: &Cluster, choices: Choices) -> Result<Self> {
        for file in MANIFESTS {
            // Pods that opt in would be refused for want of the webhook.
            if file == WEBHOOK_CONFIGURATION && !cluster.is_own() {
                continue;
            }
            let text = std::fs::read_to_string(repository(file))?;
            cluster
                .apply_yaml(&text)
                .await
                .with_context(|| format!("apply {file}"))?;
        }
        let established = [
            "wait",
            "--for=condition=Established",
            "--timeout=180s",
            "crd/alibabarolebindings.rrsa.io",
        ];
        cluster.kubectl(&established).await?.success()?;

        let folder = cluster.state_dir().join("rrsa");
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("jwks.json"), cluster.jwks().await?)?;
        let issuer = issuer(cluster).await?;
        let runtime = Background::start("simulators")?;
        let (sts, metadata) = {
            let _inside = runtime.enter();
            let sts = Sts::start(SimulatorConfig {
                providers: vec![Provider {
                    arn: PROVIDER.to_owned(),
                    issuer: issuer.clone(),
                    client_ids: vec!["sts.aliyuncs.com".to_owned()],
                    jwks_file: folder.join("jwks.json"),
                    broken: false,
                    fingerprint_mismatch: false,
                }],
                session_lifetime: choices.session_lifetime,
                ..SimulatorConfig::default()
            })?;
            let instance = MetadataConfig {
                role: Some(NODE_ROLE.to_owned()),
                account_id: ACCOUNT.to_owned(),
                ..MetadataConfig::default()
            };
            let metadata = Metadata::start(instance, sts.issuance())?;
            (sts, metadata)
        };
        std::fs::write(folder.join("sts-ca.pem"), sts.ca_pem())?;
        let account = async |name| {
            cluster
                .kubeconfig_for_service_account(NAMESPACE, name, KUBECONFIG_LIFE)
                .await
        };
        let installation = Self {
            controller_kubeconfig: account("rrsa-controller").await?,
            webhook_kubeconfig: account("rrsa-webhook").await?,
            choices,
            controller: Mutex::default(),
            webhook: Mutex::default(),
            folder,
            issuer,
            sts,
            metadata,
            _runtime: runtime,
        };
        installation
            .write_operator_token(cluster, "operator", "sts.aliyuncs.com")
            .await?;
        installation
            .write_operator_token(cluster, "elsewhere", "another.audience")
            .await?;
        std::fs::write(
            installation.configuration(),
            installation.configuration_text(),
        )?;
        installation.start_controller(cluster)?;
        if cluster.is_own() {
            installation.start_webhook(cluster).await?;
        }
        Ok(installation)
    }

    /// Starts the controller (again).
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start_controller(&self, cluster: &Cluster) -> Result<()> {
        let mut command = Command::new(&self.choices.rrsa);
        command
            .args([
                "controller",
                "--log=trace",
                "--admin-listen=127.0.0.1:0",
                // One process; tests/cluster/replicas.rs has several.
                "--leader-elect=false",
                "--config",
            ])
            .arg(self.configuration())
            .arg(format!("--metadata-address={}", self.metadata.address()))
            .env("KUBECONFIG", &self.controller_kubeconfig);
        let process = cluster.spawn("rrsa-controller", &command)?;
        *self.controller.lock().unwrap() = Some(process);
        Ok(())
    }

    /// Starts one of several controllers, which agree by a Lease on the one that works. It talks to
    /// the API server as `kubeconfig` says, or as the controller's ServiceAccount, and reads that
    /// configuration, or the installation's. The file that is returned tells where its health is.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start_replica(
        &self,
        cluster: &Cluster,
        name: &str,
        arguments: &[&str],
        kubeconfig: Option<&Path>,
        configuration: Option<&Path>,
    ) -> Result<(Process, PathBuf)> {
        let ready_file = self.folder.join(format!("{name}.json"));
        let mut command = Command::new(&self.choices.rrsa);
        command
            .args(["controller", "--log=info,rrsa=trace"])
            .args(["--admin-listen=127.0.0.1:0", "--namespace", NAMESPACE])
            .args(["--replica-name", name])
            .args(arguments)
            .arg("--ready-file")
            .arg(&ready_file)
            .arg("--config")
            .arg(configuration.unwrap_or(&self.configuration()))
            .env(
                "KUBECONFIG",
                kubeconfig.unwrap_or(&self.controller_kubeconfig),
            );
        Ok((cluster.spawn(name, &command)?, ready_file))
    }

    /// `kill -9` to the controller.
    ///
    /// # Errors
    /// When there is none or the kernel refuses.
    pub(crate) fn kill_controller(&self) -> Result<()> {
        let process = self.controller.lock().unwrap().take();
        process.context("the controller is not running")?.kill9()
    }

    /// Where the controller reaches the API server.
    ///
    /// # Errors
    /// When its kubeconfig names no address.
    pub(crate) fn api_server_of_controller(&self) -> Result<SocketAddr> {
        let kubeconfig = self.read_controller_kubeconfig()?;
        let server = kubeconfig["clusters"][0]["cluster"]["server"].as_str();
        let address = server.and_then(|url| url.strip_prefix("https://"));
        Ok(address.context("no address in the kubeconfig")?.parse()?)
    }

    /// Lets the controller, when it is started the next time, reach the API server there.
    ///
    /// # Errors
    /// When its kubeconfig cannot be changed.
    pub(crate) fn lead_controller_through(&self, address: SocketAddr) -> Result<()> {
        let mut kubeconfig = self.read_controller_kubeconfig()?;
        kubeconfig["clusters"][0]["cluster"]["server"] = format!("https://{address}").into();
        std::fs::write(&self.controller_kubeconfig, kubeconfig.to_string())?;
        Ok(())
    }

    fn read_controller_kubeconfig(&self) -> Result<serde_json::Value> {
        let text = std::fs::read_to_string(&self.controller_kubeconfig)?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Fails when controller or webhook have ended.
    ///
    /// # Errors
    /// Shows the end of the log.
    pub(crate) fn ensure_running(&self) -> Result<()> {
        let controller = self.controller.lock().unwrap();
        controller
            .as_ref()
            .context("the controller is not running")?
            .ensure_running()?;
        self.webhook
            .lock()
            .unwrap()
            .as_ref()
            .map_or(Ok(()), Process::ensure_running)
    }

    /// The controller's log.
    ///
    /// # Errors
    /// When it is not running.
    pub(crate) fn controller_log(&self) -> Result<PathBuf> {
        let controller = self.controller.lock().unwrap();
        let controller = controller.as_ref();
        Ok(controller
            .context("the controller is not running")?
            .log()
            .to_owned())
    }

    /// The ServiceAccounts that the processes run as, with their kubeconfigs.
    pub(crate) fn identities(&self) -> [(&'static str, &Path); 2] {
        [
            ("rrsa-controller", &self.controller_kubeconfig),
            ("rrsa-webhook", &self.webhook_kubeconfig),
        ]
    }

    /// Makes RAM know a role that trusts these subjects (`system:serviceaccount:…`).
    pub(crate) fn trust(&self, role_arn: &str, subjects: &[String]) {
        let trust = Trust::Federated(FederatedTrust {
            provider_arn: PROVIDER.to_owned(),
            audiences: vec!["sts.aliyuncs.com".to_owned()],
            issuer: Some(self.issuer.clone()),
            subjects: Subjects {
                equals: subjects.to_vec(),
                like: Vec::new(),
            },
        });
        self.sts.update(|config| {
            config.roles.retain(|known| known.arn != role_arn);
            config.roles.push(Role::new(role_arn, vec![trust]));
        });
    }

    /// Makes RAM know that a role trusts this other role as well, with this external id.
    pub(crate) fn trust_role(&self, role_arn: &str, principal: &str, external_id: Option<&str>) {
        let trust = Trust::Principal(PrincipalTrust {
            principal: principal.to_owned(),
            external_id: external_id.map(str::to_owned),
        });
        self.sts.update(|config| {
            let known = config.roles.iter().position(|role| role.arn == role_arn);
            let mut role = match known {
                Some(place) => config.roles.remove(place),
                None => Role::new(role_arn, Vec::new()),
            };
            role.trust.push(trust);
            config.roles.push(role);
        });
    }

    /// Where the tokens of the operator stand, by the name that bindings call them.
    async fn write_operator_token(
        &self,
        cluster: &Cluster,
        name: &str,
        audience: &str,
    ) -> Result<()> {
        let audience = format!("--audience={audience}");
        let token = cluster
            .kubectl(&[
                "-n",
                NAMESPACE,
                "create",
                "token",
                "rrsa-controller",
                &audience,
            ])
            .await?
            .success()?;
        std::fs::write(self.folder.join(name), token)?;
        Ok(())
    }

    /// The configuration file of controller and webhook.
    pub(crate) fn configuration(&self) -> PathBuf {
        self.folder.join("config.yaml")
    }

    pub(crate) fn configuration_text(&self) -> String {
        let folder = self.folder.display();
        let (sts, more) = (self.sts.host(), self.choices.configuration);
        let port = self.sts.address().port();
        let pace = self.choices.calls_per_second;
        let pace = pace.map_or(String::new(), |pace| format!("\n  callsPerSecond: {pace}"));
        format!(
            r#"accountId: "{ACCOUNT}"
oidcProviderArn: {PROVIDER}
region: cn-hangzhou
sts:
  endpoint: "{sts}"
  caFile: {folder}/sts-ca.pem
  allowedHosts: ["{DEAD_HOST}", "{sts}", "localhost:{port}"]{pace}
tokenFiles:
  operator: {folder}/operator
  elsewhere: {folder}/elsewhere
delegation:
  - namespaces: ["rrsa-test-*"]
    roles: ["acs:ram::{ACCOUNT}:role/delegated-*"]
  - namespaces: ["rrsa-test-*"]
    roles: ["acs:ram::{ACCOUNT}:role/chained-*"]
    externalId: {DELEGATED_ID}
ecsFallback:
  - namespaces: ["rrsa-test-*"]
    roles: ["acs:ram::{ACCOUNT}:role/rrsa-test-*"]
    externalId: {FALLBACK_ID}
  - namespaces: ["rrsa-test-*"]
    roles: ["acs:ram::{ACCOUNT}:role/{NODE_ROLE}"]
    nodeRole: true
{more}"#
        )
    }

    /// Searches the logs of all components for every secret and token that was issued.
    ///
    /// # Errors
    /// Names file and line.
    pub(crate) fn assert_no_secret_in_logs(&self, cluster: &Cluster) -> Result<()> {
        let mut secrets = self.sts.issued_secrets();
        for kubeconfig in [&self.controller_kubeconfig, &self.webhook_kubeconfig] {
            let text = std::fs::read_to_string(kubeconfig)?;
            let value: serde_json::Value = serde_json::from_str(&text)?;
            let token = value["users"][0]["user"]["token"].as_str();
            secrets.push(token.context("a kubeconfig without token")?.to_owned());
        }
        let leaks = logs::leaks(&cluster.log_dir(), &secrets)?;
        ensure!(leaks.is_empty(), "secrets in the logs: {leaks:?}");
        Ok(())
    }
}

/// The issuer of the cluster's tokens, as its discovery document names it.
async fn issuer(cluster: &Cluster) -> Result<String> {
    let document = cluster
        .kubectl(&["get", "--raw", "/.well-known/openid-configuration"])
        .await?
        .success()?;
    let document: serde_json::Value = serde_json::from_str(&document)?;
    Ok(document["issuer"]
        .as_str()
        .context("the discovery document names no issuer")?
        .to_owned())
}

/// Writes a file aside and renames it, as a mounted `ConfigMap` is swapped: who follows it never sees half
/// of it.
pub(crate) fn swap(file: &Path, text: &str) -> Result<()> {
    let draft = file.with_extension("draft");
    std::fs::write(&draft, text)?;
    Ok(std::fs::rename(&draft, file)?)
}

/// A file of the repository.
pub(crate) fn repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// The subject of a ServiceAccount, as trust policies name it.
pub(crate) fn subject(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// The ARN of a role of the operator's account.
pub(crate) fn role(name: &str) -> String {
    format!("acs:ram::{ACCOUNT}:role/{name}")
}
