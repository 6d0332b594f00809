//! `cli_profile`

use std::path::PathBuf;

use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::world::{BoxFuture, World};

const NAME: &str = "cli_profile";

/// Settings of [`CliProfile`]; what is left out comes from the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CliProfileConfig {
    /// The file.
    pub file: Option<PathBuf>,
    /// Name of the profile.
    pub profile: Option<String>,
}

/// Credentials of a profile. The file is read at each call, so that its edits are followed.
#[derive(Debug, Clone)]
pub struct CliProfile {}

impl CliProfile {
    /// The file is not read yet.
    ///
    /// # Errors
    /// [`CredentialsError::NotConfigured`] when the environment switches this source off.
    pub fn new(config: CliProfileConfig, world: &World) -> Result<Self, CredentialsError> {
        let _ = (config, world);
        todo!()
    }
}

impl Provider for CliProfile {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        todo!()
    }
}
