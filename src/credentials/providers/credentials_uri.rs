//! `credentials_uri`: a URI that gives credentials to whoever asks, such as that of a sidecar or of
//! `rrsa credentials serve`.
//!
//! | setting | else the variable | else |
//! |---|---|---|
//! | URI | `ALIBABA_CLOUD_CREDENTIALS_URI` | required |
//!
//! No URI: not configured. One that is no `http` or `https` URI with a host, or that holds a user or
//! a password: misconfigured. `http` is asked directly, never through a proxy, which could read the
//! credentials or give its own; such a URI should lead to this machine. `https` is asked like any
//! cloud service.
//!
//! **The URI is a secret**: whoever knows it may have the credentials. Errors and `Debug` show its
//! scheme, host and port only.
//!
//! The answer must be HTTP 200 with a JSON object of `AccessKeyId`, `AccessKeySecret`,
//! `SecurityToken` and `Expiration` (RFC 3339, still to come by the clock of its sender). `Code` may
//! be left out, else it must be `Success`. A status of 400 to 499 other than 408 and 429 is a
//! refusal for good: the URI or what stands behind it has to be changed. Everything else may pass:
//! no connection, a late, overlong or incomplete answer, a redirect, another `Code`.
//!
//! ```no_run
//! use rrsa::credentials::{CredentialsUri, Provider};
//! use rrsa::world::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let uri = "http://127.0.0.1:7002/a-path-that-nobody-guesses";
//! let provider = CredentialsUri::new(Some(uri.into()), &World::system()?)?;
//! let credentials = provider.credentials().await?;
//! assert_eq!(credentials.provider_name(), "credential_uri");
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::Uri;
use http::uri::Scheme;
use serde::Deserialize;
use url::Url;

use super::service::Service;
use crate::contract::env;
use crate::credentials::error::CredentialsError;
use crate::credentials::exchange::ExchangeError;
use crate::credentials::provider::Provider;
use crate::credentials::retry::once_more;
use crate::credentials::snapshot::Credentials;
use crate::credentials::variables::Variables;
use crate::secret::SecretText;
use crate::world::{BoxFuture, Random, Request, World};

/// Spelled as the official SDKs do: without the `s` of the type's name.
const NAME: &str = "credential_uri";

const REMEDY: &str = "check the URI, and whether what serves it was restarted under another one";

/// What is wrong with the URI; it is not shown, because whoever knows it may have the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsUriError {
    /// The text is no absolute URI.
    #[error(
        "the credentials URI is no absolute URI; write it like http://127.0.0.1:7002/credentials"
    )]
    NoUri,
    /// The scheme is another one.
    #[error("the credentials URI is neither http nor https; use one of them")]
    Scheme,
    /// A user or a password stands before the host.
    #[error(
        "the credentials URI has a user or a password before its host, which would not be sent; leave it out"
    )]
    UserInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Verdict {
    code: Option<String>,
}

/// Asks a URI for credentials.
#[derive(Clone)]
pub struct CredentialsUri {
    uri: Uri,
    service: Service,
    random: Arc<dyn Random>,
}

impl CredentialsUri {
    /// This URI, else that of `ALIBABA_CLOUD_CREDENTIALS_URI`. The network is not touched yet.
    ///
    /// # Errors
    /// [`CredentialsError::NotConfigured`] when there is none, [`CredentialsError::Misconfigured`]
    /// when it is no URI that can be asked.
    pub fn new(uri: Option<SecretText>, world: &World) -> Result<Self, CredentialsError> {
        let text = match uri.filter(|text| !text.is_empty()) {
            Some(text) => text,
            None => Variables::of(NAME, world.env.as_ref())
                .text(env::CREDENTIALS_URI)?
                .map(SecretText::from)
                .ok_or_else(|| {
                    CredentialsError::not_configured(NAME, format!("set {}", env::CREDENTIALS_URI))
                })?,
        };
        let (uri, origin) =
            parse(text.expose()).map_err(|error| CredentialsError::misconfigured(NAME, error))?;
        let http = if uri.scheme() == Some(&Scheme::HTTP) {
            &world.direct
        } else {
            &world.http
        };
        Ok(Self {
            uri,
            service: Service {
                origin,
                remedy: REMEDY,
                http: Arc::clone(http),
                clock: Arc::clone(&world.clock),
            },
            random: Arc::clone(&world.random),
        })
    }

    async fn exchange(&self) -> Result<Credentials, ExchangeError> {
        let mut request = Request::new(Bytes::new());
        *request.uri_mut() = self.uri.clone();
        let answer = self.service.ask(request).await?;
        let verdict: Verdict = answer.read()?;
        match verdict.code {
            Some(code) if code != "Success" => Err(answer.failed(Some(code))),
            _ => answer.credentials(answer.read()?, NAME),
        }
    }
}

impl Provider for CredentialsUri {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(once_more(self.random.as_ref(), async || {
            self.exchange()
                .await
                .map_err(|error| CredentialsError::of_exchange(NAME, error))
        }))
    }
}

impl fmt::Debug for CredentialsUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialsUri")
            .field("origin", &self.service.origin)
            .finish_non_exhaustive()
    }
}

/// The URI, and the part of it that may be shown: scheme, host and port.
fn parse(text: &str) -> Result<(Uri, String), CredentialsUriError> {
    let uri: Uri = text.parse().map_err(|_| CredentialsUriError::NoUri)?;
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(CredentialsUriError::NoUri);
    };
    if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
        return Err(CredentialsUriError::Scheme);
    }
    if authority.as_str().contains('@') {
        return Err(CredentialsUriError::UserInfo);
    }
    // The HTTP client reads it once more in this stricter way.
    if authority.host().is_empty() || Url::parse(text).is_err() {
        return Err(CredentialsUriError::NoUri);
    }
    let origin = format!("{scheme}://{authority}");
    Ok((uri, origin))
}
