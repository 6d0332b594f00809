//! Connections that a handler can cut in the middle, so that a client sees a real TCP reset.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::Extension;
use axum::middleware::AddExtension;
use axum_server::accept::Accept;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower::Layer as _;

/// The handler's hold on its own connection; found in the request's extensions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connection(Arc<AtomicBool>);

impl Connection {
    /// From now on every read and write fails, and the close is a reset instead of a farewell.
    pub(crate) fn cut(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Acquire) {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        }
    }
}

/// Accepts TCP connections as ones that can be cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CuttableAcceptor;

impl<S> Accept<TcpStream, S> for CuttableAcceptor {
    type Stream = CuttableStream;
    type Service = AddExtension<S, Connection>;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let connection = Connection::default();
        let service = Extension(connection.clone()).layer(service);
        // Small answers must not wait for more to come.
        let accepted = stream.set_nodelay(true);
        ready(accepted.map(|()| (CuttableStream { stream, connection }, service)))
    }
}

/// A TCP connection that fails once its [`Connection`] is cut.
#[derive(Debug)]
pub(crate) struct CuttableStream {
    stream: TcpStream,
    connection: Connection,
}

impl Drop for CuttableStream {
    fn drop(&mut self) {
        if self.connection.check().is_err() {
            // A connection that is closed with a linger of zero is reset. If that fails it is
            // closed in the ordinary way, which the client sees as a broken answer all the same.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for CuttableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.connection.check()?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for CuttableStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.connection.check()?;
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.check()?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.check()?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
