//! `cloud_sso`: the access token of a CloudSSO login, swapped for credentials of an account.
//!
//! | setting | else the variable | else |
//! |---|---|---|
//! | sign-in URL | — | required; `https`, and only its host and port are used |
//! | account id | — | required |
//! | access configuration id | — | required |
//! | access token, and when it ends | — | required |
//!
//! They are what the Alibaba Cloud CLI writes to a profile of mode `CloudSSO`. The token cannot be
//! renewed here: when one of them is missing, or the token's life is over by this machine's clock,
//! this source is misconfigured until somebody logs in again. That is looked at before each
//! exchange, so no dead token is sent.
//!
//! The answer must be HTTP 200 with all four fields of `CloudCredential`, whose end lies ahead by
//! the clock of the service. A status of 400 to 499 other than 408 and 429 is a refusal for good;
//! everything else may pass.
//!
//! ```no_run
//! use rrsa::credentials::{CloudSso, CloudSsoConfig, Provider};
//! use rrsa::world::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = CloudSsoConfig {
//!     sign_in_url: Some("https://signin-cn-shanghai.alibabacloudsso.com/acme/login".to_owned()),
//!     account_id: Some("1234567890123456".to_owned()),
//!     access_configuration_id: Some("ac-00example".to_owned()),
//!     access_token: Some("…".into()),
//!     access_token_expiration: Some("2026-01-02T03:04:05Z".parse()?),
//! };
//! let credentials = CloudSso::new(config, &World::system()?)?.credentials().await?;
//! assert_eq!(credentials.provider_name(), "cloud_sso");
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Uri};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::answer::Keys;
use super::service::{Service, bearer};
use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::retry::once_more;
use crate::credentials::snapshot::Credentials;
use crate::secret::SecretText;
use crate::world::{BoxFuture, Random, Request, World};

const NAME: &str = "cloud_sso";

const REMEDY: &str = "check that the user may use this account and access configuration, and log \
                      in again with the Alibaba Cloud CLI";

/// What is wrong with a CloudSSO login.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloudSsoError {
    /// These settings are missing.
    #[error(
        "the CloudSSO login is incomplete, {} missing; log in again with the Alibaba Cloud CLI",
        listed(.0)
    )]
    Missing(Vec<&'static str>),
    /// The sign-in URL cannot be used.
    #[error(
        "the sign-in URL is no https URL with a host, and a token is sent nowhere else; log in again with the Alibaba Cloud CLI"
    )]
    SignInUrl,
    /// The access token holds characters that no token has.
    #[error(
        "the access token cannot stand in an HTTP header; log in again with the Alibaba Cloud CLI"
    )]
    AccessToken,
    /// The access token's life is over.
    #[error("the CloudSSO login ended at {0}; log in again with the Alibaba Cloud CLI")]
    Over(DateTime<Utc>),
}

fn listed(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(" and "))
}

/// Settings of [`CloudSso`]; all are required.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloudSsoConfig {
    /// URL of the sign-in page; only its scheme, host and port are used.
    pub sign_in_url: Option<String>,
    /// Account to sign in to.
    pub account_id: Option<String>,
    /// Access configuration to use there.
    pub access_configuration_id: Option<String>,
    /// Access token of a login with the Alibaba Cloud CLI.
    pub access_token: Option<SecretText>,
    /// When the access token ends.
    pub access_token_expiration: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope {
    cloud_credential: Option<Keys>,
}

/// Swaps the access token of a CloudSSO login for credentials.
#[derive(Debug, Clone)]
pub struct CloudSso {
    uri: Uri,
    authorization: HeaderValue,
    login_ends: DateTime<Utc>,
    body: Bytes,
    service: Service,
    random: Arc<dyn Random>,
}

impl CloudSso {
    /// This login. The network is not touched yet.
    ///
    /// # Errors
    /// [`CredentialsError::Misconfigured`] when a setting is missing or the login is over.
    pub fn new(config: CloudSsoConfig, world: &World) -> Result<Self, CredentialsError> {
        let wrong = |error| CredentialsError::misconfigured(NAME, error);
        let missing = missing(&config);
        let (true, Some(sign_in_url), Some(token), Some(login_ends)) = (
            missing.is_empty(),
            config.sign_in_url,
            config.access_token,
            config.access_token_expiration,
        ) else {
            return Err(wrong(CloudSsoError::Missing(missing)));
        };
        let (uri, origin) = place(&sign_in_url).map_err(wrong)?;
        let body = json!({
            "AccountId": config.account_id,
            "AccessConfigurationId": config.access_configuration_id,
        });
        let provider = Self {
            uri,
            authorization: bearer(&token).map_err(|_| wrong(CloudSsoError::AccessToken))?,
            login_ends,
            body: body.to_string().into(),
            service: Service {
                origin,
                remedy: REMEDY,
                http: Arc::clone(&world.http),
                clock: Arc::clone(&world.clock),
            },
            random: Arc::clone(&world.random),
        };
        provider.still_logged_in()?;
        Ok(provider)
    }

    fn still_logged_in(&self) -> Result<(), CredentialsError> {
        if self.login_ends <= self.service.clock.now() {
            let over = CloudSsoError::Over(self.login_ends);
            return Err(CredentialsError::misconfigured(NAME, over));
        }
        Ok(())
    }

    fn request(&self) -> Request {
        let json = HeaderValue::from_static("application/json");
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, json.clone());
        headers.insert(CONTENT_TYPE, json);
        headers.insert(AUTHORIZATION, self.authorization.clone());
        request
    }

    async fn exchange(&self) -> Result<Credentials, CredentialsError> {
        self.still_logged_in()?;
        let failed = |error| CredentialsError::of_exchange(NAME, error);
        let answer = self.service.ask(self.request()).await.map_err(failed)?;
        let envelope: Envelope = answer.read().map_err(failed)?;
        let keys = envelope
            .cloud_credential
            .ok_or_else(|| failed(answer.malformed("CloudCredential is missing")))?;
        answer.credentials(keys, NAME).map_err(failed)
    }
}

impl Provider for CloudSso {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(once_more(self.random.as_ref(), || self.exchange()))
    }
}

/// What is missing of the settings; what is empty is missing, too.
fn missing(config: &CloudSsoConfig) -> Vec<&'static str> {
    let no_text = |given: &Option<String>| given.as_ref().is_none_or(String::is_empty);
    let no_token = config
        .access_token
        .as_ref()
        .is_none_or(SecretText::is_empty);
    [
        ("sign-in URL", no_text(&config.sign_in_url)),
        ("account id", no_text(&config.account_id)),
        (
            "access configuration id",
            no_text(&config.access_configuration_id),
        ),
        ("access token", no_token),
        (
            "access token's end",
            config.access_token_expiration.is_none(),
        ),
    ]
    .into_iter()
    .filter_map(|(name, missing)| missing.then_some(name))
    .collect()
}

/// Where credentials are, at the host of the sign-in page; and its scheme, host and port.
fn place(sign_in_url: &str) -> Result<(Uri, String), CloudSsoError> {
    let url = Url::parse(sign_in_url).map_err(|_| CloudSsoError::SignInUrl)?;
    if url.scheme() != "https" {
        return Err(CloudSsoError::SignInUrl);
    }
    let origin = url.origin().ascii_serialization();
    let uri = format!("{origin}/cloud-credentials")
        .parse()
        .map_err(|_| CloudSsoError::SignInUrl)?;
    Ok((uri, origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::test_world::{HandClock, Script, cause, now, world};
    use chrono::TimeDelta;
    use rstest::rstest;

    const GOOD: &str = r#"{"CloudCredential":{"AccessKeyId":"akid","AccessKeySecret":"sk-1","SecurityToken":"st-1","Expiration":"2026-01-02T04:04:05Z"},"RequestId":"R-1"}"#;

    fn login() -> CloudSsoConfig {
        CloudSsoConfig {
            sign_in_url: Some("https://signin.example/acme/login?a=b".to_owned()),
            account_id: Some("1234".to_owned()),
            access_configuration_id: Some("ac-1".to_owned()),
            access_token: Some("at-hidden".into()),
            access_token_expiration: Some(now() + TimeDelta::hours(1)),
        }
    }

    fn provider(script: &Arc<Script>) -> CloudSso {
        let world = World {
            http: Arc::clone(script) as _,
            ..world(&[])
        };
        CloudSso::new(login(), &world).unwrap()
    }

    fn mistake(change: impl FnOnce(&mut CloudSsoConfig)) -> CloudSsoError {
        let mut config = login();
        change(&mut config);
        let error = CloudSso::new(config, &world(&[])).unwrap_err();
        assert!(cause(&error).contains("log in again"), "{error:?}");
        let CredentialsError::Misconfigured { source, .. } = error else {
            panic!("{error:?}")
        };
        source.downcast_ref::<CloudSsoError>().unwrap().clone()
    }

    #[test]
    fn sso_1_a_login_that_is_missing_or_over_is_a_mistake() {
        let missing = CloudSsoError::Missing;
        let error = mistake(|config| config.access_token = None);
        assert_eq!(error, missing(vec!["access token"]));
        let error = mistake(|config| config.access_token = Some("".into()));
        assert_eq!(error, missing(vec!["access token"]));
        let error = mistake(|config| config.access_token_expiration = None);
        assert_eq!(error, missing(vec!["access token's end"]));
        for over in [now(), DateTime::UNIX_EPOCH] {
            let error = mistake(|config| config.access_token_expiration = Some(over));
            assert_eq!(error, CloudSsoError::Over(over));
        }
        let error = mistake(|config| config.access_token = Some("two\nlines".into()));
        assert_eq!(error, CloudSsoError::AccessToken);
    }

    #[test]
    fn sso_2_a_setting_that_is_missing_is_named() {
        let error = mistake(|config| config.account_id = None);
        assert_eq!(
            error.to_string(),
            "the CloudSSO login is incomplete, account id is missing; log in again with the Alibaba Cloud CLI"
        );
        let error = mistake(|config| {
            config.sign_in_url = Some(String::new());
            config.access_configuration_id = None;
        });
        assert_eq!(
            error,
            CloudSsoError::Missing(vec!["sign-in URL", "access configuration id"])
        );
        let all = mistake(|config| *config = CloudSsoConfig::default());
        assert!(matches!(all, CloudSsoError::Missing(names) if names.len() == 5));
    }

    #[rstest]
    #[case("http://signin.example/login")]
    #[case("signin.example")]
    #[case("https://")]
    #[case("file:///login")]
    fn the_token_is_sent_over_https_only(#[case] url: &str) {
        let error = mistake(|config| config.sign_in_url = Some(url.to_owned()));
        assert_eq!(error, CloudSsoError::SignInUrl);
    }

    #[tokio::test]
    async fn sso_3_the_request_shows_the_login_at_the_host_of_the_sign_in_page() {
        let script = Script::of([(200, GOOD)]);
        let credentials = provider(&script).credentials().await.unwrap();
        assert_eq!(credentials.provider_name(), "cloud_sso");
        assert_eq!(credentials.security_token().unwrap().expose(), "st-1");
        let [request] = &script.asked()[..] else {
            panic!("one request")
        };
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.uri(), "https://signin.example/cloud-credentials");
        let header = |name| request.headers().get(name).unwrap();
        assert_eq!(header(ACCEPT), "application/json");
        assert_eq!(header(CONTENT_TYPE), "application/json");
        assert_eq!(header(AUTHORIZATION), "Bearer at-hidden");
        assert!(header(AUTHORIZATION).is_sensitive());
        let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(
            body,
            json!({"AccountId": "1234", "AccessConfigurationId": "ac-1"})
        );
    }

    #[rstest]
    #[case::sso_4_port("https://h:8443/login", "https://h:8443")]
    #[case::usual_port("https://h:443/login", "https://h")]
    #[case::user("https://user:word@h/", "https://h")]
    #[case::address("https://[::1]:8443", "https://[::1]:8443")]
    fn only_scheme_host_and_port_of_the_sign_in_url_are_used(
        #[case] url: &str,
        #[case] expected: &str,
    ) {
        let (uri, origin) = place(url).unwrap();
        assert_eq!(origin, expected);
        assert_eq!(uri.to_string(), format!("{expected}/cloud-credentials"));
    }

    #[rstest]
    #[case::sso_5_refused(400, r#"{"ErrorCode":"Bad","ErrorMessage":"sk-1","RequestId":"R-1"}"#.to_owned(), "code Bad, request id R-1", true)]
    #[case::dead_token(401, String::new(), "log in again", true)]
    #[case::sso_5_no_json(200, "sk-1".to_owned(), "no JSON of that shape", false)]
    #[case::sso_5_page(200, "<html>sk-1</html>".to_owned(), "no JSON of that shape", false)]
    #[case::half(200, GOOD[..GOOD.len() - 1].to_owned(), "no JSON of that shape", false)]
    #[case::sso_5_no_object(200, r#"{"RequestId":"R-1"}"#.to_owned(), "CloudCredential is missing; request id R-1", false)]
    #[case::null(200, r#"{"CloudCredential":null}"#.to_owned(), "CloudCredential is missing", false)]
    #[case::sso_5_empty_field(200, GOOD.replace("st-1", ""), "SecurityToken is missing; request id R-1", false)]
    #[case::over(200, GOOD.replace("T04", "T02"), "before they arrived", false)]
    #[case::redirect(307, String::new(), "redirects are not followed", false)]
    #[tokio::test]
    async fn an_answer_without_credentials_is_an_error(
        #[case] status: u16,
        #[case] body: String,
        #[case] expected: &str,
        #[case] for_good: bool,
    ) {
        let script = Script::of([(status, body.as_str())]);
        let error = provider(&script).credentials().await.unwrap_err();
        assert_eq!(script.asked().len(), 1);
        assert_eq!(matches!(error, CredentialsError::Refused { .. }), for_good);
        assert_eq!(error.is_transient(), !for_good);
        let shown = format!("{} {error:?}", error.chain());
        assert!(
            shown.contains(expected) && shown.contains("https://signin.example"),
            "{shown}"
        );
        for hidden in ["hidden", "sk-1", "st-1", "<html"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
    }

    #[tokio::test]
    async fn a_login_that_has_ended_since_is_not_sent() {
        let (script, clock) = (Script::of([(200, GOOD)]), HandClock::new());
        let world = World {
            http: Arc::clone(&script) as _,
            clock: Arc::clone(&clock) as _,
            ..world(&[])
        };
        let provider = CloudSso::new(login(), &world).unwrap();
        provider.credentials().await.unwrap();
        clock.advance(3600);
        let error = provider.credentials().await.unwrap_err();
        assert!(
            matches!(error, CredentialsError::Misconfigured { .. }),
            "{error:?}"
        );
        assert_eq!(script.asked().len(), 1);
    }

    #[tokio::test]
    async fn a_failure_of_the_service_and_a_reset_are_tried_once_more() {
        let script = Script::of([(502, "<html>"), (200, GOOD)]);
        provider(&script).credentials().await.unwrap();
        script.then_reset().then(200, GOOD);
        provider(&script).credentials().await.unwrap();
    }

    #[test]
    fn debug_shows_no_token() {
        let shown = format!("{:?} {:?}", provider(&Script::new()), login());
        assert!(!shown.contains("hidden"), "{shown}");
    }
}
