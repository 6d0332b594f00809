//! `ecs_ram_role`: credentials of the role of the ECS instance, from its metadata service.
//!
//! | setting | else the variable | else |
//! |---|---|---|
//! | role name | `ALIBABA_CLOUD_ECS_METADATA` | asked of the service, and remembered |
//! | disable IMDSv1 | `ALIBABA_CLOUD_IMDSV1_DISABLED` (or its documented misspelling `…_DISABLE`) | allowed |
//! | — | `ALIBABA_CLOUD_ECS_METADATA_DISABLED`: `true` switches this source off | on |
//!
//! Which requests are made is documented at [`crate::imds`]. In a pod these are the node's
//! credentials: a pod that was given a role of its own should not get here.
//!
//! | | |
//! |---|---|
//! | switched off by its variable | not configured |
//! | no role is named, and the instance has none | not configured |
//! | the role that is named is not the instance's, or no legal name | misconfigured |
//! | nobody answers, in time or at all; another status than 200; an answer that is no credentials | unavailable |
//! | no IMDSv2 token, where the instance takes nothing else or IMDSv1 is disabled | unavailable |
//!
//! The [default chain](crate::credentials::chain) alone takes a machine where nobody answers for
//! one that is no ECS instance, unless `ALIBABA_CLOUD_ECS_METADATA` names a role, and passes over
//! it.
//!
//! ```no_run
//! use rrsa::credentials::{EcsRamRole, EcsRamRoleConfig, Provider};
//! use rrsa::world::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = EcsRamRoleConfig {
//!     role_name: Some("worker".to_owned()), // saves asking which one it is
//!     disable_imds_v1: Some(true),
//! };
//! let provider = EcsRamRole::new(config, &World::system()?)?;
//! let credentials = provider.credentials().await?;
//! assert_eq!(credentials.provider_name(), "ecs_ram_role");
//! # Ok(())
//! # }
//! ```
//!
//! Switched off, or no role on the instance where none is named: not configured. An illegal role
//! name, or a named role that the instance does not have: misconfigured. No answer, or no legal one:
//! unavailable.
//!
//! ```no_run
//! use rrsa::credentials::{EcsRamRole, EcsRamRoleConfig, Provider};
//! use rrsa::world::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = EcsRamRoleConfig {
//!     role_name: Some("node".to_owned()),
//!     disable_imds_v1: Some(true),
//! };
//! let provider = EcsRamRole::new(config, &World::system()?)?;
//! let credentials = provider.credentials().await?;
//! assert_eq!(credentials.provider_name(), "ecs_ram_role");
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use crate::contract::env;
use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::credentials::variables::Variables;
use crate::imds;
use crate::world::{BoxFuture, World};

const NAME: &str = "ecs_ram_role";

/// Settings of [`EcsRamRole`]; what is left out comes from the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EcsRamRoleConfig {
    /// Name of the role; left out or empty, the service is asked.
    pub role_name: Option<String>,
    /// Whether requests without a token are forbidden.
    pub disable_imds_v1: Option<bool>,
}

/// Credentials of the role of the ECS instance.
#[derive(Debug, Clone)]
pub struct EcsRamRole {
    client: imds::Client,
    role: Option<imds::RoleName>,
}

impl EcsRamRole {
    /// The role of this machine. The network is not touched yet.
    ///
    /// # Errors
    /// [`CredentialsError::NotConfigured`] when the environment switches this source off,
    /// [`CredentialsError::Misconfigured`] when the role name is not legal.
    pub fn new(config: EcsRamRoleConfig, world: &World) -> Result<Self, CredentialsError> {
        let variables = Variables::of(NAME, world.env.as_ref());
        if variables.switch(env::ECS_METADATA_DISABLED)? {
            return Err(CredentialsError::not_configured(
                NAME,
                format!("{} switches it off", env::ECS_METADATA_DISABLED),
            ));
        }
        let role = variables
            .text_or(config.role_name, env::ECS_METADATA)?
            .map(|name| name.parse::<imds::RoleName>())
            .transpose()
            .map_err(|error| CredentialsError::misconfigured(NAME, error))?;
        let v1_is_disabled = match config.disable_imds_v1 {
            Some(disabled) => disabled,
            None => {
                variables.switch(env::IMDSV1_DISABLED)? || variables.switch(env::IMDSV1_DISABLE)?
            }
        };
        let client = imds::Client::new(Arc::clone(&world.metadata), Arc::clone(&world.clock));
        let client = if v1_is_disabled {
            client.disable_v1()
        } else {
            client
        };
        Ok(Self::with_client(client, role))
    }

    /// The role that this client finds; without a name, whichever the machine has. The environment
    /// is not read.
    #[must_use]
    pub fn with_client(client: imds::Client, role: Option<imds::RoleName>) -> Self {
        Self { client, role }
    }

    async fn ask(&self) -> Result<Credentials, CredentialsError> {
        let answer = match &self.role {
            Some(role) => self.client.credentials_of(role).await,
            None => self.client.credentials().await,
        };
        let found = answer.map_err(|error| CredentialsError::of_imds(NAME, error))?;
        Ok(
            Credentials::new(found.access_key_id, found.access_key_secret, NAME)
                .with_security_token(found.security_token)
                .with_expiration(found.expiration),
        )
    }
}

impl Provider for EcsRamRole {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(self.ask())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::test_world::world;
    use rstest::rstest;

    fn built(
        config: EcsRamRoleConfig,
        variables: &[(&str, &str)],
    ) -> Result<EcsRamRole, CredentialsError> {
        EcsRamRole::new(config, &world(variables))
    }

    fn role_of(name: &str, variables: &[(&str, &str)]) -> Option<String> {
        let config = EcsRamRoleConfig {
            role_name: Some(name.to_owned()),
            ..EcsRamRoleConfig::default()
        };
        let role = built(config, variables).unwrap().role;
        role.map(|role| role.to_string())
    }

    #[test]
    fn ecs_1_a_given_role_wins_over_the_environment() {
        let variables = [(env::ECS_METADATA, "rolename")];
        assert_eq!(role_of("", &variables).as_deref(), Some("rolename"));
        assert_eq!(role_of("role", &variables).as_deref(), Some("role"));
        assert_eq!(role_of("", &[]), None);
    }

    #[rstest]
    #[case::ecs_2(&[(env::IMDSV1_DISABLED, "True")], None, true)]
    #[case::misspelled(&[(env::IMDSV1_DISABLE, "true")], None, true)]
    #[case::one_is_not_true(&[(env::IMDSV1_DISABLED, "1")], None, false)]
    #[case::given_wins(&[(env::IMDSV1_DISABLED, "true")], Some(false), false)]
    #[case::given(&[], Some(true), true)]
    #[case::default(&[], None, false)]
    fn v1_is_disabled_by_setting_or_variable(
        #[case] variables: &[(&str, &str)],
        #[case] given: Option<bool>,
        #[case] disabled: bool,
    ) {
        let config = EcsRamRoleConfig {
            disable_imds_v1: given,
            ..EcsRamRoleConfig::default()
        };
        let provider = built(config, variables).unwrap();
        assert_eq!(provider.client.v1_is_disabled(), disabled);
    }

    #[test]
    fn ecs_3_a_source_that_is_switched_off_is_not_configured() {
        let variables = [(env::ECS_METADATA_DISABLED, "True")];
        let error = built(EcsRamRoleConfig::default(), &variables).unwrap_err();
        assert!(matches!(error, CredentialsError::NotConfigured { .. }));
    }

    #[test]
    fn an_illegal_role_name_is_a_mistake() {
        let error = built(
            EcsRamRoleConfig::default(),
            &[(env::ECS_METADATA, "../token")],
        );
        assert!(matches!(
            error.unwrap_err(),
            CredentialsError::Misconfigured { .. }
        ));
    }

    #[tokio::test]
    async fn a_machine_without_the_service_is_unavailable() {
        let provider = built(EcsRamRoleConfig::default(), &[]).unwrap();
        let error = provider.credentials().await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
    }
}
