//! The operator's configuration file: what the cluster's administrator decides once, for the
//! controller and the webhook alike.
//!
//! ```yaml
//! accountId: "1234567890123456"
//! oidcProviderArn: acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0123456789
//! region: cn-hangzhou
//! network: Vpc                  # or Public
//! sts:
//!   endpoint: sts.example.com   # optional: for the operator, instead of the regional host
//!   caFile: /etc/rrsa/ca.pem    # optional: trusted beside the system's roots
//!   allowedHosts: []            # what a binding's spec.sts.endpoint may name, port included
//!   extraRegions: []            # regions newer than this release
//!   callsPerSecond: 50          # of all the operator's exchanges; the account's limit is 100
//! tokenFiles:                   # names for spec.tokenSource.file
//!   operator: /var/run/secrets/rrsa.io/token
//! delegation:                   # who may use those tokens, and for which roles
//!   - namespaces: ["team-*"]
//!     roles: ["acs:ram::1234567890123456:role/shared-*"]
//! ecsFallback:                  # where a binding may fall back to the node's RAM role
//!   - namespaces: ["legacy-*"]
//!     roles: ["acs:ram::1234567890123456:role/legacy-*"]
//! webhook:
//!   autoInjectStsEnvVars: true
//!   disableMetadata: false      # true: mode oidc sets ALIBABA_CLOUD_ECS_METADATA_DISABLED
//!   strict: false               # true: pods with wrong annotations are refused
//!   ecsFallback:                # which pods may ask for rrsa.io/fallback: ecs-metadata
//!     - namespaces: ["team-*"]
//!       nodeRole: KubernetesWorkerRole
//!   agent:                      # optional: the agent runs on every node, mode agent works
//!     port: 9441
//!     ipv6: false
//! ```
//!
//! Unknown keys are refused: a misspelt switch must not look like one that is set.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::v1alpha1::Network;
use crate::contract::arn::{self, ProviderArn};
use crate::contract::sts_hosts;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Configuration {
    /// The Alibaba Cloud account that completes bare role names.
    pub account_id: String,
    /// The cluster's OIDC provider in RAM (`ack-rrsa-<cluster id>` on ACK).
    pub oidc_provider_arn: ProviderArn,
    /// The cluster's region.
    pub region: String,
    /// Which STS endpoint the region's is: inside the VPC or public.
    #[serde(default)]
    pub network: Network,
    /// How STS is reached.
    #[serde(default)]
    pub sts: Sts,
    /// The operator's own projected tokens, by the name a binding calls them.
    #[serde(default)]
    pub token_files: BTreeMap<String, PathBuf>,
    /// Which namespaces may use those tokens for which roles. Empty: nobody.
    #[serde(default)]
    pub delegation: Vec<Delegation>,
    /// Which namespaces may fall back to the node's role for which roles. Empty: nobody.
    #[serde(default)]
    pub ecs_fallback: Vec<EcsFallback>,
    /// What the webhook injects.
    #[serde(default)]
    pub webhook: Webhook,
}

/// How STS is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sts {
    /// `host` or `host:port` that the operator uses instead of the regional host. Pods are given
    /// the regional host all the same.
    pub endpoint: Option<String>,
    /// PEM file of certificate authorities trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Hosts (port included) that a binding may name in `spec.sts.endpoint`; exact match.
    pub allowed_hosts: Vec<String>,
    /// Regions to accept beside the table of this release.
    pub extra_regions: Vec<String>,
    /// How many STS calls the controller makes a second at most. RAM allows 100 a second for each
    /// account, shared with everything else that assumes roles in it.
    pub calls_per_second: CallsPerSecond,
}

/// A pace of STS calls: 1 to 1000 a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct CallsPerSecond(u32);

impl CallsPerSecond {
    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for CallsPerSecond {
    fn default() -> Self {
        Self(50)
    }
}

impl TryFrom<u32> for CallsPerSecond {
    type Error = InvalidCallsPerSecond;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        if (1..=1000).contains(&number) {
            Ok(Self(number))
        } else {
            Err(InvalidCallsPerSecond(number))
        }
    }
}

/// A number that is no pace of STS calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no legal sts.callsPerSecond; write a number from 1 to 1000")]
pub struct InvalidCallsPerSecond(u32);

/// One permission to use the operator's own identity.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delegation {
    /// Globs over namespaces; `*` matches anything but `/` and `:`.
    pub namespaces: Vec<String>,
    /// Globs over role ARNs.
    pub roles: Vec<String>,
    /// External id that an `AssumeRole` of this entry carries.
    #[serde(default)]
    pub external_id: Option<String>,
}

/// One permission to fall back to the RAM role of the operator's node, where the cluster's tokens
/// cannot be exchanged at all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EcsFallback {
    /// Globs over namespaces; `*` matches anything but `/` and `:`.
    pub namespaces: Vec<String>,
    /// Globs over role ARNs; one entry must allow every role of a binding.
    pub roles: Vec<String>,
    /// External id with which the node's role assumes the binding's role.
    #[serde(default)]
    pub external_id: Option<String>,
    /// Whether a binding that asks for the node's own role gets the node's own credentials.
    #[serde(default)]
    pub node_role: bool,
}

/// What the webhook injects.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Webhook {
    /// Whether the three STS variables go into every injected pod, as the official webhook's
    /// component parameter `AutoInjectSTSEnvVars`.
    pub auto_inject_sts_env_vars: bool,
    /// Whether pods in mode `oidc` are kept from the ECS metadata service's credentials.
    pub disable_metadata: bool,
    /// Whether pods whose annotations are wrong are refused instead of warned about.
    pub strict: bool,
    /// Which pods may fall back on their node's role. Empty: none.
    pub ecs_fallback: Vec<PodFallback>,
    /// The agent of each node; absent: there is none, and mode `agent` injects nothing.
    pub agent: Option<Agent>,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            auto_inject_sts_env_vars: true,
            disable_metadata: false,
            strict: false,
            ecs_fallback: Vec::new(),
            agent: None,
        }
    }
}

/// One permission for pods to fall back on their node's role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodFallback {
    /// Globs over namespaces; `*` matches anything but `/` and `:`.
    pub namespaces: Vec<String>,
    /// Name of the RAM role that the nodes carry.
    pub node_role: String,
}

/// The agent of each node, as pods reach it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Agent {
    /// The port on the node's address.
    pub port: u16,
    /// Whether the nodes' addresses are of IPv6, which a URI has in brackets.
    pub ipv6: bool,
}

impl Agent {
    /// The port where nobody says otherwise.
    pub const DEFAULT_PORT: u16 = 9441;
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            port: Self::DEFAULT_PORT,
            ipv6: false,
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The text is not YAML of this shape.
    #[error("the configuration cannot be read: {0}")]
    Syntax(String),
    /// A value is not legal.
    #[error("configuration field {field}: {problem}")]
    Value {
        /// Path of the field.
        field: &'static str,
        /// What is wrong and what is expected.
        problem: String,
    },
}

impl Configuration {
    /// Reads and checks the text of a configuration file.
    ///
    /// # Errors
    /// Names the field and the remedy.
    pub fn parse(text: &str) -> Result<Self, ConfigurationError> {
        let configuration: Self = serde_saphyr::from_str(text)
            .map_err(|error| ConfigurationError::Syntax(error.to_string()))?;
        configuration.check()?;
        Ok(configuration)
    }

    fn check(&self) -> Result<(), ConfigurationError> {
        let refuse = |field, problem: String| Err(ConfigurationError::Value { field, problem });
        if !arn::is_account_id(&self.account_id) {
            return refuse(
                "accountId",
                format!(
                    "{:?} is not an account id; write its digits in quotes",
                    self.account_id
                ),
            );
        }
        if !sts_hosts::is_known(&self.region, &self.sts.extra_regions) {
            return refuse(
                "region",
                format!(
                    "{:?} is not a region this release knows; add it to sts.extraRegions if it is new",
                    self.region
                ),
            );
        }
        if let Some(region) = self
            .sts
            .extra_regions
            .iter()
            .find(|region| !is_region(region))
        {
            return refuse("sts.extraRegions", format!("{region:?} is not a region id"));
        }
        if self
            .delegation
            .iter()
            .any(|entry| entry.namespaces.is_empty() || entry.roles.is_empty())
        {
            return refuse(
                "delegation",
                "an entry without namespaces or roles allows nothing; remove or complete it".into(),
            );
        }
        if self
            .ecs_fallback
            .iter()
            .any(|entry| entry.namespaces.is_empty() || entry.roles.is_empty())
        {
            return refuse(
                "ecsFallback",
                "an entry without namespaces or roles allows nothing; remove or complete it".into(),
            );
        }
        self.webhook.check()
    }

    /// The STS host of the cluster's own region and network.
    #[must_use]
    pub fn regional_sts_host(&self) -> String {
        sts_hosts::regional(&self.region, self.network == Network::Vpc)
    }
}

impl Webhook {
    fn check(&self) -> Result<(), ConfigurationError> {
        let refuse = |field, problem: String| Err(ConfigurationError::Value { field, problem });
        let fallback = self.ecs_fallback.iter();
        if let Some(entry) = fallback
            .clone()
            .find(|entry| !arn::is_role_name(&entry.node_role))
        {
            let problem = format!(
                "nodeRole {:?} is not the name of a RAM role; write 1 to 64 letters, digits, '.', '_' or '-'",
                entry.node_role
            );
            return refuse("webhook.ecsFallback", problem);
        }
        if fallback.clone().any(|entry| entry.namespaces.is_empty()) {
            return refuse(
                "webhook.ecsFallback",
                "an entry without namespaces allows nothing; remove or complete it".into(),
            );
        }
        if self.agent.as_ref().is_some_and(|agent| agent.port == 0) {
            return refuse(
                "webhook.agent.port",
                "0 is no port; write 1 to 65535".into(),
            );
        }
        Ok(())
    }
}

fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "accountId: '123'\noidcProviderArn: acs:ram::123:oidc-provider/ack-rrsa-c1\nregion: cn-hangzhou\n";

    #[test]
    fn the_minimal_file_has_the_documented_defaults() {
        let configuration = Configuration::parse(MINIMAL).unwrap();
        assert_eq!(configuration.network, Network::Vpc);
        assert!(configuration.webhook.auto_inject_sts_env_vars);
        assert!(configuration.delegation.is_empty());
        assert_eq!(
            configuration.regional_sts_host(),
            "sts-vpc.cn-hangzhou.aliyuncs.com"
        );
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        let error = Configuration::parse(&format!("{MINIMAL}delegations: []\n")).unwrap_err();
        assert!(error.to_string().contains("delegations"), "{error}");
    }

    #[test]
    fn bad_values_name_field_and_remedy() {
        for (from, to, field) in [
            ("'123'", "abc", "accountId"),
            ("cn-hangzhou", "evil.com/", "region"),
            (
                "acs:ram::123:oidc-provider/ack-rrsa-c1",
                "nonsense",
                "OIDC provider ARN",
            ),
        ] {
            let error = Configuration::parse(&MINIMAL.replace(from, to)).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
    }

    #[test]
    fn the_pace_of_calls_is_bounded() {
        let with = |pace: &str| {
            Configuration::parse(&format!("{MINIMAL}sts: {{callsPerSecond: {pace}}}\n"))
        };
        assert_eq!(with("7").unwrap().sts.calls_per_second.get(), 7);
        for wrong in ["0", "1001", "-1", "2.5"] {
            let error = with(wrong).unwrap_err().to_string();
            assert!(
                error.contains("callsPerSecond") || error.contains(wrong),
                "{error}"
            );
        }
    }

    #[test]
    fn the_webhooks_switches_are_off_and_checked() {
        let webhook = Configuration::parse(MINIMAL).unwrap().webhook;
        assert_eq!(webhook, Webhook::default());
        assert!(!webhook.disable_metadata && !webhook.strict && webhook.agent.is_none());
        let agent = |text: &str| {
            let text = format!("{MINIMAL}webhook: {{agent: {{{text}}}}}\n");
            Configuration::parse(&text).map(|configuration| configuration.webhook.agent)
        };
        assert_eq!(agent("").unwrap(), Some(Agent::default()));
        assert!(agent("port: 0").is_err());
        for entry in [
            "{namespaces: [a], nodeRole: 'acs:ram::1:role/a'}",
            "{namespaces: [], nodeRole: a}",
        ] {
            let text = format!("{MINIMAL}webhook: {{ecsFallback: [{entry}]}}\n");
            let error = Configuration::parse(&text).unwrap_err().to_string();
            assert!(error.contains("webhook.ecsFallback"), "{error}");
        }
    }

    #[test]
    fn an_empty_entry_of_a_permission_is_refused() {
        for field in ["delegation", "ecsFallback"] {
            let text = format!("{MINIMAL}{field}: [{{namespaces: [a], roles: []}}]\n");
            let error = Configuration::parse(&text).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
