//! `ram_role_arn`: a role, assumed with the credentials of any other provider.
//!
//! | setting | else the variable | else |
//! |---|---|---|
//! | previous provider | — | required |
//! | role ARN | `ALIBABA_CLOUD_ROLE_ARN` | required |
//! | session name | `ALIBABA_CLOUD_ROLE_SESSION_NAME` | `rrsa-` and the time |
//! | duration | — | 1 hour |
//! | policy, external id | — | none |
//! | STS host | see [`StsHost`] | `sts.aliyuncs.com` |
//!
//! The previous provider is asked at each exchange, so credentials that change are followed. It
//! may itself be a `ram_role_arn`; the name of the answer tells the whole way, such as
//! `ram_role_arn/ram_role_arn/static_ak`. Sessions of a role that was assumed by a role last at
//! most an hour, whatever the role allows.

use std::sync::Arc;
use std::time::Duration;

use crate::contract::arn::{InvalidName, RoleArn};
use crate::contract::env;
use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::retry::once_more;
use crate::credentials::session::{Session, SessionSettings};
use crate::credentials::snapshot::Credentials;
use crate::credentials::sts_host::StsHost;
use crate::credentials::variables::Variables;
use crate::sts::{self, AssumeRole, Caller, Endpoint, Nonce};
use crate::world::{BoxFuture, Random, World};

const NAME: &str = "ram_role_arn";

/// What is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RamRoleArnError {
    /// No role.
    #[error("the role ARN is missing; give it, or set {}", env::ROLE_ARN)]
    NoRole,
    /// The role's ARN is not legal.
    #[error(transparent)]
    Arn(#[from] InvalidName),
    /// What the previous provider gave cannot sign a request.
    #[error("{0} gave no access key, so nothing can be assumed with it")]
    NoKey(String),
}

/// Settings of [`RamRoleArn`]; what is left out comes from the environment.
#[derive(Debug, Clone)]
pub struct RamRoleArnBuilder {
    previous: Arc<dyn Provider>,
    role_arn: Option<String>,
    session: SessionSettings,
    external_id: Option<String>,
    sts_host: StsHost,
}

impl RamRoleArnBuilder {
    /// ARN of the role.
    #[must_use]
    pub fn role_arn(mut self, arn: impl Into<String>) -> Self {
        self.role_arn = Some(arn.into());
        self
    }

    /// Name of the session: 2 to 64 letters, digits, `.`, `@`, `-`, `_`.
    #[must_use]
    pub fn session_name(mut self, name: impl Into<String>) -> Self {
        self.session.name = Some(name.into());
        self
    }

    /// Life of the credentials, 15 minutes to what the role allows; zero means the default.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        self.session.duration = duration;
        self
    }

    /// Session policy: the credentials may do what both it and the role's policies allow.
    #[must_use]
    pub fn policy(mut self, policy: impl Into<String>) -> Self {
        self.session.policy = Some(policy.into());
        self
    }

    /// What the role's trust policy may ask for besides the caller.
    #[must_use]
    pub fn external_id(mut self, id: impl Into<String>) -> Self {
        self.external_id = Some(id.into());
        self
    }

    /// The STS host.
    #[must_use]
    pub fn sts_host(mut self, host: StsHost) -> Self {
        self.sts_host = host;
        self
    }

    /// The provider. The network is not touched yet.
    ///
    /// # Errors
    /// [`CredentialsError::Misconfigured`] when the role is missing or a setting is not legal.
    pub fn build(self, world: &World) -> Result<RamRoleArn, CredentialsError> {
        let variables = Variables::of(NAME, world.env.as_ref());
        let role_arn: RoleArn = variables
            .text_or(self.role_arn, env::ROLE_ARN)?
            .ok_or(RamRoleArnError::NoRole)
            .and_then(|text| Ok(text.parse()?))
            .map_err(|error| CredentialsError::misconfigured(NAME, error))?;
        Ok(RamRoleArn {
            name: format!("{NAME}/{}", self.previous.name()),
            previous: self.previous,
            role_arn,
            session: self
                .session
                .resolve(NAME, variables, world.clock.as_ref())?,
            external_id: self.external_id.filter(|text| !text.is_empty()),
            endpoint: self.sts_host.resolve(NAME, variables)?,
            random: Arc::clone(&world.random),
            sts: sts::Client::new(Arc::clone(&world.http), Arc::clone(&world.clock)),
        })
    }
}

/// Assumes a role with the credentials of another provider.
#[derive(Debug, Clone)]
pub struct RamRoleArn {
    name: String,
    previous: Arc<dyn Provider>,
    role_arn: RoleArn,
    session: Session,
    external_id: Option<String>,
    endpoint: Endpoint,
    random: Arc<dyn Random>,
    sts: sts::Client,
}

impl RamRoleArn {
    /// Settings to start from: whose credentials assume the role.
    #[must_use]
    pub fn builder(previous: Arc<dyn Provider>) -> RamRoleArnBuilder {
        RamRoleArnBuilder {
            previous,
            role_arn: None,
            session: SessionSettings::default(),
            external_id: None,
            sts_host: StsHost::default(),
        }
    }

    async fn assume(&self) -> Result<Credentials, CredentialsError> {
        let caller = self.previous.credentials().await?;
        if caller.access_key_id().is_empty() {
            let error = RamRoleArnError::NoKey(caller.provider_name().to_owned());
            return Err(CredentialsError::misconfigured(NAME, error));
        }
        once_more(self.random.as_ref(), || self.exchange(&caller)).await
    }

    async fn exchange(&self, caller: &Credentials) -> Result<Credentials, CredentialsError> {
        let request = AssumeRole {
            caller: Caller {
                access_key_id: caller.access_key_id().to_owned(),
                access_key_secret: caller.access_key_secret().clone(),
                security_token: caller.security_token().cloned(),
                provider_name: caller.provider_name().to_owned(),
            },
            role_arn: self.role_arn.clone(),
            session_name: self.session.name.clone(),
            duration: self.session.duration,
            policy: self.session.policy.clone(),
            external_id: self.external_id.clone(),
        };
        let nonce = Nonce::new(self.random.as_ref())
            .map_err(|error| CredentialsError::unavailable(NAME, error))?;
        let issued = self
            .sts
            .assume_role(&self.endpoint, &request, nonce)
            .await
            .map_err(|error| CredentialsError::of_sts(NAME, error))?;
        Ok(Credentials::issued(
            issued,
            format!("{NAME}/{}", caller.provider_name()),
        ))
    }
}

impl Provider for RamRoleArn {
    fn name(&self) -> &str {
        &self.name
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(self.assume())
    }
}
