//! What the administrator's configuration means for a pod, worked out once.

use crate::api::configuration::Configuration;
use crate::api::v1alpha1::Network;
use crate::contract::arn::ProviderArn;

/// The same for every pod of the cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Account that completes a bare role name.
    pub account_id: String,
    /// The cluster's OIDC provider.
    pub provider_arn: ProviderArn,
    /// Host of the STS endpoint.
    pub sts_endpoint: String,
    /// The cluster's region.
    pub region: String,
    /// Whether the endpoint is the one inside the VPC.
    pub vpc: bool,
    /// Whether every injected container gets the STS variables.
    pub sts_variables: bool,
}

impl From<&Configuration> for Settings {
    fn from(configuration: &Configuration) -> Self {
        Self {
            account_id: configuration.account_id.clone(),
            provider_arn: configuration.oidc_provider_arn.clone(),
            // `sts.endpoint` is the operator's own way to STS; pods take their region's.
            sts_endpoint: configuration.regional_sts_host(),
            region: configuration.region.clone(),
            vpc: configuration.network == Network::Vpc,
            sts_variables: configuration.webhook.auto_inject_sts_env_vars,
        }
    }
}
