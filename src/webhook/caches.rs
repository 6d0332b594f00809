//! What the cluster looks like, kept by watches: a few texts for each namespace, ServiceAccount and
//! binding. Objects go into the maps as the pages of a list arrive, so no list is ever held whole.
//!
//! What a map does not have may be younger than its watch, so it is asked for before anything is
//! decided: a ServiceAccount and its pod created in one breath belong together.

use std::collections::HashMap;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt;
use kube::api::ListParams;
use kube::core::ObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, Resource};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::lookups::Lookups;
use super::metadata::metadata_only;
use crate::injection::bindings::{BindingFacts, BindingView, Bindings};
use crate::injection::facts::{
    Cluster, Found, FromMetadata, LookupError, NamespaceFacts, ServiceAccountFacts,
};
use crate::injection::views::{NamespaceView, ServiceAccountView};
use crate::serving::api_cause;
use crate::serving::readiness::{Condition, Readiness};
use crate::world::{BoxFuture, Clock};

/// How long one question to the API server may take.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// How many objects one answer of a list holds: while it is decoded, it is in memory twice, and
/// whoever may write a ServiceAccount may give it 256 KiB of annotations.
const PAGE: u32 = 100;

/// What is said of a kind until then.
const NOT_LISTED: &str = "not listed yet";

const NAMESPACES: &str = "namespaces";
const ACCOUNTS: &str = "serviceaccounts";
const BINDINGS: &str = "alibabarolebindings";

/// The real cluster.
pub struct Caches {
    client: Client,
    /// Reads metadata alone.
    metadata: Client,
    /// How often each watch broke off.
    interruptions: Family<[(&'static str, &'static str); 1], Counter>,
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
        let condition = |name| readiness.condition(name, NOT_LISTED);
        Self {
            metadata: metadata_only(client.clone()),
            client,
            interruptions: Family::default(),
            namespaces: Cache::new(Arc::clone(clock), condition(NAMESPACES)),
            accounts: Cache::new(Arc::clone(clock), condition(ACCOUNTS)),
            bindings: BindingCache::new(Arc::clone(clock), condition(BINDINGS)),
        }
    }

    /// Registers what is counted here.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "watch_interruptions",
            "How often the API server could not be listed or watched, so that the cache may be old, by resource",
            self.interruptions.clone(),
        );
    }

    /// Follows the cluster for ever.
    pub async fn run(&self) {
        let metadata = || self.metadata.clone();
        tokio::join!(
            self.follow(
                Api::<NamespaceView>::all(metadata()),
                (NAMESPACES, &self.namespaces.condition),
                |event| self.namespaces.apply(event),
            ),
            self.follow(
                Api::<ServiceAccountView>::all(metadata()),
                (ACCOUNTS, &self.accounts.condition),
                |event| self.accounts.apply(event),
            ),
            self.follow(
                Api::<BindingView>::all(self.client.clone()),
                (BINDINGS, &self.bindings.condition),
                |event| self.bindings.apply(event),
            ),
        );
    }

    /// Follows the objects of one kind for ever. Until they are listed, the condition says why not.
    async fn follow<K>(
        &self,
        api: Api<K>,
        (resource, condition): (&'static str, &Condition),
        mut apply: impl FnMut(Event<K>),
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let interruptions = self
            .interruptions
            .get_or_create_owned(&[("resource", resource)]);
        let config = Config::default().page_size(PAGE);
        let mut events = pin!(watcher(api, config).default_backoff());
        let mut listed = false;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    listed |= matches!(event, Event::InitDone);
                    apply(event);
                }
                Err(error) => {
                    interruptions.inc();
                    if !listed {
                        condition.not_ready(format!("{NOT_LISTED}: {}", cause(&error)));
                    }
                    tracing::warn!(resource, %error, "watch interrupted, trying again");
                }
            }
        }
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
        let api = Api::<NamespaceView>::all(self.metadata.clone());
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
            let client = self.metadata.clone();
            let api = Api::<ServiceAccountView>::namespaced(client, namespace);
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

/// Why a list failed.
fn cause(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error) => api_cause(error),
        other => other.to_string(),
    }
}

/// One question to the API server.
fn ask<K, T>(api: Api<K>, kind: &str, name: &str) -> BoxFuture<'static, Found<T>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    T: FromMetadata,
{
    let (name, what) = (name.to_owned(), format!("{kind} {name}"));
    Box::pin(async move {
        let cause = match timeout(LOOKUP_TIMEOUT, api.get_opt(&name)).await {
            Ok(Ok(found)) => {
                return Ok(found.map(|object| Arc::new(T::from_metadata(object.meta()))));
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
            // Without the definition there are none.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(None),
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

/// The objects of one kind.
#[derive(Debug)]
struct Cache<T> {
    known: RwLock<Known>,
    /// Most objects say nothing to us; they share one value.
    nothing: Arc<T>,
    lookups: Lookups<T>,
    condition: Condition,
}

/// Facts by key.
#[derive(Debug, Default)]
struct Known {
    by_key: HashMap<Box<str>, Seen>,
    /// Number of the list that is under way or was the last one.
    list: u32,
}

#[derive(Debug)]
struct Seen {
    /// The facts as JSON, which leaves out what is not there: of the few texts that can be, nearly
    /// every object has one or none. Empty where there is none.
    facts: Box<str>,
    /// The list in which, or after which, the object was there. What a whole list did not have is
    /// gone; until its end nobody can tell.
    list: u32,
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
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let facts = &known.by_key.get(key)?.facts;
        if facts.is_empty() {
            return Some(Arc::clone(&self.nothing));
        }
        // What is there was written by `facts`, so it can be read; else the API server is asked.
        serde_json::from_str(facts).ok().map(Arc::new)
    }

    fn apply<K: Resource>(&self, event: Event<K>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => known.list = known.list.wrapping_add(1),
            Event::InitApply(object) | Event::Apply(object) => {
                let metadata = object.meta();
                let (facts, list) = (self.facts(metadata), known.list);
                let seen = Seen { facts, list };
                known.by_key.insert(key_of(metadata).into(), seen);
            }
            Event::InitDone => {
                let list = known.list;
                known.by_key.retain(|_, seen| seen.list == list);
                known.by_key.shrink_to_fit();
                self.condition.ready();
            }
            Event::Delete(object) => {
                known.by_key.remove(key_of(object.meta()).as_str());
            }
        }
    }

    fn facts(&self, metadata: &ObjectMeta) -> Box<str> {
        let facts = T::from_metadata(metadata);
        if facts == *self.nothing {
            return Box::default();
        }
        serde_json::to_string(&facts).unwrap_or_default().into()
    }
}

/// The bindings of each namespace that has some.
#[derive(Debug)]
struct BindingCache {
    known: RwLock<KnownBindings>,
    none: Arc<Bindings>,
    lookups: Lookups<Bindings>,
    condition: Condition,
}

#[derive(Debug, Default)]
struct KnownBindings {
    by_namespace: HashMap<Box<str>, Arc<Bindings>>,
    /// While a list is under way: what it had so far. Bindings decide by what else there is, so they
    /// change all at once.
    listed: HashMap<Box<str>, Vec<BindingFacts>>,
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
        Arc::clone(known.by_namespace.get(namespace).unwrap_or(&self.none))
    }

    fn apply(&self, event: Event<BindingView>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => known.listed = HashMap::new(),
            Event::InitApply(view) => {
                let listed = known.listed.entry(namespace_of(&view.metadata));
                listed.or_default().push(view.into());
            }
            Event::InitDone => {
                let sorted = std::mem::take(&mut known.listed).into_iter();
                known.by_namespace = sorted
                    .map(|(namespace, all)| (namespace, Arc::new(all.into_iter().collect())))
                    .collect();
                self.condition.ready();
            }
            Event::Apply(view) => {
                let namespace = namespace_of(&view.metadata);
                let bindings = known.by_namespace.entry(namespace).or_default();
                Arc::make_mut(bindings).put(view.into());
            }
            Event::Delete(view) => {
                let namespace = namespace_of(&view.metadata);
                if let Some(bindings) = known.by_namespace.get_mut(&namespace) {
                    let left = Arc::make_mut(bindings);
                    left.remove(view.metadata.name.as_deref().unwrap_or_default());
                    if left.is_empty() {
                        known.by_namespace.remove(&namespace);
                    }
                }
            }
        }
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
    use crate::contract::annotations::{self, official};
    use crate::world::SystemClock;

    fn account(name: &str, role: Option<&str>) -> ServiceAccountView {
        let annotation = |role: &str| [(official::ROLE_NAME.to_owned(), role.to_owned())].into();
        ServiceAccountView {
            metadata: ObjectMeta {
                namespace: Some("team-a".to_owned()),
                name: Some(name.to_owned()),
                annotations: role.map(annotation),
                ..ObjectMeta::default()
            },
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
        let cache = cache(&readiness);
        let apply = |event| cache.apply(event);
        apply(Event::Init);
        apply(Event::InitApply(account("a", Some("role-a"))));
        apply(Event::InitApply(account("b", None)));
        assert!(!readiness.report().is_ready());
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
    fn what_a_new_list_does_not_have_is_forgotten_at_its_end() {
        let readiness = Readiness::new();
        let cache = cache(&readiness);
        let apply = |event| cache.apply(event);
        let known = || ["gone", "kept", "new"].map(|name| role_of(&cache, name).is_some());
        apply(Event::Init);
        apply(Event::InitApply(account("gone", None)));
        apply(Event::InitApply(account("kept", None)));
        apply(Event::InitDone);
        apply(Event::Apply(account("new", None)));
        // A list that breaks off has seen only a part.
        apply(Event::Init);
        apply(Event::InitApply(account("gone", None)));
        assert_eq!(known(), [true, true, true]);
        apply(Event::Init);
        apply(Event::InitApply(account("kept", Some("role"))));
        assert_eq!(known(), [true, true, true]);
        assert_eq!(role_of(&cache, "kept"), Some(Some("role".to_owned())));
        apply(Event::InitApply(account("new", None)));
        apply(Event::InitDone);
        assert_eq!(known(), [false, true, true]);
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
        cache.apply(Event::Init);
        cache.apply(Event::InitApply(view("a")));
        assert!(!readiness.report().is_ready());
        assert_eq!(count(&cache), 0);
        cache.apply(Event::InitDone);
        assert!(readiness.report().is_ready());
        let snapshot = cache.get("team-a");
        cache.apply(Event::Apply(view("b")));
        cache.apply(Event::Apply(view("b")));
        assert_eq!((count(&cache), snapshot.of_account("app").len()), (2, 1));
        for name in ["z", "a", "b", "b"] {
            cache.apply(Event::Delete(view(name)));
        }
        assert!(cache.known.read().unwrap().by_namespace.is_empty());
    }

    /// Whoever may write an annotation must not decide how much memory the webhook takes.
    #[test]
    fn of_very_many_and_very_large_objects_a_few_texts_are_kept() {
        const KEYS: [&str; 7] = [
            annotations::ROLE_ARN,
            annotations::MODE,
            annotations::FALLBACK,
            annotations::BINDING,
            official::ROLE_NAME,
            official::TOKEN_EXPIRATION,
            official::INJECT_STS_ENDPOINT,
        ];
        let readiness = Readiness::new();
        let accounts = cache(&readiness);
        let namespaces = Cache::<NamespaceFacts>::new(
            Arc::new(SystemClock),
            readiness.condition("namespaces", "not listed yet"),
        );
        let noise = || ("example.com/note".to_owned(), "x".repeat(1000));
        namespaces.apply(Event::<NamespaceView>::Init);
        for n in 0..10_000 {
            let on = (official::INJECTION.to_owned(), "on".to_owned());
            let metadata = ObjectMeta {
                name: Some(format!("team-{n}")),
                labels: Some([noise(), on].into()),
                annotations: Some([noise()].into()),
                ..ObjectMeta::default()
            };
            namespaces.apply(Event::InitApply(NamespaceView { metadata }));
        }
        namespaces.apply(Event::<NamespaceView>::InitDone);
        accounts.apply(Event::<ServiceAccountView>::Init);
        for n in 0..50_000 {
            let mut account = account(&format!("app-{n}"), Some("a-role"));
            let texts = account.metadata.annotations.as_mut().unwrap();
            texts.extend([noise()]);
            accounts.apply(Event::InitApply(account));
        }
        accounts.apply(Event::<ServiceAccountView>::InitDone);
        let average = texts(&namespaces) / 10_000 + texts(&accounts) / 50_000;
        assert!(
            average < 100,
            "{average} bytes for a name and a word or two"
        );
        assert!(size_of::<(Box<str>, Seen)>() <= 40);

        let before = texts(&accounts);
        let mut large = account("large", None);
        let megabyte = "r".repeat(1 << 20);
        let texts_of_it = KEYS.map(|key| (key.to_owned(), megabyte.clone()));
        large.metadata.annotations = Some(texts_of_it.into());
        accounts.apply(Event::Apply(large));
        let more = texts(&accounts) - before;
        assert!(more < 7 * 600, "{more} bytes for seven values");
        // What is cut is there, and is no role: it must not look like an account without one.
        let role = role_of(&accounts, "large").unwrap().unwrap();
        assert!(role.ends_with('…'), "{role}");
    }

    /// How many bytes of text are kept.
    fn texts<T>(cache: &Cache<T>) -> usize {
        let known = cache.known.read().unwrap();
        let kept = known.by_key.iter();
        kept.map(|(key, seen)| key.len() + seen.facts.len()).sum()
    }

    #[test]
    fn objects_that_say_nothing_share_one_value() {
        let readiness = Readiness::new();
        let cache = cache(&readiness);
        for event in [
            Event::Init,
            Event::InitApply(account("a", None)),
            Event::InitDone,
        ] {
            cache.apply(event);
        }
        assert!(Arc::ptr_eq(&cache.get("team-a/a").unwrap(), &cache.nothing));
    }
}
