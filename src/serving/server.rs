//! Listening with limits: nobody may hold a connection without using it, or hold all of them.
//!
//! There is room for so many connections. When it is used up, a newcomer takes the place of the one
//! that has been idle longest, so that a flood of idle connections keeps nobody out; requests that
//! are under way are never cut off by it.
//!
//! It is HTTP/1.1 alone: API servers speak nothing else to webhooks, and with HTTP/2 one connection could
//! have hundreds of answers made that it does not read, and hold them for ever. As it is, a connection
//! has one answer at most, and some seconds to read it.
//!
//! Nor is a caller cut off who writes to an idle connection just as it closes: the API server holds
//! connections for later reviews, and a review that meets a closing one is lost, with its
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
use axum::http::{Request, Response};
use axum::{BoxError, Router, ServiceExt};
use axum_server::Server;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper::body::Incoming;
use rustix::net::sockopt::set_socket_send_buffer_size;
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
/// How long the head of a request may take to arrive, and a connection may be idle. Callers
/// written in Go, as the API server, close theirs after 90 s (`IdleConnTimeout` of `net/http`).
const HEADER_TIMEOUT: Duration = Duration::from_mins(2);
/// How long a peer may take to read what it asked for, once the kernel takes no more. API servers give an
/// answer up after 5 s, unless the registration says otherwise.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Most connections at once. An API server holds a few.
const MAX_CONNECTIONS: usize = 1024;
/// Open files that are kept for everything but connections.
const OTHER_FILES: usize = 64;
/// Most bytes of a request's head, for which each connection may hold memory. An API server sends some
/// hundreds.
const MAX_HEAD: usize = 16 * 1024;
/// How long requests that are being answered may take once the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What is read at once. TLS itself asks for 4 KiB at a time, which would be two calls of the kernel for
/// the smallest review.
const READ_BUFFER: usize = 16 * 1024;
/// What the kernel holds of an answer that is not read yet; it doubles this for its own needs. By itself it
/// would take up to 4 MiB for each connection, which counts as memory of the container.
const SEND_BUFFER: usize = 64 * 1024;
/// How often a server that is about to stop looks whether its callers have left.
const LEFT_INTERVAL: Duration = Duration::from_millis(50);

/// Stops a server.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    handle: axum_server::Handle<SocketAddr>,
    leaving: Arc<AtomicBool>,
}

impl Stop {
    /// Goes on serving, but from now on each answer is the last one of its connection.
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
    let server = limited(listener, stop)?
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
    let server = limited(listener, stop)?
        .first_request_timeout(FIRST_REQUEST_TIMEOUT)
        .acceptor(capped);
    server.serve(router.into_make_service()).await
}

fn limited(listener: TcpListener, stop: Stop) -> io::Result<Server<SocketAddr>> {
    // Connections inherit it.
    set_socket_send_buffer_size(&listener, SEND_BUFFER)?;
    let mut server = axum_server::from_tcp(listener)?;
    server
        .http_builder()
        .http1()
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD);
    let server = server
        .http1_only()
        // Broken handshakes are the peer's business and come in floods.
        .accept_error_handler(|peer, error| {
            tracing::debug!(?peer, %error, "a connection was not accepted");
        })
        .handle(stop.handle);
    Ok(server)
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
                unread: None,
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
        let leaving = Arc::clone(&self.leaving);
        let answer = self.service.call(request);
        Box::pin(async move {
            let _working = working;
            let mut answer = answer.await?;
            if leaving.load(Ordering::Relaxed) {
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
    /// Runs from when something could not be written until all is: who reads byte by byte does not read.
    unread: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    fn stream(&mut self) -> Pin<&mut BufReader<TcpStream>> {
        Pin::new(&mut self.stream)
    }

    /// The outcome of a write, or an error when the peer has taken too long to read.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_pending() {
            self.unread
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(READ_TIMEOUT)));
        }
        if let Some(unread) = &mut self.unread
            && unread.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        outcome
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
        // Whoever writes flushes when the last of it is written.
        if outcome.is_ready() {
            self.unread = None;
        }
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
