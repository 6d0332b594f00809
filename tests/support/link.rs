//! The wire between one process and a server, which a test can cut.
//!
//! Bytes pass as they are, so TLS goes from end to end: a server whose certificate names loopback is
//! reached at the wire's address as at its own. The wire works on a thread of its own, whatever the
//! test does meanwhile, and ends when it is dropped.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::background::Background;

/// Bytes that are passed on at once.
const PIECE: usize = 16 * 1024;

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// Bytes pass.
    Whole,
    /// Every piece waits so long in each direction.
    Slow(Duration),
    /// Connections end, and new ones end at once: the server is down.
    Cut,
    /// Connections stay and nothing passes: a dead router in between.
    Silent,
}

/// A wire to one server. Dropping it cuts it for good.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
    _runtime: Background,
}

impl Link {
    /// A whole wire to that server, at an address of its own on loopback.
    ///
    /// # Errors
    /// When there is no free port.
    pub(crate) fn to(server: SocketAddr) -> Result<Self> {
        let runtime = Background::start("link")?;
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("a free port")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (wire, seen) = watch::channel(Wire::Whole);
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        runtime.spawn(async move {
            // A connection that ended before it was accepted is no reason to stop.
            loop {
                if let Ok((connection, _)) = listener.accept().await {
                    tokio::spawn(carry(connection, server, seen.clone()));
                }
            }
        });
        Ok(Self {
            address,
            wire,
            _runtime: runtime,
        })
    }

    /// Where the server is reached through this wire.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what becomes of connections, those that stand included.
    pub(crate) fn set(&self, wire: Wire) {
        self.wire.send_replace(wire);
    }
}

async fn carry(client: TcpStream, server: SocketAddr, mut wire: watch::Receiver<Wire>) {
    if !passes(&mut wire).await {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Either direction's end by a cut ends both; the end of what one side has to say does not.
    tokio::join!(
        pump(from_client, to_server, wire.clone()),
        pump(from_server, to_client, wire),
    );
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut wire: watch::Receiver<Wire>) {
    let mut piece = vec![0; PIECE];
    loop {
        let mut cut = wire.clone();
        let read = tokio::select! {
            read = from.read(&mut piece) => read,
            _ = cut.wait_for(|wire| *wire == Wire::Cut) => return,
        };
        let Ok(length @ 1..) = read else {
            // Whoever stopped sending is told on as such.
            let _ = to.shutdown().await;
            return;
        };
        if !passes(&mut wire).await || to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}

/// Waits until bytes may pass; `false`: they never will, the wire is cut.
async fn passes(wire: &mut watch::Receiver<Wire>) -> bool {
    loop {
        let now = *wire.borrow_and_update();
        match now {
            Wire::Whole => return true,
            Wire::Slow(by) => {
                tokio::time::sleep(by).await;
                return true;
            }
            Wire::Cut => return false,
            Wire::Silent => {
                if wire.changed().await.is_err() {
                    return false;
                }
            }
        }
    }
}
