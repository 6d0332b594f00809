//! The bindings as their watch shows them. Each is kept as one text: as a structure with its dozens of
//! strings it would take three times the memory, and it is read a few times in an hour.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;
use serde::Deserialize;
use tracing::error;

use super::status::{fold, is_ready, unfold};
use crate::api::v1alpha1::{AlibabaRoleBinding, CredentialSource};
use crate::injection::bindings::{BindingFacts, BindingView};

/// Annotations that somebody here reads begin so.
const OWN_ANNOTATIONS: &str = "rrsa.io/";

/// Namespace and name of a binding. Clones share one text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Of the binding of this name in that namespace.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }

    /// Of this binding.
    #[must_use]
    pub fn of(binding: &AlibabaRoleBinding) -> Self {
        let ObjectMeta {
            namespace, name, ..
        } = &binding.metadata;
        Self::new(
            namespace.as_deref().unwrap_or_default(),
            name.as_deref().unwrap_or_default(),
        )
    }

    /// Whether the binding is in that namespace.
    pub(super) fn is_in(&self, namespace: &str) -> bool {
        let rest = self.0.strip_prefix(namespace);
        rest.is_some_and(|rest| rest.starts_with('/'))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is asked of all bindings at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether its credentials are ready; unknown without a status.
    pub ready: Option<bool>,
    /// Whether they came from the node's role.
    pub on_fallback: bool,
    /// Whether it asks for the pods of its `ServiceAccount`.
    pub injects_pods: bool,
    /// Whether nothing is to be done for it.
    pub suspended: bool,
}

impl Standing {
    fn of(binding: &AlibabaRoleBinding) -> Self {
        let status = binding.status.as_ref();
        Self {
            ready: status
                .filter(|status| !status.conditions.is_empty())
                .map(is_ready),
            on_fallback: status
                .is_some_and(|status| status.source == Some(CredentialSource::EcsMetadata)),
            injects_pods: binding.spec.inject_pods,
            suspended: binding.spec.suspend,
        }
    }
}

/// One binding in memory.
#[derive(Debug)]
struct Kept {
    /// The binding as JSON, without what nobody here reads.
    text: Box<[u8]>,
    standing: Standing,
}

impl Kept {
    fn of(mut binding: AlibabaRoleBinding) -> Option<Self> {
        let standing = Standing::of(&binding);
        binding.metadata.managed_fields = None;
        binding.metadata.labels = None;
        if let Some(annotations) = &mut binding.metadata.annotations {
            annotations.retain(|key, _| key.starts_with(OWN_ANNOTATIONS));
        }
        binding.status = binding.status.map(fold);
        match serde_json::to_vec(&binding) {
            Ok(text) => Some(Self {
                text: text.into(),
                standing,
            }),
            Err(cause) => {
                error!("AlibabaRoleBinding {:?}: {cause}", Name::of(&binding));
                None
            }
        }
    }

    fn read(&self) -> Option<AlibabaRoleBinding> {
        // What was written here a moment ago reads back; if it did not, the binding would be as good
        // as gone, and nothing is ever done about one of those.
        let mut binding: AlibabaRoleBinding = serde_json::from_slice(&self.text)
            .inspect_err(|cause| error!("a binding does not read back: {cause}"))
            .ok()?;
        binding.status = binding.status.map(unfold);
        Some(binding)
    }

    fn uid(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Identity {
            metadata: Uid,
        }
        #[derive(Deserialize)]
        struct Uid {
            uid: Option<String>,
        }
        let identity: Identity = serde_json::from_slice(&self.text).ok()?;
        identity.metadata.uid
    }
}

/// What the watch changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// This binding is new or another than before.
    Shown(Name),
    /// These are gone.
    Gone(Vec<Name>),
    /// A list is under way.
    Listing,
    /// A list is complete. These turned out to be gone.
    Listed(Vec<Name>),
}

/// All bindings; clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Bindings(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    kept: HashMap<Name, Kept>,
    /// Those that a list under way has not named yet.
    unnamed: HashSet<Name>,
}

impl Bindings {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held cannot leave the maps half-written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the watch shows.
    pub(super) fn take_in(&self, event: Event<AlibabaRoleBinding>) -> Change {
        match event {
            Event::Init => {
                let mut state = self.state();
                state.unnamed = state.kept.keys().cloned().collect();
                Change::Listing
            }
            Event::InitApply(binding) | Event::Apply(binding) => {
                let name = Name::of(&binding);
                let kept = Kept::of(binding);
                let mut state = self.state();
                state.unnamed.remove(&name);
                if let Some(kept) = kept {
                    state.kept.insert(name.clone(), kept);
                }
                Change::Shown(name)
            }
            Event::Delete(binding) => {
                let name = Name::of(&binding);
                self.state().kept.remove(&name);
                Change::Gone(vec![name])
            }
            Event::InitDone => {
                let mut state = self.state();
                let gone: Vec<_> = std::mem::take(&mut state.unnamed).into_iter().collect();
                for name in &gone {
                    state.kept.remove(name);
                }
                Change::Listed(gone)
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state().kept.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state().kept.is_empty()
    }

    /// One binding.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<AlibabaRoleBinding> {
        self.state().kept.get(name)?.read()
    }

    /// What the webhook knows of one.
    #[must_use]
    pub fn facts(&self, name: &Name) -> Option<BindingFacts> {
        let state = self.state();
        let view: BindingView = serde_json::from_slice(&state.kept.get(name)?.text).ok()?;
        Some(view.into())
    }

    /// How one of them stands.
    #[must_use]
    pub fn standing(&self, name: &Name) -> Option<Standing> {
        self.state().kept.get(name).map(|kept| kept.standing)
    }

    /// The names of those that stand so.
    #[must_use]
    pub fn names(&self, counts: impl Fn(Standing) -> bool) -> Vec<Name> {
        let state = self.state();
        let counted = state.kept.iter().filter(|(_, kept)| counts(kept.standing));
        counted.map(|(name, _)| name.clone()).collect()
    }

    /// Shows how each of them stands.
    pub fn each_standing(&self, see: impl FnMut(Standing)) {
        self.state()
            .kept
            .values()
            .map(|kept| kept.standing)
            .for_each(see);
    }

    /// The UIDs of all.
    #[must_use]
    pub fn uids(&self) -> HashSet<String> {
        self.state().kept.values().filter_map(Kept::uid).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn binding(name: &str, status: &serde_json::Value) -> AlibabaRoleBinding {
        serde_json::from_value(json!({
            "apiVersion": "rrsa.io/v1alpha1", "kind": "AlibabaRoleBinding",
            "metadata": {
                "name": name, "namespace": "team-a", "uid": format!("uid-{name}"),
                "resourceVersion": "7", "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"nobody": "reads-me"},
                "annotations": {"rrsa.io/refresh-requested-at": "now", "kubectl.kubernetes.io/last-applied-configuration": "{}"},
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": {
                "role": {"name": "app"}, "serviceAccountName": "app", "injectPods": true,
                "assume": [{"arn": "acs:ram::1:role/next"}],
                "secret": {"name": "s", "formats": ["env"], "template": {"K": "{{ region }}"}},
            },
            "status": status,
        }))
        .unwrap()
    }

    fn ready(name: &str) -> AlibabaRoleBinding {
        let condition = |kind: &str, message: &str| {
            json!({
                "type": kind, "status": "True", "reason": "CredentialsFresh", "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 2,
            })
        };
        binding(
            name,
            &json!({
                "conditions": [
                    condition("Ready", "credentials of acs:ram::1:role/app until 2026-01-01T01:00:00Z"),
                    condition("CredentialsIssued", "the last exchange succeeded"),
                    condition("SecretSynced", "the Secret holds what was issued last"),
                ],
                "source": "OIDC", "roleArn": "acs:ram::1:role/app", "expiration": "2026-01-01T01:00:00Z",
            }),
        )
    }

    #[test]
    fn what_is_kept_is_the_binding_without_what_nobody_reads() {
        let bindings = Bindings::default();
        let shown = ready("a");
        assert_eq!(
            bindings.take_in(Event::Apply(shown.clone())),
            Change::Shown(Name::new("team-a", "a"))
        );
        let kept = bindings.get(&Name::of(&shown)).unwrap();
        assert_eq!((&kept.spec, &kept.status), (&shown.spec, &shown.status));
        assert_eq!(bindings.facts(&Name::of(&shown)), BindingFacts::of(&shown));
        let mut metadata = shown.metadata;
        metadata.managed_fields = None;
        metadata.labels = None;
        metadata
            .annotations
            .as_mut()
            .unwrap()
            .remove("kubectl.kubernetes.io/last-applied-configuration");
        assert_eq!(kept.metadata, metadata);
        let state = bindings.state();
        let text = &state.kept.values().next().unwrap().text;
        assert!(!String::from_utf8_lossy(text).contains("the last exchange succeeded"));
    }

    #[test]
    fn a_list_of_everything_names_who_is_gone() {
        let bindings = Bindings::default();
        let names = |gone: &[&str]| gone.iter().map(|name| Name::new("team-a", name)).collect();
        for event in [
            Event::Init,
            Event::InitApply(ready("a")),
            Event::InitApply(ready("b")),
        ] {
            bindings.take_in(event);
        }
        assert_eq!(
            bindings.take_in(Event::InitDone),
            Change::Listed(Vec::new())
        );
        bindings.take_in(Event::Init);
        bindings.take_in(Event::InitApply(ready("b")));
        // Whoever asks in between sees what was known.
        assert_eq!(bindings.len(), 2);
        assert_eq!(
            bindings.take_in(Event::InitDone),
            Change::Listed(names(&["a"]))
        );
        assert_eq!(bindings.uids(), HashSet::from(["uid-b".to_owned()]));
        assert_eq!(
            bindings.take_in(Event::Delete(ready("b"))),
            Change::Gone(names(&["b"]))
        );
        assert!(bindings.is_empty());
    }

    #[test]
    fn standings_follow_the_bindings() {
        let bindings = Bindings::default();
        let mut by_node = ready("b");
        by_node.status.as_mut().unwrap().source = Some(CredentialSource::EcsMetadata);
        for shown in [ready("a"), by_node, binding("c", &json!(null))] {
            bindings.take_in(Event::Apply(shown));
        }
        let mut ready = Vec::new();
        bindings.each_standing(|standing| ready.push(standing.ready));
        ready.sort_unstable();
        assert_eq!(ready, [None, Some(true), Some(true)]);
        assert_eq!(
            bindings.names(|standing| standing.on_fallback),
            [Name::new("team-a", "b")]
        );
        let asking = bindings.names(|standing| standing.injects_pods);
        assert_eq!(asking.len(), 3);
        assert!(
            asking
                .iter()
                .all(|name| name.is_in("team-a") && !name.is_in("team"))
        );
    }
}
