//! client

use std::ops::Deref;
use std::sync::Arc;

use super::config::Config;
use super::error::CredentialsError;
use super::provider::Provider;
use super::snapshot::Credentials;
use crate::world::World;

/// Credentials that are kept and renewed. Clones share them.
#[derive(Debug, Clone)]
pub struct Client {
    provider: Arc<dyn Provider>,
}

/// The present credentials.
#[derive(Debug, Clone)]
pub struct Current(Credentials);

impl Deref for Current {
    type Target = Credentials;

    fn deref(&self) -> &Credentials {
        &self.0
    }
}

impl Client {
    /// Keeps and renews what this provider gives.
    #[must_use]
    pub fn new(provider: Arc<dyn Provider>, world: &World) -> Self {
        let _ = world;
        Self { provider }
    }

    /// The default chain on this machine.
    ///
    /// # Errors
    /// [`CredentialsError::Misconfigured`] when no HTTP client can be made.
    pub fn from_env() -> Result<Self, CredentialsError> {
        Self::from_config(Config::default())
    }

    /// What this configuration names, on this machine.
    ///
    /// # Errors
    /// [`CredentialsError::Misconfigured`] when a setting is missing or not legal.
    pub fn from_config(config: Config) -> Result<Self, CredentialsError> {
        let world = World::system_with(&config.http_options())
            .map_err(|error| CredentialsError::misconfigured("default", error))?;
        Ok(Self::new(config.provider(&world)?, &world))
    }

    /// Credentials that are valid now.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    pub async fn credentials(&self) -> Result<Current, CredentialsError> {
        self.provider.credentials().await.map(Current)
    }
}
