//! Listening with limits: nobody may hold a connection without using it, or hold all of them.

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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
/// Most connections at once. An API server holds a few.
const MAX_CONNECTIONS: usize = 1024;
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

/// Lets so many connections in and closes further ones at once.
#[derive(Debug, Clone)]
struct Capped(Arc<Semaphore>);

impl Capped {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_CONNECTIONS)))
    }
}

impl<S> Accept<TcpStream, S> for Capped {
    type Stream = Counted;
    type Service = S;
    type Future = Ready<io::Result<(Counted, S)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let accepted = || {
            let place = Arc::clone(&self.0)
                .try_acquire_owned()
                .map_err(|_| io::Error::other("more connections than are served at once"))?;
            stream.set_nodelay(true)?;
            Ok(Counted {
                stream,
                _place: place,
            })
        };
        ready(accepted().map(|stream| (stream, service)))
    }
}

/// A connection that gives its place back when it ends.
#[derive(Debug)]
struct Counted {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl Counted {
    fn stream(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().stream)
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
