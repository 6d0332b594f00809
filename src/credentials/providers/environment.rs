//! `env`: the keys of the environment, as they are at each call.
//!
//! | variable | |
//! |---|---|
//! | `ALIBABA_CLOUD_ACCESS_KEY_ID` | required |
//! | `ALIBABA_CLOUD_ACCESS_KEY_SECRET` | required |
//! | `ALIBABA_CLOUD_SECURITY_TOKEN` | for temporary keys |
//! | `ALIBABA_CLOUD_CREDENTIALS_EXPIRATION` | our own: when they end (RFC 3339); afterwards they are not given out |
//!
//! Neither key set: not configured. One of them, or a token without them: misconfigured.

use std::sync::Arc;

use super::static_keys::{StaticAk, StaticSts};
use crate::contract::env;
use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::credentials::variables::Variables;
use crate::world::{BoxFuture, World};

const NAME: &str = "env";

/// Gives the keys of the environment out.
#[derive(Debug, Clone)]
pub struct Environment(Arc<World>);

impl Environment {
    /// The environment of this world. It is read at each call.
    #[must_use]
    pub fn new(world: &World) -> Self {
        Self(Arc::new(world.clone()))
    }

    async fn read(&self) -> Result<Credentials, CredentialsError> {
        let world = self.0.as_ref();
        let token = Variables::of(NAME, world.env.as_ref()).text(env::SECURITY_TOKEN)?;
        let keys = if token.is_some() {
            StaticSts::from_env(world)?.credentials().await?
        } else {
            StaticAk::from_env(world)?.credentials().await?
        };
        Ok(keys.named(NAME))
    }
}

impl Provider for Environment {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(self.read())
    }
}
