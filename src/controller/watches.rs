//! The metadata-only watches of Secrets and `ServiceAccount`s: they feed the indexes and wake the
//! bindings that an event concerns.

use std::sync::Arc;

use futures::channel::mpsc;
use futures::{SinkExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Resource as _, ResourceExt};
use tokio::sync::watch;
use tracing::warn;

use super::secrets::{SecretFacts, SecretIndex};
use super::service_accounts::ServiceAccountIndex;
use crate::api::v1alpha1::AlibabaRoleBinding;
use crate::contract::MANAGED_BY_LABEL;

/// Names of bindings to look at.
pub(super) type Wake = mpsc::Sender<ObjectRef<AlibabaRoleBinding>>;

/// Objects a page of a list holds.
const PAGE: u32 = 500;

/// Follows our Secrets for ever. `listed` turns true when the first list is complete.
pub(super) async fn secrets(
    client: kube::Client,
    index: Arc<SecretIndex>,
    mut wake: Wake,
    listed: watch::Sender<bool>,
) {
    let selector = format!("{}={}", MANAGED_BY_LABEL.0, MANAGED_BY_LABEL.1);
    let config = watcher::Config::default().labels(&selector).page_size(PAGE);
    let mut events = events(
        "Secrets",
        watch_objects(Api::<PartialObjectMeta<Secret>>::all(client), config),
    );
    while let Some(event) = events.next().await {
        match event {
            Event::Init => index.begin_relist(),
            Event::InitApply(secret) => {
                take_in(&index, &secret);
            }
            Event::InitDone => {
                let gone = index.end_relist();
                // The first list comes before any binding is looked at.
                if listed.send_replace(true) {
                    for (namespace, facts) in gone {
                        if let Some(owner) = facts.owner_name {
                            let _ = wake.send(ObjectRef::new(&owner).within(&namespace)).await;
                        }
                    }
                }
            }
            Event::Apply(secret) => {
                // Who owned it until now must learn that it is somebody else's.
                let namespace = secret.namespace().unwrap_or_default();
                let before = index.get(&namespace, &secret.name_any());
                take_in(&index, &secret);
                wake_owner(&mut wake, &secret).await;
                let after = secret.owner_references().iter();
                let mut owners = after.filter(|owner| owner.controller == Some(true));
                if let Some(before) = before
                    && let Some(former) = before.owner_name
                    && !owners.any(|owner| Some(&owner.uid) == before.owner_uid.as_ref())
                {
                    let _ = wake.send(ObjectRef::new(&former).within(&namespace)).await;
                }
            }
            Event::Delete(secret) => {
                let namespace = secret.namespace().unwrap_or_default();
                let uid = secret.uid().unwrap_or_default();
                index.remove(&namespace, &secret.name_any(), &uid);
                wake_owner(&mut wake, &secret).await;
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
    let owner = secret.owner_references().iter().find(|owner| {
        owner.controller == Some(true) && owner.kind == AlibabaRoleBinding::kind(&())
    });
    if let Some(owner) = owner {
        // An error means that the controller is gone, and this task ends with it.
        let _ = wake
            .send(ObjectRef::new(&owner.name).within(&namespace))
            .await;
    }
}

/// Follows all `ServiceAccount`s for ever. `listed` turns true when the first list is complete.
pub(super) async fn service_accounts(
    client: kube::Client,
    index: Arc<ServiceAccountIndex>,
    bindings: Store<AlibabaRoleBinding>,
    mut wake: Wake,
    listed: watch::Sender<bool>,
) {
    let config = watcher::Config::default().page_size(PAGE);
    let mut events = events(
        "ServiceAccounts",
        watch_objects(
            Api::<PartialObjectMeta<ServiceAccount>>::all(client),
            config,
        ),
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
        if changed.is_empty() {
            continue;
        }
        for binding in bindings.state() {
            let concerned = changed.iter().any(|(namespace, name)| {
                binding.metadata.namespace.as_ref() == Some(namespace)
                    && binding.spec.service_account_name.as_ref() == Some(name)
            });
            if concerned {
                let _ = wake.send(ObjectRef::from_obj(binding.as_ref())).await;
            }
        }
    }
}

/// The events of a watch that heals itself; its errors are logged and waited out.
fn events<K: Send + 'static>(
    what: &'static str,
    stream: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
) -> impl Stream<Item = Event<K>> + Send + Unpin
where
    Event<K>: Send,
{
    Box::pin(
        stream
            .default_backoff()
            .filter_map(move |event| async move {
                event
                    .inspect_err(|error| warn!("watch of {what}: {error}"))
                    .ok()
            }),
    )
}
