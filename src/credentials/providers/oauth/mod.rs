//! `oauth`: an OAuth login, swapped for credentials of the user who logged in.
//!
//! | setting | else the variable | else |
//! |---|---|---|
//! | site | — | `CN`, which is `oauth.aliyun.com`; `INTL` is `oauth.alibabacloud.com` |
//! | access token, and when it ends | — | the refresh token gives one |
//! | refresh token | — | the access token is used as it is |
//! | credentials that were issued before | — | none |
//!
//! They are what the Alibaba Cloud CLI writes to a profile of mode `OAuth`. Neither an access nor a
//! refresh token: misconfigured, until somebody logs in again.
//!
//! Credentials that were issued before are given out until a minute before their end. Else the
//! access token is swapped; when it has 20 minutes or less to live, or nobody knows how many, it is
//! first renewed with the refresh token. If that fails, so does the call, and the tokens stay as
//! they were.
//!
//! **Nothing is written back.** Renewed tokens are kept in memory and shared by clones of the
//! provider, and with each renewal comes a new refresh token. If the service takes the one before it
//! no more, the CLI's file now holds a dead one: this provider goes on working, but the CLI, and
//! this program after a restart, need a new login. What runs for longer than an access token lives
//! should have a login of its own, or better a role.
//!
//! Answers must be HTTP 200 and complete, and the credentials' end must lie ahead by the clock of
//! the service; their fields may begin with a capital or a small letter. A status of 400 to 499
//! other than 408 and 429 is a refusal for good; everything else may pass.
//!
//! ```no_run
//! use rrsa::credentials::{OAuth, OAuthConfig, OAuthSite, Provider};
//! use rrsa::world::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = OAuthConfig {
//!     site: OAuthSite::International,
//!     refresh_token: Some("…".into()),
//!     ..OAuthConfig::default()
//! };
//! let credentials = OAuth::new(config, &World::system()?)?.credentials().await?;
//! assert_eq!(credentials.provider_name(), "oauth");
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
mod tests;
mod tokens;

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Method, Uri};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use self::tokens::{Tokens, form};
use super::service::{Service, bearer};
use crate::credentials::error::CredentialsError;
use crate::credentials::exchange::ExchangeError;
use crate::credentials::provider::Provider;
use crate::credentials::retry::once_more;
use crate::credentials::snapshot::Credentials;
use crate::secret::SecretText;
use crate::world::{BoxFuture, Random, Request, World};

const NAME: &str = "oauth";

const REMEDY: &str = "log in again with the Alibaba Cloud CLI";

/// Credentials that were issued before are not given out this shortly before their end.
const LAST_MINUTE: TimeDelta = TimeDelta::minutes(1);

/// What is wrong with an OAuth login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OAuthError {
    /// There is no token at all.
    #[error(
        "the OAuth login has neither an access token nor a refresh token; log in again with the Alibaba Cloud CLI"
    )]
    NoToken,
    /// The access token holds characters that no token has.
    #[error(
        "the access token cannot stand in an HTTP header; log in again with the Alibaba Cloud CLI"
    )]
    AccessToken,
}

/// Which of the two sites a login belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OAuthSite {
    /// aliyun.com; the CLI's file calls it `CN`.
    #[default]
    China,
    /// alibabacloud.com; the CLI's file calls it `INTL`.
    International,
}

impl OAuthSite {
    const fn origin(self) -> &'static str {
        match self {
            Self::China => "https://oauth.aliyun.com",
            Self::International => "https://oauth.alibabacloud.com",
        }
    }

    /// As what the Alibaba Cloud CLI is known there: a token is only renewed for whom it is from.
    const fn client_id(self) -> &'static str {
        match self {
            Self::China => "4038181954557748008",
            Self::International => "4103531455503354461",
        }
    }
}

/// A text that names no site.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no OAuth site; the sites are CN and INTL")]
pub struct InvalidOAuthSite(String);

impl FromStr for OAuthSite {
    type Err = InvalidOAuthSite;

    /// Reads `CN` or `INTL`, in any case.
    fn from_str(text: &str) -> Result<Self, InvalidOAuthSite> {
        match text.to_ascii_uppercase().as_str() {
            "CN" => Ok(Self::China),
            "INTL" => Ok(Self::International),
            _ => Err(InvalidOAuthSite(text.chars().take(60).collect())),
        }
    }
}

/// Settings of [`OAuth`]: a login with the Alibaba Cloud CLI.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OAuthConfig {
    /// The site.
    pub site: OAuthSite,
    /// Access token.
    pub access_token: Option<SecretText>,
    /// When the access token ends.
    pub access_token_expiration: Option<DateTime<Utc>>,
    /// Refresh token.
    pub refresh_token: Option<SecretText>,
    /// Credentials that the login has already been swapped for; used until they end.
    pub issued: Option<Credentials>,
}

#[derive(Deserialize)]
struct Verdict {
    error: Option<Value>,
}

/// Swaps an OAuth login for credentials. Clones share the tokens.
#[derive(Debug, Clone)]
pub struct OAuth {
    site: OAuthSite,
    issued: Option<Credentials>,
    /// Locked while they are renewed, so that no refresh token is used twice.
    tokens: Arc<Mutex<Tokens>>,
    service: Service,
    random: Arc<dyn Random>,
}

impl OAuth {
    /// This login. The network is not touched yet.
    ///
    /// # Errors
    /// [`CredentialsError::Misconfigured`] when there is neither an access nor a refresh token.
    pub fn new(config: OAuthConfig, world: &World) -> Result<Self, CredentialsError> {
        let some = |token: Option<SecretText>| token.filter(|text| !text.is_empty());
        let tokens = Tokens {
            access: some(config.access_token),
            access_ends: config.access_token_expiration,
            refresh: some(config.refresh_token),
        };
        if tokens.access.is_none() && tokens.refresh.is_none() {
            return Err(wrong(OAuthError::NoToken));
        }
        Ok(Self {
            site: config.site,
            issued: config.issued.map(|credentials| credentials.named(NAME)),
            tokens: Arc::new(Mutex::new(tokens)),
            service: Service {
                origin: config.site.origin().to_owned(),
                remedy: REMEDY,
                http: Arc::clone(&world.http),
                clock: Arc::clone(&world.clock),
            },
            random: Arc::clone(&world.random),
        })
    }

    /// The credentials that were issued before, if they last.
    fn still_issued(&self) -> Option<Credentials> {
        let now = self.service.clock.now();
        self.issued.clone().filter(|issued| {
            issued
                .expiration()
                .is_some_and(|end| end - now > LAST_MINUTE)
        })
    }

    async fn exchange(&self) -> Result<Credentials, CredentialsError> {
        if let Some(issued) = self.still_issued() {
            return Ok(issued);
        }
        let access_token = self.access_token().await?;
        let authorization = bearer(&access_token).map_err(|_| wrong(OAuthError::AccessToken))?;
        self.swap(authorization)
            .await
            .map_err(|error| CredentialsError::of_exchange(NAME, error))
    }

    /// An access token that lasts, as far as that can be had.
    async fn access_token(&self) -> Result<SecretText, CredentialsError> {
        let mut tokens = self.tokens.lock().await;
        let now = self.service.clock.now();
        if let Some(refresh_token) = tokens.to_renew_with(now) {
            *tokens = self
                .renew(refresh_token, now)
                .await
                .map_err(|error| CredentialsError::of_exchange(NAME, error))?;
        }
        let access_token = tokens.access.clone();
        access_token.ok_or_else(|| wrong(OAuthError::NoToken))
    }

    async fn renew(
        &self,
        refresh_token: &SecretText,
        now: DateTime<Utc>,
    ) -> Result<Tokens, ExchangeError> {
        let body = form(self.site.client_id(), refresh_token, now);
        let mut request = self.post("/v1/token", body);
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form);
        Tokens::renewed(&self.service.ask(request).await?, now)
    }

    async fn swap(&self, authorization: HeaderValue) -> Result<Credentials, ExchangeError> {
        let mut request = self.post("/v1/exchange", Bytes::new());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
        headers.insert(AUTHORIZATION, authorization);
        let answer = self.service.ask(request).await?;
        let verdict: Verdict = answer.read()?;
        match verdict.error {
            Some(error) => Err(answer.failed(error.as_str().map(str::to_owned))),
            None => answer.credentials(answer.read()?, NAME),
        }
    }

    fn post(&self, path: &str, body: Bytes) -> Request {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("{}{path}", self.site.origin())
            .parse::<Uri>()
            .unwrap_or_else(|_| unreachable!("site and path are legal"));
        request
    }
}

impl Provider for OAuth {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(once_more(self.random.as_ref(), || self.exchange()))
    }
}

fn wrong(error: OAuthError) -> CredentialsError {
    CredentialsError::misconfigured(NAME, error)
}
