//! `cloud_sso`

use chrono::{DateTime, Utc};

use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::secret::SecretText;
use crate::world::{BoxFuture, World};

const NAME: &str = "cloud_sso";

/// Settings of [`CloudSso`]; all are required.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloudSsoConfig {
    /// URL of the sign-in page; only its scheme, host and port are used.
    pub sign_in_url: Option<String>,
    /// Account to sign in to.
    pub account_id: Option<String>,
    /// Access configuration to use there.
    pub access_configuration_id: Option<String>,
    /// Access token of a login with the Alibaba Cloud CLI.
    pub access_token: Option<SecretText>,
    /// When the access token ends.
    pub access_token_expiration: Option<DateTime<Utc>>,
}

/// Swaps the access token of a CloudSSO login for credentials.
#[derive(Debug, Clone)]
pub struct CloudSso {}

impl CloudSso {
    /// The network is not touched yet.
    ///
    /// # Errors
    /// [`CredentialsError::Misconfigured`] when a setting is missing or the login is over.
    pub fn new(config: CloudSsoConfig, world: &World) -> Result<Self, CredentialsError> {
        let _ = (config, world);
        todo!()
    }
}

impl Provider for CloudSso {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        todo!()
    }
}
