//! The settings of a case, and the provider they make.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rrsa::credentials::{
    CliProfile, CliProfileConfig, CloudSsoConfig, Config, Credentials, CredentialsError,
    DefaultChain, Environment, IniProfile, IniProfileConfig, InvalidKind, OAuthConfig, OAuthSite,
    Provider, Source, StsHost,
};
use rrsa::secret::SecretText;
use rrsa::world::World;
use serde::Deserialize;

/// What is made and asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(crate) enum Subject {
    /// `Config::provider`.
    Config(Box<Settings>),
    /// The default chain.
    Chain(Chain),
    /// The keys of the environment.
    Env,
    /// A profile of the CLI.
    CliProfile(Profile),
    /// A profile of the ini file.
    Profile(Profile),
}

/// Why there is no provider.
#[derive(Debug)]
pub(crate) enum NotBuilt {
    /// Its type is none.
    Kind(InvalidKind),
    /// Something else.
    Error(CredentialsError),
}

/// The fields of `rrsa::credentials::Config`; see there.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    r#type: Option<String>,
    access_key_id: Option<String>,
    access_key_secret: Option<SecretText>,
    security_token: Option<SecretText>,
    bearer_token: Option<SecretText>,
    previous: Option<Box<Settings>>,
    role_arn: Option<String>,
    role_session_name: Option<String>,
    /// In seconds.
    role_session_expiration: u64,
    policy: Option<String>,
    external_id: Option<String>,
    sts: Sts,
    oidc_provider_arn: Option<String>,
    oidc_token_file_path: Option<PathBuf>,
    role_name: Option<String>,
    disable_imds_v1: Option<bool>,
    credentials_uri: Option<SecretText>,
    process_command: Option<SecretText>,
    process_time_out_ms: u64,
    cloud_sso: Sso,
    oauth: Login,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sts {
    endpoint: Option<String>,
    region: Option<String>,
    vpc: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Sso {
    sign_in_url: Option<String>,
    account_id: Option<String>,
    access_configuration_id: Option<String>,
    access_token: Option<SecretText>,
    access_token_expiration: Option<DateTime<Utc>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Login {
    site: Site,
    access_token: Option<SecretText>,
    access_token_expiration: Option<DateTime<Utc>>,
    refresh_token: Option<SecretText>,
    issued: Option<Issued>,
}

#[derive(Debug, Default, Deserialize)]
enum Site {
    #[default]
    #[serde(rename = "CN")]
    China,
    #[serde(rename = "INTL")]
    International,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Issued {
    access_key_id: String,
    access_key_secret: SecretText,
    security_token: SecretText,
    expiration: DateTime<Utc>,
}

/// Which sources of the default chain.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chain {
    only: Option<Vec<String>>,
    #[serde(default)]
    without: Vec<String>,
}

/// Which profile of which file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    file: Option<PathBuf>,
    profile: Option<String>,
}

impl Subject {
    pub(crate) fn build(self, world: &World) -> Result<Arc<dyn Provider>, NotBuilt> {
        let source = |name: &String| name.parse::<Source>().unwrap();
        match self {
            Self::Config(settings) => settings.build(world),
            Self::Env => Ok(Arc::new(Environment::new(world))),
            Self::Chain(Chain { only, without }) => {
                let mut chain = DefaultChain::new(world);
                if let Some(only) = only {
                    chain = chain.only(&only.iter().map(source).collect::<Vec<_>>());
                }
                for left_out in &without {
                    chain = chain.without(source(left_out));
                }
                Ok(Arc::new(chain))
            }
            Self::CliProfile(Profile { file, profile }) => {
                let config = CliProfileConfig { file, profile };
                let provider = CliProfile::new(config, world).map_err(NotBuilt::Error)?;
                Ok(Arc::new(provider))
            }
            Self::Profile(Profile { file, profile }) => {
                let config = IniProfileConfig { file, profile };
                let provider = IniProfile::new(config, world).map_err(NotBuilt::Error)?;
                Ok(Arc::new(provider))
            }
        }
    }
}

impl Settings {
    fn build(self, world: &World) -> Result<Arc<dyn Provider>, NotBuilt> {
        let kind = self.r#type.map(|text| text.parse()).transpose();
        let previous = self.previous.map(|settings| settings.build(world));
        let config = Config {
            kind: kind.map_err(NotBuilt::Kind)?,
            access_key_id: self.access_key_id,
            access_key_secret: self.access_key_secret,
            security_token: self.security_token,
            bearer_token: self.bearer_token,
            previous: previous.transpose()?,
            role_arn: self.role_arn,
            role_session_name: self.role_session_name,
            role_session_expiration: Duration::from_secs(self.role_session_expiration),
            policy: self.policy,
            external_id: self.external_id.map(SecretText::from),
            sts: StsHost {
                endpoint: self.sts.endpoint,
                region: self.sts.region,
                vpc: self.sts.vpc,
            },
            oidc_provider_arn: self.oidc_provider_arn,
            oidc_token_file_path: self.oidc_token_file_path,
            role_name: self.role_name,
            disable_imds_v1: self.disable_imds_v1,
            credentials_uri: self.credentials_uri,
            process_command: self.process_command,
            process_time_out: Duration::from_millis(self.process_time_out_ms),
            cloud_sso: self.cloud_sso.into(),
            oauth: self.oauth.into(),
            ..Config::default()
        };
        config.provider(world).map_err(NotBuilt::Error)
    }
}

impl From<Sso> for CloudSsoConfig {
    fn from(sso: Sso) -> Self {
        Self {
            sign_in_url: sso.sign_in_url,
            account_id: sso.account_id,
            access_configuration_id: sso.access_configuration_id,
            access_token: sso.access_token,
            access_token_expiration: sso.access_token_expiration,
        }
    }
}

impl From<Login> for OAuthConfig {
    fn from(login: Login) -> Self {
        Self {
            site: match login.site {
                Site::China => OAuthSite::China,
                Site::International => OAuthSite::International,
            },
            access_token: login.access_token,
            access_token_expiration: login.access_token_expiration,
            refresh_token: login.refresh_token,
            issued: login.issued.map(|issued| {
                Credentials::new(issued.access_key_id, issued.access_key_secret, "oauth")
                    .with_security_token(issued.security_token)
                    .with_expiration(issued.expiration)
            }),
        }
    }
}
