//! What the suite cannot know: the cluster's account, provider and region, and how the webhook
//! is set up.

use serde::Serialize;

use crate::api::configuration::Configuration;
use crate::api::v1alpha1::Network;
use crate::contract::arn::{ProviderArn, RoleArn};
use crate::contract::{env, sts_hosts, token_volume};

use super::case::Additions;

/// The values by which injected variables are judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameters {
    /// The account of the roles.
    pub account_id: String,
    /// The cluster's OIDC provider.
    pub oidc_provider_arn: String,
    /// The cluster's region.
    pub region: String,
    /// Whether the STS endpoint is the one inside the VPC.
    pub vpc: bool,
    /// The component's parameter `AutoInjectSTSEnvVars`.
    pub auto_inject_sts_env_vars: bool,
}

impl Parameters {
    /// With the defaults of the documentation.
    #[must_use]
    pub fn new(provider: &ProviderArn, region: &str) -> Self {
        Self {
            account_id: provider.account().to_owned(),
            oidc_provider_arn: provider.as_str().to_owned(),
            region: region.to_owned(),
            vpc: true,
            auto_inject_sts_env_vars: true,
        }
    }

    /// The variables of a container that is injected so.
    #[must_use]
    pub fn variables(&self, additions: &Additions) -> Vec<(&'static str, String)> {
        let role = RoleArn::of(&self.account_id, &additions.role)
            .map_or_else(|_| additions.role.clone(), |arn| arn.as_str().to_owned());
        let token_file = additions.token_file.as_deref();
        let token_file = token_file.unwrap_or(token_volume::TOKEN_FILE);
        let mut variables = vec![
            (env::ROLE_ARN, role),
            (env::OIDC_PROVIDER_ARN, self.oidc_provider_arn.clone()),
            (env::OIDC_TOKEN_FILE, token_file.to_owned()),
        ];
        if self.auto_inject_sts_env_vars || additions.sts_endpoint {
            let host = sts_hosts::regional(&self.region, self.vpc);
            variables.push((env::STS_ENDPOINT, host));
        }
        if self.auto_inject_sts_env_vars {
            variables.push((env::STS_REGION, self.region.clone()));
            variables.push((env::VPC_ENDPOINT_ENABLED, self.vpc.to_string()));
        }
        variables
    }
}

impl From<&Configuration> for Parameters {
    fn from(configuration: &Configuration) -> Self {
        Self {
            account_id: configuration.account_id.clone(),
            oidc_provider_arn: configuration.oidc_provider_arn.as_str().to_owned(),
            region: configuration.region.clone(),
            vpc: configuration.network == Network::Vpc,
            auto_inject_sts_env_vars: configuration.webhook.auto_inject_sts_env_vars,
        }
    }
}
