//! The operator's configuration file: what the cluster's administrator decides once, for the
//! controller and the webhook alike.
//!
//! ```yaml
//! accountId: "1234567890123456" # left out: from the ECS metadata service, once at start
//! oidcProviderArn: acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0123456789
//!                               # or clusterId: c0123456789
//! region: cn-hangzhou           # left out: from the ECS metadata service, once at start
//! network: Vpc                  # or Public
//! sts:
//!   endpoint: sts.example.com   # optional: for the operator, instead of the regional host
//!   caFile: /etc/rrsa/ca.pem    # optional: trusted beside the system's roots
//!   proxy: http://proxy:3128    # optional: the way to STS; never to metadata
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
//! podLook:                      # optional: the leader looks for pods without what they asked for
//!   enabled: false
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
//! [`ConfigurationFile`] is the file, [`Configuration`] what it means once nothing is left out.
//! `schema` and `page` describe it, `risks` warns of what is legal and rarely meant.
//!
//! Unknown keys are refused: a misspelt switch must not look like one that is set.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

mod check;
mod page;
mod risks;
mod schema;

use super::v1alpha1::Network;
use crate::contract::arn::{self, ProviderArn};
use crate::contract::sts_hosts;

/// Most namespaces that the controller watches one by one.
pub const MAX_NAMESPACES: usize = 100;

/// What the administrator decided, with nothing left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The Alibaba Cloud account that completes bare role names.
    pub account_id: String,
    /// The cluster's OIDC provider in RAM (`ack-rrsa-<cluster id>` on ACK).
    pub oidc_provider_arn: ProviderArn,
    /// The cluster's region.
    pub region: String,
    /// Which STS endpoint the region's is: inside the VPC or public.
    pub network: Network,
    /// How STS is reached.
    pub sts: Sts,
    /// The operator's own projected tokens, by the name a binding calls them.
    pub token_files: BTreeMap<String, PathBuf>,
    /// Which namespaces may use those tokens for which roles. Empty: nobody.
    pub delegation: Vec<Delegation>,
    /// Which namespaces may fall back to the node's role for which roles. Empty: nobody.
    pub ecs_fallback: Vec<EcsFallback>,
    /// Whether the controller looks, in the namespaces that it serves, for pods that do not have what
    /// they asked for.
    pub pod_look: PodLook,
    /// What the webhook injects.
    pub webhook: Webhook,
    /// Namespaces whose bindings the controller serves. Empty: all.
    pub namespaces: Vec<String>,
}

/// The file as it is written. What it leaves out of account, region and provider is discovered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigurationFile {
    /// The Alibaba Cloud account that completes bare role names: digits, in quotes. Left out: the
    /// account of the ECS instance, asked of its metadata service once at start.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-9]{1,32}$"))]
    pub account_id: Option<String>,
    /// The ACK cluster's id, which names its OIDC provider (`ack-rrsa-<cluster id>`) where
    /// `oidcProviderArn` is left out.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[A-Za-z0-9-]{1,64}$"))]
    pub cluster_id: Option<String>,
    /// The cluster's OIDC provider in RAM. Left out: `ack-rrsa-<clusterId>` of the account.
    #[serde(default)]
    #[schemars(
        with = "Option<String>",
        regex(pattern = r"^acs:ram::[0-9]{1,32}:oidc-provider/[A-Za-z0-9._-]{1,128}$")
    )]
    pub oidc_provider_arn: Option<ProviderArn>,
    /// The cluster's region. Left out: the region of the ECS instance, asked of its metadata service
    /// once at start.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub region: Option<String>,
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
    /// Whether the controller looks, in the namespaces that it serves, for pods that do not have what
    /// they asked for.
    #[serde(default)]
    pub pod_look: PodLook,
    /// What the webhook injects.
    #[serde(default)]
    pub webhook: Webhook,
    /// Namespaces whose bindings the controller serves, each by its full name, at most 100: it then
    /// needs Roles in those only. Empty: all namespaces. A change needs a restart.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub namespaces: Vec<String>,
}

/// What the machine says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovered {
    /// The account that owns the ECS instance.
    pub account_id: Option<String>,
    /// The region that it is in.
    pub region: Option<String>,
}

/// How STS is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sts {
    /// `host` or `host:port` that the operator uses instead of the regional host. Pods are given
    /// the regional host all the same.
    pub endpoint: Option<String>,
    /// PEM file of certificate authorities trusted beside the system's, for STS only.
    pub ca_file: Option<PathBuf>,
    /// Proxy for calls to STS, such as `http://proxy.example:3128`; without user and password. Left
    /// out: `HTTPS_PROXY` and `NO_PROXY` of the process count. Never used for the metadata service
    /// or the API server.
    pub proxy: Option<String>,
    /// File with `user:password` for that proxy.
    pub proxy_credentials_file: Option<PathBuf>,
    /// Hosts (port included) that a binding may name in `spec.sts.endpoint`; exact match.
    pub allowed_hosts: Vec<String>,
    /// Regions to accept beside the table of this release.
    pub extra_regions: Vec<String>,
    /// How many STS calls the controller makes a second at most. RAM allows 100 a second for each
    /// account, shared with everything else that assumes roles in it.
    pub calls_per_second: CallsPerSecond,
}

/// A pace of STS calls: 1 to 1000 a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "u32")]
pub struct CallsPerSecond(#[schemars(range(min = 1, max = 1000))] u32);

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

/// The controller's look at pods: what `rrsa doctor pods` finds, as Events and a metric.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodLook {
    /// Whether the leader looks. It takes rights of its own: `deploy/optional/pod-look.yaml`.
    pub enabled: bool,
    /// Seconds between two looks, and before the first one; 5 or more.
    #[schemars(range(min = 5))]
    pub interval_seconds: u32,
    /// Namespaces whose pods are never sent to the webhook.
    pub never_served: Vec<String>,
}

impl PodLook {
    /// Shortest pause: a look reads every pod of the namespaces that ask.
    const SHORTEST: u32 = 5;

    /// The pause between two looks.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_seconds as u64)
    }
}

impl Default for PodLook {
    fn default() -> Self {
        Self {
            enabled: false,
            interval_seconds: 600,
            never_served: vec!["kube-system".to_owned(), "rrsa-system".to_owned()],
        }
    }
}

/// One permission to use the operator's own identity.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodFallback {
    /// Globs over namespaces; `*` matches anything but `/` and `:`.
    pub namespaces: Vec<String>,
    /// Name of the RAM role that the nodes carry.
    pub node_role: String,
}

/// The agent of each node, as pods reach it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
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

impl ConfigurationFile {
    /// Reads the text of a configuration file and checks what can be checked of it alone.
    ///
    /// # Errors
    /// Names line or field, and the remedy.
    pub fn parse(text: &str) -> Result<Self, ConfigurationError> {
        let file: Self = serde_saphyr::from_str(text)
            .map_err(|error| ConfigurationError::Syntax(error.to_string()))?;
        // Whatever is discovered is legal: this shows only the file's own mistakes.
        file.clone().complete(&Discovered {
            account_id: Some("1".to_owned()),
            region: Some("cn-hangzhou".to_owned()),
        })?;
        Ok(file)
    }

    /// Whether the metadata service must be asked for the rest.
    #[must_use]
    pub fn leaves_out_what_can_be_discovered(&self) -> bool {
        self.account_id.is_none() || self.region.is_none()
    }

    /// Fills in what is left out. What the file says always wins.
    ///
    /// # Errors
    /// Names the key that is missing, or the field that is not legal.
    pub fn complete(self, discovered: &Discovered) -> Result<Configuration, ConfigurationError> {
        let Self {
            account_id,
            cluster_id,
            oidc_provider_arn,
            region,
            network,
            sts,
            token_files,
            delegation,
            ecs_fallback,
            pod_look,
            webhook,
            namespaces,
        } = self;
        let missing = |field, what: &str| ConfigurationError::Value {
            field,
            problem: format!(
                "is left out, and the metadata service of this machine did not tell the {what}; write it into the file"
            ),
        };
        let account_id = account_id
            .or_else(|| discovered.account_id.clone())
            .ok_or_else(|| missing("accountId", "account"))?;
        let region = region
            .or_else(|| discovered.region.clone())
            .ok_or_else(|| missing("region", "region"))?;
        let oidc_provider_arn = match (oidc_provider_arn, cluster_id) {
            (Some(arn), _) => arn,
            (None, Some(cluster)) => {
                format!("acs:ram::{account_id}:oidc-provider/ack-rrsa-{cluster}")
                    .parse()
                    .map_err(|error: arn::InvalidName| ConfigurationError::Value {
                        field: "clusterId",
                        problem: format!("names no legal OIDC provider: {error}"),
                    })?
            }
            (None, None) => {
                return Err(ConfigurationError::Value {
                    field: "oidcProviderArn",
                    problem: "is left out; write it, or clusterId on ACK".to_owned(),
                });
            }
        };
        let configuration = Configuration {
            account_id,
            oidc_provider_arn,
            region,
            network,
            sts,
            token_files,
            delegation,
            ecs_fallback,
            pod_look,
            webhook,
            namespaces,
        };
        configuration.check()?;
        Ok(configuration)
    }
}

impl Configuration {
    /// Reads a file that leaves nothing to be discovered.
    ///
    /// # Errors
    /// Names the field and the remedy.
    pub fn parse(text: &str) -> Result<Self, ConfigurationError> {
        ConfigurationFile::parse(text)?.complete(&Discovered::default())
    }

    /// The STS host of the cluster's own region and network.
    #[must_use]
    pub fn regional_sts_host(&self) -> String {
        sts_hosts::regional(&self.region, self.network == Network::Vpc)
    }
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
    fn the_look_at_pods_is_off_until_somebody_says_so() {
        let off = Configuration::parse(MINIMAL).unwrap().pod_look;
        assert!(!off.enabled && off.interval() == Duration::from_mins(10));
        let text = format!("{MINIMAL}podLook: {{enabled: true, intervalSeconds: 0}}\n");
        let error = Configuration::parse(&text).unwrap_err().to_string();
        assert!(error.contains("podLook.intervalSeconds"), "{error}");
    }

    #[test]
    fn what_is_left_out_is_discovered_and_what_is_written_wins() {
        let file = ConfigurationFile::parse("clusterId: c1\n").unwrap();
        assert!(file.leaves_out_what_can_be_discovered());
        let discovered = Discovered {
            account_id: Some("42".to_owned()),
            region: Some("ap-southeast-1".to_owned()),
        };
        let found = file.complete(&discovered).unwrap();
        assert_eq!(
            (
                found.account_id.as_str(),
                found.region.as_str(),
                found.oidc_provider_arn.as_str()
            ),
            (
                "42",
                "ap-southeast-1",
                "acs:ram::42:oidc-provider/ack-rrsa-c1"
            )
        );
        let file = ConfigurationFile::parse(MINIMAL).unwrap();
        assert!(!file.leaves_out_what_can_be_discovered());
        let written = file.complete(&discovered).unwrap();
        assert_eq!(
            (written.account_id.as_str(), written.region.as_str()),
            ("123", "cn-hangzhou")
        );
    }

    #[test]
    fn what_nobody_tells_is_named() {
        for (text, field) in [
            ("clusterId: c1\nregion: cn-hangzhou\n", "accountId"),
            ("clusterId: c1\naccountId: '1'\n", "region"),
            ("region: cn-hangzhou\naccountId: '1'\n", "oidcProviderArn"),
        ] {
            let error = Configuration::parse(text).unwrap_err().to_string();
            assert!(
                error.contains(&format!("field {field}: is left out")),
                "{error}"
            );
        }
    }
}
