//! Keys that are simply given: `static_ak`, `static_sts`.
//!
//! | variable | `static_ak` | `static_sts` |
//! |---|---|---|
//! | `ALIBABA_CLOUD_ACCESS_KEY_ID` | required | required |
//! | `ALIBABA_CLOUD_ACCESS_KEY_SECRET` | required | required |
//! | `ALIBABA_CLOUD_SECURITY_TOKEN` | not read | required |
//! | `ALIBABA_CLOUD_CREDENTIALS_EXPIRATION` | not read | when they end, if set (RFC 3339) |
//!
//! Either all parts are given or all come from the environment: a key id of one and a secret of
//! the other, as the official SDKs would combine them, is never what somebody meant. An empty
//! variable counts as none.
//!
//! **Failures.** No variable set: not configured. Some of them, an empty part, or an end that is no
//! time: misconfigured. So are keys that ended, since nothing here can renew them.
//!
//! ```
//! use std::sync::Arc;
//!
//! use rrsa::credentials::{Provider, StaticAk, StaticSts};
//! use rrsa::world::SystemClock;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = StaticAk::new("LTAI…", "secret".into())?;
//! let credentials = key.credentials().await?;
//! assert_eq!(credentials.provider_name(), "static_ak");
//! assert_eq!(credentials.security_token(), None);
//!
//! let end = "2999-01-02T03:04:05Z".parse()?;
//! let session = StaticSts::new("STS.…", "secret".into(), "token".into())?
//!     .until(end, Arc::new(SystemClock));
//! let credentials = session.credentials().await?;
//! assert_eq!(credentials.provider_name(), "static_sts");
//! assert_eq!(credentials.expiration(), Some(end));
//! # Ok(())
//! # }
//! ```
//!
//! ```no_run
//! use rrsa::credentials::{StaticAk, StaticSts};
//! use rrsa::world::World;
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let key = StaticAk::new("LTAI…", "…".into())?;
//! let temporary = StaticSts::new("STS.…", "…".into(), "…".into())?;
//! let of_the_environment = StaticAk::from_env(&World::system()?)?;
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::contract::env;
use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::credentials::variables::Variables;
use crate::secret::SecretText;
use crate::world::{BoxFuture, Clock, World};

const STATIC_AK: &str = "static_ak";
const STATIC_STS: &str = "static_sts";

/// What is wrong with given keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StaticKeysError {
    /// A part was given empty.
    #[error("{0} is missing or empty")]
    Empty(&'static str),
    /// Some variables are set and this one is not.
    #[error("{0} is not set, but others of its set are; set all of them or none")]
    Incomplete(&'static str),
    /// The end is no time.
    #[error("{0} is not a time; write it like 2026-01-02T03:04:05Z")]
    NoTime(&'static str),
    /// They are over, and nothing here can renew them.
    #[error("the credentials ended at {0}; whoever set them must set new ones")]
    Ended(DateTime<Utc>),
}

/// An access key that does not end.
#[derive(Debug, Clone)]
pub struct StaticAk(Credentials);

impl StaticAk {
    /// This access key.
    ///
    /// # Errors
    /// [`CredentialsError::Misconfigured`] when a part is empty.
    pub fn new(
        access_key_id: impl Into<String>,
        access_key_secret: SecretText,
    ) -> Result<Self, CredentialsError> {
        let id = access_key_id.into();
        not_empty(STATIC_AK, "the access key id", id.is_empty())?;
        let secret = access_key_secret;
        not_empty(STATIC_AK, "the access key secret", secret.is_empty())?;
        Ok(Self(Credentials::new(id, secret, STATIC_AK)))
    }

    /// The access key of the environment, as it is now.
    ///
    /// # Errors
    /// [`CredentialsError::NotConfigured`] when no variable is set,
    /// [`CredentialsError::Misconfigured`] when only some are.
    pub fn from_env(world: &World) -> Result<Self, CredentialsError> {
        let names = [env::ACCESS_KEY_ID, env::ACCESS_KEY_SECRET];
        let [id, secret] = all_or_none(STATIC_AK, world, names)?;
        Self::new(id, secret.into())
    }
}

impl Provider for StaticAk {
    fn name(&self) -> &str {
        STATIC_AK
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }

    fn is_fixed(&self) -> bool {
        true
    }
}

/// Temporary credentials that somebody else renews.
#[derive(Debug, Clone)]
pub struct StaticSts {
    credentials: Credentials,
    /// Given with the end, to compare it.
    clock: Option<Arc<dyn Clock>>,
}

impl StaticSts {
    /// These credentials.
    ///
    /// # Errors
    /// [`CredentialsError::Misconfigured`] when a part is empty.
    pub fn new(
        access_key_id: impl Into<String>,
        access_key_secret: SecretText,
        security_token: SecretText,
    ) -> Result<Self, CredentialsError> {
        let id = access_key_id.into();
        not_empty(STATIC_STS, "the access key id", id.is_empty())?;
        let secret = access_key_secret;
        not_empty(STATIC_STS, "the access key secret", secret.is_empty())?;
        not_empty(STATIC_STS, "the security token", security_token.is_empty())?;
        Ok(Self {
            credentials: Credentials::new(id, secret, STATIC_STS)
                .with_security_token(security_token),
            clock: None,
        })
    }

    /// The same, known to end then: afterwards they are not given out any more.
    #[must_use]
    pub fn until(mut self, expiration: DateTime<Utc>, clock: Arc<dyn Clock>) -> Self {
        self.credentials = self.credentials.with_expiration(expiration);
        self.clock = Some(clock);
        self
    }

    /// The temporary credentials of the environment, as they are now.
    ///
    /// # Errors
    /// [`CredentialsError::NotConfigured`] when no variable is set,
    /// [`CredentialsError::Misconfigured`] when only some are or the end is no time.
    pub fn from_env(world: &World) -> Result<Self, CredentialsError> {
        let names = [
            env::ACCESS_KEY_ID,
            env::ACCESS_KEY_SECRET,
            env::SECURITY_TOKEN,
        ];
        let [id, secret, token] = all_or_none(STATIC_STS, world, names)?;
        let given = Self::new(id, secret.into(), token.into())?;
        let variables = Variables::of(STATIC_STS, world.env.as_ref());
        match variables.text(env::CREDENTIALS_EXPIRATION)? {
            None => Ok(given),
            Some(text) => {
                let end = DateTime::parse_from_rfc3339(&text).map_err(|_| {
                    let error = StaticKeysError::NoTime(env::CREDENTIALS_EXPIRATION);
                    CredentialsError::misconfigured(STATIC_STS, error)
                })?;
                Ok(given.until(end.with_timezone(&Utc), Arc::clone(&world.clock)))
            }
        }
    }

    fn valid(&self) -> Result<Credentials, CredentialsError> {
        let now = self.clock.as_ref().map(|clock| clock.now());
        match (self.credentials.expiration(), now) {
            (Some(end), Some(now)) if end <= now => Err(CredentialsError::misconfigured(
                STATIC_STS,
                StaticKeysError::Ended(end),
            )),
            _ => Ok(self.credentials.clone()),
        }
    }
}

impl Provider for StaticSts {
    fn name(&self) -> &str {
        STATIC_STS
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(std::future::ready(self.valid()))
    }

    fn is_fixed(&self) -> bool {
        self.credentials.expiration().is_none()
    }
}

fn not_empty(
    provider: &'static str,
    what: &'static str,
    empty: bool,
) -> Result<(), CredentialsError> {
    if empty {
        let error = StaticKeysError::Empty(what);
        return Err(CredentialsError::misconfigured(provider, error));
    }
    Ok(())
}

/// The values of all these variables.
fn all_or_none<const N: usize>(
    provider: &'static str,
    world: &World,
    names: [&'static str; N],
) -> Result<[String; N], CredentialsError> {
    let variables = Variables::of(provider, world.env.as_ref());
    let mut found = Vec::with_capacity(N);
    let mut missing = Vec::new();
    for name in names {
        match variables.text(name)? {
            Some(value) => found.push(value),
            None => missing.push(name),
        }
    }
    match (<[String; N]>::try_from(found), missing.first()) {
        (Ok(values), _) => Ok(values),
        (Err(found), Some(first)) if !found.is_empty() => Err(CredentialsError::misconfigured(
            provider,
            StaticKeysError::Incomplete(first),
        )),
        (Err(_), _) => Err(CredentialsError::not_configured(
            provider,
            format!("set {}", names.join(", ")),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::test_world::{cause, world};
    use rstest::rstest;

    const ID: (&str, &str) = (env::ACCESS_KEY_ID, "akid");
    const SECRET: (&str, &str) = (env::ACCESS_KEY_SECRET, "aksecret");
    const TOKEN: (&str, &str) = (env::SECURITY_TOKEN, "ststoken");

    #[tokio::test]
    async fn ak_3_keys_of_the_environment_are_given_out() {
        let provider = StaticAk::from_env(&world(&[ID, SECRET])).unwrap();
        let credentials = provider.credentials().await.unwrap();
        assert_eq!(credentials.access_key_id(), "akid");
        assert_eq!(credentials.access_key_secret().expose(), "aksecret");
        assert_eq!(credentials.security_token(), None);
        assert_eq!(credentials.expiration(), None);
        assert_eq!(credentials.provider_name(), "static_ak");
        assert_eq!(provider.name(), "static_ak");
    }

    #[tokio::test]
    async fn sts_2_the_whole_set_is_given_out() {
        let provider = StaticSts::from_env(&world(&[ID, SECRET, TOKEN])).unwrap();
        let credentials = provider.credentials().await.unwrap();
        assert_eq!(credentials.security_token().unwrap().expose(), "ststoken");
        assert_eq!(credentials.provider_name(), "static_sts");
        assert_eq!(provider.name(), "static_sts");
    }

    #[rstest]
    #[case::ak_2(&[ID], env::ACCESS_KEY_SECRET)]
    #[case::secret_only(&[SECRET], env::ACCESS_KEY_ID)]
    #[case::empty(&[ID, (env::ACCESS_KEY_SECRET, "")], env::ACCESS_KEY_SECRET)]
    fn half_a_set_is_a_mistake_that_names_the_other_half(
        #[case] variables: &[(&str, &str)],
        #[case] missing: &str,
    ) {
        let error = StaticAk::from_env(&world(variables)).unwrap_err();
        assert!(matches!(error, CredentialsError::Misconfigured { .. }));
        assert!(cause(&error).starts_with(missing), "{}", cause(&error));
    }

    #[test]
    fn sts_1_keys_without_their_token_are_a_mistake() {
        let error = StaticSts::from_env(&world(&[ID, SECRET])).unwrap_err();
        assert!(matches!(error, CredentialsError::Misconfigured { .. }));
        assert!(cause(&error).starts_with(env::SECURITY_TOKEN));
    }

    #[test]
    fn ak_1_no_variable_means_not_configured() {
        let error = StaticAk::from_env(&world(&[])).unwrap_err();
        assert!(matches!(error, CredentialsError::NotConfigured { .. }));
        assert!(error.to_string().contains(env::ACCESS_KEY_ID), "{error}");
    }

    #[test]
    fn empty_parts_are_mistakes() {
        assert!(StaticAk::new("", "s".into()).is_err());
        assert!(StaticAk::new("i", "".into()).is_err());
        assert!(StaticSts::new("i", "s".into(), "".into()).is_err());
    }

    #[tokio::test]
    async fn ended_credentials_are_not_given_out() {
        let at = |end| {
            let variables = [ID, SECRET, TOKEN, (env::CREDENTIALS_EXPIRATION, end)];
            StaticSts::from_env(&world(&variables))
        };
        let good = at("2026-01-02T03:04:06Z").unwrap().credentials().await;
        assert_eq!(
            good.unwrap().expiration(),
            Some("2026-01-02T03:04:06Z".parse().unwrap())
        );
        let over = at("2026-01-02T03:04:05Z").unwrap().credentials().await;
        assert!(cause(&over.unwrap_err()).starts_with("the credentials ended"));
        assert!(at("tomorrow").is_err());
    }
}
