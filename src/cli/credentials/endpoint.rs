//! The answers of the credentials URI that `serve` offers.
//!
//! Whoever knows the path gets the credentials; nothing else on this machine or in a browser may.
//! So the path is long and random, is compared by its hash (time tells nothing of it), and a
//! request must name the address that is served: a web page whose own name was pointed at
//! 127.0.0.1 names something else.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::format::uri_answer;
use super::keys;
use crate::credentials::{Client, CredentialsError};
use crate::secret::SecretText;
use crate::world::{NoRandomness, Random};

/// What is served where.
#[derive(Clone)]
pub(super) struct Endpoint {
    address: SocketAddr,
    path: [u8; 32],
    client: Client,
}

/// A path that nobody guesses.
pub(super) fn random_path(random: &dyn Random) -> Result<SecretText, NoRandomness> {
    let number = u128::from_be_bytes(random.bytes()?);
    Ok(format!("/{number:032x}/credentials").into())
}

impl Endpoint {
    pub(super) fn new(address: SocketAddr, path: &SecretText, client: Client) -> Self {
        Self {
            address,
            path: Sha256::digest(path.expose()).into(),
            client,
        }
    }

    pub(super) fn router(self) -> Router {
        Router::new().fallback(answer).with_state(Arc::new(self))
    }

    /// Why this request gets nothing.
    fn refusal(&self, request: &Parts) -> Option<Refusal> {
        let path: [u8; 32] = Sha256::digest(request.uri.path()).into();
        if !self.is_named_by(request) {
            Some(Refusal::WrongHost)
        } else if path != self.path {
            Some(Refusal::NotFound)
        } else if request.method != Method::GET {
            Some(Refusal::NotGet)
        } else {
            None
        }
    }

    /// Whether every name that the request gives is the address, and there is one. The port may
    /// be left out, because the Python SDK does so.
    fn is_named_by(&self, request: &Parts) -> bool {
        let named = |authority: &Authority| {
            authority.host() == self.address.ip().to_string()
                && (authority.as_str() == authority.host()
                    || authority.port_u16() == Some(self.address.port()))
                && !authority.as_str().contains('@')
        };
        let mut hosts = request.headers.get_all(header::HOST).iter();
        let in_header = hosts.next().map(|host| {
            let host = host.to_str().ok().and_then(|text| text.parse().ok());
            host.is_some_and(|host| named(&host))
        });
        let in_target = request.uri.authority().map(named);
        let several = hosts.next().is_some();
        !several && in_header.or(in_target) == Some(true) && in_target != Some(false)
    }
}

/// Why a request gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    WrongHost,
    NotFound,
    NotGet,
}

impl Refusal {
    fn response(self) -> Response {
        let (status, code, message) = match self {
            Self::WrongHost => (
                StatusCode::MISDIRECTED_REQUEST,
                "WrongHost",
                "this is not the address that the request names",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "NotFound", "nothing is served here"),
            Self::NotGet => (
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "only GET is answered",
            ),
        };
        let mut response = respond(status, &json!({ "Code": code, "Message": message }));
        if self == Self::NotGet {
            let get = header::HeaderValue::from_static("GET");
            response.headers_mut().insert(header::ALLOW, get);
        }
        response
    }
}

async fn answer(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    let (request, _) = request.into_parts();
    if let Some(refusal) = endpoint.refusal(&request) {
        return refusal.response();
    }
    let (status, body) = match endpoint.client.credentials().await {
        Ok(current) => {
            let provider = current.provider_name();
            match keys(&current).and_then(|keys| uri_answer(&keys, provider)) {
                Ok(fields) => (StatusCode::OK, Value::Object(fields)),
                Err(error) => unavailable("Unsuitable", &error.to_string()),
            }
        }
        Err(error) => {
            tracing::warn!(error = %error.chain(), "there are no credentials to give");
            unavailable(code(&error), &error.chain().to_string())
        }
    };
    respond(status, &body)
}

fn unavailable(code: &str, message: &str) -> (StatusCode, Value) {
    let body = json!({ "Code": code, "Message": message });
    (StatusCode::SERVICE_UNAVAILABLE, body)
}

/// The code of the service that refused, or the kind of the error.
fn code(error: &CredentialsError) -> &str {
    if let Some(refusal) = error.refusal() {
        return &refusal.code;
    }
    match error {
        CredentialsError::NotConfigured { .. } | CredentialsError::NoSource { .. } => {
            "NotConfigured"
        }
        CredentialsError::Misconfigured { .. } => "Misconfigured",
        CredentialsError::Refused { .. } => "Refused",
        CredentialsError::Unavailable { .. } => "Unavailable",
    }
}

fn respond(status: StatusCode, body: &Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, Body::from(body.to_string())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{Credentials, Provider};
    use crate::world::{BoxFuture, SystemRandom, World};
    use rstest::rstest;
    use tower::ServiceExt as _;

    #[derive(Debug)]
    struct Given(Result<Credentials, CredentialsError>);

    impl Provider for Given {
        fn name(&self) -> &'static str {
            "given"
        }

        fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
            Box::pin(std::future::ready(self.0.clone()))
        }
    }

    fn endpoint(given: Result<Credentials, CredentialsError>) -> Endpoint {
        let client = Client::new(Arc::new(Given(given)), &World::system().unwrap());
        let address = "127.0.0.1:4711".parse().unwrap();
        Endpoint::new(address, &"/secret/credentials".into(), client)
    }

    fn temporary() -> Credentials {
        Credentials::new("STS.NTest", "sk-value".into(), "given")
            .with_security_token("st-value".into())
            .with_expiration("2999-01-01T00:00:00Z".parse().unwrap())
    }

    async fn get(endpoint: Endpoint) -> (StatusCode, Value) {
        let request = Request::get("/secret/credentials")
            .header(header::HOST, "127.0.0.1:4711")
            .body(Body::empty())
            .unwrap();
        let response = endpoint.router().oneshot(request).await.unwrap();
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 4096).await;
        (status, serde_json::from_slice(&body.unwrap()).unwrap())
    }

    #[tokio::test]
    async fn whoever_knows_the_path_gets_the_credentials() {
        let (status, body) = get(endpoint(Ok(temporary()))).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body["Code"], "Success");
        assert_eq!(body["SecurityToken"], "st-value");
        assert_eq!(body["Expiration"], "2999-01-01T00:00:00Z");
    }

    #[tokio::test]
    async fn keys_without_an_end_are_an_error_without_them() {
        let keys = Credentials::new("LTAItest", "sk-value".into(), "given");
        let (status, body) = get(endpoint(Ok(keys))).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body["Code"], "Unsuitable");
        assert!(!body.to_string().contains("sk-value"), "{body}");
    }

    #[tokio::test]
    async fn a_failure_is_told_with_its_causes() {
        let error = CredentialsError::Unavailable {
            provider: "given".into(),
            source: Arc::new(std::io::Error::other("no route")),
        };
        let (status, body) = get(endpoint(Err(error))).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body["Code"], "Unavailable");
        assert_eq!(body["Message"], "given is unavailable: no route");
    }

    #[rstest]
    #[case::as_printed("GET", "/secret/credentials", &["127.0.0.1:4711"], None)]
    #[case::without_a_port("GET", "/secret/credentials", &["127.0.0.1"], None)]
    #[case::absolute("GET", "http://127.0.0.1:4711/secret/credentials", &[], None)]
    #[case::rebound("GET", "/secret/credentials", &["evil.example:4711"], Some(Refusal::WrongHost))]
    #[case::another_port("GET", "/secret/credentials", &["127.0.0.1:80"], Some(Refusal::WrongHost))]
    #[case::a_prefix("GET", "/secret/credentials", &["127.0.0.1.evil.example"], Some(Refusal::WrongHost))]
    #[case::a_user("GET", "/secret/credentials", &["evil@127.0.0.1:4711"], Some(Refusal::WrongHost))]
    #[case::no_host("GET", "/secret/credentials", &[], Some(Refusal::WrongHost))]
    #[case::an_empty_host("GET", "/secret/credentials", &[""], Some(Refusal::WrongHost))]
    #[case::two_hosts("GET", "/secret/credentials", &["127.0.0.1:4711", "evil.example"], Some(Refusal::WrongHost))]
    #[case::two_names("GET", "http://evil.example/secret/credentials", &["127.0.0.1:4711"], Some(Refusal::WrongHost))]
    #[case::another_path("GET", "/", &["127.0.0.1:4711"], Some(Refusal::NotFound))]
    #[case::longer("GET", "/secret/credentials/", &["127.0.0.1:4711"], Some(Refusal::NotFound))]
    #[case::post_elsewhere("POST", "/", &["127.0.0.1:4711"], Some(Refusal::NotFound))]
    #[case::post("POST", "/secret/credentials", &["127.0.0.1:4711"], Some(Refusal::NotGet))]
    #[case::head("HEAD", "/secret/credentials", &["127.0.0.1:4711"], Some(Refusal::NotGet))]
    fn requests_are_judged(
        #[case] method: &str,
        #[case] target: &str,
        #[case] hosts: &[&str],
        #[case] refusal: Option<Refusal>,
    ) {
        let mut request = Request::builder().method(method).uri(target);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let (request, ()) = request.body(()).unwrap().into_parts();
        assert_eq!(endpoint(Ok(temporary())).refusal(&request), refusal);
    }

    #[test]
    fn paths_are_long_and_never_the_same() {
        let first = random_path(&SystemRandom).unwrap();
        assert_eq!(first.expose().len(), "/".len() + 32 + "/credentials".len());
        assert_ne!(first, random_path(&SystemRandom).unwrap());
    }
}
