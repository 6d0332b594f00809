//! Keeps the `caBundle` of the registered webhook right: the API server must trust the authority
//! that signs our certificates.
//!
//! Whoever installs us owns the MutatingWebhookConfiguration; we own that one field of it. So it
//! is set by a JSON Patch on entries that exist, each guarded by its name, and nothing is ever
//! created: server-side apply would make us an owner of the whole entry and break upgrades.
//!
//! An entry that calls somebody else is left alone and reported, and who keeps undoing what we
//! write is answered ever more seldom: two who disagree must not wear the API server out.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, WebhookClientConfig,
};
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::contract::FIELD_MANAGER;
use crate::serving::api_cause;
use crate::serving::keeper::Keeper;
use crate::serving::observed::Observed;
use crate::world::Clock;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(15);
/// Pause after a write, so that two who disagree cannot race.
const PAUSE: Duration = Duration::from_secs(2);
/// How often the same bundle is set within [`QUARREL`] before somebody else is undoing it.
const PATIENCE: usize = 5;
/// How long writes are remembered, and how long that somebody has the last word then.
const QUARREL: Duration = Duration::from_mins(10);

/// By which names the API server calls this webhook.
#[derive(Debug, Clone)]
pub struct Callee {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Names of the certificate, for calls by URL.
    pub server_names: Vec<String>,
}

impl Callee {
    /// Whether an entry calls this webhook.
    fn is_called_by(&self, client: &WebhookClientConfig) -> bool {
        if let Some(service) = &client.service {
            return service.name == self.service && service.namespace == self.namespace;
        }
        let host = client.url.as_deref().and_then(|url| {
            let url = url::Url::parse(url).ok()?;
            Some(url.host_str()?.trim_matches(['[', ']']).to_owned())
        });
        host.is_some_and(|host| self.server_names.contains(&host))
    }
}

/// The configuration that is kept right.
pub struct Registration {
    api: Api<MutatingWebhookConfiguration>,
    name: String,
    callee: Callee,
    keeper: Arc<Keeper>,
    clock: Arc<dyn Clock>,
    bundle: watch::Receiver<String>,
    observed: Observed,
    quarrel: Quarrel,
    /// Foreign entries that were reported.
    foreign: Vec<String>,
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
    pub fn new(
        client: Client,
        name: &str,
        callee: Callee,
        keeper: Arc<Keeper>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (bundle, observed) = (keeper.bundle(), keeper.observed());
        // Until the watch has shown what is registered, there may be anybody who calls.
        observed.unknown();
        Self {
            api: Api::all(client),
            name: name.to_owned(),
            callee,
            keeper,
            clock,
            bundle,
            observed,
            quarrel: Quarrel::default(),
            foreign: Vec::new(),
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
            self.observe(&seen);
            if let Seen::There(configuration) = &seen {
                self.mend(configuration).await;
            }
        }
    }

    /// Tells the keeper what the API servers trust, and a person about entries that are not ours.
    fn observe(&mut self, seen: &Seen) {
        let configuration = match seen {
            // What was seen last still holds while the watch starts anew.
            Seen::Unknown => return,
            Seen::Missing => {
                self.observed.no_client();
                return;
            }
            Seen::There(configuration) => configuration,
        };
        let entries = || configuration.webhooks.iter().flatten();
        let (ours, foreign): (Vec<_>, Vec<_>) =
            entries().partition(|entry| self.callee.is_called_by(&entry.client_config));
        let bundle = |entry: &MutatingWebhook| entry.client_config.ca_bundle.clone();
        let bundles: Vec<_> = ours
            .iter()
            .map(|entry| bundle(entry).map(|bundle| bundle.0).unwrap_or_default())
            .collect();
        let bundles = bundles.iter().map(Vec::as_slice);
        self.observed.registered(bundles, self.clock.now());
        let foreign: Vec<_> = foreign.iter().map(|entry| entry.name.clone()).collect();
        if foreign != self.foreign && !foreign.is_empty() {
            tracing::error!(
                name = self.name,
                entries = foreign.join(", "),
                service = format!("{}/{}", self.callee.namespace, self.callee.service),
                "these entries call another webhook and are left alone; two installations must \
                 not share the name of a MutatingWebhookConfiguration"
            );
        }
        self.foreign = foreign;
    }

    async fn mend(&mut self, configuration: &MutatingWebhookConfiguration) {
        let now = self.clock.now();
        let bundle = self.bundle.borrow_and_update().clone();
        if plan(configuration, &self.callee, &bundle).is_none() {
            return;
        }
        let contested = is_contested(configuration, &self.callee, &bundle);
        if contested && !self.quarrel.may_write(&bundle, now) {
            return;
        }
        // Another replica may have made a new authority since: its word and ours must be the
        // same before we write.
        if let Err(error) = self.keeper.refresh().await {
            if contested {
                tracing::warn!(%error, "the authority cannot be followed, caBundle is left as it is");
                return;
            }
            // An emptied one trusts nobody: what is known here is better.
            tracing::warn!(%error, "the authority cannot be followed, caBundle is set to the one known last");
        }
        let bundle = self.bundle.borrow_and_update().clone();
        let Some(patch) = plan(configuration, &self.callee, &bundle) else {
            return;
        };
        if contested && self.quarrel.note(bundle, now) {
            tracing::error!(
                name = self.name,
                "somebody keeps changing caBundle of these entries; it is set again every \
                 {QUARREL:?} only. Tell the tool that owns them to ignore that field"
            );
        }
        // Who meets this field's owner in a conflict must know the name.
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::<()>::Json(patch);
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

/// Notices that somebody undoes what is written here.
#[derive(Debug, Default)]
struct Quarrel {
    bundle: String,
    writes: VecDeque<DateTime<Utc>>,
}

impl Quarrel {
    fn may_write(&mut self, bundle: &str, now: DateTime<Utc>) -> bool {
        // A time from the future is none: the clock was set.
        let recent = |at: &DateTime<Utc>| (now - at).to_std().is_ok_and(|age| age < QUARREL);
        self.writes.retain(recent);
        bundle != self.bundle || self.writes.len() < PATIENCE
    }

    /// Notes a write; `true`: it is the last one for now.
    fn note(&mut self, bundle: String, now: DateTime<Utc>) -> bool {
        if bundle != self.bundle {
            // A new word is no repetition.
            self.writes.clear();
            self.bundle = bundle;
        }
        self.writes.push_back(now);
        self.writes.len() == PATIENCE
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

/// Whether somebody else has put a bundle of his own there. An emptied one is no quarrel: it is
/// what a tool does that knows nothing of the field.
fn is_contested(
    configuration: &MutatingWebhookConfiguration,
    callee: &Callee,
    bundle: &str,
) -> bool {
    configuration.webhooks.iter().flatten().any(|entry| {
        let trusted = entry.client_config.ca_bundle.as_ref();
        callee.is_called_by(&entry.client_config)
            && trusted.is_some_and(|there| !there.0.is_empty() && there.0 != bundle.as_bytes())
    })
}

/// The patch that makes every entry that calls us trust the bundle; `None`: all do, or there is no
/// bundle yet.
#[must_use]
pub fn plan(
    configuration: &MutatingWebhookConfiguration,
    callee: &Callee,
    bundle: &str,
) -> Option<json_patch::Patch> {
    if bundle.is_empty() {
        return None;
    }
    let mut operations = Vec::new();
    let entries = configuration.webhooks.iter().flatten().enumerate();
    for (index, entry) in entries {
        if !callee.is_called_by(&entry.client_config) {
            continue;
        }
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
    use rstest::rstest;
    use serde_json::Value;

    fn callee() -> Callee {
        Callee {
            namespace: "n".to_owned(),
            service: "s".to_owned(),
            server_names: vec![
                "s.n.svc".to_owned(),
                "127.0.0.1".to_owned(),
                "::1".to_owned(),
            ],
        }
    }

    fn planned(
        configuration: &MutatingWebhookConfiguration,
        bundle: &str,
    ) -> Option<json_patch::Patch> {
        plan(configuration, &callee(), bundle)
    }

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
        let patch = planned(&before, "new").unwrap();
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
        assert_eq!(planned(&after, "new"), None);
    }

    #[rstest]
    #[case::service(json!({"service": {"name": "s", "namespace": "n"}}), true)]
    #[case::other_service(json!({"service": {"name": "t", "namespace": "n"}}), false)]
    #[case::other_namespace(json!({"service": {"name": "s", "namespace": "m"}}), false)]
    #[case::address(json!({"url": "https://127.0.0.1:8443/mutate"}), true)]
    #[case::address_of_ipv6(json!({"url": "https://[::1]:8443/mutate"}), true)]
    #[case::name(json!({"url": "https://s.n.svc/mutate"}), true)]
    #[case::other_name(json!({"url": "https://example.com/s.n.svc"}), false)]
    #[case::nothing(json!({}), false)]
    fn an_entry_of_somebody_else_is_left_alone(#[case] client: Value, #[case] ours: bool) {
        let client: WebhookClientConfig = serde_json::from_value(client).unwrap();
        assert_eq!(callee().is_called_by(&client), ours);
        let mut there = configuration(&[None]);
        there.webhooks.as_mut().unwrap()[0].client_config = client;
        assert_eq!(planned(&there, "new").is_some(), ours);
    }

    #[test]
    fn who_undoes_what_is_written_is_not_fought() {
        let now = DateTime::UNIX_EPOCH;
        let mut quarrel = Quarrel::default();
        for write in 1..=PATIENCE {
            assert!(quarrel.may_write("a", now));
            assert_eq!(quarrel.note("a".to_owned(), now), write == PATIENCE);
        }
        assert!(!quarrel.may_write("a", now));
        assert!(quarrel.may_write("a", now + QUARREL));
        assert!(!quarrel.note("a".to_owned(), now + QUARREL));
        // A rotation writes often, but never the same.
        for bundle in 0..20 {
            let bundle = bundle.to_string();
            assert!(quarrel.may_write(&bundle, now + QUARREL));
            assert!(!quarrel.note(bundle, now + QUARREL));
        }
    }

    #[rstest]
    #[case::back_a_day(-1)]
    #[case::forward_a_year(365)]
    #[case::asleep_for_a_week(7)]
    fn after_a_jump_of_the_clock_no_quarrel_lasts_longer(#[case] days: i64) {
        let now = DateTime::UNIX_EPOCH;
        let mut quarrel = Quarrel::default();
        for _ in 0..PATIENCE {
            quarrel.note("a".to_owned(), now);
        }
        let jumped = now + chrono::TimeDelta::days(days);
        for write in 1..=PATIENCE {
            assert!(quarrel.may_write("a", jumped));
            assert_eq!(quarrel.note("a".to_owned(), jumped), write == PATIENCE);
        }
        assert!(!quarrel.may_write("a", jumped), "nor is it a licence");
    }

    #[test]
    fn an_emptied_bundle_is_no_quarrel() {
        let contested = |there| is_contested(&configuration(&[there]), &callee(), "new");
        assert!(!contested(None) && !contested(Some("")) && !contested(Some("new")));
        assert!(contested(Some("old")));
    }

    #[test]
    fn an_emptied_bundle_is_repaired() {
        assert!(planned(&configuration(&[Some("")]), "new").is_some());
    }

    #[test]
    fn nothing_is_done_without_a_bundle_or_without_entries() {
        assert_eq!(planned(&configuration(&[None]), ""), None);
        assert_eq!(planned(&configuration(&[]), "new"), None);
    }
}
