//! One bounded HTTP exchange: no redirects, one deadline for all of it, a cap on the body.

use std::fmt::Debug;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::BoxFuture;
use crate::secret::SecretText;

/// A request with its whole body.
pub type Request = http::Request<Bytes>;
/// An answer with its whole body.
pub type Response = http::Response<Bytes>;

/// How long a connection to STS may take to open (design 4.1).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole exchange with STS may take (design 4.1).
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest body that is read; an STS answer has about 3 KiB.
pub const MAX_BODY: usize = 256 * 1024;
/// How long a connection to the metadata service may take to open, and how long a whole exchange
/// with it: it is one hop away, and where there is none nobody should wait for it.
pub const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest body that is read from the metadata service; credentials have about 2 KiB.
pub const MAX_METADATA_BODY: usize = 64 * 1024;

/// Sends requests. `Debug` must show neither requests nor answers: providers show it as a part of
/// themselves.
pub trait Http: Debug + Send + Sync {
    /// Sends the request and reads the whole answer.
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>>;
}

/// Why there is no answer. Neither the request nor the answer's body is ever part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The client could not be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    Setup(String),
    /// No connection: name, route, TLS.
    #[error("no connection to {host}: {cause}")]
    Connect {
        /// The host that was asked.
        host: String,
        /// The innermost cause.
        cause: String,
    },
    /// The deadline passed.
    #[error("no complete answer from {host} within {limit:?}")]
    TimedOut {
        /// The host that was asked.
        host: String,
        /// The deadline.
        limit: Duration,
    },
    /// The connection broke.
    #[error("the exchange with {host} broke off: {cause}")]
    Broken {
        /// The host that was asked.
        host: String,
        /// The innermost cause.
        cause: String,
    },
    /// The answer is longer than anything legal.
    #[error("the answer of {host} is longer than {limit} bytes")]
    TooLong {
        /// The host that was asked.
        host: String,
        /// The cap.
        limit: usize,
    },
}

/// Which way requests go. One choice, because plain HTTP is safe only where no proxy can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// https only, through the proxy of the environment (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`)
    /// if there is one.
    Internet,
    /// https only, through this proxy, such as `http://proxy.example:3128`; the environment's is
    /// not asked. The URL may hold a password.
    Proxy(SecretText),
    /// Also plain HTTP, never through a proxy: it would read the credentials, or answer with its
    /// own. For the link-local metadata service and for a credentials URI on this machine.
    Direct,
}

/// What a client is set up with.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Which way requests go.
    pub route: Route,
    /// PEM bundle of authorities trusted beside the system's.
    pub extra_roots: Option<Vec<u8>>,
    /// Longest time for opening a connection.
    pub connect_timeout: Duration,
    /// Longest time for the whole exchange.
    pub total_timeout: Duration,
    /// Longest body.
    pub max_body: usize,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            route: Route::Internet,
            extra_roots: None,
            connect_timeout: CONNECT_TIMEOUT,
            total_timeout: EXCHANGE_TIMEOUT,
            max_body: MAX_BODY,
        }
    }
}

impl HttpOptions {
    /// For a credentials URI over plain HTTP.
    #[must_use]
    pub fn direct() -> Self {
        Self {
            route: Route::Direct,
            ..Self::default()
        }
    }

    /// For the ECS metadata service.
    #[must_use]
    pub fn metadata() -> Self {
        Self {
            route: Route::Direct,
            extra_roots: None,
            connect_timeout: METADATA_TIMEOUT,
            total_timeout: METADATA_TIMEOUT,
            max_body: MAX_METADATA_BODY,
        }
    }
}

/// The real client: one connection pool.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    /// Host and port of the proxy that the options name.
    proxy: Option<String>,
    total_timeout: Duration,
    max_body: usize,
}

impl HttpClient {
    /// Sets a client up.
    ///
    /// # Errors
    /// [`HttpError::Setup`] when the extra roots are no PEM certificates.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that makes an HTTP client"
    )]
    pub fn new(options: &HttpOptions) -> Result<Self, HttpError> {
        let mut builder = reqwest::Client::builder()
            .https_only(options.route != Route::Direct)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(options.connect_timeout)
            .timeout(options.total_timeout)
            .user_agent(concat!("rrsa/", env!("CARGO_PKG_VERSION")));
        let mut proxy = None;
        match &options.route {
            Route::Internet => {}
            Route::Proxy(url) => {
                // The cause would quote the URL, and with it a password in it.
                let by = reqwest::Proxy::all(url.expose()).map_err(|_| {
                    HttpError::Setup(
                        "the proxy is no URL; write it like http://proxy.example:3128".to_owned(),
                    )
                })?;
                builder = builder.no_proxy().proxy(by);
                proxy = host_and_port(url.expose());
            }
            Route::Direct => builder = builder.no_proxy(),
        }
        if let Some(pem) = &options.extra_roots {
            let roots = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(|error| HttpError::Setup(format!("extra CA bundle: {error}")))?;
            if roots.is_empty() {
                return Err(HttpError::Setup(
                    "the extra CA bundle has no certificate".to_owned(),
                ));
            }
            builder = builder.tls_certs_merge(roots);
        }
        let client = builder
            .build()
            .map_err(|error| HttpError::Setup(innermost(&error)))?;
        Ok(Self {
            client,
            proxy,
            total_timeout: options.total_timeout,
            max_body: options.max_body,
        })
    }

    async fn exchange(&self, request: Request) -> Result<Response, HttpError> {
        let host = request
            .uri()
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default();
        let explain = |error: &reqwest::Error| {
            let host = host.clone();
            if error.is_timeout() {
                HttpError::TimedOut {
                    host,
                    limit: self.total_timeout,
                }
            } else if error.is_connect() {
                let cause = innermost(error);
                HttpError::Connect {
                    host,
                    // It may be the proxy that is not there.
                    cause: match &self.proxy {
                        Some(proxy) => format!("{cause}, through the proxy {proxy}"),
                        None => cause,
                    },
                }
            } else {
                HttpError::Broken {
                    host,
                    cause: innermost(error),
                }
            }
        };
        let request = reqwest::Request::try_from(request).map_err(|error| explain(&error))?;
        let mut answer = self
            .client
            .execute(request)
            .await
            .map_err(|error| explain(&error))?;
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| explain(&error))? {
            if body.len() + chunk.len() > self.max_body {
                return Err(HttpError::TooLong {
                    host,
                    limit: self.max_body,
                });
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = Response::new(body.freeze());
        *response.status_mut() = answer.status();
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        Ok(response)
    }
}

impl Http for HttpClient {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        Box::pin(self.exchange(request))
    }
}

/// What may be shown of a proxy's URL.
fn host_and_port(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    let host = url.host_str()?;
    Some(match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

/// The last cause in the chain: the outer ones repeat the URL, whose query may hold parameters.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
