//! `profile`

use std::path::PathBuf;

use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::world::{BoxFuture, World};

const NAME: &str = "profile";

/// Settings of [`IniProfile`]; what is left out comes from the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IniProfileConfig {
    /// The file.
    pub file: Option<PathBuf>,
    /// Name of the profile.
    pub profile: Option<String>,
}

/// Credentials of a profile. The file is read at each call, so that its edits are followed.
#[derive(Debug, Clone)]
pub struct IniProfile {}

impl IniProfile {
    /// The file is not read yet.
    ///
    /// # Errors
    /// [`CredentialsError::NotConfigured`] when the environment switches this source off.
    pub fn new(config: IniProfileConfig, world: &World) -> Result<Self, CredentialsError> {
        let _ = (config, world);
        todo!()
    }
}

impl Provider for IniProfile {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        todo!()
    }
}
