//! What the cluster looks like, kept by watches of the metadata alone: two maps of a few texts
//! for each namespace and ServiceAccount.
//!
//! What a map does not have may be younger than its watch, so it is asked for before anything is
//! decided: a ServiceAccount and its pod created in one breath belong together.

use std::collections::HashMap;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, Resource};
use tokio::time::timeout;

use super::facts::{
    Cluster, Found, FromMetadata, LookupError, NamespaceFacts, ServiceAccountFacts,
};
use super::lookups::Lookups;
use crate::serving::api_cause;
use crate::serving::readiness::{Condition, Readiness};
use crate::world::{BoxFuture, Clock};

/// How long one question to the API server may take.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// The real cluster.
pub struct Caches {
    client: Client,
    namespaces: Cache<NamespaceFacts>,
    accounts: Cache<ServiceAccountFacts>,
}

impl Debug for Caches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caches").finish_non_exhaustive()
    }
}

impl Caches {
    /// Empty ones, with a condition each that is met when they are listed.
    #[must_use]
    pub fn new(client: Client, clock: &Arc<dyn Clock>, readiness: &Readiness) -> Self {
        let condition = |name| readiness.condition(name, "not listed yet");
        Self {
            client,
            namespaces: Cache::new(Arc::clone(clock), condition("namespaces")),
            accounts: Cache::new(Arc::clone(clock), condition("serviceaccounts")),
        }
    }

    /// Follows the cluster for ever.
    pub async fn run(&self) {
        let namespaces = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
        let accounts = Api::<PartialObjectMeta<ServiceAccount>>::all(self.client.clone());
        tokio::join!(
            self.namespaces.follow(namespaces),
            self.accounts.follow(accounts)
        );
    }
}

impl Cluster for Caches {
    fn cached_namespace(&self, name: &str) -> Option<Arc<NamespaceFacts>> {
        self.namespaces.get(name)
    }

    fn cached_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<ServiceAccountFacts>> {
        self.accounts.get(&key(Some(namespace), name))
    }

    fn namespace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Found<NamespaceFacts>> {
        let api = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
        Box::pin(
            self.namespaces
                .lookups
                .find(name, move || ask(api, "namespace", name)),
        )
    }

    fn service_account<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Found<ServiceAccountFacts>> {
        Box::pin(async move {
            let key = key(Some(namespace), name);
            let client = self.client.clone();
            let api = Api::<PartialObjectMeta<ServiceAccount>>::namespaced(client, namespace);
            self.accounts
                .lookups
                .find(&key, move || ask(api, "ServiceAccount", name))
                .await
        })
    }
}

/// One question to the API server.
fn ask<K, T>(api: Api<PartialObjectMeta<K>>, kind: &str, name: &str) -> BoxFuture<'static, Found<T>>
where
    K: Resource + Clone + Debug + Send + Sync + 'static,
    T: FromMetadata,
{
    let (name, what) = (name.to_owned(), format!("{kind} {name}"));
    Box::pin(async move {
        let cause = match timeout(LOOKUP_TIMEOUT, api.get_opt(&name)).await {
            Ok(Ok(found)) => {
                return Ok(found.map(|object| Arc::new(T::from_metadata(&object.metadata))));
            }
            Ok(Err(error)) => api_cause(&error),
            Err(_) => format!("no answer within {LOOKUP_TIMEOUT:?}"),
        };
        Err(LookupError { what, cause })
    })
}

/// `namespace/name`, or the name alone.
fn key(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(
        || name.to_owned(),
        |namespace| format!("{namespace}/{name}"),
    )
}

/// Facts by key.
type Facts<T> = HashMap<Box<str>, Arc<T>>;

/// The objects of one kind.
#[derive(Debug)]
struct Cache<T> {
    known: RwLock<Facts<T>>,
    /// Most objects say nothing to us; they share one value.
    nothing: Arc<T>,
    lookups: Lookups<T>,
    condition: Condition,
}

impl<T: FromMetadata> Cache<T> {
    fn new(clock: Arc<dyn Clock>, condition: Condition) -> Self {
        Self {
            known: RwLock::default(),
            nothing: Arc::default(),
            lookups: Lookups::new(clock),
            condition,
        }
    }

    fn get(&self, key: &str) -> Option<Arc<T>> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
    }

    async fn follow<K>(&self, api: Api<PartialObjectMeta<K>>)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    {
        let mut events = pin!(watcher(api, Config::default()).default_backoff());
        let mut listed = Facts::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.apply(event, &mut listed),
                Err(error) => {
                    let kind = K::kind(&());
                    tracing::warn!(%kind, %error, "watch interrupted, trying again");
                }
            }
        }
    }

    fn apply<K>(&self, event: Event<PartialObjectMeta<K>>, listed: &mut Facts<T>) {
        match event {
            Event::Init => *listed = Facts::new(),
            Event::InitApply(object) => self.put(listed, &object.metadata),
            Event::InitDone => {
                listed.shrink_to_fit();
                *self.write() = std::mem::take(listed);
                self.condition.ready();
            }
            Event::Apply(object) => self.put(&mut self.write(), &object.metadata),
            Event::Delete(object) => {
                self.write().remove(key_of(&object.metadata).as_str());
            }
        }
    }

    fn put(&self, into: &mut Facts<T>, metadata: &ObjectMeta) {
        let facts = T::from_metadata(metadata);
        let facts = if facts == *self.nothing {
            Arc::clone(&self.nothing)
        } else {
            Arc::new(facts)
        };
        into.insert(key_of(metadata).into(), facts);
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Facts<T>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of(metadata: &ObjectMeta) -> String {
    key(
        metadata.namespace.as_deref(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::annotations::official;
    use crate::world::SystemClock;

    type Account = PartialObjectMeta<ServiceAccount>;

    fn account(name: &str, role: Option<&str>) -> Account {
        let annotation = |role: &str| [(official::ROLE_NAME.to_owned(), role.to_owned())].into();
        PartialObjectMeta {
            metadata: ObjectMeta {
                namespace: Some("team-a".to_owned()),
                name: Some(name.to_owned()),
                annotations: role.map(annotation),
                ..ObjectMeta::default()
            },
            ..PartialObjectMeta::default()
        }
    }

    fn cache(readiness: &Readiness) -> Cache<ServiceAccountFacts> {
        Cache::new(
            Arc::new(SystemClock),
            readiness.condition("serviceaccounts", "not listed yet"),
        )
    }

    #[expect(
        clippy::option_option,
        reason = "unknown, known without a role, known with one"
    )]
    fn role_of(cache: &Cache<ServiceAccountFacts>, name: &str) -> Option<Option<String>> {
        let facts = cache.get(&format!("team-a/{name}"))?;
        Some(facts.role_name.as_deref().map(ToOwned::to_owned))
    }

    #[test]
    fn the_cache_is_ready_when_all_are_listed_and_follows_from_there() {
        let readiness = Readiness::new();
        let (cache, mut listed) = (cache(&readiness), Facts::new());
        let mut apply = |event| cache.apply::<ServiceAccount>(event, &mut listed);
        apply(Event::Init);
        apply(Event::InitApply(account("a", Some("role-a"))));
        apply(Event::InitApply(account("b", None)));
        assert!(!readiness.report().is_ready());
        assert_eq!(role_of(&cache, "a"), None);
        apply(Event::InitDone);
        assert!(readiness.report().is_ready());
        assert_eq!(role_of(&cache, "a"), Some(Some("role-a".to_owned())));
        assert_eq!(role_of(&cache, "b"), Some(None));
        apply(Event::Apply(account("b", Some("role-b"))));
        apply(Event::Delete(account("a", None)));
        // A tombstone of what is not there, and the same event twice.
        apply(Event::Delete(account("z", None)));
        apply(Event::Apply(account("b", Some("role-b"))));
        assert_eq!(role_of(&cache, "a"), None);
        assert_eq!(role_of(&cache, "b"), Some(Some("role-b".to_owned())));
    }

    #[test]
    fn a_new_list_replaces_the_old_one_at_once() {
        let readiness = Readiness::new();
        let (cache, mut listed) = (cache(&readiness), Facts::new());
        let mut apply = |event| cache.apply::<ServiceAccount>(event, &mut listed);
        apply(Event::Init);
        apply(Event::InitApply(account("old", None)));
        apply(Event::InitDone);
        apply(Event::Init);
        apply(Event::InitApply(account("new", None)));
        assert_eq!(
            (role_of(&cache, "old"), role_of(&cache, "new")),
            (Some(None), None)
        );
        apply(Event::InitDone);
        assert_eq!(
            (role_of(&cache, "old"), role_of(&cache, "new")),
            (None, Some(None))
        );
    }

    #[test]
    fn objects_that_say_nothing_share_one_value() {
        let readiness = Readiness::new();
        let (cache, mut listed) = (cache(&readiness), Facts::new());
        for event in [
            Event::Init,
            Event::InitApply(account("a", None)),
            Event::InitDone,
        ] {
            cache.apply::<ServiceAccount>(event, &mut listed);
        }
        assert!(Arc::ptr_eq(&cache.get("team-a/a").unwrap(), &cache.nothing));
    }
}
