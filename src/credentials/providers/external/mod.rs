//! `external`

use std::time::Duration;

use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::secret::SecretText;
use crate::world::{BoxFuture, World};

const NAME: &str = "external";

/// How long the program may run where nobody says otherwise.
pub const DEFAULT_TIME_OUT: Duration = Duration::from_mins(1);

/// Settings of [`External`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExternalConfig {
    /// The command line; required.
    pub command: Option<SecretText>,
    /// How long it may run; zero means [`DEFAULT_TIME_OUT`].
    pub time_out: Duration,
}

/// Runs a program that prints credentials.
#[derive(Debug, Clone)]
pub struct External {}

impl External {
    /// The program is not started yet.
    ///
    /// # Errors
    /// [`CredentialsError::Misconfigured`] when there is no command, or it is no legal one.
    pub fn new(config: ExternalConfig, world: &World) -> Result<Self, CredentialsError> {
        let _ = (config, world);
        todo!()
    }
}

impl Provider for External {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        todo!()
    }
}
