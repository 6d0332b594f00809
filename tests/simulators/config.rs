//! The trust file: what RAM would know about the account, and the limits of the service.
//!
//! ```yaml
//! providers:
//!   - arn: acs:ram::1234567890123456:oidc-provider/ack-rrsa-c1
//!     issuer: https://kubernetes.default.svc
//!     clientIds: [sts.aliyuncs.com]        # this is the default
//!     jwksFile: jwks.json                  # relative to this file; read at each verification
//! roles:
//!   - arn: acs:ram::1234567890123456:role/app
//!     maxSessionDuration: 1h               # this is the default
//!     trust:
//!       - providerArn: acs:ram::1234567890123456:oidc-provider/ack-rrsa-c1
//!         subjects: {equals: ["system:serviceaccount:team-a:app"]}
//!       - principal: acs:ram::1234567890123456:role/node
//!         externalId: shared-word
//! accessKeys:
//!   - {id: LTAI1, secret: s3cret, principal: "acs:ram::1234567890123456:user/admin"}
//! requestsPerSecond: 100
//! sessionLifetime: 20s
//! metadata: {role: node, accountId: "1234567890123456"}
//! faults:
//!   - {action: AssumeRoleWithOIDC, effect: {type: delay, by: 200ms}}
//! ```
//!
//! Durations are whole seconds or a number with `ms`, `s`, `m` or `h`.

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;

use super::faults::Fault;
use super::metadata::MetadataConfig;

/// The client id of an RRSA provider.
const AUDIENCE: &str = "sts.aliyuncs.com";

/// Everything that the simulators are told; every field may change while they run.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct SimulatorConfig {
    /// OIDC identity providers of RAM.
    pub(crate) providers: Vec<Provider>,
    /// RAM roles.
    pub(crate) roles: Vec<Role>,
    /// Long-lived access keys.
    pub(crate) access_keys: Vec<AccessKey>,
    /// Flow control for each account; none when absent.
    pub(crate) requests_per_second: Option<NonZeroU32>,
    /// Requests that may come at once after a pause; default: the requests of one second.
    pub(crate) burst: Option<NonZeroU32>,
    /// The one unfaithful knob: sessions end after this time, whatever `DurationSeconds` asked
    /// for, so that refreshes can be seen without long waits. Limits are still checked against
    /// what was asked. Whole seconds are published, so less than two make little sense.
    #[serde(deserialize_with = "optional_duration")]
    pub(crate) session_lifetime: Option<Duration>,
    /// How far the service's clock is ahead of the machine's.
    #[serde(deserialize_with = "duration")]
    pub(crate) clock_ahead: Duration,
    /// Faults that stand as long as they are written here; see also
    /// [`Faults`](super::faults::Faults) for those that end by themselves.
    pub(crate) faults: Vec<Fault>,
    /// The ECS instance; used by the dev binary.
    pub(crate) metadata: MetadataConfig,
}

impl SimulatorConfig {
    /// Reads a trust file; relative JWKS files are taken from the folder of `file`.
    pub(crate) fn parse(text: &str, file: &Path) -> Result<Self> {
        let mut config: Self = serde_saphyr::from_str(text)
            // The excerpt that would come along may show the secret of an access key.
            .map_err(|error| anyhow!("{}", error.without_snippet()))
            .with_context(|| format!("read the trust file {}", file.display()))?;
        let folder = file.parent().unwrap_or(Path::new(""));
        for provider in &mut config.providers {
            provider.jwks_file = folder.join(&provider.jwks_file);
        }
        Ok(config)
    }

    /// The provider with this ARN.
    pub(crate) fn provider(&self, arn: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.arn == arn)
    }

    /// The role with this ARN.
    pub(crate) fn role(&self, arn: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.arn == arn)
    }

    /// The long-lived access key with this id.
    pub(crate) fn access_key(&self, id: &str) -> Option<&AccessKey> {
        self.access_keys.iter().find(|key| key.id == id)
    }
}

/// An OIDC identity provider of RAM.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Provider {
    /// `acs:ram::<account>:oidc-provider/<name>`.
    pub(crate) arn: String,
    /// The issuer URL, compared byte by byte.
    pub(crate) issuer: String,
    /// Audiences that the provider accepts.
    #[serde(default = "rrsa_audience")]
    pub(crate) client_ids: Vec<String>,
    /// The issuer's public keys as a JSON Web Key Set; stands in for STS fetching them, so it is
    /// read at each verification and may appear later.
    pub(crate) jwks_file: PathBuf,
    /// STS cannot fetch the issuer's keys.
    #[serde(default)]
    pub(crate) broken: bool,
    /// The issuer's TLS certificate is not the one whose fingerprint was registered.
    #[serde(default)]
    pub(crate) fingerprint_mismatch: bool,
}

/// A RAM role.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Role {
    /// `acs:ram::<account>:role/<name>`.
    pub(crate) arn: String,
    /// Longest session that may be asked for.
    #[serde(default = "one_hour", deserialize_with = "duration")]
    pub(crate) max_session_duration: Duration,
    /// Who may assume it: any one statement suffices.
    #[serde(default)]
    pub(crate) trust: Vec<Trust>,
}

impl Role {
    /// A role with the default session length.
    pub(crate) fn new(arn: &str, trust: Vec<Trust>) -> Self {
        Self {
            arn: arn.to_owned(),
            max_session_duration: one_hour(),
            trust,
        }
    }
}

/// A statement of a role's trust policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Trust {
    /// Identities of an OIDC provider.
    Federated(FederatedTrust),
    /// RAM users and roles.
    Principal(PrincipalTrust),
}

impl Trust {
    /// The usual RRSA statement: exactly this subject of this provider.
    pub(crate) fn subject(provider_arn: &str, subject: &str) -> Self {
        Self::Federated(FederatedTrust {
            provider_arn: provider_arn.to_owned(),
            audiences: rrsa_audience(),
            issuer: None,
            subjects: Subjects {
                equals: vec![subject.to_owned()],
                like: Vec::new(),
            },
        })
    }

    /// Trust in a RAM user, a role, or (`…:root`) a whole account.
    pub(crate) fn principal(arn: &str) -> Self {
        Self::Principal(PrincipalTrust {
            principal: arn.to_owned(),
            external_id: None,
        })
    }
}

/// Conditions on a token; all must hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FederatedTrust {
    /// `Principal.Federated`.
    pub(crate) provider_arn: String,
    /// `StringEquals` on `oidc:aud`: one of these is an audience of the token.
    #[serde(default = "rrsa_audience")]
    pub(crate) audiences: Vec<String>,
    /// `StringEquals` on `oidc:iss`; no condition when absent.
    #[serde(default)]
    pub(crate) issuer: Option<String>,
    /// Conditions on `oidc:sub`.
    pub(crate) subjects: Subjects,
}

/// Conditions on `oidc:sub`. As in RAM, values of one operator are alternatives and both
/// operators must hold when both are given. Unlike RAM, no condition at all trusts nobody: a test
/// that forgets it should not pass.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Subjects {
    /// `StringEquals`.
    pub(crate) equals: Vec<String>,
    /// `StringLike`: `*` for any characters, `?` for exactly one.
    pub(crate) like: Vec<String>,
}

/// Trust in a caller that signs with an access key.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PrincipalTrust {
    /// ARN of a user or role, `*` and `?` allowed; `…:root` means everyone in that account.
    pub(crate) principal: String,
    /// `StringEquals` on `sts:ExternalId`.
    #[serde(default)]
    pub(crate) external_id: Option<String>,
}

/// A long-lived access key.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AccessKey {
    /// The id.
    pub(crate) id: String,
    /// The secret.
    pub(crate) secret: String,
    /// `acs:ram::<account>:user/<name>`, or `…:root` for the account itself.
    pub(crate) principal: String,
    /// Disabled by an administrator.
    #[serde(default)]
    pub(crate) inactive: bool,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("AccessKey")
            .field("id", &self.id)
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

fn rrsa_audience() -> Vec<String> {
    vec![AUDIENCE.to_owned()]
}

fn one_hour() -> Duration {
    Duration::from_hours(1)
}

/// A duration as the file writes it.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenDuration {
    Seconds(u64),
    Text(String),
}

impl WrittenDuration {
    fn read<E: serde::de::Error>(self) -> Result<Duration, E> {
        let text = match self {
            Self::Seconds(seconds) => return Ok(Duration::from_secs(seconds)),
            Self::Text(text) => text,
        };
        let unit = text.trim_start_matches(|character: char| character.is_ascii_digit());
        let number = text
            .strip_suffix(unit)
            .and_then(|number| number.parse::<u32>().ok());
        match (number, unit) {
            (Some(number), "ms") => Ok(Duration::from_millis(number.into())),
            (Some(number), "s" | "") => Ok(Duration::from_secs(number.into())),
            (Some(number), "m") => Ok(Duration::from_mins(number.into())),
            (Some(number), "h") => Ok(Duration::from_hours(number.into())),
            _ => Err(E::custom(format!(
                "{text:?} is no duration: write seconds, or a number with ms, s, m or h"
            ))),
        }
    }
}

/// For `deserialize_with`: a duration.
pub(crate) fn duration<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    WrittenDuration::deserialize(from)?.read()
}

/// For `deserialize_with`: a duration that may be absent.
pub(crate) fn optional_duration<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    Option::<WrittenDuration>::deserialize(from)?
        .map(WrittenDuration::read)
        .transpose()
}
