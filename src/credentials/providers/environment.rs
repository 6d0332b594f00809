//! `env`: the keys of the environment, as they are at each call.
//!
//! | variable | |
//! |---|---|
//! | `ALIBABA_CLOUD_ACCESS_KEY_ID` | required |
//! | `ALIBABA_CLOUD_ACCESS_KEY_SECRET` | required |
//! | `ALIBABA_CLOUD_SECURITY_TOKEN` | for temporary keys |
//! | `ALIBABA_CLOUD_CREDENTIALS_EXPIRATION` | our own: when they end (RFC 3339); afterwards they are not given out |
//!
//! None of the first three set: not configured. One of the keys, or a token without them:
//! misconfigured. So are keys that ended.
//!
//! ```
//! use std::sync::Arc;
//!
//! use rrsa::credentials::{Environment, Provider};
//! use rrsa::world::{FixedEnv, World};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut world = World::system()?;
//! // Only for a test; a program takes the environment that it has.
//! world.env = Arc::new(FixedEnv::of([
//!     ("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI…"),
//!     ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret"),
//! ]));
//! let credentials = Environment::new(&world).credentials().await?;
//! assert_eq!(credentials.provider_name(), "env");
//! # Ok(())
//! # }
//! ```
//!
//! ```
//! use rrsa::credentials::{Environment, Provider};
//! use rrsa::world::{FixedEnv, World};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rrsa::credentials::CredentialsError> {
//! let world = World::sealed(FixedEnv::of([
//!     ("ALIBABA_CLOUD_ACCESS_KEY_ID", "akid"),
//!     ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "aksecret"),
//! ]));
//! let credentials = Environment::new(&world).credentials().await?;
//! assert_eq!(credentials.provider_name(), "env");
//! # Ok(())
//! # }
//! ```

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
        let keys = async {
            if token.is_some() {
                StaticSts::from_env(world)?.credentials().await
            } else {
                StaticAk::from_env(world)?.credentials().await
            }
        };
        match keys.await {
            Ok(keys) => Ok(keys.named(NAME)),
            Err(error) => Err(of_this_source(error)),
        }
    }
}

/// Keys are read as the static providers read them, but the mistakes are those of this source.
fn of_this_source(error: CredentialsError) -> CredentialsError {
    let provider = NAME.into();
    match error {
        CredentialsError::NotConfigured { hint, .. } => {
            CredentialsError::NotConfigured { provider, hint }
        }
        CredentialsError::Misconfigured { source, .. } => {
            CredentialsError::Misconfigured { provider, source }
        }
        other => other,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;
    use crate::credentials::test_world::{cause, world};
    use crate::world::{Env, NotUnicode};
    use rstest::rstest;

    const ID: (&str, &str) = (env::ACCESS_KEY_ID, "akid");
    const SECRET: (&str, &str) = (env::ACCESS_KEY_SECRET, "aksecret");
    const TOKEN: (&str, &str) = (env::SECURITY_TOKEN, "ststoken");

    async fn given(variables: &[(&str, &str)]) -> Result<Credentials, CredentialsError> {
        let provider = Environment::new(&world(variables));
        assert_eq!(provider.name(), "env");
        provider.credentials().await
    }

    #[tokio::test]
    async fn keys_are_given_out_under_the_name_of_this_source() {
        let credentials = given(&[ID, SECRET]).await.unwrap();
        assert_eq!(credentials.access_key_id(), "akid");
        assert_eq!(credentials.security_token(), None);
        assert_eq!(credentials.provider_name(), "env");
        let credentials = given(&[ID, SECRET, TOKEN]).await.unwrap();
        assert_eq!(credentials.security_token().unwrap().expose(), "ststoken");
        assert_eq!(credentials.provider_name(), "env");
    }

    #[rstest]
    #[case(&[ID])]
    #[case(&[SECRET])]
    #[case(&[TOKEN])]
    #[case(&[ID, TOKEN])]
    #[case(&[ID, (env::ACCESS_KEY_SECRET, ""), TOKEN])]
    #[tokio::test]
    async fn half_a_set_is_a_mistake_of_this_source(#[case] variables: &[(&str, &str)]) {
        let error = given(variables).await.unwrap_err();
        assert!(
            matches!(error, CredentialsError::Misconfigured { .. }),
            "{error:?}"
        );
        assert_eq!(error.provider(), "env");
    }

    #[tokio::test]
    async fn nothing_set_means_not_configured() {
        let error = given(&[]).await.unwrap_err();
        assert!(matches!(error, CredentialsError::NotConfigured { .. }));
        assert_eq!(
            error.to_string(),
            "env is not configured: set ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET"
        );
    }

    #[tokio::test]
    async fn keys_that_are_over_are_a_mistake_of_this_source() {
        let end = (env::CREDENTIALS_EXPIRATION, "2026-01-02T03:04:05Z");
        let error = given(&[ID, SECRET, TOKEN, end]).await.unwrap_err();
        assert_eq!(error.provider(), "env");
        assert!(cause(&error).starts_with("the credentials ended"));
    }

    /// An environment that changes.
    #[derive(Debug, Default)]
    struct Changing(Mutex<BTreeMap<String, String>>);

    impl Env for Changing {
        fn var(&self, name: &str) -> Result<Option<String>, NotUnicode> {
            Ok(self.0.lock().unwrap().get(name).cloned())
        }
    }

    #[tokio::test]
    async fn the_environment_is_read_at_each_call() {
        let variables = Arc::new(Changing::default());
        let mut world = world(&[]);
        world.env = Arc::clone(&variables) as Arc<dyn Env>;
        let provider = Environment::new(&world);
        assert!(!provider.is_fixed());
        for id in ["first", "second"] {
            for (name, value) in [(ID.0, id), SECRET] {
                let mut variables = variables.0.lock().unwrap();
                variables.insert(name.to_owned(), value.to_owned());
            }
            let credentials = provider.credentials().await.unwrap();
            assert_eq!(credentials.access_key_id(), id);
        }
    }
}
