//! `ram_role_arn`: a role, assumed with the credentials of any other provider.
//!
//! | setting | else the variable | else |
//! |---|---|---|
//! | previous provider | — | required |
//! | role ARN | `ALIBABA_CLOUD_ROLE_ARN` | required |
//! | session name | `ALIBABA_CLOUD_ROLE_SESSION_NAME` | `rrsa-` and the time |
//! | duration | — | 1 hour |
//! | policy, external id | — | none |
//! | STS host | see [`StsHost`] | `sts.aliyuncs.com` |
//!
//! The previous provider is asked at each exchange, so credentials that change are followed. It
//! may itself be a `ram_role_arn`; the name of the answer tells the whole way, such as
//! `ram_role_arn/ram_role_arn/static_ak`. Sessions of a role that was assumed by a role last at
//! most an hour, whatever the role allows.
//!
//! **Failures.** No role, or a setting that is not legal: misconfigured. So is a previous provider
//! that is not set up, or that gives no keys: whoever names a role wants no other identity. STS
//! says no for good: refused. STS cannot be reached, or asks to come later: unavailable.
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use rrsa::credentials::{Provider, RamRoleArn, StaticAk};
//! use rrsa::world::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let world = World::system()?;
//! let key = StaticAk::from_env(&world)?;
//! let provider = RamRoleArn::builder(Arc::new(key))
//!     .role_arn("acs:ram::1234567890123456:role/reader")
//!     .duration(Duration::from_mins(30))
//!     .build(&world)?;
//! let credentials = provider.credentials().await?;
//! assert_eq!(credentials.provider_name(), "ram_role_arn/static_ak");
//! # Ok(())
//! # }
//! ```
//!
//! ```no_run
//! use rrsa::credentials::{Provider, RamRoleArn, StaticAk};
//! use rrsa::world::World;
//! use std::sync::Arc;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let key = StaticAk::new("LTAI…", "…".into())?;
//! let provider = RamRoleArn::builder(Arc::new(key))
//!     .role_arn("acs:ram::1234567890123456:role/app")
//!     .build(&World::system()?)?;
//! assert_eq!(provider.name(), "ram_role_arn/static_ak");
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;
use std::time::Duration;

use crate::contract::arn::{InvalidName, RoleArn};
use crate::contract::env;
use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::retry::once_more;
use crate::credentials::session::{Session, SessionSettings};
use crate::credentials::snapshot::Credentials;
use crate::credentials::sts_host::StsHost;
use crate::credentials::variables::Variables;
use crate::secret::SecretText;
use crate::sts::{self, AssumeRole, Caller, Endpoint, Nonce};
use crate::world::{BoxFuture, Random, World};

const NAME: &str = "ram_role_arn";

/// What is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RamRoleArnError {
    /// No role.
    #[error("the role ARN is missing; give it, or set {}", env::ROLE_ARN)]
    NoRole,
    /// The role's ARN is not legal.
    #[error(transparent)]
    Arn(#[from] InvalidName),
    /// What the previous provider gave cannot sign a request.
    #[error("{0} gave no access key, so nothing can be assumed with it")]
    NoKey(String),
}

/// Settings of [`RamRoleArn`]; what is left out comes from the environment.
#[derive(Debug, Clone)]
pub struct RamRoleArnBuilder {
    previous: Arc<dyn Provider>,
    role_arn: Option<String>,
    session: SessionSettings,
    external_id: Option<SecretText>,
    sts_host: StsHost,
}

impl RamRoleArnBuilder {
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

    /// What the role's trust policy may ask for besides the caller; some treat it as a secret.
    #[must_use]
    pub fn external_id(mut self, id: impl Into<SecretText>) -> Self {
        self.external_id = Some(id.into());
        self
    }

    /// The STS host.
    #[must_use]
    pub fn sts_host(mut self, host: StsHost) -> Self {
        self.sts_host = host;
        self
    }

    /// The provider. The network is not touched yet.
    ///
    /// # Errors
    /// [`CredentialsError::Misconfigured`] when the role is missing or a setting is not legal.
    pub fn build(self, world: &World) -> Result<RamRoleArn, CredentialsError> {
        let variables = Variables::of(NAME, world.env.as_ref());
        let role_arn: RoleArn = variables
            .text_or(self.role_arn, env::ROLE_ARN)?
            .ok_or(RamRoleArnError::NoRole)
            .and_then(|text| Ok(text.parse()?))
            .map_err(|error| CredentialsError::misconfigured(NAME, error))?;
        Ok(RamRoleArn {
            name: format!("{NAME}/{}", self.previous.name()),
            previous: self.previous,
            role_arn,
            session: self
                .session
                .resolve(NAME, variables, world.clock.as_ref())?,
            external_id: self.external_id.filter(|id| !id.is_empty()),
            endpoint: self.sts_host.resolve(NAME, variables)?,
            random: Arc::clone(&world.random),
            sts: sts::Client::new(Arc::clone(&world.http), Arc::clone(&world.clock)),
        })
    }
}

/// Assumes a role with the credentials of another provider.
#[derive(Debug, Clone)]
pub struct RamRoleArn {
    name: String,
    previous: Arc<dyn Provider>,
    role_arn: RoleArn,
    session: Session,
    external_id: Option<SecretText>,
    endpoint: Endpoint,
    random: Arc<dyn Random>,
    sts: sts::Client,
}

impl RamRoleArn {
    /// Settings to start from: whose credentials assume the role.
    #[must_use]
    pub fn builder(previous: Arc<dyn Provider>) -> RamRoleArnBuilder {
        RamRoleArnBuilder {
            previous,
            role_arn: None,
            session: SessionSettings::default(),
            external_id: None,
            sts_host: StsHost::default(),
        }
    }

    async fn assume(&self) -> Result<Credentials, CredentialsError> {
        let caller = self.previous.credentials().await.map_err(set_up)?;
        if caller.access_key_id().is_empty() {
            let error = RamRoleArnError::NoKey(caller.provider_name().to_owned());
            return Err(CredentialsError::misconfigured(NAME, error));
        }
        once_more(self.random.as_ref(), || self.exchange(&caller)).await
    }

    async fn exchange(&self, caller: &Credentials) -> Result<Credentials, CredentialsError> {
        let request = AssumeRole {
            caller: Caller {
                access_key_id: caller.access_key_id().to_owned(),
                access_key_secret: caller.access_key_secret().clone(),
                security_token: caller.security_token().cloned(),
                provider_name: caller.provider_name().to_owned(),
            },
            role_arn: self.role_arn.clone(),
            session_name: self.session.name.clone(),
            duration: self.session.duration,
            policy: self.session.policy.clone(),
            external_id: self.external_id.clone(),
        };
        let nonce = Nonce::new(self.random.as_ref())
            .map_err(|error| CredentialsError::unavailable(NAME, error))?;
        let issued = self
            .sts
            .assume_role(&self.endpoint, &request, nonce)
            .await
            .map_err(|error| CredentialsError::of_sts(NAME, error))?;
        Ok(Credentials::issued(
            issued,
            format!("{NAME}/{}", caller.provider_name()),
        ))
    }
}

/// Whoever asks for a role has set this source up, so a previous provider that is not set up is a
/// mistake: a chain must not pass over it to another identity.
fn set_up(error: CredentialsError) -> CredentialsError {
    match error {
        CredentialsError::NotConfigured { .. } | CredentialsError::NoSource { .. } => {
            CredentialsError::misconfigured(NAME, error)
        }
        other => other,
    }
}

impl Provider for RamRoleArn {
    fn name(&self) -> &str {
        &self.name
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(self.assume())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::test_world::{Script, cause, world};
    use crate::credentials::{Bearer, DefaultChain, Environment, Source, StaticAk, StaticSts};
    use crate::world::Http;
    use rstest::rstest;

    const ROLE: &str = "acs:ram::1234567890123456:role/app";

    fn key() -> Arc<StaticAk> {
        Arc::new(StaticAk::new("akid", "aksecret".into()).unwrap())
    }

    fn builder() -> RamRoleArnBuilder {
        RamRoleArn::builder(key()).role_arn(ROLE)
    }

    fn misconfigured(error: &CredentialsError) -> String {
        assert!(
            matches!(error, CredentialsError::Misconfigured { .. }),
            "{error:?}"
        );
        assert_eq!(error.provider(), "ram_role_arn");
        cause(error)
    }

    #[test]
    fn ram_2_a_role_is_required_and_may_come_from_the_environment() {
        for role in [None, Some("")] {
            let builder = || {
                let builder = RamRoleArn::builder(key());
                role.map_or(builder.clone(), |role| builder.role_arn(role))
            };
            let error = builder().build(&world(&[])).unwrap_err();
            let cause = misconfigured(&error);
            assert!(cause.contains(env::ROLE_ARN), "{cause}");
            let provider = builder().build(&world(&[(env::ROLE_ARN, ROLE)])).unwrap();
            assert_eq!(provider.role_arn.as_str(), ROLE);
        }
    }

    #[test]
    fn ram_3_and_4_settings_have_their_defaults() {
        let provider = builder().external_id("").build(&world(&[])).unwrap();
        assert_eq!(provider.session.name, "rrsa-1767323045000000");
        assert_eq!(provider.session.duration, Duration::from_hours(1));
        assert_eq!(provider.session.policy, None);
        assert_eq!(provider.external_id, None);
        assert_eq!(provider.endpoint.to_string(), "sts.aliyuncs.com");
    }

    /// Requests are stamped with the time at STS, and a gateway in between does not know it.
    #[tokio::test]
    async fn only_sts_tells_the_time() {
        const WRONG: &str = "Thu, 01 Jan 1970 00:00:00 GMT";
        let good = r#"{"Credentials":{"AccessKeyId":"STS.a","AccessKeySecret":"s",
            "SecurityToken":"t","Expiration":"2026-01-02T04:04:05Z"}}"#;
        let script = Script::new();
        script
            .then_with(502, "<html>", http::header::DATE, WRONG)
            .then(200, good);
        let world = World {
            http: Arc::clone(&script) as Arc<dyn Http>,
            ..world(&[])
        };
        let provider = builder().build(&world).unwrap();
        provider.credentials().await.unwrap();
        let asked = script.asked();
        assert_eq!(asked.len(), 2);
        for request in asked {
            let query = request.uri().query().unwrap();
            assert!(query.contains("Timestamp=2026-01-02"), "{query}");
        }
    }

    #[test]
    fn what_is_given_wins_over_the_environment() {
        let variables = [
            (env::ROLE_ARN, "acs:ram::1:role/of-env"),
            (env::ROLE_SESSION_NAME, "of-env"),
            (env::STS_REGION, "cn-beijing"),
        ];
        let from_env = builder().build(&world(&variables)).unwrap();
        assert_eq!(from_env.session.name, "of-env");
        assert_eq!(from_env.endpoint.to_string(), "sts.cn-beijing.aliyuncs.com");
        let given = builder()
            .session_name("given")
            .duration(Duration::from_mins(20))
            .policy("{}")
            .external_id("shared/word")
            .sts_host(StsHost {
                region: Some("cn-hangzhou".to_owned()),
                vpc: Some(true),
                ..StsHost::default()
            })
            .build(&world(&variables))
            .unwrap();
        assert_eq!(given.role_arn.as_str(), ROLE);
        assert_eq!(given.session.name, "given");
        assert_eq!(given.session.duration, Duration::from_mins(20));
        assert_eq!(given.session.policy.as_deref(), Some("{}"));
        assert_eq!(given.external_id, Some("shared/word".into()));
        assert_eq!(
            given.endpoint.to_string(),
            "sts-vpc.cn-hangzhou.aliyuncs.com"
        );
    }

    #[rstest]
    #[case::ram_5(builder().duration(Duration::from_secs(800)))]
    #[case::long(builder().duration(Duration::from_hours(13)))]
    #[case::session(builder().session_name("a b"))]
    #[case::policy(builder().policy("x".repeat(2049)))]
    #[case::role(builder().role_arn("acs:ram::1:user/app"))]
    #[case::host(builder().sts_host(StsHost { vpc: Some(true), ..StsHost::default() }))]
    fn what_sts_would_refuse_is_found_when_building(#[case] builder: RamRoleArnBuilder) {
        misconfigured(&builder.build(&world(&[])).unwrap_err());
    }

    #[tokio::test]
    async fn an_illegal_external_id_is_a_mistake_and_is_not_shown() {
        let provider = builder()
            .external_id("shared word")
            .build(&world(&[]))
            .unwrap();
        let error = provider.credentials().await.unwrap_err();
        misconfigured(&error);
        assert!(!error.chain().to_string().contains("shared word"));
    }

    #[test]
    fn ram_12_and_20_the_name_tells_the_whole_way() {
        let build = |previous: Arc<dyn Provider>| {
            RamRoleArn::builder(previous)
                .role_arn(ROLE)
                .build(&world(&[]))
                .unwrap()
        };
        let sts = StaticSts::new("id", "secret".into(), "token".into()).unwrap();
        assert_eq!(build(Arc::new(sts)).name(), "ram_role_arn/static_sts");
        let first = build(key());
        assert_eq!(first.name(), "ram_role_arn/static_ak");
        let second = build(Arc::new(first));
        assert_eq!(second.name(), "ram_role_arn/ram_role_arn/static_ak");
    }

    #[tokio::test]
    async fn nothing_is_assumed_without_a_key() {
        let bearer = Bearer::new("token".into()).unwrap();
        let provider = RamRoleArn::builder(Arc::new(bearer))
            .role_arn(ROLE)
            .build(&world(&[]))
            .unwrap();
        let error = provider.credentials().await.unwrap_err();
        let cause = misconfigured(&error);
        assert!(cause.starts_with("bearer gave no access key"), "{cause}");
    }

    #[tokio::test]
    async fn ram_14_and_19_whoever_failed_is_named() {
        let provider = builder().build(&world(&[])).unwrap();
        let error = provider.credentials().await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
        assert_eq!(error.provider(), "ram_role_arn");

        let over = |previous: Environment| {
            let builder = RamRoleArn::builder(Arc::new(previous)).role_arn(ROLE);
            builder.build(&world(&[])).unwrap()
        };
        let half = world(&[(env::ACCESS_KEY_ID, "akid")]);
        let error = over(Environment::new(&half)).credentials().await;
        assert_eq!(error.unwrap_err().provider(), "env");
    }

    #[tokio::test]
    async fn a_previous_provider_that_is_not_set_up_is_a_mistake() {
        let nothing = world(&[]);
        let chain = DefaultChain::new(&nothing).only(&[Source::Env]);
        for previous in [
            Arc::new(Environment::new(&nothing)) as Arc<dyn Provider>,
            Arc::new(chain),
        ] {
            let builder = RamRoleArn::builder(previous).role_arn(ROLE);
            let provider = builder.build(&nothing).unwrap();
            let error = provider.credentials().await.unwrap_err();
            let cause = misconfigured(&error);
            assert!(cause.contains(env::ACCESS_KEY_ID), "{cause}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let provider = builder().build(&world(&[])).unwrap();
        assert!(!format!("{provider:?}").contains("aksecret"));
    }
}
