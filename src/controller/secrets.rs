//! What the controller remembers of each of its Secrets: a few facts from a metadata-only watch,
//! never a value.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};

use super::reason::Reason;
use crate::contract::FIELD_MANAGER;
use crate::contract::annotations::secret as keys;

/// Facts about one Secret that carries our label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFacts {
    /// UID of the Secret.
    pub uid: String,
    /// Its version, as a precondition of the next write.
    pub resource_version: String,
    /// UID of its controller, or of the binding that its annotations name where it has none.
    pub owner_uid: Option<String>,
    /// The name that goes with that UID.
    pub owner_name: Option<String>,
    /// Whether it has no controller, so that it outlives its binding (`deletionPolicy: Retain`).
    pub retained: bool,
    /// When the credentials in it were issued.
    pub issued_at: Option<DateTime<Utc>>,
    /// When they end.
    pub expiration: Option<DateTime<Utc>>,
    /// What they were made from.
    pub inputs_hash: Option<String>,
    /// What its data was when it was written.
    pub data_hash: Option<String>,
    /// The refresh request that was answered last.
    pub refresh_answered: Option<String>,
    /// Why the node's role stood in for a token, if it did.
    pub fallback: Option<Reason>,
    /// Whether somebody but us has written data.
    pub foreign_data: bool,
    /// How many data keys are ours alone.
    pub own_keys: usize,
}

impl SecretFacts {
    /// Reads the facts off the metadata. `None` for an object without identity.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        let owner = meta
            .owner_references
            .iter()
            .flatten()
            .find(|reference| reference.controller == Some(true));
        let annotation = |key: &str| meta.annotations.as_ref()?.get(key).cloned();
        let time = |key: &str| {
            DateTime::parse_from_rfc3339(&annotation(key)?)
                .ok()
                .map(|t| t.with_timezone(&Utc))
        };
        let (own_keys, foreign_data) = data_owners(meta.managed_fields.as_deref().unwrap_or(&[]));
        let (owner_uid, owner_name) = owner.map_or_else(
            || (annotation(keys::BINDING_UID), annotation(keys::BINDING)),
            |owner| (Some(owner.uid.clone()), Some(owner.name.clone())),
        );
        Some(Self {
            uid: meta.uid.clone()?,
            resource_version: meta.resource_version.clone()?,
            owner_uid,
            owner_name,
            retained: owner.is_none(),
            issued_at: time(keys::ISSUED_AT),
            expiration: time(keys::EXPIRATION),
            inputs_hash: annotation(keys::INPUTS_HASH),
            data_hash: annotation(keys::DATA_HASH),
            refresh_answered: annotation(keys::REFRESH_ANSWERED),
            fallback: annotation(keys::FALLBACK)
                .map(|word| Reason::of_word(&word).unwrap_or(Reason::StsRefused)),
            foreign_data,
            own_keys,
        })
    }
}

/// Whose a Secret is, as a binding sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenure {
    /// This binding's.
    Own,
    /// An earlier binding of the same name left it: `deletionPolicy: Retain`.
    Inherited,
    /// Somebody else's.
    Foreign,
}

impl SecretFacts {
    /// Whose it is, as the binding of this name and UID sees it.
    ///
    /// Whoever may create Secrets can forge all of this. It gains them nothing: what counts as the
    /// binding's is written with credentials that they could read anyway, nothing is taken over
    /// without an exchange, and a Secret that stood there before the binding's first exchange never
    /// counts as its outcome (see [`plan`](super::plan)).
    #[must_use]
    pub fn tenure(&self, name: &str, uid: &str) -> Tenure {
        let same_uid = self.owner_uid.as_deref() == Some(uid);
        let same_name = self.owner_name.as_deref() == Some(name);
        match (self.retained, same_uid, same_name) {
            (false, true, _) | (true, true, true) => Tenure::Own,
            (true, false, true) => Tenure::Inherited,
            _ => Tenure::Foreign,
        }
    }
}

/// Counts our data keys and tells whether others wrote data too. A key that somebody removed is
/// missing from our count; one that somebody changed is in theirs.
fn data_owners(entries: &[ManagedFieldsEntry]) -> (usize, bool) {
    let mut own: Vec<&String> = Vec::new();
    let mut foreign = false;
    for entry in entries {
        let fields = entry
            .fields_v1
            .as_ref()
            .and_then(|fields| fields.0.get("f:data"));
        let Some(fields) = fields.and_then(serde_json::Value::as_object) else {
            continue;
        };
        if entry.manager.as_deref() == Some(FIELD_MANAGER) {
            own.extend(fields.keys().filter(|key| key.starts_with("f:")));
        } else {
            foreign = true;
        }
    }
    own.sort_unstable();
    own.dedup();
    (own.len(), foreign)
}

type Key = (String, String);

/// The facts of all our Secrets, fed by the watch and by our own writes.
#[derive(Debug, Default)]
pub struct SecretIndex {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    facts: BTreeMap<Key, SecretFacts>,
    /// Names seen since a re-list began, while one is under way.
    relist: Option<HashSet<Key>>,
}

impl SecretIndex {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held cannot leave the map half-written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The facts of one Secret.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<SecretFacts> {
        self.state()
            .facts
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Names of the Secrets of a namespace that the binding of this UID controls; not those that
    /// are to outlive it.
    #[must_use]
    pub fn owned_by(&self, namespace: &str, owner_uid: &str) -> Vec<(String, SecretFacts)> {
        self.state()
            .facts
            .range((namespace.to_owned(), String::new())..)
            .take_while(|((ns, _), _)| ns == namespace)
            .filter(|(_, facts)| !facts.retained && facts.owner_uid.as_deref() == Some(owner_uid))
            .map(|((_, name), facts)| (name.clone(), facts.clone()))
            .collect()
    }

    /// Shows of each Secret its namespace, the binding that it was made for, and when its credentials
    /// end, where that is known.
    pub fn each_expiration(&self, mut see: impl FnMut(&str, &str, DateTime<Utc>)) {
        let state = self.state();
        for ((namespace, _), facts) in &state.facts {
            if let (Some(binding), Some(expiration)) = (&facts.owner_name, facts.expiration) {
                see(namespace, binding, expiration);
            }
        }
    }

    /// Takes in what the watch or one of our writes showed; what is older than what is known is
    /// ignored.
    pub fn put(&self, namespace: &str, name: &str, facts: SecretFacts) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut state = self.state();
        if let Some(seen) = &mut state.relist {
            seen.insert(key.clone());
        }
        let known = state.facts.get(&key);
        if known.is_none_or(|known| !is_older(&facts.resource_version, &known.resource_version)) {
            state.facts.insert(key, facts);
        }
    }

    /// The Secret of this UID is gone.
    pub fn remove(&self, namespace: &str, name: &str, uid: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut state = self.state();
        if state.facts.get(&key).is_some_and(|facts| facts.uid == uid) {
            state.facts.remove(&key);
        }
    }

    /// A list of everything begins: what it does not name is gone when it ends.
    pub fn begin_relist(&self) {
        self.state().relist = Some(HashSet::new());
    }

    /// The list is complete. Returns what turned out to be gone, with its namespace.
    pub fn end_relist(&self) -> Vec<(String, SecretFacts)> {
        let mut state = self.state();
        let Some(seen) = state.relist.take() else {
            return Vec::new();
        };
        state
            .facts
            .extract_if(.., |key, _| !seen.contains(key))
            .map(|((namespace, _), facts)| (namespace, facts))
            .collect()
    }
}

/// Whether resource version `a` is older than `b`. They are numbers of one sequence (documented
/// as comparable since Kubernetes 1.35, and true of etcd before); anything else counts as newer.
#[must_use]
pub fn is_older(a: &str, b: &str) -> bool {
    matches!((a.parse::<u64>(), b.parse::<u64>()), (Ok(a), Ok(b)) if a < b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;
    use serde_json::json;

    fn facts(version: &str) -> SecretFacts {
        let meta: ObjectMeta =
            serde_json::from_value(json!({"uid": "u", "resourceVersion": version})).unwrap();
        SecretFacts::of(&meta).unwrap()
    }

    fn entry(manager: &str, keys: &[&str]) -> ManagedFieldsEntry {
        let fields: serde_json::Map<_, _> = keys
            .iter()
            .map(|key| (format!("f:{key}"), json!({})))
            .collect();
        ManagedFieldsEntry {
            manager: Some(manager.to_owned()),
            fields_v1: Some(FieldsV1(json!({"f:data": fields}))),
            ..ManagedFieldsEntry::default()
        }
    }

    #[test]
    fn foreign_writers_of_data_are_noticed() {
        assert_eq!(
            data_owners(&[entry("rrsa", &["a", "b"]), entry("rrsa", &["a"])]),
            (2, false)
        );
        assert_eq!(
            data_owners(&[entry("rrsa", &["a"]), entry("kubectl-edit", &["b"])]),
            (1, true)
        );
    }

    #[test]
    fn an_older_event_does_not_undo_our_own_write() {
        let index = SecretIndex::default();
        index.put("ns", "a", facts("10"));
        index.put("ns", "a", facts("9"));
        assert_eq!(index.get("ns", "a").unwrap().resource_version, "10");
    }

    #[test]
    fn what_a_list_does_not_name_is_gone() {
        let index = SecretIndex::default();
        index.put("ns", "a", facts("1"));
        index.begin_relist();
        index.put("ns", "b", facts("2"));
        assert_eq!(index.end_relist(), vec![("ns".to_owned(), facts("1"))]);
        assert!(index.get("ns", "a").is_none() && index.get("ns", "b").is_some());
    }

    #[test]
    fn the_deletion_of_a_predecessor_does_not_hide_its_successor() {
        let index = SecretIndex::default();
        index.put("ns", "a", facts("1"));
        index.remove("ns", "a", "another uid");
        assert!(index.get("ns", "a").is_some());
    }

    fn owned(meta: serde_json::Value) -> SecretFacts {
        let mut meta = meta;
        meta["uid"] = json!("secret");
        meta["resourceVersion"] = json!("1");
        SecretFacts::of(&serde_json::from_value(meta).unwrap()).unwrap()
    }

    #[test]
    fn a_controller_decides_whose_it_is_and_annotations_only_where_there_is_none() {
        let annotations = json!({keys::BINDING: "app", keys::BINDING_UID: "old"});
        let controller = |uid: &str| {
            json!([{"apiVersion": "rrsa.io/v1alpha1", "kind": "AlibabaRoleBinding", "name": "app",
                    "uid": uid, "controller": true}])
        };
        let kept = owned(json!({"annotations": annotations}));
        assert_eq!(kept.tenure("app", "old"), Tenure::Own);
        assert_eq!(kept.tenure("app", "new"), Tenure::Inherited);
        assert_eq!(kept.tenure("other", "new"), Tenure::Foreign);
        let held =
            owned(json!({"annotations": annotations, "ownerReferences": controller("held")}));
        assert_eq!(held.tenure("app", "held"), Tenure::Own);
        // The garbage collector takes it with its binding, so nobody inherits it.
        assert_eq!(held.tenure("app", "new"), Tenure::Foreign);
        assert_eq!(held.tenure("app", "old"), Tenure::Foreign);
        assert_eq!(owned(json!({})).tenure("app", "new"), Tenure::Foreign);
    }
}
