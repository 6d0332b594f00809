//! Listening with limits: nobody may hold a connection without using it, or hold all of them.
//!
//! There is room for so many connections. When it is used up, a newcomer takes the place of the one
//! that has been idle longest, so that a flood of idle connections keeps nobody out; requests that
//! are under way are never cut off by it.

use std::future::{Ready, ready};
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum_server::Server;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tower_service::Service;

use super::limits;
use super::places::{Place, Places};

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a new connection may wait with its first request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a request may take to arrive, and an HTTP/1 connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
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

/// Stops a server.
#[derive(Debug, Clone, Default)]
pub struct Stop(axum_server::Handle<SocketAddr>);

impl Stop {
    /// Closes the listener; requests that are being answered get 10 s more.
    pub fn stop(&self) {
        self.0.graceful_shutdown(Some(DRAIN_TIMEOUT));
    }
}

/// Serves over TLS until stopped; returns when the last request is answered.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    stop: Stop,
) -> io::Result<()> {
    let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(tls))
        .handshake_timeout(HANDSHAKE_TIMEOUT)
        .acceptor(Capped::new());
    let server = limited(axum_server::from_tcp(listener)?, stop).acceptor(acceptor);
    server.serve(router.into_make_service()).await
}

/// Serves over plain HTTP until stopped; returns when the last request is answered.
///
/// # Errors
/// When the listener cannot be used.
pub async fn serve_plain(listener: TcpListener, router: Router, stop: Stop) -> io::Result<()> {
    let server = limited(axum_server::from_tcp(listener)?, stop).acceptor(Capped::new());
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
        .first_request_timeout(FIRST_REQUEST_TIMEOUT)
        // Broken handshakes are the peer's business and come in floods.
        .accept_error_handler(|peer, error| {
            tracing::debug!(?peer, %error, "a connection was not accepted");
        })
        .handle(stop.0)
}

/// Gives each connection a place.
#[derive(Debug, Clone)]
struct Capped(Places);

impl Capped {
    fn new() -> Self {
        let files = limits::raise_open_files()
            .saturating_sub(OTHER_FILES)
            .max(1);
        Self(Places::new(files.min(MAX_CONNECTIONS)))
    }
}

impl<S> Accept<TcpStream, S> for Capped {
    type Stream = Connection;
    type Service = Busy<S>;
    type Future = Ready<io::Result<(Connection, Busy<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let accepted = || {
            let place = self.0.take().ok_or_else(|| {
                io::Error::other("more connections are busy than are served at once")
            })?;
            stream.set_nodelay(true)?;
            let place = Arc::new(place);
            let evicted = Arc::clone(&place);
            let connection = Connection {
                stream,
                evicted: Box::pin(async move { evicted.lost().await }),
                stuck: None,
            };
            Ok((connection, Busy { service, place }))
        };
        ready(accepted())
    }
}

/// A service whose connection keeps its place while a request is under way.
#[derive(Debug, Clone)]
struct Busy<S> {
    service: S,
    place: Arc<Place>,
}

impl<S, R> Service<R> for Busy<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let working = Working::new(&self.place);
        let answer = self.service.call(request);
        Box::pin(async move {
            let _working = working;
            answer.await
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
    stream: TcpStream,
    evicted: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    /// Runs while something cannot be written.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    fn stream(&mut self) -> Pin<&mut TcpStream> {
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
