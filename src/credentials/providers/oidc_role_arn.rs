//! `oidc_role_arn`: the token of a file, swapped at STS for credentials of a role. This is what a
//! pod with RRSA uses.
//!
//! | setting | else the variable | else |
//! |---|---|---|
//! | token file | `ALIBABA_CLOUD_OIDC_TOKEN_FILE` | required |
//! | OIDC provider ARN | `ALIBABA_CLOUD_OIDC_PROVIDER_ARN` | required |
//! | role ARN | `ALIBABA_CLOUD_ROLE_ARN` | required |
//! | session name | `ALIBABA_CLOUD_ROLE_SESSION_NAME` | `rrsa-` and the time |
//! | duration | — | 1 hour |
//! | policy | — | none |
//! | STS host | see [`StsHost`] | `sts.aliyuncs.com` |
//!
//! None of the three required ones: not configured. Some of them: misconfigured, because a pod
//! that was meant to have a role of its own must not end up with the node's. The file is read anew
//! for each exchange, since the kubelet replaces it, and blanks around the token are not sent.
//!
//! **Failures.** A setting that is not legal, or a token file that is missing or empty:
//! misconfigured. STS says no for good, as when the role does not trust the token: refused. STS
//! cannot be reached, or asks to come later: unavailable.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use rrsa::credentials::{OidcRoleArn, Provider};
//! use rrsa::world::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // Role, OIDC provider and token file as the pod was given them.
//! let provider = OidcRoleArn::builder()
//!     .session_name("reports")
//!     .duration(Duration::from_mins(30))
//!     .build(&World::system()?)?;
//! let credentials = provider.credentials().await?;
//! assert_eq!(credentials.provider_name(), "oidc_role_arn");
//! # Ok(())
//! # }
//! ```
//!
//! ```no_run
//! use rrsa::credentials::{Client, OidcRoleArn};
//! use rrsa::world::World;
//! use std::sync::Arc;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let world = World::system()?;
//! // What the webhook injected; the session's name is ours.
//! let provider = OidcRoleArn::builder().session_name("app").build(&world)?;
//! let credentials = Client::new(Arc::new(provider), &world).credentials().await?;
//! assert_eq!(credentials.provider_name(), "oidc_role_arn");
//! # Ok(())
//! # }
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::contract::arn::{InvalidName, ProviderArn, RoleArn};
use crate::contract::env;
use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::retry::once_more;
use crate::credentials::session::{Session, SessionSettings};
use crate::credentials::snapshot::Credentials;
use crate::credentials::sts_host::StsHost;
use crate::credentials::variables::Variables;
use crate::secret::SecretText;
use crate::sts::{self, AssumeRoleWithOidc, Endpoint};
use crate::world::{BoxFuture, Files, Random, World};

const NAME: &str = "oidc_role_arn";

/// Longest token that STS takes, and a margin for blanks around it.
const MAX_TOKEN_FILE: usize = 20_000 + 64;

/// What is wrong with the settings or the token file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OidcRoleArnError {
    /// Some settings are there and these are not.
    #[error(
        "{} not set, but others of its set are; give all three in the program, or set all of {}, {} and {}; in a pod with RRSA they are injected: recreate it where they are missing",
        .0.join(" and "), env::OIDC_TOKEN_FILE, env::OIDC_PROVIDER_ARN, env::ROLE_ARN
    )]
    Incomplete(Vec<&'static str>),
    /// An ARN is not legal.
    #[error(transparent)]
    Arn(#[from] InvalidName),
    /// The token file cannot be read.
    #[error("the token file {} cannot be read; is the token's volume mounted?", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The token file holds no text.
    #[error("the token file {} holds no token; it must hold one JWT", .0.display())]
    NoToken(PathBuf),
}

/// Settings of [`OidcRoleArn`]; what is left out comes from the environment.
#[derive(Debug, Clone, Default)]
pub struct OidcRoleArnBuilder {
    token_file: Option<PathBuf>,
    provider_arn: Option<String>,
    role_arn: Option<String>,
    session: SessionSettings,
    sts_host: StsHost,
}

impl OidcRoleArnBuilder {
    /// The file that holds the token.
    #[must_use]
    pub fn token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token_file = Some(path.into());
        self
    }

    /// ARN of the OIDC provider in RAM.
    #[must_use]
    pub fn provider_arn(mut self, arn: impl Into<String>) -> Self {
        self.provider_arn = Some(arn.into());
        self
    }

    /// ARN of the role.
    #[must_use]
    pub fn role_arn(mut self, arn: impl Into<String>) -> Self {
        self.role_arn = Some(arn.into());
        self
    }

    /// Name of the session: 2 to 64 letters, digits, `.`, `@`, `-`, `_`.
    #[must_use]
    pub fn session_name(mut self, name: impl Into<String>) -> Self {
        self.session.name = Some(name.into());
        self
    }

    /// Life of the credentials, 15 minutes to what the role allows; zero means the default.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        self.session.duration = duration;
        self
    }

    /// Session policy: the credentials may do what both it and the role's policies allow.
    #[must_use]
    pub fn policy(mut self, policy: impl Into<String>) -> Self {
        self.session.policy = Some(policy.into());
        self
    }

    /// The STS host.
    #[must_use]
    pub fn sts_host(mut self, host: StsHost) -> Self {
        self.sts_host = host;
        self
    }

    /// The provider. Files and network are not touched yet.
    ///
    /// # Errors
    /// [`CredentialsError::NotConfigured`] when none of the required settings is there,
    /// [`CredentialsError::Misconfigured`] when some are missing or one is not legal.
    pub fn build(self, world: &World) -> Result<OidcRoleArn, CredentialsError> {
        let wrong = |error: OidcRoleArnError| CredentialsError::misconfigured(NAME, error);
        let variables = Variables::of(NAME, world.env.as_ref());
        let token_file = match self.token_file.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => Some(path),
            None => variables.text(env::OIDC_TOKEN_FILE)?.map(PathBuf::from),
        };
        let provider_arn = variables.text_or(self.provider_arn, env::OIDC_PROVIDER_ARN)?;
        let role_arn = variables.text_or(self.role_arn, env::ROLE_ARN)?;
        let missing: Vec<_> = [
            (env::OIDC_TOKEN_FILE, token_file.is_none()),
            (env::OIDC_PROVIDER_ARN, provider_arn.is_none()),
            (env::ROLE_ARN, role_arn.is_none()),
        ]
        .into_iter()
        .filter_map(|(name, missing)| missing.then_some(name))
        .collect();
        let (Some(token_file), Some(provider_arn), Some(role_arn)) =
            (token_file, provider_arn, role_arn)
        else {
            return Err(if missing.len() == 3 {
                CredentialsError::not_configured(NAME, format!("set {}", missing.join(", ")))
            } else {
                wrong(OidcRoleArnError::Incomplete(missing))
            });
        };
        let session = self
            .session
            .resolve(NAME, variables, world.clock.as_ref())?;
        Ok(OidcRoleArn {
            provider_arn: provider_arn
                .parse()
                .map_err(|error: InvalidName| wrong(error.into()))?,
            role_arn: role_arn
                .parse()
                .map_err(|error: InvalidName| wrong(error.into()))?,
            endpoint: self.sts_host.resolve(NAME, variables)?,
            token_file,
            session,
            files: Arc::clone(&world.files),
            random: Arc::clone(&world.random),
            sts: sts::Client::new(Arc::clone(&world.http), Arc::clone(&world.clock)),
        })
    }
}

/// Swaps the token of a file for credentials of a role.
#[derive(Debug, Clone)]
pub struct OidcRoleArn {
    provider_arn: ProviderArn,
    role_arn: RoleArn,
    endpoint: Endpoint,
    token_file: PathBuf,
    session: Session,
    files: Arc<dyn Files>,
    random: Arc<dyn Random>,
    sts: sts::Client,
}

impl OidcRoleArn {
    /// Settings to start from.
    #[must_use]
    pub fn builder() -> OidcRoleArnBuilder {
        OidcRoleArnBuilder::default()
    }

    /// All of it from the environment.
    ///
    /// # Errors
    /// See [`OidcRoleArnBuilder::build`].
    pub fn from_env(world: &World) -> Result<Self, CredentialsError> {
        Self::builder().build(world)
    }

    async fn exchange(&self) -> Result<Credentials, CredentialsError> {
        let token = read_token(self.files.as_ref(), &self.token_file)
            .map_err(|error| CredentialsError::misconfigured(NAME, error))?;
        let request = AssumeRoleWithOidc {
            provider_arn: self.provider_arn.clone(),
            role_arn: self.role_arn.clone(),
            token,
            session_name: self.session.name.clone(),
            duration: self.session.duration,
            policy: self.session.policy.clone(),
        };
        let issued = self
            .sts
            .assume_role_with_oidc(&self.endpoint, &request)
            .await
            .map_err(|error| CredentialsError::of_sts(NAME, error))?;
        Ok(Credentials::issued(issued, NAME))
    }
}

impl Provider for OidcRoleArn {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(once_more(self.random.as_ref(), || self.exchange()))
    }
}

fn read_token(files: &dyn Files, path: &Path) -> Result<SecretText, OidcRoleArnError> {
    let bytes = files
        .read(path, MAX_TOKEN_FILE)
        .map(Zeroizing::new)
        .map_err(|source| OidcRoleArnError::TokenFile {
            path: path.to_owned(),
            source,
        })?;
    let no_token = || OidcRoleArnError::NoToken(path.to_owned());
    let text = std::str::from_utf8(&bytes).map_err(|_| no_token())?.trim();
    if text.is_empty() {
        return Err(no_token());
    }
    Ok(SecretText::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::test_world::{cause, world};
    use crate::world::SystemFiles;
    use rstest::rstest;

    const FILE: (&str, &str) = (env::OIDC_TOKEN_FILE, "/no/such/token");
    const PROVIDER: (&str, &str) = (env::OIDC_PROVIDER_ARN, "acs:ram::1:oidc-provider/p");
    const ROLE: (&str, &str) = (env::ROLE_ARN, "acs:ram::1:role/app");

    fn misconfigured(error: &CredentialsError) -> String {
        assert!(
            matches!(error, CredentialsError::Misconfigured { .. }),
            "{error:?}"
        );
        cause(error)
    }

    #[rstest]
    #[case(&[ROLE], "ALIBABA_CLOUD_OIDC_TOKEN_FILE and ALIBABA_CLOUD_OIDC_PROVIDER_ARN not set")]
    #[case(&[FILE, PROVIDER], "ALIBABA_CLOUD_ROLE_ARN not set")]
    #[case(&[ROLE, PROVIDER, (env::OIDC_TOKEN_FILE, "")], "ALIBABA_CLOUD_OIDC_TOKEN_FILE not set")]
    fn a_half_configured_set_is_a_mistake(
        #[case] variables: &[(&str, &str)],
        #[case] expected: &str,
    ) {
        let error = OidcRoleArn::from_env(&world(variables)).unwrap_err();
        let cause = misconfigured(&error);
        assert!(cause.starts_with(expected), "{cause}");
    }

    #[test]
    fn oidc_1_nothing_set_means_not_configured() {
        let error = OidcRoleArn::from_env(&world(&[])).unwrap_err();
        assert!(matches!(error, CredentialsError::NotConfigured { .. }));
        assert!(error.to_string().contains(env::OIDC_TOKEN_FILE), "{error}");
    }

    #[test]
    fn oidc_2_settings_have_their_defaults() {
        let provider = OidcRoleArn::builder()
            .token_file("/token")
            .provider_arn(PROVIDER.1)
            .role_arn(ROLE.1)
            .build(&world(&[]))
            .unwrap();
        assert_eq!(provider.session.duration, Duration::from_hours(1));
        assert_eq!(provider.session.name, "rrsa-1767323045000000");
        assert_eq!(provider.endpoint.to_string(), "sts.aliyuncs.com");
    }

    #[test]
    fn oidc_3_what_is_given_wins_over_the_environment() {
        let variables = [FILE, PROVIDER, ROLE, (env::ROLE_SESSION_NAME, "from-env")];
        let from_env = OidcRoleArn::from_env(&world(&variables)).unwrap();
        assert_eq!(from_env.token_file, Path::new(FILE.1));
        assert_eq!(from_env.session.name, "from-env");
        let given = OidcRoleArn::builder()
            .role_arn("acs:ram::2:role/other")
            .session_name("given")
            .build(&world(&variables))
            .unwrap();
        assert_eq!(given.role_arn.as_str(), "acs:ram::2:role/other");
        assert_eq!(given.session.name, "given");
    }

    #[rstest]
    #[case::oidc_7_short(OidcRoleArn::builder().duration(Duration::from_secs(800)))]
    #[case::long(OidcRoleArn::builder().duration(Duration::from_hours(13)))]
    #[case::session(OidcRoleArn::builder().session_name("a b"))]
    #[case::role(OidcRoleArn::builder().role_arn("acs:ram::1:user/app"))]
    #[case::provider(OidcRoleArn::builder().provider_arn("acs:ram::1:role/app"))]
    #[case::policy(OidcRoleArn::builder().policy("x".repeat(2049)))]
    fn what_sts_would_refuse_is_found_when_building(#[case] builder: OidcRoleArnBuilder) {
        let error = builder.build(&world(&[FILE, PROVIDER, ROLE])).unwrap_err();
        misconfigured(&error);
    }

    #[tokio::test]
    async fn oidc_8_a_missing_file_is_named_when_it_is_needed() {
        let provider = OidcRoleArn::from_env(&world(&[FILE, PROVIDER, ROLE])).unwrap();
        let error = provider.credentials().await.unwrap_err();
        let cause = misconfigured(&error);
        assert!(cause.contains("/no/such/token"), "{cause}");
    }

    #[test]
    fn the_token_is_trimmed_and_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        for (content, token) in [
            (&b"a.b.c\n"[..], Some("a.b.c")),
            (b"  a.b.c\r\n", Some("a.b.c")),
            (b" \n", None),
            (b"\xff\xfe", None),
        ] {
            std::fs::write(&file, content).unwrap();
            let read = read_token(&SystemFiles, &file);
            assert_eq!(read.ok().as_ref().map(SecretText::expose), token);
        }
    }
}
