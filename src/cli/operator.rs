//! What the commands that serve share: the configuration file, the runtime, the signal to stop.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rustix::io::Errno;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::configuration::{Configuration, ConfigurationFile, Discovered};
use crate::imds;
use crate::serving::reload::Load;
use crate::world::{Files, HttpClient, HttpOptions, SystemClock, SystemFiles};

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

/// How long the metadata service may take for everything that it is asked.
const DISCOVERY: Duration = Duration::from_secs(5);

/// Where the configuration comes from.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigurationArgs {
    /// The operator's configuration file (YAML); docs/configuration.md explains it.
    #[arg(
        long,
        env = "RRSA_CONFIG",
        hide_env_values = true,
        value_name = "FILE",
        default_value = "/etc/rrsa/config.yaml"
    )]
    config: PathBuf,
    /// Where the ECS metadata service is, for operators who serve it elsewhere, and for tests. Whoever
    /// answers there decides which account this is, and whose credentials the fallback uses.
    #[arg(
        long,
        env = "RRSA_METADATA_ADDRESS",
        hide_env_values = true,
        value_name = "ADDRESS"
    )]
    metadata_address: Option<SocketAddr>,
}

impl ConfigurationArgs {
    /// Where the ECS metadata service is, if not at its fixed address.
    pub(super) fn metadata_address(&self) -> Option<SocketAddr> {
        self.metadata_address
    }

    /// The metadata service of this machine.
    fn metadata(&self) -> anyhow::Result<imds::Client> {
        let http = Arc::new(HttpClient::new(&HttpOptions::metadata())?);
        let clock = Arc::new(SystemClock);
        Ok(match self.metadata_address {
            Some(address) => imds::Client::at(address, http, clock),
            None => imds::Client::new(http, clock),
        })
    }

    /// Asks the metadata service for what the file leaves out, once, and returns what reads the file
    /// from then on.
    pub(super) async fn load(self) -> anyhow::Result<Load<Configuration>> {
        let path = self.config.clone();
        let file = configuration_file(&path).map_err(anyhow::Error::msg)?;
        let discovered = if file.leaves_out_what_can_be_discovered() {
            discover(&file, &self.metadata()?).await
        } else {
            Discovered::default()
        };
        Ok(Box::new(move || {
            configuration_file(&path)?
                .complete(&discovered)
                .map_err(|error| format!("configuration file {}: {error}", path.display()))
        }))
    }
}

/// What the metadata service tells of what the file leaves out; what it does not tell is logged, and
/// missed by whoever completes the file.
async fn discover(file: &ConfigurationFile, metadata: &imds::Client) -> Discovered {
    let ask = async {
        let account_id = match file.account_id {
            Some(_) => None,
            None => told("accountId", metadata.owner_account_id().await),
        };
        let region = match file.region {
            Some(_) => None,
            None => told("region", metadata.region_id().await),
        };
        Discovered { account_id, region }
    };
    tokio::time::timeout(DISCOVERY, ask)
        .await
        .unwrap_or_else(|_| {
            tracing::warn!("the ECS metadata service did not answer within {DISCOVERY:?}");
            Discovered::default()
        })
}

fn told(key: &str, answer: Result<String, imds::Error>) -> Option<String> {
    match answer {
        Ok(value) => {
            tracing::info!(key, value, "discovered from the ECS metadata service");
            Some(value)
        }
        Err(error) => {
            tracing::warn!(key, "the ECS metadata service does not tell it: {error}");
            None
        }
    }
}

fn configuration_file(path: &Path) -> Result<ConfigurationFile, String> {
    let text = configuration_text(path, &SystemFiles).map_err(|error| format!("{error:#}"))?;
    ConfigurationFile::parse(&text)
        .map_err(|error| format!("configuration file {}: {error}", path.display()))
}

/// A client for the API server: of the kubeconfig, or of the pod's ServiceAccount.
pub(super) async fn client() -> anyhow::Result<kube::Client> {
    // The error's text holds those of its causes.
    let config = kube::Config::infer().await.map_err(|error| {
        anyhow!("no way to reach the API server; name a kubeconfig by KUBECONFIG, or run in a pod: {error}")
    })?;
    kube::Client::try_from(config).context("no way to reach the API server")
}

/// A listener on that address.
pub(super) fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .or_else(|error| match without_ipv6(address, &error) {
            Some(address) => TcpListener::bind(address),
            None => Err(error),
        })
        .with_context(|| format!("{address} cannot be listened on; choose another address"))
}

/// What `[::]`, every address, is on a node whose kernel has no IPv6.
fn without_ipv6(address: SocketAddr, error: &std::io::Error) -> Option<SocketAddr> {
    let every = address.is_ipv6() && address.ip().is_unspecified();
    (every && Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT))
        .then(|| (Ipv4Addr::UNSPECIFIED, address.port()).into())
}

/// The runtime of a command that serves.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime does not start")
}

/// The runtime of a command whose work is many short answers: on one thread none of them waits for
/// another thread to wake up, and there is one heap and one stack.
pub(super) fn single_threaded_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
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

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("[::]:9443", Errno::AFNOSUPPORT, Some("0.0.0.0:9443"))]
    #[case("[::]:9443", Errno::ADDRINUSE, None)]
    #[case("[::1]:9443", Errno::AFNOSUPPORT, None)]
    #[case("0.0.0.0:9443", Errno::AFNOSUPPORT, None)]
    fn every_address_exists_without_ipv6(
        #[case] address: &str,
        #[case] error: Errno,
        #[case] instead: Option<&str>,
    ) {
        let found = without_ipv6(address.parse().unwrap(), &error.into());
        assert_eq!(found, instead.map(|address| address.parse().unwrap()));
    }
}
