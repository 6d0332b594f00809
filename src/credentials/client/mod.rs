//! Credentials that are kept and renewed: what a program normally holds.
//!
//! ```text
//! flight    one exchange at a time, shared by all who wait for it
//! entry     what is kept, and until when it is used how
//! schedule  when to renew, when to give up, how long to leave a failure alone
//! blocking  the same for programs without a runtime
//! ```
//!
//! | life of the credentials | what [`Client::credentials`] does |
//! |---|---|
//! | none yet, or over | waits for the source; all callers wait for the same exchange |
//! | fresh | gives them, without a lock |
//! | the last quarter, at most 15 minutes, and up to a fifth of that more by chance | gives them at once, while one task fetches new ones |
//! | the last 10 seconds (of a short life: its last twentieth) | as if they were over |
//!
//! A failure to renew does not touch what is kept: it is given out until its own end. After a
//! failure the source is left alone for a second, then two, up to a minute (of each between half
//! and all); whoever has nothing to be given meanwhile gets the last error. Mistakes of the
//! configuration are found without asking anybody, so they are not waited for, and what is mended
//! works at the next call.
//!
//! Credentials without an end are not kept, and the source is asked at each call, unless it says
//! that they are [fixed](super::Provider::is_fixed). Nothing is renewed that nobody asks for: a
//! program that sleeps makes no calls. Expiry is judged by the issuer's clock where its answers
//! tell the time, and counted by two clocks of this machine, so that setting one of them does not
//! keep anything alive.
//!
//! An exchange runs as a task of the runtime of the caller that began it, so a caller that goes
//! away ends nobody else's wait; if that runtime ends, or stands still for 5 seconds, another caller
//! begins anew.

pub mod blocking;
mod entry;
mod flight;
mod schedule;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::Guard;

use self::entry::Entry;
use self::flight::Shared;
use super::config::Config;
use super::error::CredentialsError;
use super::provider::Provider;
use super::snapshot::Credentials;
use crate::world::{BoxFuture, World};

/// Credentials that are kept and renewed. Clones share them.
///
/// ```no_run
/// use rrsa::credentials::Client;
///
/// # async fn example() -> Result<(), rrsa::credentials::CredentialsError> {
/// let client = Client::from_env()?;
/// let credentials = client.credentials().await?;
/// println!("{} from {}", credentials.access_key_id(), credentials.provider_name());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// The present credentials: one immutable answer. Cheap to get and meant to be dropped soon; clone
/// the [`Credentials`] to keep them.
pub struct Current(Guard<Arc<Entry>>);

impl Deref for Current {
    type Target = Credentials;

    fn deref(&self) -> &Credentials {
        &self.0.credentials
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl Client {
    /// Keeps and renews what this provider gives.
    #[must_use]
    pub fn new(provider: Arc<dyn Provider>, world: &World) -> Self {
        Self {
            shared: Arc::new(Shared::new(provider, world)),
        }
    }

    /// The [default chain](super::DefaultChain) on this machine.
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

    /// Credentials that are valid now. Waits only where there are none; it may be cancelled at any
    /// time.
    ///
    /// Must be called on a tokio runtime with I/O and time, of either kind, unless the source is
    /// [fixed](Provider::is_fixed); without one there is [`blocking::Client`].
    ///
    /// # Errors
    /// See [`CredentialsError`]; callers that waited for the same exchange get the same error.
    #[inline]
    pub async fn credentials(&self) -> Result<Current, CredentialsError> {
        if let Some(entry) = self.shared.fresh() {
            return Ok(Current(entry));
        }
        Box::pin(self.shared.wait()).await.map(Current)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("provider", self.shared.provider())
            .finish_non_exhaustive()
    }
}

/// So that a role can be assumed with credentials that others use, too.
impl Provider for Client {
    fn name(&self) -> &str {
        self.shared.provider().name()
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(async { Ok(Credentials::clone(&*Client::credentials(self).await?)) })
    }

    fn is_fixed(&self) -> bool {
        self.shared.provider().is_fixed()
    }
}
