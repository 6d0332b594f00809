//! The ways into a cluster: clients, kubeconfigs of ServiceAccounts, the public keys of its tokens.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

use super::Cluster;

/// Loopback answers at once or not at all, but the handshake of TLS takes what a busy API server takes.
const CONNECT: Duration = Duration::from_mins(1);
/// Nothing that a test asks for takes longer; a watch that is silent for so long starts anew.
const ANSWER: Duration = Duration::from_mins(1);

/// A client for a kubeconfig, whose configuration `change` may adapt.
pub(super) async fn client(kubeconfig: &Path, change: impl FnOnce(&mut Config)) -> Result<Client> {
    let read = || format!("read the kubeconfig {}", kubeconfig.display());
    let parsed = Kubeconfig::read_from(kubeconfig).with_context(read)?;
    let mut config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .with_context(read)?;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(ANSWER);
    config.write_timeout = Some(ANSWER);
    config.reset_reader_on_write = true;
    change(&mut config);
    Ok(Client::try_from(config)?)
}

impl Cluster {
    /// A client with all rights. It belongs to the runtime of the test that asks for it.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub(crate) async fn client(&self) -> Result<Client> {
        client(&self.admin, |config| self.adapt(config)).await
    }

    /// A client that is taken for somebody else: the administrator impersonates that user. The
    /// groups `system:authenticated` and, for a ServiceAccount, its usual ones are added by the API
    /// server.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub(crate) async fn client_as(&self, user: &str, groups: &[&str]) -> Result<Client> {
        client(&self.admin, |config| {
            self.adapt(config);
            config.auth_info.impersonate = Some(user.to_owned());
            config.auth_info.impersonate_groups =
                (!groups.is_empty()).then(|| groups.iter().map(ToString::to_string).collect());
        })
        .await
    }

    /// A client for a kubeconfig of this cluster, such as one of a ServiceAccount.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub(crate) async fn client_of(&self, kubeconfig: &Path) -> Result<Client> {
        client(kubeconfig, |config| self.adapt(config)).await
    }

    /// Writes a kubeconfig that holds a fresh token of a ServiceAccount, for processes that shall
    /// run with their own rights. The file is readable by its owner only and goes with the state
    /// folder.
    ///
    /// # Errors
    /// When the ServiceAccount does not exist, or `ttl` is under the API server's 10 minutes.
    pub(crate) async fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        name: &str,
        ttl: Duration,
    ) -> Result<PathBuf> {
        let what = || format!("make a kubeconfig of the ServiceAccount {namespace}/{name}");
        let accounts = Api::<ServiceAccount>::namespaced(self.client().await?, namespace);
        let spec = TokenRequestSpec {
            expiration_seconds: Some(i64::try_from(ttl.as_secs())?),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest {
            spec: Some(spec),
            ..TokenRequest::default()
        };
        let issued = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .with_context(what)?;
        let token = issued
            .status
            .context("the answer to a TokenRequest holds no token")?
            .token;
        let cluster = self.cluster_entry()?;
        // A kubeconfig is YAML, and JSON is YAML.
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{
                "name": "context",
                "context": {"cluster": "cluster", "user": name, "namespace": namespace},
            }],
            "current-context": "context",
        });
        let folder = self.state_dir().join("kubeconfigs");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{namespace}.{name}.json"));
        // Written aside and renamed: a process that reads the file anew never sees half of it.
        let draft = folder.join(format!(".{namespace}.{name}.draft"));
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        file.write_all(text.to_string().as_bytes())
            .with_context(what)?;
        std::fs::rename(&draft, &path).with_context(what)?;
        Ok(path)
    }

    /// The public keys of the cluster's ServiceAccount tokens: the body of `/openid/v1/jwks`.
    ///
    /// # Errors
    /// When the API server does not tell them.
    pub(crate) async fn jwks(&self) -> Result<String> {
        let request = http::Request::get("/openid/v1/jwks").body(Vec::new())?;
        self.client()
            .await?
            .request_text(request)
            .await
            .context("read /openid/v1/jwks")
    }

    /// A proxy of the environment does not lead to loopback.
    fn adapt(&self, config: &mut Config) {
        if self.is_own() {
            config.proxy_url = None;
        }
    }

    /// Address and certificate authority, as they stand in the administrator's kubeconfig.
    fn cluster_entry(&self) -> Result<kube::config::Cluster> {
        let mut parsed = Kubeconfig::read_from(&self.admin)?;
        let current = parsed.current_context.take();
        let context = parsed
            .contexts
            .into_iter()
            .find(|context| Some(&context.name) == current.as_ref())
            .and_then(|named| named.context)
            .context("the administrator's kubeconfig has no current context")?;
        parsed
            .clusters
            .into_iter()
            .find(|cluster| cluster.name == context.cluster)
            .and_then(|named| named.cluster)
            .with_context(|| format!("its context names no known cluster: {}", context.cluster))
    }
}
