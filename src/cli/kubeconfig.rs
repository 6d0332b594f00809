//! Which cluster a command for people talks to.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::operator;

/// What the API server, or the way to it, says to a person. The client's own words hold the whole answer
/// once more, as a program sees it.
pub(super) fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct KubeconfigArgs {
    /// The kubeconfig file [default: $KUBECONFIG, ~/.kube/config, or the pod's ServiceAccount].
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig [default: its current one].
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

impl KubeconfigArgs {
    /// A client for that cluster.
    pub(super) async fn client(self) -> anyhow::Result<Client> {
        let Self {
            kubeconfig,
            context,
        } = self;
        if kubeconfig.is_none() && context.is_none() {
            return operator::client().await;
        }
        let read = match &kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        // The error's text holds those of its causes.
        let read = read.map_err(|error| anyhow!("the kubeconfig cannot be read: {error}"))?;
        let options = KubeConfigOptions {
            context,
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(read, &options)
            .await
            .context("the kubeconfig names no way to a cluster")?;
        Client::try_from(config).context("the kubeconfig names no way to a cluster")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn a_refusal_is_in_the_servers_words_alone() {
        let status = Status::failure("configmaps \"rrsa\" not found", "NotFound").with_code(404);
        let error = kube::Error::Api(status.boxed());
        assert_eq!(said(&error), "configmaps \"rrsa\" not found");
    }
}
