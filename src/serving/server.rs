//! Listening with limits: nobody may hold a connection without using it, or hold all of them.
//!
//! There is room for so many connections. When it is used up, a newcomer takes the place of the one
//! that has been idle longest, so that a flood of idle connections keeps nobody out; requests that
//! are under way are never cut off by it.
//!
//! Nor is a caller cut off who writes to an idle connection just as it closes: the API server holds
//! HTTP/1 connections for later reviews, and a review that meets a closing one is lost, with its
//! pod. So idle connections are kept for longer than callers keep them, and a server that is about
//! to stop says so with each answer and lets its callers leave first.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Request, Response, Version};
use axum::{BoxError, Router, ServiceExt};
use axum_server::Server;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tower_service::Service;

use super::limits;
use super::places::{Place, Places};

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a new connection to the plain listener may wait with its first request. Over TLS it may wait
/// as long as between requests: callers written in Go open some that they use later.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a request may take to arrive, and an HTTP/1 connection may be idle. Callers
/// written in Go, as the API server, close theirs after 90 s (`IdleConnTimeout` of `net/http`).
const HEADER_TIMEOUT: Duration = Duration::from_mins(2);
/// After this long without a sign of life an HTTP/2 peer is asked for one.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long that sign of life may take.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may leave what it asked for unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Most connections at once. An API server holds a few.
const MAX_CONNECTIONS: usize = 1024;
/// Open files that are kept for everything but connections.
const OTHER_FILES: usize = 64;
/// Most requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 250;
/// Most bytes of headers on HTTP/2.
const MAX_HEADERS: u32 = 16 * 1024;
/// How long requests that are being answered may take once the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What is read at once. TLS itself asks for 4 KiB at a time, which would be two calls of the kernel for
/// the smallest review.
const READ_BUFFER: usize = 16 * 1024;
/// How often a server that is about to stop looks whether its callers have left.
const LEFT_INTERVAL: Duration = Duration::from_millis(50);

/// Stops a server.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    handle: axum_server::Handle<SocketAddr>,
    leaving: Arc<AtomicBool>,
}

impl Stop {
    /// Goes on serving, but from now on each answer over HTTP/1 is the last one of its connection.
    pub fn say_goodbye(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Completes when nobody holds a connection.
    pub async fn left(&self) {
        while self.connections() > 0 {
            tokio::time::sleep(LEFT_INTERVAL).await;
        }
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.handle.connection_count()
    }

    /// Closes the listener and idle connections; requests that are being answered get 10 s more.
    pub fn stop(&self) {
        self.handle.graceful_shutdown(Some(DRAIN_TIMEOUT));
    }
}

/// Serves over TLS until stopped; returns when the last request is answered.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve_tls<S, A>(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    service: S,
    stop: Stop,
) -> io::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<A>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    A: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(tls))
        .handshake_timeout(HANDSHAKE_TIMEOUT)
        .acceptor(Capped::new(&stop));
    let server = limited(axum_server::from_tcp(listener)?, stop)
        .first_request_timeout(HEADER_TIMEOUT)
        .acceptor(acceptor);
    server.serve(service.into_make_service()).await
}

/// Serves over plain HTTP until stopped; returns when the last request is answered.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve_plain(listener: TcpListener, router: Router, stop: Stop) -> io::Result<()> {
    let capped = Capped::new(&stop);
    let server = limited(axum_server::from_tcp(listener)?, stop)
        .first_request_timeout(FIRST_REQUEST_TIMEOUT)
        .acceptor(capped);
    server.serve(router.into_make_service()).await
}

fn limited(mut server: Server<SocketAddr>, stop: Stop) -> Server<SocketAddr> {
    let builder = server.http_builder();
    builder.http1().header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    server
        // Broken handshakes are the peer's business and come in floods.
        .accept_error_handler(|peer, error| {
            tracing::debug!(?peer, %error, "a connection was not accepted");
        })
        .handle(stop.handle)
}

/// Gives each connection a place.
#[derive(Debug, Clone)]
struct Capped {
    places: Places,
    leaving: Arc<AtomicBool>,
}

impl Capped {
    fn new(stop: &Stop) -> Self {
        let files = limits::raise_open_files()
            .saturating_sub(OTHER_FILES)
            .max(1);
        Self {
            places: Places::new(files.min(MAX_CONNECTIONS)),
            leaving: Arc::clone(&stop.leaving),
        }
    }
}

impl<S> Accept<TcpStream, S> for Capped {
    type Stream = Connection;
    type Service = Busy<S>;
    type Future = Ready<io::Result<(Connection, Busy<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let accepted = || {
            let place = self.places.take().ok_or_else(|| {
                io::Error::other("more connections are busy than are served at once")
            })?;
            stream.set_nodelay(true)?;
            let place = Arc::new(place);
            let evicted = Arc::clone(&place);
            let connection = Connection {
                stream: BufReader::with_capacity(READ_BUFFER, stream),
                evicted: Box::pin(async move { evicted.lost().await }),
                stuck: None,
            };
            let leaving = Arc::clone(&self.leaving);
            let service = Busy {
                service,
                place,
                leaving,
            };
            Ok((connection, service))
        };
        ready(accepted())
    }
}

/// A service whose connection keeps its place while a request is under way, and is closed after
/// the answer once the server is about to stop.
#[derive(Debug, Clone)]
struct Busy<S> {
    service: S,
    place: Arc<Place>,
    leaving: Arc<AtomicBool>,
}

impl<S, Q, A> Service<Request<Q>> for Busy<S>
where
    S: Service<Request<Q>, Response = Response<A>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let working = Working::new(&self.place);
        // HTTP/2 has a goodbye of its own, which loses nothing.
        let leaving = (request.version() < Version::HTTP_2).then(|| Arc::clone(&self.leaving));
        let answer = self.service.call(request);
        Box::pin(async move {
            let _working = working;
            let mut answer = answer.await?;
            if leaving.is_some_and(|leaving| leaving.load(Ordering::Relaxed)) {
                let headers = answer.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer)
        })
    }
}

/// Ends when the request does, however that is.
#[derive(Debug)]
struct Working(Arc<Place>);

impl Working {
    fn new(place: &Arc<Place>) -> Self {
        // A connection that has lost its place ends by itself.
        let _ = place.work();
        Self(Arc::clone(place))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// A connection that breaks when it has lost its place, or when the peer does not read.
struct Connection {
    stream: BufReader<TcpStream>,
    evicted: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    /// Runs while something cannot be written.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    fn stream(&mut self) -> Pin<&mut BufReader<TcpStream>> {
        Pin::new(&mut self.stream)
    }

    /// The outcome of a write, or an error when it has been pending for too long.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stuck = None;
            return outcome;
        }
        let stuck = self
            .stuck
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_TIMEOUT)));
        stuck
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.stream().poll_read(context, buffer);
        if read.is_ready() {
            return read;
        }
        let evicted = self.evicted.as_mut().poll(context);
        evicted.map(|()| Err(io::ErrorKind::ConnectionAborted.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = self.stream().poll_write(context, bytes);
        self.written(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = self.stream().poll_flush(context);
        self.written(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = self.stream().poll_shutdown(context);
        self.written(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = self.stream().poll_write_vectored(context, bytes);
        self.written(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
