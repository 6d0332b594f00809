//! The trait of all sources.

use std::fmt::Debug;

use super::error::CredentialsError;
use super::snapshot::Credentials;
use crate::world::BoxFuture;

/// A source of credentials. Implement it to bring your own; `Debug` must show no secret.
///
/// ```
/// use rrsa::credentials::{Credentials, CredentialsError, Provider};
/// use rrsa::world::BoxFuture;
///
/// #[derive(Debug)]
/// struct Vault;
///
/// impl Provider for Vault {
///     fn name(&self) -> &str {
///         "vault"
///     }
///
///     fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
///         Box::pin(async {
///             Ok(Credentials::new("akid", "aksecret".into(), "vault"))
///         })
///     }
/// }
///
/// let providers: Vec<Box<dyn Provider>> = vec![Box::new(Vault)];
/// assert_eq!(providers[0].name(), "vault");
/// ```
pub trait Provider: Debug + Send + Sync {
    /// The name, as [`Credentials::provider_name`] and errors carry it.
    fn name(&self) -> &str;

    /// Credentials that are valid now.
    ///
    /// # Errors
    /// See [`CredentialsError`]: it says whether this source is set up at all, which decides
    /// whether another one may be asked in its place.
    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>>;

    /// Whether every call gives the same, so that whoever keeps an answer need never ask again.
    fn is_fixed(&self) -> bool {
        false
    }
}
