//! Serving a router on loopback, with or without TLS, until stopped or dropped.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use rustls::ServerConfig;
use tokio::task::JoinHandle;

use super::connection::CuttableAcceptor;

/// How long a stop waits for answers that are under way; a hanging one is cut then.
const FAREWELL: Duration = Duration::from_millis(500);

/// A running server; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    handle: Handle<SocketAddr>,
    task: Option<JoinHandle<std::io::Result<()>>>,
}

impl Listener {
    /// Serves `router` at `address`, over TLS when `tls` is given. Clients may connect as soon as
    /// this returns. Must be called inside a tokio runtime.
    pub(crate) fn start(
        address: SocketAddr,
        router: Router,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Self> {
        let socket = TcpListener::bind(address)
            .with_context(|| format!("listen on {address}; is another process there?"))?;
        let address = socket
            .local_addr()
            .context("ask for the address that was bound")?;
        let handle = Handle::new();
        let server = axum_server::from_tcp(socket)
            .with_context(|| format!("serve on {address}"))?
            .handle(handle.clone());
        let service = router.into_make_service();
        let task = match tls {
            Some(tls) => {
                let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(tls));
                tokio::spawn(
                    server
                        .acceptor(acceptor.acceptor(CuttableAcceptor))
                        .serve(service),
                )
            }
            None => tokio::spawn(server.acceptor(CuttableAcceptor).serve(service)),
        };
        Ok(Self {
            address,
            handle,
            task: Some(task),
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new connection, lets answers under way finish for a moment, and ends.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.handle.graceful_shutdown(Some(FAREWELL));
        match self.task.take() {
            Some(task) => task
                .await
                .with_context(|| format!("join the server on {}", self.address))?
                .with_context(|| format!("serve on {}", self.address)),
            None => Ok(()),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.handle.shutdown();
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}
