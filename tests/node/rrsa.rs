//! rrsa on the node tier, as a user installs it: the image that `make image` built, by `helm install`.
//! STS and the metadata service are simulated at addresses that pods take for the real ones.
#![expect(
    clippy::disallowed_methods,
    reason = "tests stand outside the product's world"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::simulators::config::{PrincipalTrust, Provider, Role, SimulatorConfig, Trust};
use crate::simulators::metadata::{Metadata, MetadataConfig};
use crate::simulators::sts::Sts;
use crate::stage::{POD_LOGS, SOON, Stage, variable};
use crate::support::background::Background;
use crate::support::kubernetes::node;
use crate::support::{logs, wait};

/// Where the release lives.
pub(crate) const NAMESPACE: &str = "rrsa-system";
/// The image, as the chart names it.
pub(crate) const IMAGE: &str = concat!("localhost/rrsa:", env!("CARGO_PKG_VERSION"));
/// The chart.
pub(crate) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/rrsa");
/// The host that pods and controller call STS by.
pub(crate) const STS_HOST: &str = "sts-vpc.cn-hangzhou.aliyuncs.com";
/// The namespace that may fall back to the node's role.
pub(crate) const FALLBACK_NAMESPACE: &str = "fallback";
/// The RAM role of the node.
pub(crate) const NODE_ROLE: &str = "node-own";
/// What the administrator's entry for the fallback gives along.
const FALLBACK_ID: &str = "fallback/external-id";
/// The account of the operator.
const ACCOUNT: &str = "1234567890123456";
const PROVIDER: &str = "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0test";
/// How long sessions last, so that nobody waits an hour for a refresh.
const SESSION: Duration = Duration::from_mins(1);

/// The release and what stands beside it.
pub(crate) struct Rrsa {
    /// STS.
    pub(crate) sts: Sts,
    /// The ECS metadata service.
    pub(crate) metadata: Metadata,
    /// The file of the release's values.
    values: PathBuf,
    /// From the call of `helm install` to both replicas of both components being ready.
    pub(crate) installed_in: Duration,
    /// From the same call to the first pod that was given its role.
    pub(crate) injected_in: Duration,
    /// The simulators live on it, because every test has a runtime of its own.
    _runtime: Background,
}

impl Rrsa {
    /// The release of all tests of this program; the first one to ask installs it.
    pub(crate) async fn shared(stage: &'static Stage) -> Result<&'static Self> {
        static SHARED: OnceCell<Result<Rrsa, String>> = OnceCell::const_new();
        SHARED
            .get_or_init(async || {
                let installed = Self::install(stage).await;
                installed.map_err(|error| format!("{error:#}"))
            })
            .await
            .as_ref()
            .map_err(|error| anyhow!("the release: {error}"))
    }

    async fn install(stage: &Stage) -> Result<Self> {
        let cluster = &stage.cluster;
        stage.node.import(cluster, &archive()?).await?;

        let discovery = stage
            .kubectl(&["get", "--raw", "/.well-known/openid-configuration"])
            .await?;
        let discovery: Value = serde_json::from_str(&discovery)?;
        let issuer = discovery["issuer"].as_str().context("no issuer")?;
        let keys = cluster.state_dir().join("jwks.json");
        fs::write(&keys, cluster.jwks().await?)?;

        let runtime = Background::start("simulators")?;
        let (sts, metadata) = {
            let _inside = runtime.enter();
            let config = SimulatorConfig {
                providers: vec![Provider {
                    arn: PROVIDER.to_owned(),
                    issuer: issuer.to_owned(),
                    client_ids: vec!["sts.aliyuncs.com".to_owned()],
                    jwks_file: keys,
                    ..Provider::default()
                }],
                session_lifetime: Some(SESSION),
                ..SimulatorConfig::default()
            };
            let sts = Sts::start_at(SocketAddr::from((node::STS_ADDRESS, 443)), config)?;
            let metadata = Metadata::start_at(
                SocketAddr::from((node::METADATA_ADDRESS, 80)),
                MetadataConfig {
                    role: Some(NODE_ROLE.to_owned()),
                    account_id: ACCOUNT.to_owned(),
                    ..MetadataConfig::default()
                },
                sts.issuance(),
            )?;
            (sts, metadata)
        };
        let values = cluster.state_dir().join("values.json");
        fs::write(&values, self::values(sts.ca_pem()).to_string())?;

        // The namespace of deploy/ enforces restricted Pod Security.
        let namespace = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/namespace.yaml");
        cluster.apply_yaml(&fs::read_to_string(namespace)?).await?;
        let mut installed = Self {
            sts,
            metadata,
            values,
            installed_in: Duration::ZERO,
            injected_in: Duration::ZERO,
            _runtime: runtime,
        };
        let pods = Api::<Pod>::namespaced(cluster.client().await?, "default");
        let started = Instant::now();
        installed.helm(stage, "install", CHART, &[]).await?;
        installed.installed_in = started.elapsed();
        // helm waits for the replicas, not for the node's rules of the Service: until those are there a
        // pod that asks is refused, as failurePolicy says.
        let first = first_pod()?;
        let pod = wait::until("the first pod", SOON, async || {
            Ok(Some(pods.create(&PostParams::default(), &first).await?))
        })
        .await?;
        let arn = variable(&pod, "ALIBABA_CLOUD_ROLE_ARN");
        ensure!(arn == Some(role("first")), "the first pod has {arn:?}");
        installed.injected_in = started.elapsed();
        Ok(installed)
    }

    /// `helm install` or `helm upgrade` with the release's values; waits for the replicas.
    ///
    /// # Errors
    /// What helm says.
    pub(crate) async fn helm(
        &self,
        stage: &Stage,
        verb: &str,
        chart: &str,
        further: &[&str],
    ) -> Result<()> {
        let values = self.values.display().to_string();
        let mut arguments = vec![verb, "rrsa", chart, "--namespace", NAMESPACE];
        arguments.extend(["--values", &values, "--wait", "--timeout=180s"]);
        arguments.extend(further);
        stage.cluster.helm(&arguments).await?.success()?;
        Ok(())
    }

    /// Makes RAM know a role that trusts exactly this ServiceAccount (`namespace:name`).
    pub(crate) fn trust(&self, role_name: &str, account: &str) {
        let subject = format!("system:serviceaccount:{account}");
        self.set_role(role_name, Trust::subject(PROVIDER, &subject));
    }

    /// Makes RAM know a role that trusts the node's role, as the administrator's entry asks for it.
    pub(crate) fn trust_node(&self, role_name: &str) {
        let trust = PrincipalTrust {
            principal: role(NODE_ROLE),
            external_id: Some(FALLBACK_ID.to_owned()),
        };
        self.set_role(role_name, Trust::Principal(trust));
    }

    fn set_role(&self, role_name: &str, trust: Trust) {
        let role = Role::new(&role(role_name), vec![trust]);
        self.sts.update(|config| {
            config.roles.retain(|known| known.arn != role.arn);
            config.roles.push(role);
        });
    }

    /// Whether STS can fetch the keys of the cluster's issuer.
    pub(crate) fn break_issuer(&self, broken: bool) {
        self.sts
            .update(|config| config.providers[0].broken = broken);
    }

    /// The role that these credentials stand for, according to STS.
    ///
    /// # Errors
    /// When it does not know them, or they have ended.
    pub(crate) fn role_of(&self, credentials: &Value) -> Result<String> {
        let of = |names: [&str; 2]| {
            let found = names.iter().find_map(|name| credentials[*name].as_str());
            found.with_context(|| format!("no {} among what it has", names[0]))
        };
        let session = self
            .sts
            .verify(
                of(["accessKeyId", "AccessKeyId"])?,
                of(["accessKeySecret", "AccessKeySecret"])?,
                of(["securityToken", "SecurityToken"])?,
            )
            .map_err(|error| anyhow!("STS does not know them: {error:?}"))?;
        ensure!(!session.expired, "they have ended");
        Ok(session.role_arn)
    }

    /// The tokens (their fingerprints) that were exchanged for a role, in order.
    pub(crate) fn tokens_for(&self, role_name: &str) -> Vec<String> {
        let mut tokens: Vec<String> = Vec::new();
        for call in self.sts.calls().by_role(&role(role_name)) {
            let token = call.parameters.get("OIDCToken").cloned();
            if let Some(token) = token.filter(|token| call.succeeded() && !tokens.contains(token)) {
                tokens.push(token);
            }
        }
        tokens
    }

    /// Fails when the operator's pods logged a secret or a token, which they had at every level.
    ///
    /// # Errors
    /// Names the files.
    pub(crate) fn no_secret_in_logs(&self) -> Result<()> {
        let secrets = self.sts.issued_secrets();
        let mut looked_at = 0;
        for pod in fs::read_dir(POD_LOGS)? {
            let pod = pod?;
            if !pod.file_name().to_string_lossy().starts_with(NAMESPACE) {
                continue;
            }
            for container in unless_gone(&pod.path(), folders(&pod.path()))? {
                let leaks = unless_gone(&container, leaks_of(&container, &secrets))?;
                if let Some(leaks) = leaks {
                    ensure!(leaks.is_empty(), "secrets in the logs: {leaks:?}");
                    looked_at += 1;
                }
            }
        }
        ensure!(looked_at >= 4, "there are logs of {looked_at} containers");
        Ok(())
    }
}

/// What was found, or nothing where the kubelet has taken the folder away meanwhile: pods of the release
/// before may still be ending.
fn unless_gone<T: Default>(folder: &Path, found: Result<T>) -> Result<T> {
    match found {
        Err(_) if !folder.exists() => Ok(T::default()),
        found => found,
    }
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?;
    Ok(entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?)
}

/// The secrets in the logs of a container. `None`: the kubelet leaves the folder of one that it has removed.
fn leaks_of(container: &Path, secrets: &[String]) -> Result<Option<Vec<logs::Leak>>> {
    if fs::read_dir(container)?.next().is_none() {
        return Ok(None);
    }
    logs::leaks(container, secrets).map(Some)
}

/// The ARN of a role of the account.
pub(crate) fn role(name: &str) -> String {
    format!("acs:ram::{ACCOUNT}:role/{name}")
}

/// The archive that `make image` wrote.
///
/// # Errors
/// When there is none.
pub(crate) fn archive() -> Result<PathBuf> {
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("target/image/rrsa-{architecture}.oci.tar"));
    ensure!(
        file.exists(),
        "{} does not exist; run `make image`",
        file.display()
    );
    Ok(file)
}

/// A pod that asks for a role by itself. It need not run.
fn first_pod() -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": "first", "annotations": {"rrsa.io/role-arn": role("first")}},
        "spec": {
            "schedulingGates": [{"name": "rrsa.io/never"}],
            "containers": [{"name": "main", "image": "localhost/busybox:1"}],
        },
    }))?)
}

/// What an administrator of this cluster gives.
fn values(ca_pem: &str) -> Value {
    json!({
        "image": {"repository": "localhost/rrsa", "pullPolicy": "Never"},
        "config": {
            "accountId": ACCOUNT,
            "oidcProviderArn": PROVIDER,
            "region": "cn-hangzhou",
            "ecsFallback": [{
                "namespaces": [FALLBACK_NAMESPACE],
                "roles": [role("fallback-*")],
                "externalId": FALLBACK_ID,
            }],
            "webhook": {
                "ecsFallback": [{"namespaces": [FALLBACK_NAMESPACE], "nodeRole": NODE_ROLE}],
            },
        },
        "extraCa": {"pem": ca_pem},
        "hostAliases": [{"ip": node::STS_ADDRESS.to_string(), "hostnames": [STS_HOST]}],
        "log": {"filter": "info,rrsa=trace"},
    })
}
