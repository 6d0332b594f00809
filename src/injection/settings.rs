//! What the administrator's configuration means for a pod, worked out once.

use crate::api::configuration::{Agent, Configuration, PodFallback};
use crate::api::glob;
use crate::api::v1alpha1::Network;
use crate::contract::arn::ProviderArn;

/// The same for every pod of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the administrator's switches, each on its own"
)]
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
    /// Whether mode `oidc` keeps pods from the ECS metadata service's credentials.
    pub disable_metadata: bool,
    /// Whether pods with wrong annotations are refused.
    pub strict: bool,
    /// How pods reach the agent of their node; `None`: there is none.
    pub agent: Option<Agent>,
    /// Which namespaces' pods may fall back on their node's role.
    pub fallback: Vec<PodFallback>,
}

impl Settings {
    /// The node's role that pods of that namespace may fall back on.
    #[must_use]
    pub fn fallback_role(&self, namespace: &str) -> Option<&str> {
        let allows = |entry: &&PodFallback| {
            let mut globs = entry.namespaces.iter();
            globs.any(|glob| glob::matches(glob, namespace))
        };
        let entry = self.fallback.iter().find(allows)?;
        Some(&entry.node_role)
    }
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
            disable_metadata: configuration.webhook.disable_metadata,
            strict: configuration.webhook.strict,
            agent: configuration.webhook.agent.clone(),
            fallback: configuration.webhook.ecs_fallback.clone(),
        }
    }
}
