//! What the commands that serve share: the configuration file, the runtime, the signal to stop.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::configuration::Configuration;
use crate::world::Files;

/// Longest configuration file.
const MAX_CONFIGURATION: usize = 1024 * 1024;

/// The text of a configuration file.
pub(super) fn configuration_text(path: &Path, files: &dyn Files) -> anyhow::Result<String> {
    let bytes = files
        .read(path, MAX_CONFIGURATION)
        .with_context(|| format!("configuration file {} cannot be read", path.display()))?;
    String::from_utf8(bytes)
        .with_context(|| format!("configuration file {} is no UTF-8 text", path.display()))
}

/// Reads the operator's configuration.
pub(super) fn configuration(path: &Path, files: &dyn Files) -> anyhow::Result<Configuration> {
    let text = configuration_text(path, files)?;
    Configuration::parse(&text)
        .with_context(|| format!("configuration file {} is refused", path.display()))
}

/// A client for the API server: of the kubeconfig, or of the pod's ServiceAccount.
pub(super) async fn client() -> anyhow::Result<kube::Client> {
    kube::Client::try_default().await.context(
        "no way to reach the API server: neither a kubeconfig nor a ServiceAccount of a pod",
    )
}

/// A listener on that address.
pub(super) fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .with_context(|| format!("{address} cannot be listened on; choose another address"))
}

/// The runtime of a command that serves.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime does not start")
}

/// Completes at the first SIGTERM or SIGINT. Must be called inside the runtime.
pub(super) fn shutdown_signal() -> anyhow::Result<impl Future<Output = ()> + Send + Sync + 'static>
{
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
    })
}

/// Completes at the second SIGTERM or SIGINT: whoever asks twice does not want to wait. Must be
/// called inside the runtime.
pub(super) fn second_signal() -> anyhow::Result<impl Future<Output = ()> + Send + Sync + 'static> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
    })
}
