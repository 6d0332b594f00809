//! The sources of the default chain, and when one counts as not set up.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::{CliProfile, CliProfileConfig, IniProfile, IniProfileConfig};
use crate::credentials::{CredentialsUri, EcsRamRole, EcsRamRoleConfig, Environment, OidcRoleArn};
use crate::imds;
use crate::world::{HttpError, World};

/// A source of the default chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// `env`: the keys of the environment.
    Env,
    /// `oidc_role_arn`: the role of a pod with RRSA.
    OidcRoleArn,
    /// `cli_profile`: a profile of the Alibaba Cloud CLI.
    CliProfile,
    /// `profile`: a profile of the ini file.
    Profile,
    /// `ecs_ram_role`: the role of the ECS instance.
    EcsRamRole,
    /// `credential_uri`: the credentials URI.
    CredentialsUri,
}

impl Source {
    /// All sources, in the order in which they are asked.
    pub const ALL: [Self; 6] = [
        Self::Env,
        Self::OidcRoleArn,
        Self::CliProfile,
        Self::Profile,
        Self::EcsRamRole,
        Self::CredentialsUri,
    ];

    /// The name, as [`provider_name`](crate::credentials::Credentials::provider_name) has it after
    /// `default/`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::OidcRoleArn => "oidc_role_arn",
            Self::CliProfile => "cli_profile",
            Self::Profile => "profile",
            Self::EcsRamRole => "ecs_ram_role",
            Self::CredentialsUri => "credential_uri",
        }
    }

    /// The provider of this source, all of it from the environment.
    pub(super) fn provider(self, world: &World) -> Result<Arc<dyn Provider>, CredentialsError> {
        Ok(match self {
            Self::Env => Arc::new(Environment::new(world)),
            Self::OidcRoleArn => Arc::new(OidcRoleArn::from_env(world)?),
            Self::CliProfile => Arc::new(CliProfile::new(CliProfileConfig::default(), world)?),
            Self::Profile => Arc::new(IniProfile::new(IniProfileConfig::default(), world)?),
            Self::EcsRamRole => Arc::new(EcsRamRole::new(EcsRamRoleConfig::default(), world)?),
            Self::CredentialsUri => Arc::new(CredentialsUri::new(None, world)?),
        })
    }

    /// Why this failure means that the source is not set up here; none when it is, and broken.
    pub(super) fn absence(self, error: &CredentialsError, world: &World) -> Option<String> {
        match error {
            CredentialsError::NotConfigured { hint, .. } => Some(hint.clone()),
            CredentialsError::Unavailable { source, .. } if self == Self::EcsRamRole => {
                let nobody_there = source.downcast_ref().is_some_and(nobody_there);
                // Who names the role says that there is one.
                let named = !matches!(world.env.var(crate::contract::env::ECS_METADATA), Ok(None));
                (nobody_there && !named).then(|| {
                    "no metadata service answers; this machine is no ECS instance, or something \
                     keeps this program from it"
                        .to_owned()
                })
            }
            _ => None,
        }
    }
}

/// Whether there is nobody at the metadata service's address, as far as can be told.
fn nobody_there(error: &imds::Error) -> bool {
    match error {
        imds::Error::Unreachable { source, .. } => matches!(
            source,
            HttpError::Connect { .. } | HttpError::TimedOut { .. }
        ),
        // Where IMDSv1 is switched off, the token is all that was asked for.
        imds::Error::NoToken(cause) => nobody_there(cause),
        _ => false,
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no source; the sources are {list}", list = Source::ALL.map(Source::as_str).join(", "))]
pub struct InvalidSource(String);

impl FromStr for Source {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        Self::ALL
            .into_iter()
            .find(|source| source.as_str() == text)
            .ok_or_else(|| InvalidSource(text.chars().take(60).collect()))
    }
}
