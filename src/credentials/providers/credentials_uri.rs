//! `credentials_uri`

use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::secret::SecretText;
use crate::world::{BoxFuture, World};

/// Spelled as the official SDKs do: without the `s` of the type's name.
const NAME: &str = "credential_uri";

/// Asks a URI for credentials.
#[derive(Debug, Clone)]
pub struct CredentialsUri {}

impl CredentialsUri {
    /// This URI, else that of `ALIBABA_CLOUD_CREDENTIALS_URI`.
    ///
    /// # Errors
    /// [`CredentialsError::NotConfigured`] when there is none, [`CredentialsError::Misconfigured`]
    /// when it is no URI.
    pub fn new(uri: Option<SecretText>, world: &World) -> Result<Self, CredentialsError> {
        let _ = (uri, world);
        todo!()
    }
}

impl Provider for CredentialsUri {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        todo!()
    }
}
