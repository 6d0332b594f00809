//! The metadata-only watches of Secrets and `ServiceAccount`s: they feed the indexes and wake the
//! bindings that an event concerns.

use std::sync::Arc;

use futures::channel::mpsc;
use futures::{SinkExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tracing::warn;

use super::bindings::{Bindings, Name};
use super::claims::Claims;
use super::opt_in::OptedIn;
use super::scope::Scope;
use super::secrets::{SecretFacts, SecretIndex};
use super::service_accounts::ServiceAccountIndex;
use crate::contract::MANAGED_BY_LABEL;
use crate::contract::annotations::official;

/// Names of bindings to look at.
pub(super) type Wake = mpsc::Sender<Name>;

/// Objects a page of a list holds: of each list a page is in memory as it came and as objects.
pub(super) const PAGE: u32 = 250;

/// Follows our Secrets for ever. `listed` turns true when the first list is complete.
pub(super) async fn secrets(
    client: kube::Client,
    scope: Scope,
    index: Arc<SecretIndex>,
    claims: Arc<Claims>,
    mut wake: Wake,
    listed: watch::Sender<bool>,
) {
    let selector = format!("{}={}", MANAGED_BY_LABEL.0, MANAGED_BY_LABEL.1);
    let config = watcher::Config::default().labels(&selector).page_size(PAGE);
    let mut events = events(
        "Secrets",
        scope.watch::<PartialObjectMeta<Secret>>(&client, &config),
    );
    while let Some(event) = events.next().await {
        match event {
            Event::Init => index.begin_relist(),
            Event::InitApply(secret) => take_in(&index, &secret),
            Event::InitDone => {
                let gone = index.end_relist();
                // The first list comes before any binding is looked at.
                if listed.send_replace(true) {
                    for (namespace, facts) in gone {
                        wake_all(&mut wake, &namespace, facts.owner_name).await;
                    }
                }
            }
            Event::Apply(secret) => {
                // Who owned it until now must learn that it is somebody else's.
                let namespace = secret.namespace().unwrap_or_default();
                let before = index.get(&namespace, &secret.name_any());
                take_in(&index, &secret);
                wake_owner(&mut wake, &secret).await;
                let after = index.get(&namespace, &secret.name_any());
                if let Some(before) = before
                    && after.is_none_or(|after| after.owner_uid != before.owner_uid)
                {
                    wake_all(&mut wake, &namespace, before.owner_name).await;
                }
            }
            Event::Delete(secret) => {
                let namespace = secret.namespace().unwrap_or_default();
                let uid = secret.uid().unwrap_or_default();
                index.remove(&namespace, &secret.name_any(), &uid);
                wake_owner(&mut wake, &secret).await;
                // The name is free: those that wait for it look again.
                let waiting = claims.claimants(&namespace, &secret.name_any());
                wake_all(&mut wake, &namespace, waiting).await;
            }
        }
    }
}

fn take_in(index: &SecretIndex, secret: &PartialObjectMeta<Secret>) {
    if let Some(facts) = SecretFacts::of(&secret.metadata) {
        index.put(
            &secret.namespace().unwrap_or_default(),
            &secret.name_any(),
            facts,
        );
    }
}

async fn wake_owner(wake: &mut Wake, secret: &PartialObjectMeta<Secret>) {
    let namespace = secret.namespace().unwrap_or_default();
    let owner = SecretFacts::of(&secret.metadata).and_then(|facts| facts.owner_name);
    wake_all(wake, &namespace, owner).await;
}

async fn wake_all(wake: &mut Wake, namespace: &str, names: impl IntoIterator<Item = String>) {
    for name in names {
        // An error means that the controller is gone, and this task ends with it.
        let _ = wake.send(Name::new(namespace, &name)).await;
    }
}

/// Follows all `ServiceAccount`s for ever. `listed` turns true when the first list is complete.
pub(super) async fn service_accounts(
    client: kube::Client,
    scope: Scope,
    index: Arc<ServiceAccountIndex>,
    claims: Arc<Claims>,
    mut wake: Wake,
    listed: watch::Sender<bool>,
) {
    let config = watcher::Config::default().page_size(PAGE);
    let mut events = events(
        "ServiceAccounts",
        scope.watch::<PartialObjectMeta<ServiceAccount>>(&client, &config),
    );
    while let Some(event) = events.next().await {
        let changed = match event {
            Event::Init => {
                index.begin_relist();
                continue;
            }
            Event::InitApply(account) => {
                let uid = account.uid().unwrap_or_default();
                index.list(
                    &account.namespace().unwrap_or_default(),
                    &account.name_any(),
                    &uid,
                );
                continue;
            }
            Event::InitDone => {
                let changed = index.end_relist();
                if listed.send_replace(true) {
                    changed
                } else {
                    Vec::new()
                }
            }
            Event::Apply(account) => {
                let (namespace, name) =
                    (account.namespace().unwrap_or_default(), account.name_any());
                let uid = account.uid().unwrap_or_default();
                if !index.put(&namespace, &name, &uid) {
                    continue;
                }
                vec![(namespace, name)]
            }
            Event::Delete(account) => {
                let (namespace, name) =
                    (account.namespace().unwrap_or_default(), account.name_any());
                index.remove(&namespace, &name);
                vec![(namespace, name)]
            }
        };
        for (namespace, account) in changed {
            let concerned = claims.claimants_of_account(&namespace, &account);
            wake_all(&mut wake, &namespace, concerned).await;
        }
    }
}

/// Follows the namespaces that opted in to injection for ever. `listed` turns true when the first list
/// is complete.
pub(super) async fn opted_in(
    client: kube::Client,
    index: Arc<OptedIn>,
    bindings: Bindings,
    mut wake: Wake,
    listed: watch::Sender<bool>,
) {
    let selector = format!("{}={}", official::INJECTION, official::INJECTION_ON);
    let config = watcher::Config::default().labels(&selector).page_size(PAGE);
    let mut events = events(
        "namespaces",
        watch_objects(Api::<PartialObjectMeta<Namespace>>::all(client), config).default_backoff(),
    );
    while let Some(event) = events.next().await {
        let stays = !matches!(event, Event::Delete(_));
        let changed = match event {
            Event::Init => {
                index.begin_relist();
                continue;
            }
            Event::InitApply(namespace) => {
                index.list(&namespace.name_any());
                continue;
            }
            Event::InitDone => {
                let changed = index.end_relist();
                // The first list comes before any binding is looked at.
                if !listed.send_replace(true) {
                    continue;
                }
                changed
            }
            // A namespace that loses the label leaves the watch, and is shown as it was before.
            Event::Apply(namespace) | Event::Delete(namespace)
                if !index.put(&namespace.name_any(), stays && is_opted_in(&namespace)) =>
            {
                continue;
            }
            Event::Apply(namespace) | Event::Delete(namespace) => vec![namespace.name_any()],
        };
        for name in bindings.names(|standing| standing.injects_pods) {
            if changed.iter().any(|namespace| name.is_in(namespace)) {
                let _ = wake.send(name).await;
            }
        }
    }
}

fn is_opted_in(namespace: &PartialObjectMeta<Namespace>) -> bool {
    let label = namespace.labels().get(official::INJECTION);
    label.is_some_and(|value| value == official::INJECTION_ON)
        && namespace.metadata.deletion_timestamp.is_none()
}

/// The events of a watch that heals itself; its errors are logged and waited out.
pub(super) fn events<K: Send + 'static>(
    what: &'static str,
    stream: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
) -> impl Stream<Item = Event<K>> + Send + Unpin
where
    Event<K>: Send,
{
    Box::pin(stream.filter_map(move |event| async move {
        event
            .inspect_err(|error| warn!("watch of {what}: {error}"))
            .ok()
    }))
}
