//! `bearer`: a bearer token that is simply given.
//!
//! | setting | else the variable | else |
//! |---|---|---|
//! | token | — | required |
//!
//! There are no keys then, so nothing can be signed and no role assumed with it. It never ends as
//! far as this library knows. No token, or an empty one: misconfigured.
//!
//! ```
//! use rrsa::credentials::{Bearer, Provider};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let provider = Bearer::new("the-bearer-token".into())?;
//! let credentials = provider.credentials().await?;
//! assert_eq!(credentials.provider_name(), "bearer");
//! assert!(credentials.bearer_token().is_some());
//! assert_eq!(credentials.access_key_id(), "");
//! # Ok(())
//! # }
//! ```
//!
//! | setting | else the variable | else |
//! |---|---|---|
//! | token | — | required |
//!
//! ```
//! use rrsa::credentials::Bearer;
//!
//! let provider = Bearer::new("token".into())?;
//! # Ok::<(), rrsa::credentials::CredentialsError>(())
//! ```

use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::secret::SecretText;
use crate::world::BoxFuture;

const NAME: &str = "bearer";

#[derive(Debug, thiserror::Error)]
#[error("the bearer token is missing or empty")]
struct EmptyToken;

/// Gives a bearer token out.
#[derive(Debug, Clone)]
pub struct Bearer(Credentials);

impl Bearer {
    /// This token.
    ///
    /// # Errors
    /// [`CredentialsError::Misconfigured`] when it is empty.
    pub fn new(token: SecretText) -> Result<Self, CredentialsError> {
        if token.is_empty() {
            return Err(CredentialsError::misconfigured(NAME, EmptyToken));
        }
        Ok(Self(Credentials::bearer(token, NAME)))
    }
}

impl Provider for Bearer {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }

    fn is_fixed(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_given_out_without_keys() {
        let provider = Bearer::new("the-bearer-token".into()).unwrap();
        let credentials = provider.credentials().await.unwrap();
        let token = credentials.bearer_token().unwrap();
        assert_eq!(token.expose(), "the-bearer-token");
        assert_eq!(credentials.access_key_id(), "");
        assert!(credentials.access_key_secret().is_empty());
        assert_eq!(credentials.security_token(), None);
        assert_eq!(credentials.expiration(), None);
        assert_eq!(
            (credentials.provider_name(), provider.name()),
            ("bearer", "bearer")
        );
        assert!(provider.is_fixed());
        for shown in [format!("{provider:?}"), format!("{credentials:?}")] {
            assert!(!shown.contains("the-bearer-token"), "{shown}");
        }
    }

    #[test]
    fn an_empty_token_is_a_mistake() {
        let error = Bearer::new("".into()).unwrap_err();
        assert!(matches!(error, CredentialsError::Misconfigured { .. }));
    }
}
