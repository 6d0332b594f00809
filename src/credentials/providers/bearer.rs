//! `bearer`: a bearer token that is simply given. There are no keys then, so nothing can be signed
//! and no role assumed with it. It never ends as far as this library knows.

use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::secret::SecretText;
use crate::world::BoxFuture;

const NAME: &str = "bearer";

#[derive(Debug, thiserror::Error)]
#[error("the bearer token is empty")]
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
