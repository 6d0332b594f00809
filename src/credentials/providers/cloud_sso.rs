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
        "the {} of the CloudSSO login missing; log in again with the Alibaba Cloud CLI",
        counted(.0)
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

fn counted(names: &[&str]) -> String {
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
