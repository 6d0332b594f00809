//! How a command that judges pods learns what is right here: from a few flags, the operator's
//! configuration file, or the `ConfigMap` that holds it in the cluster.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::kubeconfig::said;
use super::operator;
use crate::api::configuration::Configuration;
use crate::contract::arn::ProviderArn;
use crate::world::Files;

/// The key of the file in its `ConfigMap`.
const KEY: &str = "config.yaml";
/// How long the API server may take to tell.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, clap::Args)]
pub(super) struct SetupArgs {
    /// The operator's configuration file. The flags below win over what it says.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The `ConfigMap` that holds that file. It is read where there are neither --config nor
    /// --oidc-provider-arn and --region.
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        default_value = "rrsa-system/rrsa",
        value_parser = namespaced
    )]
    config_map: (String, String),
    /// The cluster's OIDC provider in RAM.
    #[arg(long, value_name = "ARN")]
    oidc_provider_arn: Option<String>,
    /// The account of the roles [default: that of the provider].
    #[arg(long, value_name = "ID")]
    account_id: Option<String>,
    /// The cluster's region.
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Whose STS endpoint pods are given [default: Vpc].
    #[arg(long, value_name = "NETWORK", value_parser = ["Vpc", "Public"])]
    network: Option<String>,
    /// Whether every injected container gets the STS variables: the official component's
    /// parameter `AutoInjectSTSEnvVars` [default: true].
    #[arg(long, value_name = "BOOL")]
    auto_inject_sts_env_vars: Option<bool>,
}

impl SetupArgs {
    /// The configuration that flags, file and cluster amount to.
    pub(super) async fn configuration(
        self,
        files: &dyn Files,
        client: &Client,
    ) -> anyhow::Result<Configuration> {
        let text = match &self.config {
            Some(path) => Some(operator::configuration_text(path, files)?),
            None if self.oidc_provider_arn.is_some() && self.region.is_some() => None,
            None => Some(in_cluster(client, &self.config_map).await?),
        };
        self.over(text.as_deref())
    }

    /// The flags over the text of a configuration file.
    fn over(self, text: Option<&str>) -> anyhow::Result<Configuration> {
        let Self {
            config: _,
            config_map: _,
            oidc_provider_arn,
            account_id,
            region,
            network,
            auto_inject_sts_env_vars,
        } = self;
        let mut whole = match text {
            Some(text) => {
                serde_saphyr::from_str(text).context("the operator's configuration is no YAML")?
            }
            None => json!({}),
        };
        let of_provider = oidc_provider_arn.as_deref().map(str::parse::<ProviderArn>);
        let of_provider = of_provider.transpose()?;
        let of_provider = of_provider.map(|provider| provider.account().to_owned());
        let mut set = |key: &str, value: Option<Value>| {
            if let (Some(value), Some(members)) = (value, members(&mut whole)) {
                members.insert(key.to_owned(), value);
            }
        };
        set("accountId", account_id.or(of_provider).map(Value::from));
        set("oidcProviderArn", oidc_provider_arn.map(Value::from));
        set("region", region.map(Value::from));
        set("network", network.map(Value::from));
        if let Some(on) = auto_inject_sts_env_vars
            && let Some(whole) = members(&mut whole)
            && let Some(webhook) = members(whole.entry("webhook").or_insert(Value::Null))
        {
            webhook.insert("autoInjectStsEnvVars".to_owned(), json!(on));
        }
        // JSON is YAML: so there is one way to read and check a configuration.
        Configuration::parse(&whole.to_string())
            .context("the configuration, with the flags over it, is refused")
    }
}

/// Where a flag is written: the members of an object, or of what nobody has written yet. Another shape
/// has none and stays as it is, so that it is refused in the same words as without flags.
fn members(value: &mut Value) -> Option<&mut Map<String, Value>> {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut()
}

/// The configuration file as the cluster has it.
pub(super) async fn in_cluster(
    client: &Client,
    (namespace, name): &(String, String),
) -> anyhow::Result<String> {
    let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
    let unread = || {
        format!(
            "which cluster is this? ConfigMap {namespace}/{name} does not tell; name the \
             operator's by --config-map, give --config with its configuration file, or tell by \
             --oidc-provider-arn (and --region, where there is such a flag)"
        )
    };
    let map = timeout(CALL_TIMEOUT, maps.get(name))
        .await
        .with_context(unread)?
        .map_err(|error| anyhow!(said(&error)))
        .with_context(unread)?;
    let text = map.data.unwrap_or_default().remove(KEY);
    text.with_context(|| format!("it has no key {KEY}"))
        .with_context(unread)
}

/// `NAMESPACE/NAME`, in two.
pub(super) fn namespaced(text: &str) -> Result<(String, String), String> {
    let both = text.split_once('/');
    let both = both.filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
    let (namespace, name) = both.ok_or("write NAMESPACE/NAME")?;
    Ok((namespace.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::Network;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        setup: SetupArgs,
    }

    fn configuration(text: Option<&str>, arguments: &[&str]) -> anyhow::Result<Configuration> {
        let arguments = ["rrsa"].iter().chain(arguments);
        Command::try_parse_from(arguments)?.setup.over(text)
    }

    const PROVIDER: &str = "--oidc-provider-arn=acs:ram::42:oidc-provider/ack-rrsa-c1";

    #[test]
    fn provider_and_region_are_enough() {
        let seen = configuration(None, &[PROVIDER, "--region=cn-hangzhou"]).unwrap();
        assert_eq!(seen.account_id, "42");
        assert_eq!(seen.network, Network::Vpc);
        assert!(seen.webhook.auto_inject_sts_env_vars);
    }

    #[test]
    fn flags_win_over_the_file() {
        let text = "accountId: '1'\noidcProviderArn: acs:ram::1:oidc-provider/p\n\
                    region: cn-beijing\nwebhook: {autoInjectStsEnvVars: true}\n";
        let more = [
            PROVIDER,
            "--account-id=43",
            "--network=Public",
            "--auto-inject-sts-env-vars=false",
        ];
        let seen = configuration(Some(text), &more).unwrap();
        assert_eq!(seen.region, "cn-beijing");
        assert_eq!(seen.account_id, "43");
        assert_eq!(seen.network, Network::Public);
        assert!(!seen.webhook.auto_inject_sts_env_vars);
    }

    #[test]
    fn what_is_illegal_is_named() {
        let error = configuration(None, &["--config-map=rrsa"]).unwrap_err();
        assert!(error.to_string().contains("NAMESPACE/NAME"), "{error}");
        let error = configuration(None, &[PROVIDER, "--region=nowhere.com/"]).unwrap_err();
        assert!(format!("{error:#}").contains("region"), "{error:#}");
    }
}
