//! What several bindings may ask for: a Secret or the pods of a `ServiceAccount`, which only one of
//! them can have, and the `ServiceAccount` itself.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use kube::runtime::watcher::Event;

use super::wanted::secret_name;
use crate::api::v1alpha1::AlibabaRoleBinding;
use crate::injection::bindings::BindingFacts;

/// The claims of all bindings, fed by their watch. Names are hashed: there are as many as bindings,
/// and the few that matter are looked up by what the hashes find.
#[derive(Debug, Default)]
pub struct Claims {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By thing and binding, so that all bindings that ask for one thing stand together; the value is
    /// the binding's name.
    names: BTreeMap<(u64, u64), Box<str>>,
    /// The things that a binding asks for.
    things: HashMap<u64, Things>,
    hasher: RandomState,
}

/// Hashes of what a binding asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Things {
    secret: u64,
    account: Option<u64>,
    /// If it asks for them.
    pods: Option<u64>,
    /// Whether those pods would get nothing of it: the others that ask for them say so.
    beyond_pods: bool,
}

impl Things {
    fn each(self) -> impl Iterator<Item = u64> {
        [Some(self.secret), self.account, self.pods]
            .into_iter()
            .flatten()
    }
}

impl State {
    fn thing(&self, kind: &str, namespace: &str, name: &str) -> u64 {
        self.hasher.hash_one((kind, namespace, name))
    }

    fn things(&self, binding: &AlibabaRoleBinding) -> Things {
        let namespace = binding.namespace().unwrap_or_default();
        let account = binding.spec.service_account_name.as_deref();
        let pods = account.filter(|_| binding.spec.inject_pods);
        Things {
            secret: self.thing(SECRET, &namespace, &secret_name(binding)),
            account: account.map(|account| self.thing(ACCOUNT, &namespace, account)),
            pods: pods.map(|account| self.thing(PODS, &namespace, account)),
            beyond_pods: pods.is_some() && is_beyond_pods(binding),
        }
    }

    fn binding(&self, binding: &AlibabaRoleBinding) -> u64 {
        let namespace = binding.namespace().unwrap_or_default();
        self.thing("binding", &namespace, &binding.name_any())
    }

    fn claimants(&self, thing: u64) -> Vec<String> {
        let claims = self.names.range((thing, 0)..=(thing, u64::MAX));
        claims.map(|(_, name)| name.to_string()).collect()
    }

    /// Returns who is left.
    fn withdraw(&mut self, binding: u64) -> Vec<String> {
        let Some(things) = self.things.remove(&binding) else {
            return Vec::new();
        };
        for thing in things.each() {
            self.names.remove(&(thing, binding));
        }
        // A ServiceAccount is the same whoever else uses it.
        let contested = std::iter::once(things.secret).chain(things.pods);
        contested.flat_map(|thing| self.claimants(thing)).collect()
    }

    fn claim(&mut self, binding: &AlibabaRoleBinding) -> Vec<String> {
        let key = self.binding(binding);
        let things = self.things(binding);
        if self.things.get(&key) == Some(&things) {
            return Vec::new();
        }
        let mut concerned = self.withdraw(key);
        // An older one that asks for the pods only now takes them from those that had them.
        concerned.extend(
            things
                .pods
                .map(|pods| self.claimants(pods))
                .into_iter()
                .flatten(),
        );
        self.things.insert(key, things);
        for thing in things.each() {
            self.names.insert((thing, key), binding.name_any().into());
        }
        concerned
    }
}

fn is_beyond_pods(binding: &AlibabaRoleBinding) -> bool {
    let given = BindingFacts::of(binding).and_then(|facts| facts.for_pods);
    given.is_some_and(|given| given.beyond_pods)
}

const SECRET: &str = "secret";
const PODS: &str = "pods";
const ACCOUNT: &str = "account";

impl Claims {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held cannot leave the maps apart: nothing in between fails.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the watch of bindings showed. Returns namespace and name of the others that it
    /// concerns.
    pub fn take_in(&self, event: &Event<AlibabaRoleBinding>) -> Vec<(String, String)> {
        let mut state = self.state();
        let (binding, left) = match event {
            Event::Init => {
                state.names.clear();
                state.things.clear();
                return Vec::new();
            }
            Event::InitDone => return Vec::new(),
            Event::InitApply(binding) | Event::Apply(binding) => (binding, state.claim(binding)),
            Event::Delete(binding) => {
                let key = state.binding(binding);
                (binding, state.withdraw(key))
            }
        };
        let namespace = binding.namespace().unwrap_or_default();
        left.into_iter()
            .map(|name| (namespace.clone(), name))
            .collect()
    }

    /// Names of the bindings that ask for this Secret.
    #[must_use]
    pub fn claimants(&self, namespace: &str, secret: &str) -> Vec<String> {
        let state = self.state();
        state.claimants(state.thing(SECRET, namespace, secret))
    }

    /// Names of the bindings that exchange tokens of this `ServiceAccount`.
    #[must_use]
    pub fn claimants_of_account(&self, namespace: &str, service_account: &str) -> Vec<String> {
        let state = self.state();
        state.claimants(state.thing(ACCOUNT, namespace, service_account))
    }

    /// Names of the bindings that ask for the pods of this `ServiceAccount`.
    #[must_use]
    pub fn claimants_of_pods(&self, namespace: &str, service_account: &str) -> Vec<String> {
        let state = self.state();
        state.claimants(state.thing(PODS, namespace, service_account))
    }
}

/// The one that has it, where nobody has: the oldest, then the first by name. One that is on its way
/// out keeps nobody from it.
#[must_use]
pub fn first<'a>(
    rivals: impl IntoIterator<Item = &'a AlibabaRoleBinding>,
) -> Option<&'a AlibabaRoleBinding> {
    rivals
        .into_iter()
        .filter(|binding| binding.metadata.deletion_timestamp.is_none())
        .min_by_key(|binding| (age(binding), binding.metadata.name.clone()))
}

fn age(binding: &AlibabaRoleBinding) -> Option<i64> {
    let created = binding.metadata.creation_timestamp.as_ref();
    created.map(|time| time.0.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::Session;
    use serde_json::json;

    fn binding(name: &str, secret: &str, second: u32) -> AlibabaRoleBinding {
        serde_json::from_value(json!({
            "apiVersion": "rrsa.io/v1alpha1", "kind": "AlibabaRoleBinding",
            "metadata": {"name": name, "namespace": "team-a", "uid": name,
                "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z")},
            "spec": {"role": {"name": "app"}, "serviceAccountName": "app", "secret": {"name": secret}},
        }))
        .unwrap()
    }

    #[test]
    fn age_then_name_decides_and_who_goes_has_no_say() {
        let [old, young, twin] = [
            binding("b", "s", 1),
            binding("a", "s", 2),
            binding("c", "s", 1),
        ];
        assert_eq!(first([&young, &twin, &old]).unwrap().name_any(), "b");
        let mut going = old.clone();
        going.metadata.deletion_timestamp = going.metadata.creation_timestamp.clone();
        assert_eq!(first([&young, &going, &twin]).unwrap().name_any(), "c");
        assert!(first([&going]).is_none());
    }

    #[test]
    fn claims_follow_the_bindings() {
        let claims = Claims::default();
        let of = |secret: &str| {
            let mut names = claims.claimants("team-a", secret);
            names.sort();
            names
        };
        claims.take_in(&Event::Init);
        for (name, secret) in [("a", "s"), ("b", "other")] {
            claims.take_in(&Event::InitApply(binding(name, secret, 1)));
        }
        claims.take_in(&Event::InitDone);
        assert_eq!((of("s"), of("other")), (vec!["a".into()], vec!["b".into()]));
        // b changes its mind.
        claims.take_in(&Event::Apply(binding("b", "s", 1)));
        assert_eq!(of("s"), ["a", "b"]);
        assert!(of("other").is_empty());
        // The others hear of it when one goes.
        let left = claims.take_in(&Event::Delete(binding("a", "s", 1)));
        assert_eq!(left, [("team-a".to_owned(), "b".to_owned())]);
        assert_eq!(of("s"), ["b"]);
        assert_eq!(claims.claimants_of_account("team-a", "app"), ["b"]);
        // Pods are claimed by those that ask for them.
        let mut asking = binding("c", "t", 2);
        asking.spec.inject_pods = true;
        claims.take_in(&Event::Apply(asking.clone()));
        assert_eq!(claims.claimants_of_pods("team-a", "app"), ["c"]);
        let mut older = binding("d", "u", 1);
        older.spec.inject_pods = true;
        let concerned = claims.take_in(&Event::Apply(older.clone()));
        assert_eq!(concerned, [("team-a".to_owned(), "c".to_owned())]);
        // And whether the one that decides gives them anything.
        older.spec.session = Some(Session {
            policy: Some("{}".to_owned()),
            ..Session::default()
        });
        let concerned = claims.take_in(&Event::Apply(older.clone()));
        assert!(concerned.contains(&("team-a".to_owned(), "c".to_owned())));
        assert_eq!(claims.take_in(&Event::Apply(older)), []);
        asking.spec.inject_pods = false;
        claims.take_in(&Event::Apply(asking));
        assert_eq!(claims.claimants_of_pods("team-a", "app"), ["d"]);
        // A list of everything begins anew.
        claims.take_in(&Event::Init);
        assert!(of("s").is_empty());
    }
}
