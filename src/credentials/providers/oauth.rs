//! `oauth`

use chrono::{DateTime, Utc};

use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::secret::SecretText;
use crate::world::{BoxFuture, World};

const NAME: &str = "oauth";

/// Which of the two sites a login belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OAuthSite {
    /// aliyun.com.
    #[default]
    China,
    /// alibabacloud.com.
    International,
}

/// Settings of [`OAuth`]: a login with the Alibaba Cloud CLI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OAuthConfig {
    /// The site.
    pub site: OAuthSite,
    /// Access token.
    pub access_token: Option<SecretText>,
    /// When the access token ends.
    pub access_token_expiration: Option<DateTime<Utc>>,
    /// Refresh token.
    pub refresh_token: Option<SecretText>,
    /// Credentials that the login has already been swapped for; used until they end.
    pub issued: Option<Credentials>,
}

/// Swaps an OAuth login for credentials.
#[derive(Debug, Clone)]
pub struct OAuth {}

impl OAuth {
    /// The network is not touched yet.
    ///
    /// # Errors
    /// [`CredentialsError::Misconfigured`] when there is neither an access nor a refresh token.
    pub fn new(config: OAuthConfig, world: &World) -> Result<Self, CredentialsError> {
        let _ = (config, world);
        todo!()
    }
}

impl Provider for OAuth {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        todo!()
    }
}
