//! Which `ServiceAccount`s exist, by UID: a recreated one is another identity.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

type Key = (String, String);

/// UIDs by namespace and name, fed by a metadata-only watch.
#[derive(Debug, Default)]
pub struct ServiceAccountIndex {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    uids: HashMap<Key, String>,
    /// What a list under way has named so far.
    relist: Option<HashMap<Key, String>>,
}

impl ServiceAccountIndex {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held cannot leave the map half-written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The UID of a `ServiceAccount`, if it is known.
    #[must_use]
    pub fn uid(&self, namespace: &str, name: &str) -> Option<String> {
        self.state()
            .uids
            .get(&(namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    /// Takes one in. Returns whether it is new or another one than before.
    pub fn put(&self, namespace: &str, name: &str, uid: &str) -> bool {
        let key = (namespace.to_owned(), name.to_owned());
        self.state().uids.insert(key, uid.to_owned()).as_deref() != Some(uid)
    }

    /// One is gone.
    pub fn remove(&self, namespace: &str, name: &str) {
        self.state()
            .uids
            .remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// A list of everything begins.
    pub fn begin_relist(&self) {
        self.state().relist = Some(HashMap::new());
    }

    /// The list names one.
    pub fn list(&self, namespace: &str, name: &str, uid: &str) {
        if let Some(relist) = &mut self.state().relist {
            relist.insert((namespace.to_owned(), name.to_owned()), uid.to_owned());
        }
    }

    /// The list is complete. Returns those that are new, other or gone.
    pub fn end_relist(&self) -> Vec<Key> {
        let mut state = self.state();
        let Some(listed) = state.relist.take() else {
            return Vec::new();
        };
        let before = std::mem::replace(&mut state.uids, listed);
        let changed = state
            .uids
            .iter()
            .filter(|(key, uid)| before.get(*key) != Some(*uid));
        let gone = before.keys().filter(|key| !state.uids.contains_key(*key));
        changed.map(|(key, _)| key).chain(gone).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recreated_service_account_is_another_one() {
        let index = ServiceAccountIndex::default();
        assert!(index.put("ns", "app", "1"));
        assert!(!index.put("ns", "app", "1"));
        assert!(index.put("ns", "app", "2"));
    }

    #[test]
    fn a_list_tells_what_changed_meanwhile() {
        let index = ServiceAccountIndex::default();
        for name in ["same", "other", "gone"] {
            index.put("ns", name, "1");
        }
        index.begin_relist();
        index.list("ns", "same", "1");
        index.list("ns", "other", "2");
        let mut changed: Vec<_> = index
            .end_relist()
            .into_iter()
            .map(|(_, name)| name)
            .collect();
        changed.sort();
        assert_eq!(changed, ["gone", "other"]);
        assert_eq!(index.uid("ns", "gone"), None);
    }
}
