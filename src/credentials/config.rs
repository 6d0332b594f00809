//! One flat set of settings for every type, as the official SDKs have it.
//!
//! | here | Python | Go (JSON) | Java, Node | used by |
//! |---|---|---|---|---|
//! | `kind` | `type` | `type` | `type` | all; left out: the [default chain](super::DefaultChain) |
//! | `access_key_id`, `access_key_secret` | the same | the same | `accessKeyId`, `accessKeySecret` | `access_key`, `sts`, `ram_role_arn` |
//! | `security_token` | the same | the same | `securityToken` | `sts`, `ram_role_arn` |
//! | `expiration` | — | — | — | `sts` |
//! | `bearer_token` | the same | the same | `bearerToken` | `bearer` |
//! | `previous` | — (`credentials_provider` of the provider's builder) | — | — | `ram_role_arn` |
//! | `role_arn`, `role_session_name` | the same | the same | `roleArn`, `roleSessionName` | `ram_role_arn`, `oidc_role_arn` |
//! | `role_session_expiration` | the same, in seconds | the same, in seconds | `roleSessionExpiration`, in seconds | `ram_role_arn`, `oidc_role_arn` |
//! | `policy` | the same | the same | `policy` | `ram_role_arn`, `oidc_role_arn` |
//! | `external_id` | the same | the same | `externalId` | `ram_role_arn` |
//! | `sts.endpoint` | `sts_endpoint` | `sts_endpoint` | Java `STSEndpoint`, Node `stsEndpoint` | `ram_role_arn`, `oidc_role_arn` |
//! | `sts.region`, `sts.vpc` | — | — | Node `stsRegionId`, `enableVpc` | `ram_role_arn`, `oidc_role_arn` |
//! | `oidc_provider_arn` | the same | the same | `oidcProviderArn` | `oidc_role_arn` |
//! | `oidc_token_file_path` | the same | `oidc_token` | `oidcTokenFilePath` | `oidc_role_arn` |
//! | `role_name` | the same | the same | `roleName` | `ecs_ram_role` |
//! | `disable_imds_v1` | the same | `disableIMDSv1` | `disableIMDSv1` | `ecs_ram_role` |
//! | `credentials_uri` | the same | `url` | `credentialsURI` | `credentials_uri` |
//! | `process_command`, `process_time_out` | — (CLI profile only) | — | — | `external` |
//! | `cloud_sso`, `oauth` | — (CLI profile only) | — | — | `cloud_sso`, `oauth` |
//! | `time_out` | `timeout`, in milliseconds | `timeout` | `readTimeout` | all that ask over HTTP but the metadata service; the whole exchange |
//! | `connect_time_out` | `connect_timeout`, in milliseconds | `connect_timeout` | `connectTimeout` | the same |
//! | `proxy` | the same | `proxy` | Java `proxy` (without effect) | all that ask over https |
//!
//! Not taken over: `public_key_id`, `private_key_file` (see [`InvalidKind::RsaKeyPair`]); and what
//! is deprecated and without effect there: `enable_imds_v2`, `metadata_token_duration`,
//! `duration_seconds`, `host`, `inAdvanceScale`. Node's `asyncCredentialUpdateEnabled` is always
//! on: the [client](super::Client) renews in the background.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::chain::DefaultChain;
use super::error::CredentialsError;
use super::provider::Provider;
use super::sts_host::StsHost;
use super::variables::Variables;
use super::{
    Bearer, CloudSso, CloudSsoConfig, CredentialsUri, EcsRamRole, EcsRamRoleConfig, External,
    ExternalConfig, OAuth, OAuthConfig, OidcRoleArn, RamRoleArn, StaticAk, StaticSts,
};
use crate::contract::env;
use crate::secret::SecretText;
use crate::world::{HttpOptions, Route, World};

/// The types of credentials, named as `type` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `access_key`: a key that does not end.
    AccessKey,
    /// `sts`: temporary keys that are simply given.
    Sts,
    /// `bearer`: a bearer token.
    Bearer,
    /// `ram_role_arn`: a role, assumed with other credentials.
    RamRoleArn,
    /// `oidc_role_arn`: a role, for the token of a file.
    OidcRoleArn,
    /// `ecs_ram_role`: the role of the ECS instance.
    EcsRamRole,
    /// `credentials_uri`: credentials from a URI.
    CredentialsUri,
    /// `external`: credentials that a program prints.
    External,
    /// `cloud_sso`: a CloudSSO login.
    CloudSso,
    /// `oauth`: an OAuth login.
    OAuth,
}

impl Kind {
    /// All types.
    pub const ALL: [Self; 10] = [
        Self::AccessKey,
        Self::Sts,
        Self::Bearer,
        Self::RamRoleArn,
        Self::OidcRoleArn,
        Self::EcsRamRole,
        Self::CredentialsUri,
        Self::External,
        Self::CloudSso,
        Self::OAuth,
    ];

    /// The name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessKey => "access_key",
            Self::Sts => "sts",
            Self::Bearer => "bearer",
            Self::RamRoleArn => "ram_role_arn",
            Self::OidcRoleArn => "oidc_role_arn",
            Self::EcsRamRole => "ecs_ram_role",
            Self::CredentialsUri => "credentials_uri",
            Self::External => "external",
            Self::CloudSso => "cloud_sso",
            Self::OAuth => "oauth",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no type of credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKind {
    /// The one type of the official SDKs that is left out on purpose.
    #[error(
        "the type rsa_key_pair is not supported: it is deprecated, and three of the four official \
         SDKs sign wrongly with it; use ram_role_arn with an access key, or oidc_role_arn without \
         one"
    )]
    RsaKeyPair,
    /// Any other text.
    #[error(
        "{0:?} is no type of credentials; the types are {list}",
        list = Kind::ALL.map(Kind::as_str).join(", ")
    )]
    Unknown(String),
}

impl FromStr for Kind {
    type Err = InvalidKind;

    fn from_str(text: &str) -> Result<Self, InvalidKind> {
        if text == "rsa_key_pair" {
            return Err(InvalidKind::RsaKeyPair);
        }
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| InvalidKind::Unknown(text.chars().take(60).collect()))
    }
}

/// Settings of no type.
#[derive(Debug, thiserror::Error)]
#[error(
    "settings are given, but no type that uses them; the types are {list} (without any settings \
     the default chain is asked)",
    list = Kind::ALL.map(Kind::as_str).join(", ")
)]
struct NoKind;

/// Settings of any type. What a type does not use is ignored; what is left out comes from the
/// environment as the type's own page says.
///
/// ```no_run
/// use std::time::Duration;
///
/// use rrsa::credentials::{Client, Config, Kind};
///
/// # async fn example() -> Result<(), rrsa::credentials::CredentialsError> {
/// let client = Client::from_config(Config {
///     kind: Some(Kind::RamRoleArn),
///     access_key_id: Some("LTAI…".to_owned()),
///     access_key_secret: Some("…".into()),
///     role_arn: Some("acs:ram::1234567890123456:role/app".to_owned()),
///     role_session_expiration: Duration::from_mins(30),
///     ..Config::default()
/// })?;
/// let credentials = client.credentials().await?;
/// assert_eq!(credentials.provider_name(), "ram_role_arn/static_ak");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The type; left out, the default chain decides, and no settings but those of HTTP may be
    /// given: whoever names keys or a role must not end up with another identity.
    pub kind: Option<Kind>,
    /// Access key id.
    pub access_key_id: Option<String>,
    /// Secret of the access key.
    pub access_key_secret: Option<SecretText>,
    /// Security token of temporary keys.
    pub security_token: Option<SecretText>,
    /// When given temporary keys end; afterwards they are not given out.
    pub expiration: Option<DateTime<Utc>>,
    /// Bearer token.
    pub bearer_token: Option<SecretText>,
    /// Whose credentials assume the role; left out, the keys above do.
    pub previous: Option<Arc<dyn Provider>>,
    /// ARN of the role.
    pub role_arn: Option<String>,
    /// Name of the session.
    pub role_session_name: Option<String>,
    /// Life of the session; zero means an hour.
    pub role_session_expiration: Duration,
    /// Session policy.
    pub policy: Option<String>,
    /// What the role's trust policy may ask for besides the caller; some treat it as a secret.
    pub external_id: Option<SecretText>,
    /// The STS host.
    pub sts: StsHost,
    /// ARN of the OIDC provider.
    pub oidc_provider_arn: Option<String>,
    /// The file that holds the token.
    pub oidc_token_file_path: Option<PathBuf>,
    /// Name of the instance's role.
    pub role_name: Option<String>,
    /// Whether the metadata service is only asked with a token.
    pub disable_imds_v1: Option<bool>,
    /// The URI that gives credentials; whoever knows it may have them.
    pub credentials_uri: Option<SecretText>,
    /// Command line of the program that prints credentials; an argument may be a secret.
    pub process_command: Option<SecretText>,
    /// How long it may run; zero means a minute.
    pub process_time_out: Duration,
    /// The CloudSSO login.
    pub cloud_sso: CloudSsoConfig,
    /// The OAuth login.
    pub oauth: OAuthConfig,
    /// Longest time for a whole exchange over HTTP; zero means 10 seconds.
    pub time_out: Duration,
    /// Longest time for opening a connection; zero means 5 seconds.
    pub connect_time_out: Duration,
    /// The proxy, such as `http://proxy.example:3128`; left out or empty, that of the environment. It may
    /// hold a password.
    pub proxy: Option<SecretText>,
}

impl Config {
    /// How this configuration wants to reach services over HTTP.
    #[must_use]
    pub fn http_options(&self) -> HttpOptions {
        let usual = HttpOptions::default();
        let or = |given: Duration, usual| if given.is_zero() { usual } else { given };
        HttpOptions {
            route: match &self.proxy {
                Some(url) if !url.is_empty() => Route::Proxy(url.clone()),
                _ => Route::Internet,
            },
            connect_timeout: or(self.connect_time_out, usual.connect_timeout),
            total_timeout: or(self.time_out, usual.total_timeout),
            ..usual
        }
    }

    /// The provider of this type. Nothing outside but the environment is touched yet.
    ///
    /// The world brings its own way over HTTP: `time_out`, `connect_time_out` and `proxy` take
    /// effect where it is made, by [`http_options`](Self::http_options) and
    /// [`World::system_with`]; [`Client::from_config`](super::Client::from_config) does both.
    ///
    /// # Errors
    /// See the type's own page.
    pub fn provider(self, world: &World) -> Result<Arc<dyn Provider>, CredentialsError> {
        let Some(kind) = self.kind else {
            if self.names_something() {
                return Err(CredentialsError::misconfigured("default", NoKind));
            }
            return Ok(Arc::new(DefaultChain::new(world)));
        };
        Ok(match kind {
            Kind::AccessKey => Arc::new(self.static_ak(world)?),
            Kind::Sts => Arc::new(self.static_sts(world)?),
            Kind::Bearer => Arc::new(Bearer::new(
                self.bearer_token.unwrap_or_else(|| String::new().into()),
            )?),
            Kind::RamRoleArn => Arc::new(self.ram_role_arn(world)?),
            Kind::OidcRoleArn => Arc::new(self.oidc_role_arn(world)?),
            Kind::EcsRamRole => {
                let config = EcsRamRoleConfig {
                    role_name: self.role_name,
                    disable_imds_v1: self.disable_imds_v1,
                };
                Arc::new(EcsRamRole::new(config, world)?)
            }
            Kind::CredentialsUri => Arc::new(CredentialsUri::new(self.credentials_uri, world)?),
            Kind::External => {
                let config = ExternalConfig {
                    command: self.process_command,
                    time_out: self.process_time_out,
                };
                Arc::new(External::new(config, world)?)
            }
            Kind::CloudSso => Arc::new(CloudSso::new(self.cloud_sso, world)?),
            Kind::OAuth => Arc::new(OAuth::new(self.oauth, world)?),
        })
    }

    /// Whether a setting is given that some type uses, other than those of HTTP.
    fn names_something(&self) -> bool {
        let texts = [
            &self.access_key_id,
            &self.role_arn,
            &self.role_session_name,
            &self.policy,
            &self.oidc_provider_arn,
            &self.role_name,
        ];
        let secrets = [
            &self.access_key_secret,
            &self.security_token,
            &self.external_id,
            &self.bearer_token,
            &self.credentials_uri,
            &self.process_command,
        ];
        texts.into_iter().flatten().any(|text| !text.is_empty())
            || secrets.into_iter().flatten().any(|text| !text.is_empty())
            || self.previous.is_some()
            || self.oidc_token_file_path.is_some()
            || self.expiration.is_some()
            || self.disable_imds_v1.is_some()
            || !self.role_session_expiration.is_zero()
            || self.sts != StsHost::default()
            || self.cloud_sso != CloudSsoConfig::default()
            || self.oauth != OAuthConfig::default()
    }

    /// The given key; none of its parts given: the environment's.
    fn static_ak(&self, world: &World) -> Result<StaticAk, CredentialsError> {
        match (&self.access_key_id, &self.access_key_secret) {
            (None, None) => StaticAk::from_env(world),
            (id, secret) => {
                StaticAk::new(id.clone().unwrap_or_default(), or_empty(secret.as_ref()))
            }
        }
    }

    fn static_sts(&self, world: &World) -> Result<StaticSts, CredentialsError> {
        let secrets = (&self.access_key_secret, &self.security_token);
        match (&self.access_key_id, secrets) {
            (None, (None, None)) => StaticSts::from_env(world),
            (id, (secret, token)) => {
                let keys = StaticSts::new(
                    id.clone().unwrap_or_default(),
                    or_empty(secret.as_ref()),
                    or_empty(token.as_ref()),
                )?;
                Ok(match self.expiration {
                    Some(end) => keys.until(end, Arc::clone(&world.clock)),
                    None => keys,
                })
            }
        }
    }

    fn ram_role_arn(self, world: &World) -> Result<RamRoleArn, CredentialsError> {
        let previous: Arc<dyn Provider> = match &self.previous {
            Some(previous) => Arc::clone(previous),
            None if self.has_token(world)? => Arc::new(self.static_sts(world)?),
            None => Arc::new(self.static_ak(world)?),
        };
        RamRoleArn::builder(previous)
            .role_arn(self.role_arn.unwrap_or_default())
            .session_name(self.role_session_name.unwrap_or_default())
            .duration(self.role_session_expiration)
            .policy(self.policy.unwrap_or_default())
            .external_id(or_empty(self.external_id.as_ref()))
            .sts_host(self.sts)
            .build(world)
    }

    /// Whether the keys that assume a role have a token: the given ones, else the environment's.
    fn has_token(&self, world: &World) -> Result<bool, CredentialsError> {
        if self.access_key_id.is_some() || self.access_key_secret.is_some() {
            return Ok(self.security_token.is_some());
        }
        let variables = Variables::of("ram_role_arn", world.env.as_ref());
        let token = variables.text(env::SECURITY_TOKEN)?;
        Ok(self.security_token.is_some() || token.is_some())
    }

    fn oidc_role_arn(self, world: &World) -> Result<OidcRoleArn, CredentialsError> {
        OidcRoleArn::builder()
            .token_file(self.oidc_token_file_path.unwrap_or_default())
            .provider_arn(self.oidc_provider_arn.unwrap_or_default())
            .role_arn(self.role_arn.unwrap_or_default())
            .session_name(self.role_session_name.unwrap_or_default())
            .duration(self.role_session_expiration)
            .policy(self.policy.unwrap_or_default())
            .sts_host(self.sts)
            .build(world)
    }
}

fn or_empty(given: Option<&SecretText>) -> SecretText {
    given.cloned().unwrap_or_else(|| String::new().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::env;
    use crate::credentials::test_world::{cause, world};
    use rstest::rstest;

    const ROLE: &str = "acs:ram::1234567890123456:role/app";

    fn of(kind: Kind) -> Config {
        Config {
            kind: Some(kind),
            ..Config::default()
        }
    }

    #[test]
    fn each_name_is_read_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
    }

    #[test]
    fn rsa_key_pair_is_refused_with_the_reason_and_what_to_do() {
        let refusal = "rsa_key_pair".parse::<Kind>().unwrap_err();
        assert_eq!(refusal, InvalidKind::RsaKeyPair);
        let sentence = refusal.to_string();
        for part in [
            "not supported",
            "deprecated",
            "ram_role_arn",
            "oidc_role_arn",
        ] {
            assert!(sentence.contains(part), "{sentence}");
        }
    }

    #[rstest]
    #[case("")]
    #[case("AK")]
    #[case("Access_Key")]
    #[case(" sts")]
    fn other_names_are_refused_with_those_that_there_are(#[case] name: &str) {
        let sentence = name.parse::<Kind>().unwrap_err().to_string();
        for kind in Kind::ALL {
            assert!(sentence.contains(kind.as_str()), "{sentence}");
        }
    }

    #[test]
    fn a_long_name_is_not_repeated_whole() {
        let error = "x".repeat(10_000).parse::<Kind>().unwrap_err();
        assert!(error.to_string().len() < 300);
    }

    #[test]
    fn settings_without_a_type_do_not_end_with_another_identity() {
        let key = Config {
            access_key_id: Some("akid".into()),
            access_key_secret: Some("hunter2".into()),
            ..Config::default()
        };
        let role = Config {
            role_arn: Some(ROLE.into()),
            ..Config::default()
        };
        for config in [key, role] {
            let error = config.provider(&world(&ENVIRONMENT)).unwrap_err();
            assert!(matches!(error, CredentialsError::Misconfigured { .. }));
            let cause = cause(&error);
            assert!(cause.contains("no type") && !cause.contains("hunter2"));
        }
        let http_only = Config {
            time_out: Duration::from_secs(3),
            proxy: Some("http://proxy.example:3128".into()),
            role_arn: Some(String::new()),
            ..Config::default()
        };
        let provider = http_only.provider(&world(&[])).unwrap();
        assert_eq!(provider.name(), "default");
    }

    #[rstest]
    #[case::temporary(&ENVIRONMENT, "ram_role_arn/static_sts")]
    #[case::lasting(&ENVIRONMENT[..2], "ram_role_arn/static_ak")]
    fn keys_of_the_environment_assume_a_role_with_their_token(
        #[case] variables: &[(&str, &str)],
        #[case] name: &str,
    ) {
        let config = Config {
            role_arn: Some(ROLE.into()),
            ..of(Kind::RamRoleArn)
        };
        assert_eq!(config.provider(&world(variables)).unwrap().name(), name);
    }

    /// The environment has a complete set of temporary keys.
    const ENVIRONMENT: [(&str, &str); 3] = [
        (env::ACCESS_KEY_ID, "id-of-env"),
        (env::ACCESS_KEY_SECRET, "secret-of-env"),
        (env::SECURITY_TOKEN, "token-of-env"),
    ];

    #[rstest]
    #[case::ak_2_differs_on_purpose(Config { access_key_id: Some("akid".into()), ..of(Kind::AccessKey) }, "the access key secret is missing or empty")]
    #[case::secret(Config { access_key_secret: Some("s".into()), ..of(Kind::AccessKey) }, "the access key id is missing or empty")]
    #[case::sts_id(Config { access_key_id: Some("akid".into()), ..of(Kind::Sts) }, "the access key secret is missing or empty")]
    #[case::sts_1_differs_on_purpose(Config { access_key_id: Some("akid".into()), access_key_secret: Some("s".into()), ..of(Kind::Sts) }, "the security token is missing or empty")]
    #[case::role(Config { access_key_id: Some("akid".into()), role_arn: Some(ROLE.into()), ..of(Kind::RamRoleArn) }, "the access key secret is missing or empty")]
    #[case::role_with_a_token(Config { security_token: Some("t".into()), role_arn: Some(ROLE.into()), ..of(Kind::RamRoleArn) }, "the access key id is missing or empty")]
    fn half_a_key_is_not_completed_by_the_environment(
        #[case] config: Config,
        #[case] expected: &str,
    ) {
        let error = config.provider(&world(&ENVIRONMENT)).unwrap_err();
        assert!(
            matches!(error, CredentialsError::Misconfigured { .. }),
            "{error:?}"
        );
        assert_eq!(cause(&error), expected);
    }

    #[rstest]
    #[case::access_key(Kind::AccessKey, None)]
    #[case::sts(Kind::Sts, Some("token-of-env"))]
    #[tokio::test]
    async fn no_part_of_a_key_means_the_environments(
        #[case] kind: Kind,
        #[case] token: Option<&str>,
    ) {
        let provider = of(kind).provider(&world(&ENVIRONMENT)).unwrap();
        let credentials = provider.credentials().await.unwrap();
        assert_eq!(credentials.access_key_id(), "id-of-env");
        let given = credentials.security_token().map(SecretText::expose);
        assert_eq!(given, token);
    }

    #[test]
    fn ram_12_the_keys_decide_what_a_role_is_assumed_with() {
        let keys = Config {
            access_key_id: Some("akid".into()),
            access_key_secret: Some("aksecret".into()),
            role_arn: Some(ROLE.into()),
            ..of(Kind::RamRoleArn)
        };
        let name = |config: Config| config.provider(&world(&[])).unwrap().name().to_owned();
        assert_eq!(name(keys.clone()), "ram_role_arn/static_ak");
        let session = Config {
            security_token: Some("ststoken".into()),
            ..keys.clone()
        };
        assert_eq!(name(session), "ram_role_arn/static_sts");
        let bearer = Bearer::new("token".into()).unwrap();
        let previous = Config {
            previous: Some(Arc::new(bearer)),
            ..keys
        };
        assert_eq!(name(previous), "ram_role_arn/bearer");
    }

    #[test]
    fn a_role_for_a_token_takes_its_settings() {
        let config = Config {
            oidc_provider_arn: Some("acs:ram::1:oidc-provider/p".into()),
            oidc_token_file_path: Some("/token".into()),
            role_arn: Some(ROLE.into()),
            ..of(Kind::OidcRoleArn)
        };
        let provider = config.provider(&world(&[])).unwrap();
        assert_eq!(provider.name(), "oidc_role_arn");
        let error = of(Kind::OidcRoleArn).provider(&world(&[])).unwrap_err();
        assert!(matches!(error, CredentialsError::NotConfigured { .. }));
    }

    #[test]
    fn without_a_type_the_default_chain_decides() {
        let provider = Config::default().provider(&world(&[])).unwrap();
        assert_eq!(provider.name(), "default");
    }

    #[test]
    fn zero_and_empty_mean_the_usual_way_over_http() {
        let empty = Config {
            proxy: Some("".into()),
            ..Config::default()
        };
        let (usual, options) = (HttpOptions::default(), empty.http_options());
        assert_eq!(options.route, Route::Internet);
        assert_eq!(options.total_timeout, usual.total_timeout);
        assert_eq!(options.connect_timeout, usual.connect_timeout);

        let given = Config {
            proxy: Some("http://proxy.example:3128".into()),
            time_out: Duration::from_secs(3),
            connect_time_out: Duration::from_secs(2),
            ..Config::default()
        };
        let options = given.http_options();
        let proxy = "http://proxy.example:3128".into();
        assert_eq!(options.route, Route::Proxy(proxy));
        assert_eq!(options.total_timeout, Duration::from_secs(3));
        assert_eq!(options.connect_timeout, Duration::from_secs(2));
        assert_eq!(options.max_body, usual.max_body);
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = || Some("hunter2".into());
        let config = Config {
            access_key_secret: secret(),
            security_token: secret(),
            bearer_token: secret(),
            credentials_uri: secret(),
            process_command: secret(),
            proxy: secret(),
            ..Config::default()
        };
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
