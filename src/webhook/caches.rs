//! What the cluster looks like, kept by watches: a few texts for each namespace and
//! ServiceAccount, of whose objects only the metadata is asked for, and for each binding.
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
use kube::api::ListParams;
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::lookups::Lookups;
use crate::injection::bindings::{BindingFacts, BindingView, Bindings};
use crate::injection::facts::{
    Cluster, Found, FromMetadata, LookupError, NamespaceFacts, ServiceAccountFacts,
};
use crate::serving::api_cause;
use crate::serving::readiness::{Condition, Readiness};
use crate::world::{BoxFuture, Clock};

/// How long one question to the API server may take.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// How many bindings one answer of a list holds.
const PAGE: u32 = 500;

/// The real cluster.
pub struct Caches {
    client: Client,
    namespaces: Cache<NamespaceFacts>,
    accounts: Cache<ServiceAccountFacts>,
    bindings: BindingCache,
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
            bindings: BindingCache::new(Arc::clone(clock), condition("alibabarolebindings")),
        }
    }

    /// Follows the cluster for ever.
    pub async fn run(&self) {
        let namespaces = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
        let accounts = Api::<PartialObjectMeta<ServiceAccount>>::all(self.client.clone());
        let bindings = Api::<BindingView>::all(self.client.clone());
        let (mut listed_namespaces, mut listed_accounts) = (Facts::new(), Facts::new());
        let mut listed_bindings = Listed::new();
        tokio::join!(
            follow(namespaces, |event| self
                .namespaces
                .apply(event, &mut listed_namespaces)),
            follow(accounts, |event| self
                .accounts
                .apply(event, &mut listed_accounts)),
            follow(bindings, |event| self
                .bindings
                .apply(event, &mut listed_bindings)),
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

    fn cached_bindings(&self, namespace: &str) -> Arc<Bindings> {
        self.bindings.get(namespace)
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

    fn bindings<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Found<Bindings>> {
        let api = Api::<BindingView>::namespaced(self.client.clone(), namespace);
        Box::pin(
            self.bindings
                .lookups
                .find(namespace, move || ask_bindings(api, namespace)),
        )
    }
}

/// Follows the objects of one kind for ever.
async fn follow<K>(api: Api<K>, mut apply: impl FnMut(Event<K>))
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut events = pin!(watcher(api, Config::default()).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => apply(event),
            Err(error) => {
                let kind = K::kind(&());
                tracing::warn!(%kind, %error, "watch interrupted, trying again");
            }
        }
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

/// All bindings of a namespace, page by page.
fn ask_bindings(api: Api<BindingView>, namespace: &str) -> BoxFuture<'static, Found<Bindings>> {
    let what = format!("the bindings of namespace {namespace}");
    let list = async move {
        let mut all = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let answer = api.list(&page).await?;
            all.extend(answer.items.into_iter().map(BindingFacts::from));
            match answer.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok::<_, kube::Error>(Bindings::from_iter(all)),
            }
        }
    };
    Box::pin(async move {
        let cause = match timeout(LOOKUP_TIMEOUT, list).await {
            Ok(Ok(bindings)) => return Ok((!bindings.is_empty()).then(|| Arc::new(bindings))),
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

/// Bindings by namespace, while they are listed.
type Listed = HashMap<Box<str>, Vec<BindingFacts>>;

/// The bindings of each namespace that has some.
#[derive(Debug)]
struct BindingCache {
    known: RwLock<HashMap<Box<str>, Arc<Bindings>>>,
    none: Arc<Bindings>,
    lookups: Lookups<Bindings>,
    condition: Condition,
}

impl BindingCache {
    fn new(clock: Arc<dyn Clock>, condition: Condition) -> Self {
        Self {
            known: RwLock::default(),
            none: Arc::default(),
            lookups: Lookups::new(clock),
            condition,
        }
    }

    fn get(&self, namespace: &str) -> Arc<Bindings> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.get(namespace).unwrap_or(&self.none))
    }

    fn apply(&self, event: Event<BindingView>, listed: &mut Listed) {
        match event {
            Event::Init => *listed = Listed::new(),
            Event::InitApply(view) => listed
                .entry(namespace_of(&view.metadata))
                .or_default()
                .push(view.into()),
            Event::InitDone => {
                let sorted = std::mem::take(listed).into_iter();
                *self.write() = sorted
                    .map(|(namespace, all)| (namespace, Arc::new(all.into_iter().collect())))
                    .collect();
                self.condition.ready();
            }
            Event::Apply(view) => {
                let mut known = self.write();
                let bindings = known.entry(namespace_of(&view.metadata)).or_default();
                Arc::make_mut(bindings).put(view.into());
            }
            Event::Delete(view) => {
                let namespace = namespace_of(&view.metadata);
                let mut known = self.write();
                if let Some(bindings) = known.get_mut(&namespace) {
                    let left = Arc::make_mut(bindings);
                    left.remove(view.metadata.name.as_deref().unwrap_or_default());
                    if left.is_empty() {
                        known.remove(&namespace);
                    }
                }
            }
        }
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<Box<str>, Arc<Bindings>>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn namespace_of(metadata: &ObjectMeta) -> Box<str> {
    metadata.namespace.as_deref().unwrap_or_default().into()
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
    fn bindings_are_listed_then_followed_and_forgotten() {
        let readiness = Readiness::new();
        let condition = readiness.condition("alibabarolebindings", "not listed yet");
        let cache = BindingCache::new(Arc::new(SystemClock), condition);
        let view = |name: &str| -> BindingView {
            serde_json::from_value(serde_json::json!({
                "metadata": {"namespace": "team-a", "name": name},
                "spec": {"role": {"name": "app"}, "serviceAccountName": "app"}}))
            .unwrap()
        };
        let count = |cache: &BindingCache| cache.get("team-a").of_account("app").len();
        let mut listed = Listed::new();
        cache.apply(Event::Init, &mut listed);
        cache.apply(Event::InitApply(view("a")), &mut listed);
        assert!(!readiness.report().is_ready());
        assert_eq!(count(&cache), 0);
        cache.apply(Event::InitDone, &mut listed);
        assert!(readiness.report().is_ready());
        let snapshot = cache.get("team-a");
        cache.apply(Event::Apply(view("b")), &mut listed);
        cache.apply(Event::Apply(view("b")), &mut listed);
        assert_eq!((count(&cache), snapshot.of_account("app").len()), (2, 1));
        for name in ["z", "a", "b", "b"] {
            cache.apply(Event::Delete(view(name)), &mut listed);
        }
        assert!(cache.write().is_empty());
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
