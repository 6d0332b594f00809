//! How a command that judges pods learns what is right here: the operator's configuration file,
//! or a few flags in its place.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::operator;
use crate::api::configuration::Configuration;
use crate::contract::arn::ProviderArn;
use crate::world::Files;

#[derive(Debug, Clone, clap::Args)]
pub(super) struct SetupArgs {
    /// The operator's configuration file. The flags below win over what it says.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
    /// The configuration that the flags amount to.
    pub(super) fn configuration(self, files: &dyn Files) -> anyhow::Result<Configuration> {
        let Self {
            config,
            oidc_provider_arn,
            account_id,
            region,
            network,
            auto_inject_sts_env_vars,
        } = self;
        let mut whole = match &config {
            Some(path) => {
                let text = operator::configuration_text(path, files)?;
                serde_saphyr::from_str(&text).with_context(|| {
                    format!("configuration file {} cannot be read", path.display())
                })?
            }
            None if oidc_provider_arn.is_none() || region.is_none() => anyhow::bail!(
                "which cluster is this? Give --config with the operator's configuration file, or \
                 --oidc-provider-arn and --region"
            ),
            None => json!({}),
        };
        let of_provider = oidc_provider_arn.as_deref().map(str::parse::<ProviderArn>);
        let of_provider = of_provider.transpose()?;
        let of_provider = of_provider.map(|provider| provider.account().to_owned());
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                whole[key] = value;
            }
        };
        set("accountId", account_id.or(of_provider).map(Value::from));
        set("oidcProviderArn", oidc_provider_arn.map(Value::from));
        set("region", region.map(Value::from));
        set("network", network.map(Value::from));
        if let Some(on) = auto_inject_sts_env_vars {
            whole["webhook"]["autoInjectStsEnvVars"] = json!(on);
        }
        // JSON is YAML: so there is one way to read and check a configuration.
        Configuration::parse(&whole.to_string())
            .context("what the flags and the file amount to is refused")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::Network;
    use crate::world::SystemFiles;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        setup: SetupArgs,
    }

    fn configuration(arguments: &[&str]) -> anyhow::Result<Configuration> {
        let arguments = ["rrsa"].iter().chain(arguments);
        Command::try_parse_from(arguments)?
            .setup
            .configuration(&SystemFiles)
    }

    const PROVIDER: &str = "--oidc-provider-arn=acs:ram::42:oidc-provider/ack-rrsa-c1";

    #[test]
    fn provider_and_region_are_enough() {
        let seen = configuration(&[PROVIDER, "--region=cn-hangzhou"]).unwrap();
        assert_eq!(seen.account_id, "42");
        assert_eq!(seen.network, Network::Vpc);
        assert!(seen.webhook.auto_inject_sts_env_vars);
    }

    #[test]
    fn flags_say_the_rest() {
        let more = [
            PROVIDER,
            "--region=cn-hangzhou",
            "--account-id=43",
            "--network=Public",
            "--auto-inject-sts-env-vars=false",
        ];
        let seen = configuration(&more).unwrap();
        assert_eq!(seen.account_id, "43");
        assert_eq!(seen.network, Network::Public);
        assert!(!seen.webhook.auto_inject_sts_env_vars);
    }

    #[test]
    fn what_is_missing_or_illegal_is_named() {
        let error = configuration(&[PROVIDER]).unwrap_err().to_string();
        assert!(error.contains("--region"), "{error}");
        let error = configuration(&[PROVIDER, "--region=nowhere.com/"]).unwrap_err();
        assert!(format!("{error:#}").contains("region"), "{error:#}");
    }
}
