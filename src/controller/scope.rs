//! Where the controller looks: everywhere by one watch, or in each of some namespaces by a watch of
//! its own, for which a Role there is enough. Whoever follows sees one list and its changes either way.

use std::collections::BTreeMap;
use std::fmt::Debug;

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _};
use kube::runtime::watcher::{self, Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

/// Namespaces, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope(Vec<String>);

impl Scope {
    /// These namespaces; none: all.
    #[must_use]
    pub fn new(mut namespaces: Vec<String>) -> Self {
        namespaces.sort();
        namespaces.dedup();
        Self(namespaces)
    }

    /// Whether that is the whole cluster.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// The interfaces through which everything in scope is reached.
    pub(super) fn apis<K>(&self, client: &kube::Client) -> Vec<Api<K>>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        if self.0.is_empty() {
            return vec![Api::all(client.clone())];
        }
        self.0
            .iter()
            .map(|namespace| Api::namespaced(client.clone(), namespace))
            .collect()
    }

    /// Everything in scope and its changes, for ever; errors are waited out.
    pub(super) fn watch<K>(
        &self,
        client: &kube::Client,
        config: &Config,
    ) -> BoxStream<'static, watcher::Result<Event<K>>>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
        K::DynamicType: Default,
    {
        let mut each: Vec<_> = self
            .apis::<K>(client)
            .into_iter()
            .map(|api| watch(api, config.clone()).default_backoff().boxed())
            .collect();
        if each.len() == 1
            && let Some(only) = each.pop()
        {
            return only;
        }
        merge(each).boxed()
    }
}

/// One stream of many.
fn merge<K: Resource + Clone + Send + 'static>(
    each: Vec<BoxStream<'static, watcher::Result<Event<K>>>>,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
    let mut merge = Merge::new(each.len());
    let numbered = each
        .into_iter()
        .enumerate()
        .map(|(number, events)| events.map(move |event| (number, event)).boxed());
    stream::select_all(numbered).flat_map(move |(number, event)| {
        let events = match event {
            Ok(event) => merge.take(number, event).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(events)
    })
}

/// Makes one list of several, and from then on changes of it. Pure.
#[derive(Debug)]
struct Merge<K> {
    parts: Vec<Part<K>>,
    /// Whether the first list of all was passed on.
    listed: bool,
}

#[derive(Debug)]
struct Part<K> {
    known: BTreeMap<String, K>,
    /// A list under way.
    listing: Option<BTreeMap<String, K>>,
    listed: bool,
}

impl<K: Resource + Clone> Merge<K> {
    fn new(parts: usize) -> Self {
        let part = || Part {
            known: BTreeMap::new(),
            listing: None,
            listed: false,
        };
        Self {
            parts: std::iter::repeat_with(part).take(parts).collect(),
            listed: false,
        }
    }

    /// Takes in an event of one part; what the whole sees of it comes out.
    fn take(&mut self, number: usize, event: Event<K>) -> Vec<Event<K>> {
        let listed = self.listed;
        let Some(part) = self.parts.get_mut(number) else {
            return Vec::new();
        };
        match event {
            Event::Init => {
                part.listing = Some(BTreeMap::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(listing) = &mut part.listing {
                    listing.insert(object.name_any(), object);
                }
                Vec::new()
            }
            Event::InitDone => {
                let now = part.listing.take().unwrap_or_default();
                let before = std::mem::replace(&mut part.known, now);
                part.listed = true;
                if listed {
                    part.changes(before)
                } else {
                    self.first_list()
                }
            }
            Event::Apply(object) => {
                part.known.insert(object.name_any(), object.clone());
                of(listed, Event::Apply(object))
            }
            Event::Delete(object) => {
                part.known.remove(&object.name_any());
                of(listed, Event::Delete(object))
            }
        }
    }

    /// The first list of all, once every part has its own.
    fn first_list(&mut self) -> Vec<Event<K>> {
        if !self.parts.iter().all(|part| part.listed) {
            return Vec::new();
        }
        self.listed = true;
        let objects = self.parts.iter().flat_map(|part| part.known.values());
        let mut events = vec![Event::Init];
        events.extend(objects.cloned().map(Event::InitApply));
        events.push(Event::InitDone);
        events
    }
}

impl<K: Resource + Clone> Part<K> {
    /// What a new list of this part changes.
    fn changes(&self, before: BTreeMap<String, K>) -> Vec<Event<K>> {
        let version = |object: &K| object.resource_version();
        let changed: Vec<_> = self
            .known
            .iter()
            .filter(|(name, object)| before.get(*name).and_then(version) != version(object))
            .map(|(_, object)| Event::Apply(object.clone()))
            .collect();
        let gone = before
            .into_iter()
            .filter(|(name, _)| !self.known.contains_key(name))
            .map(|(_, object)| Event::Delete(object));
        gone.chain(changed).collect()
    }
}

/// Before the first list of all is passed on, changes are part of it.
fn of<K>(listed: bool, event: Event<K>) -> Vec<Event<K>> {
    if listed { vec![event] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Secret;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn secret(namespace: &str, name: &str, version: &str) -> Secret {
        Secret {
            metadata: ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            ..Secret::default()
        }
    }

    fn said(events: Vec<Event<Secret>>) -> Vec<String> {
        let named = |word: &str, secret: Secret| {
            format!(
                "{word} {}/{}@{}",
                secret.namespace().unwrap(),
                secret.name_any(),
                secret.resource_version().unwrap()
            )
        };
        events
            .into_iter()
            .map(|event| match event {
                Event::Init => "init".to_owned(),
                Event::InitApply(secret) => named("listed", secret),
                Event::InitDone => "done".to_owned(),
                Event::Apply(secret) => named("apply", secret),
                Event::Delete(secret) => named("delete", secret),
            })
            .collect()
    }

    #[test]
    fn the_first_list_is_that_of_all_and_comes_once() {
        let mut merge = Merge::new(2);
        assert!(merge.take(0, Event::Init).is_empty());
        assert!(
            merge
                .take(0, Event::InitApply(secret("a", "x", "1")))
                .is_empty()
        );
        assert!(merge.take(0, Event::InitDone).is_empty());
        // Changes in one namespace while the other is not listed yet.
        assert!(
            merge
                .take(0, Event::Apply(secret("a", "y", "2")))
                .is_empty()
        );
        assert!(
            merge
                .take(0, Event::Delete(secret("a", "x", "1")))
                .is_empty()
        );
        assert!(merge.take(1, Event::Init).is_empty());
        assert!(
            merge
                .take(1, Event::InitApply(secret("b", "y", "3")))
                .is_empty()
        );
        assert_eq!(
            said(merge.take(1, Event::InitDone)),
            ["init", "listed a/y@2", "listed b/y@3", "done"]
        );
        assert_eq!(
            said(merge.take(1, Event::Apply(secret("b", "y", "4")))),
            ["apply b/y@4"]
        );
    }

    #[test]
    fn a_new_list_of_one_namespace_becomes_its_changes_and_touches_no_other() {
        let mut merge = Merge::new(2);
        for (number, namespace) in [(0, "a"), (1, "b")] {
            merge.take(number, Event::Init);
            for name in ["same", "other", "gone"] {
                merge.take(number, Event::InitApply(secret(namespace, name, "1")));
            }
            merge.take(number, Event::InitDone);
        }
        merge.take(0, Event::Init);
        for (name, version) in [("same", "1"), ("other", "2"), ("new", "3")] {
            merge.take(0, Event::InitApply(secret("a", name, version)));
        }
        assert_eq!(
            said(merge.take(0, Event::InitDone)),
            ["delete a/gone@1", "apply a/new@3", "apply a/other@2"]
        );
    }

    #[test]
    fn the_order_of_namespaces_and_repetitions_do_not_matter() {
        let scope = |names: &[&str]| Scope::new(names.iter().map(ToString::to_string).collect());
        assert_eq!(scope(&["b", "a", "b"]), scope(&["a", "b"]));
        assert_ne!(scope(&["a"]), scope(&[]));
    }
}
