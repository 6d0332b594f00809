//! Keeps the `caBundle` of the registered webhook right: the API server must trust the authority
//! that signs our certificates.
//!
//! Whoever installs us owns the MutatingWebhookConfiguration; we own that one field of it. So it
//! is set by a JSON Patch on entries that exist, each guarded by its name, and nothing is ever
//! created: server-side apply would make us an owner of the whole entry and break upgrades.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::serving::api_cause;
use crate::serving::keeper::Keeper;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(15);
/// Pause after a write, so that two who disagree cannot race.
const PAUSE: Duration = Duration::from_secs(2);

/// The configuration that is kept right.
pub struct Registration {
    api: Api<MutatingWebhookConfiguration>,
    name: String,
    keeper: Arc<Keeper>,
    bundle: watch::Receiver<String>,
}

impl Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registration")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Registration {
    /// The configuration of that name, to trust what that keeper signs with.
    #[must_use]
    pub fn new(client: Client, name: &str, keeper: Arc<Keeper>) -> Self {
        let bundle = keeper.bundle();
        Self {
            api: Api::all(client),
            name: name.to_owned(),
            keeper,
            bundle,
        }
    }

    /// Keeps it right for ever.
    pub async fn run(mut self) {
        let only = Config::default().fields(&format!("metadata.name={}", self.name));
        let mut events = pin!(watcher(self.api.clone(), only).default_backoff());
        let mut seen = Seen::Unknown;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => seen.take(event, &self.name),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "watch of the webhook configuration interrupted");
                    }
                    None => return,
                },
                Ok(()) = self.bundle.changed() => {}
                () = sleep(RETRY) => {}
            }
            if let Seen::There(configuration) = &seen {
                self.mend(configuration).await;
            }
        }
    }

    async fn mend(&mut self, configuration: &MutatingWebhookConfiguration) {
        if plan(configuration, &self.bundle.borrow_and_update()).is_none() {
            return;
        }
        // Another replica may have made a new authority since: its word and ours must be the
        // same before we write.
        if let Err(error) = self.keeper.refresh().await {
            tracing::warn!(%error, "the authority cannot be followed, caBundle is left as it is");
            return;
        }
        let Some(patch) = plan(configuration, &self.bundle.borrow_and_update()) else {
            return;
        };
        let (params, patch) = (PatchParams::default(), Patch::<()>::Json(patch));
        let call = timeout(CALL_TIMEOUT, self.api.patch(&self.name, &params, &patch)).await;
        match call {
            Ok(Ok(_)) => tracing::info!(name = self.name, "caBundle set"),
            // Changed or deleted meanwhile: the watch brings what is there now.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409 | 422) => {
                tracing::info!(
                    name = self.name,
                    "caBundle not set, the entries have changed"
                );
            }
            Ok(Err(error)) => {
                tracing::warn!(error = api_cause(&error), "caBundle cannot be set");
            }
            Err(_) => tracing::warn!("caBundle cannot be set: no answer within {CALL_TIMEOUT:?}"),
        }
        sleep(PAUSE).await;
    }
}

/// What the watch has shown.
enum Seen {
    /// Nothing yet.
    Unknown,
    /// There is none.
    Missing,
    There(Box<MutatingWebhookConfiguration>),
}

impl Seen {
    fn take(&mut self, event: Event<MutatingWebhookConfiguration>, name: &str) {
        match event {
            Event::Init => *self = Self::Unknown,
            Event::InitApply(there) | Event::Apply(there) => *self = Self::There(Box::new(there)),
            Event::InitDone if !matches!(self, Self::Unknown) => {}
            Event::InitDone | Event::Delete(_) => {
                tracing::warn!(
                    name,
                    "there is no such MutatingWebhookConfiguration: no pod is sent here; apply \
                     the manifests or the chart"
                );
                *self = Self::Missing;
            }
        }
    }
}

/// The patch that makes every entry trust the bundle; `None`: all do, or there is no bundle yet.
#[must_use]
pub fn plan(
    configuration: &MutatingWebhookConfiguration,
    bundle: &str,
) -> Option<json_patch::Patch> {
    if bundle.is_empty() {
        return None;
    }
    let mut operations = Vec::new();
    let entries = configuration.webhooks.iter().flatten().enumerate();
    for (index, entry) in entries {
        let trusted = entry.client_config.ca_bundle.as_ref();
        if trusted.is_some_and(|trusted| trusted.0 == bundle.as_bytes()) {
            continue;
        }
        let encoded = k8s_openapi::ByteString(bundle.as_bytes().to_vec());
        operations.push(json!({
            "op": "test", "path": format!("/webhooks/{index}/name"), "value": entry.name}));
        operations.push(json!({
            "op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"),
            "value": encoded}));
    }
    if operations.is_empty() {
        return None;
    }
    // The operations above have the shape that is asked for.
    serde_json::from_value(operations.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn configuration(bundles: &[Option<&str>]) -> MutatingWebhookConfiguration {
        let entries: Vec<Value> = bundles
            .iter()
            .enumerate()
            .map(|(index, bundle)| {
                let mut client = json!({"service": {"name": "s", "namespace": "n"}});
                if let Some(bundle) = bundle {
                    client["caBundle"] = json!(k8s_openapi::ByteString(bundle.as_bytes().to_vec()));
                }
                json!({"name": format!("w{index}.rrsa.io"), "clientConfig": client,
                    "admissionReviewVersions": ["v1"], "sideEffects": "None"})
            })
            .collect();
        serde_json::from_value(json!({"metadata": {"name": "rrsa"}, "webhooks": entries})).unwrap()
    }

    #[test]
    fn only_entries_that_differ_are_patched_and_each_is_guarded_by_its_name() {
        let before = configuration(&[Some("new"), None, Some("old")]);
        let patch = plan(&before, "new").unwrap();
        let written = serde_json::to_value(&patch).unwrap();
        assert_eq!(
            written,
            json!([
                {"op": "test", "path": "/webhooks/1/name", "value": "w1.rrsa.io"},
                {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": "bmV3"},
                {"op": "test", "path": "/webhooks/2/name", "value": "w2.rrsa.io"},
                {"op": "add", "path": "/webhooks/2/clientConfig/caBundle", "value": "bmV3"},
            ])
        );
        let mut document = serde_json::to_value(&before).unwrap();
        json_patch::patch(&mut document, &patch).unwrap();
        let after = serde_json::from_value(document).unwrap();
        assert_eq!(plan(&after, "new"), None);
    }

    #[test]
    fn an_emptied_bundle_is_repaired() {
        assert!(plan(&configuration(&[Some("")]), "new").is_some());
    }

    #[test]
    fn nothing_is_done_without_a_bundle_or_without_entries() {
        assert_eq!(plan(&configuration(&[None]), ""), None);
        assert_eq!(plan(&configuration(&[]), "new"), None);
    }
}
