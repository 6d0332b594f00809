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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::test_world::{Script, cause, world};
    use chrono::TimeDelta;
    use http::Method;
    use http::header::{DATE, LOCATION};
    use rstest::rstest;

    const URI: &str = "http://127.0.0.1:7002/hidden-path?a=%20b&a=c";
    const GOOD: &str = r#"{"Code":"Success","AccessKeyId":"akid","AccessKeySecret":"sk-1","SecurityToken":"st-1","Expiration":"2026-01-02T04:04:05Z"}"#;

    fn provider(script: &Arc<Script>) -> CredentialsUri {
        let world = World {
            direct: Arc::clone(script) as _,
            ..world(&[])
        };
        CredentialsUri::new(Some(URI.into()), &world).unwrap()
    }

    /// The error after this one answer, which shows neither the URI nor the body.
    async fn failure(status: u16, body: &str) -> CredentialsError {
        let script = Script::of([(status, body)]);
        let error = provider(&script).credentials().await.unwrap_err();
        assert_eq!(script.asked().len(), 1);
        let shown = format!("{} {error:?}", error.chain());
        assert!(shown.contains("http://127.0.0.1:7002"), "{shown}");
        for hidden in ["hidden", "sk-1", "st-1", "<html"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
        error
    }

    #[test]
    fn uri_1_no_uri_means_not_configured() {
        for given in [None, Some("".into())] {
            let error = CredentialsUri::new(given, &world(&[])).unwrap_err();
            assert!(matches!(error, CredentialsError::NotConfigured { .. }));
            assert!(error.to_string().contains(env::CREDENTIALS_URI), "{error}");
        }
    }

    #[test]
    fn uri_2_what_is_given_wins_over_the_environment() {
        let world = world(&[(env::CREDENTIALS_URI, "http://from.env/")]);
        let from_env = CredentialsUri::new(None, &world).unwrap();
        assert_eq!(from_env.service.origin, "http://from.env");
        let given = CredentialsUri::new(Some("http://given/".into()), &world).unwrap();
        assert_eq!(given.service.origin, "http://given");
    }

    #[rstest]
    #[case::uri_3_refused(400, true)]
    #[case::wrong_path(404, true)]
    #[case::late(408, false)]
    #[tokio::test]
    async fn a_status_of_400_to_499_is_for_good_unless_it_says_otherwise(
        #[case] status: u16,
        #[case] for_good: bool,
    ) {
        let error = failure(status, "4xx error hidden").await;
        assert_eq!(error.is_transient(), !for_good);
        assert_eq!(matches!(error, CredentialsError::Refused { .. }), for_good);
        assert_eq!(cause(&error).contains("check the URI"), for_good);
        assert!(error.refusal().is_none(), "that is STS's");
    }

    #[rstest]
    #[case::uri_4_null("null".to_owned())]
    #[case::uri_4_empty_object("{}".to_owned())]
    #[case::uri_4_no_json("sk-1".to_owned())]
    #[case::uri_5_no_id(GOOD.replace("AccessKeyId", "Other"))]
    #[case::uri_5_no_secret(GOOD.replace("sk-1", ""))]
    #[case::uri_5_no_token(GOOD.replace("SecurityToken", "Other"))]
    #[case::uri_5_no_expiration(GOOD.replace("Expiration", "Other"))]
    #[case::over(GOOD.replace("04:04:05", "03:04:05"))]
    #[case::half(GOOD[..GOOD.len() / 2].to_owned())]
    #[case::page("<html>sk-1</html>".to_owned())]
    #[case::code_is_a_number(GOOD.replace(r#""Success""#, "200"))]
    #[tokio::test]
    async fn an_incomplete_answer_may_pass(#[case] body: String) {
        let error = failure(200, &body).await;
        assert!(error.is_transient(), "{error:?}");
        assert!(cause(&error).contains("is not what was asked for"));
    }

    #[tokio::test]
    async fn uri_6_a_code_must_be_success_if_there_is_one() {
        let error = failure(200, &GOOD.replace("Success", "Failed")).await;
        assert!(error.is_transient(), "{error:?}");
        assert!(cause(&error).contains("code Failed"), "{error:?}");
        for absent in [
            GOOD.replace(r#""Code":"Success","#, ""),
            GOOD.replace(r#""Success""#, "null"),
        ] {
            let script = Script::of([(200, absent.as_str())]);
            provider(&script).credentials().await.unwrap();
        }
    }

    #[tokio::test]
    async fn uri_7_the_uri_is_asked_as_it_is_written() {
        let script = Script::of([(200, GOOD)]);
        let credentials = provider(&script).credentials().await.unwrap();
        assert_eq!(credentials.provider_name(), "credential_uri");
        assert_eq!(credentials.access_key_id(), "akid");
        assert_eq!(credentials.access_key_secret().expose(), "sk-1");
        assert_eq!(credentials.security_token().unwrap().expose(), "st-1");
        let [request] = &script.asked()[..] else {
            panic!("one request")
        };
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.uri().to_string(), URI);
        assert!(request.headers().is_empty() && request.body().is_empty());
    }

    #[tokio::test]
    async fn an_end_is_judged_by_the_clock_of_the_sender() {
        let script = Script::new();
        script.then_with(200, GOOD, DATE, "Fri, 02 Jan 2026 04:04:06 GMT");
        let error = provider(&script).credentials().await.unwrap_err();
        assert!(cause(&error).contains("before they arrived"), "{error:?}");
        let body = GOOD.replace("T04", "T03").replace("03:04:05", "02:30:00");
        script.then_with(200, &body, DATE, "Fri, 02 Jan 2026 02:04:05 GMT");
        let credentials = provider(&script).credentials().await.unwrap();
        assert_eq!(credentials.issuer_is_ahead(), TimeDelta::hours(-1));
    }

    #[tokio::test]
    async fn a_redirect_is_no_answer() {
        let script = Script::new();
        script.then_with(302, GOOD, LOCATION, "http://elsewhere/");
        let error = provider(&script).credentials().await.unwrap_err();
        assert!(cause(&error).contains("redirects are not followed"));
        assert!(error.is_transient());
        assert_eq!(script.asked().len(), 1);
    }

    #[tokio::test]
    async fn a_failure_of_the_service_and_a_reset_are_tried_once_more() {
        let script = Script::of([(503, "<html>"), (200, GOOD)]);
        provider(&script).credentials().await.unwrap();
        script.then_reset().then(200, GOOD);
        provider(&script).credentials().await.unwrap();
        assert_eq!(script.asked().len(), 4);
        script.then(503, "").then(500, "");
        let error = provider(&script).credentials().await.unwrap_err();
        assert!(cause(&error).contains("HTTP 500"), "{error:?}");
        assert!(error.is_transient());
        script.then_silence();
        let error = provider(&script).credentials().await.unwrap_err();
        assert!(cause(&error).contains("no complete answer"), "{error:?}");
    }

    #[tokio::test]
    async fn plain_http_goes_the_direct_way_and_https_the_way_of_cloud_services() {
        for (uri, direct, http) in [
            ("http://h/", vec![(200, GOOD)], vec![]),
            ("HTTPS://h/", vec![], vec![(200, GOOD)]),
        ] {
            let (direct, http) = (Script::of(direct), Script::of(http));
            let world = World {
                direct: Arc::clone(&direct) as _,
                http: Arc::clone(&http) as _,
                ..world(&[])
            };
            let provider = CredentialsUri::new(Some(uri.into()), &world).unwrap();
            provider.credentials().await.unwrap();
            assert_eq!(direct.asked().len() + http.asked().len(), 1);
        }
    }

    #[rstest]
    #[case::no_scheme("127.0.0.1:7002/hidden", CredentialsUriError::NoUri)]
    #[case::path_only("/hidden", CredentialsUriError::NoUri)]
    #[case::no_host("http://:7002/hidden", CredentialsUriError::NoUri)]
    #[case::no_authority("http:///hidden", CredentialsUriError::NoUri)]
    #[case::port("http://h:70020/hidden", CredentialsUriError::NoUri)]
    #[case::blank("http://h/hidden path", CredentialsUriError::NoUri)]
    #[case::line_end("http://h/hidden\n", CredentialsUriError::NoUri)]
    #[case::file("file:///hidden", CredentialsUriError::NoUri)]
    #[case::ftp("ftp://h/hidden", CredentialsUriError::Scheme)]
    #[case::user("http://hidden@h/", CredentialsUriError::UserInfo)]
    #[case::password("https://u:hidden@h/", CredentialsUriError::UserInfo)]
    fn a_uri_that_cannot_be_asked_is_a_mistake_and_is_not_shown(
        #[case] uri: &str,
        #[case] expected: CredentialsUriError,
    ) {
        let error = CredentialsUri::new(Some(uri.into()), &world(&[])).unwrap_err();
        let CredentialsError::Misconfigured { source, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(source.downcast_ref(), Some(&expected));
        let shown = format!("{} {error:?}", error.chain());
        assert!(!shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn debug_shows_no_path() {
        let shown = format!("{:?}", provider(&Script::new()));
        assert!(shown.contains("http://127.0.0.1:7002"), "{shown}");
        assert!(!shown.contains("hidden"), "{shown}");
    }
}
