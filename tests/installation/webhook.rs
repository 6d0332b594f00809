//! The webhook of an installation: registered by URL, because the API server of a control plane
//! without nodes reaches no Service.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::Installation;
use crate::support::kubernetes::{Cluster, Process};
use crate::support::wait;

/// Longest wait until the webhook serves and is registered.
const READY: Duration = Duration::from_mins(3);

/// One process of the webhook.
pub(crate) struct Replica {
    pub(crate) process: Process,
    /// Where it takes reviews.
    pub(crate) address: SocketAddr,
    /// Where its health is.
    pub(crate) admin: SocketAddr,
}

impl Installation {
    /// Starts the webhook (again) and waits until the API server can call it.
    ///
    /// # Errors
    /// When it does not become ready, with the end of its log.
    pub(crate) async fn start_webhook(&self, cluster: &Cluster) -> Result<()> {
        let replica = self.webhook_replica(cluster, "rrsa-webhook", &[]).await?;
        *self.webhook.lock().unwrap() = Some(replica.process);
        self.register_webhook(cluster, replica.address).await
    }

    /// Starts one more webhook with further arguments and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready, with the end of its log.
    pub(crate) async fn webhook_replica(
        &self,
        cluster: &Cluster,
        name: &str,
        arguments: &[&str],
    ) -> Result<Replica> {
        cluster.require_own("a webhook by URL")?;
        let ready_file = self.folder.join(format!("{name}.json"));
        let mut command = Command::new(&self.choices.rrsa);
        command
            .args(["webhook", "--log=trace", "--namespace", super::NAMESPACE])
            .args([
                "--listen=127.0.0.1:0",
                "--admin-listen=127.0.0.1:0",
                "--server-name=127.0.0.1",
            ])
            .args(arguments)
            .arg("--config")
            .arg(self.configuration())
            .arg("--ready-file")
            .arg(&ready_file)
            .env("KUBECONFIG", &self.webhook_kubeconfig);
        // The API server of a test keeps connections for longer than a test waits.
        let is_limit = |argument: &&str| argument.starts_with("--drain-limit=");
        if !arguments.iter().any(is_limit) {
            command.arg("--drain-limit=5");
        }
        // That of a former process, if it was killed.
        let _ = std::fs::remove_file(&ready_file);
        let process = cluster.spawn(name, &command)?;
        let ready = wait::until("the webhook to be ready", READY, async || {
            process.ensure_running().map_err(wait::hopeless)?;
            let text = std::fs::read_to_string(&ready_file).context("no ready file yet")?;
            Ok(Some(serde_json::from_str::<Value>(&text)?))
        })
        .await?;
        let address = |key: &str| -> Result<SocketAddr> {
            let text = ready[key]
                .as_str()
                .context("no address in the ready file")?;
            Ok(text.parse()?)
        };
        Ok(Replica {
            address: address("address")?,
            admin: address("adminAddress")?,
            process,
        })
    }

    /// Points the registered configuration to an address, and waits until a webhook has put its
    /// authority there.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) async fn register_webhook(
        &self,
        cluster: &Cluster,
        address: SocketAddr,
    ) -> Result<()> {
        register(cluster, &address.to_string()).await
    }

    /// Ends the webhook as a rolling update does.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) async fn end_webhook(&self) -> Result<ExitStatus> {
        let process = self.webhook.lock().unwrap().take();
        let process = process.context("the webhook is not running")?;
        process.terminate_and_wait(READY).await
    }

    /// Ends the webhook and starts it anew.
    ///
    /// # Errors
    /// When it does not end or does not become ready.
    pub(crate) async fn restart_webhook(&self, cluster: &Cluster) -> Result<()> {
        let status = self.end_webhook().await?;
        ensure!(status.success(), "the webhook ended with {status}");
        self.start_webhook(cluster).await
    }

    /// The webhook's log.
    ///
    /// # Errors
    /// When it is not running.
    pub(crate) fn webhook_log(&self) -> Result<PathBuf> {
        let webhook = self.webhook.lock().unwrap();
        Ok(webhook
            .as_ref()
            .context("the webhook is not running")?
            .log()
            .to_owned())
    }
}

/// Points the entries of the registered configuration to the address, and waits until the webhook
/// has put its authority into each of them.
async fn register(cluster: &Cluster, address: &str) -> Result<()> {
    let configurations = Api::<MutatingWebhookConfiguration>::all(cluster.client().await?);
    let entries = async || {
        let found = configurations.get("rrsa").await?;
        anyhow::Ok(found.webhooks.unwrap_or_default())
    };
    let operations: Vec<Value> = entries()
        .await?
        .into_iter()
        .enumerate()
        .flat_map(|(index, entry)| {
            let path = format!("/webhooks/{index}/clientConfig");
            let service = entry.client_config.service.as_ref();
            let mapped = service.and_then(|service| service.path.clone());
            let url = format!(
                "https://{address}{}",
                mapped.as_deref().unwrap_or("/mutate")
            );
            let drop_service =
                service.map(|_| json!({"op": "remove", "path": format!("{path}/service")}));
            let set_url = json!({"op": "add", "path": format!("{path}/url"), "value": url});
            // The webhook answers within 3 s or not at all; a handshake on a busy machine may not.
            let patience = json!({
                "op": "replace", "path": format!("/webhooks/{index}/timeoutSeconds"), "value": 30,
            });
            drop_service.into_iter().chain([set_url, patience])
        })
        .collect();
    ensure!(
        !operations.is_empty(),
        "the webhook configuration has no entries"
    );
    let patch = Patch::Json::<()>(serde_json::from_value(Value::Array(operations))?);
    configurations
        .patch("rrsa", &PatchParams::default(), &patch)
        .await?;
    wait::until("the caBundle of each entry", READY, async || {
        let set = entries()
            .await?
            .iter()
            .all(|entry| entry.client_config.ca_bundle.is_some());
        Ok(set.then_some(()))
    })
    .await
}
