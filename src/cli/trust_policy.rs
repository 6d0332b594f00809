//! `rrsa trust-policy`: what a RAM role must say to be lent to ServiceAccounts.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;
use serde::Deserialize;
use serde_json::json;
use tokio::time::timeout;

use super::kubeconfig::KubeconfigArgs;
use super::{operator, print, setup};
use crate::api::configuration::Configuration;
use crate::contract::arn::ProviderArn;
use crate::controller::trust;
use crate::world::SystemFiles;

/// How long the API server may take to tell its issuer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Where every cluster tells who signs its tokens.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// What `--issuer` and `--oidc-provider-arn` do not say is asked of the cluster; with both, none is needed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// `ServiceAccounts` that the role is lent to.
    #[arg(required = true, value_name = "NAMESPACE/NAME", value_parser = setup::namespaced)]
    service_accounts: Vec<(String, String)>,
    /// Print the statement alone, to be added to a policy that exists.
    #[arg(long)]
    statement: bool,
    /// The cluster's OIDC provider in RAM.
    #[arg(long, value_name = "ARN")]
    oidc_provider_arn: Option<ProviderArn>,
    /// Who signs the cluster's tokens [default: as the API server says].
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// The operator's configuration file, which names the provider.
    #[arg(long, value_name = "FILE", conflicts_with = "oidc_provider_arn")]
    config: Option<PathBuf>,
    /// The `ConfigMap` that holds that file; read where neither it nor the provider is given.
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        default_value = "rrsa-system/rrsa",
        value_parser = setup::namespaced
    )]
    config_map: (String, String),
    #[command(flatten)]
    cluster: KubeconfigArgs,
}

/// What the discovery document says.
#[derive(Debug, Deserialize)]
struct Discovery {
    issuer: String,
}

impl Args {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let text = operator::runtime()?.block_on(self.policy())?;
        print(&(text + "\n"))?;
        Ok(())
    }

    async fn policy(self) -> anyhow::Result<String> {
        let Self {
            service_accounts,
            statement: alone,
            oidc_provider_arn,
            issuer,
            config,
            config_map,
            cluster,
        } = self;
        let is_said = oidc_provider_arn.is_some() || config.is_some();
        // Whoever says both may have no cluster at hand.
        let client = if is_said && issuer.is_some() {
            None
        } else {
            let asked = "what --issuer and --oidc-provider-arn do not say, the cluster is asked";
            Some(cluster.client().await.context(asked)?)
        };
        let provider = match (oidc_provider_arn, config, &client) {
            (Some(provider), _, _) => provider,
            (None, Some(path), _) => provider(&operator::configuration_text(&path, &SystemFiles)?)?,
            (None, None, Some(client)) => provider(&setup::in_cluster(client, &config_map).await?)?,
            (None, None, None) => anyhow::bail!("give --oidc-provider-arn or --config"),
        };
        let issuer = match (issuer, &client) {
            (Some(issuer), _) => issuer,
            (None, Some(client)) => issuer_of(client).await?,
            (None, None) => anyhow::bail!("give --issuer"),
        };
        let subjects: Vec<_> = service_accounts
            .iter()
            .map(|(namespace, name)| format!("system:serviceaccount:{namespace}:{name}"))
            .collect();
        let statement = trust::for_tokens(&provider, &issuer, &subjects);
        let printed = if alone {
            statement
        } else {
            json!({"Statement": [statement], "Version": "1"})
        };
        Ok(serde_json::to_string_pretty(&printed)?)
    }
}

/// The provider that a configuration file names.
fn provider(text: &str) -> anyhow::Result<ProviderArn> {
    let configuration = Configuration::parse(text).context(
        "the operator's configuration does not tell the provider; give --oidc-provider-arn",
    )?;
    Ok(configuration.oidc_provider_arn)
}

async fn issuer_of(client: &Client) -> anyhow::Result<String> {
    let unread =
        || format!("the API server does not tell its issuer at {DISCOVERY}; give --issuer");
    let request = http::Request::get(DISCOVERY).body(Vec::new())?;
    let document: Discovery = timeout(CALL_TIMEOUT, client.request(request))
        .await
        .with_context(unread)?
        .with_context(unread)?;
    Ok(document.issuer)
}
