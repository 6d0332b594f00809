//! Which namespaces opted in to injection, and what that means for a binding with `injectPods`. The
//! binding chooses the role; opting in stays the namespace's or the pod's.
//!
//! The watch asks for namespaces with the label only, so that what is kept is their names. A pod may
//! opt in by itself, and pods are not watched: `rrsa doctor` looks at those.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::reason::Reason;

/// The namespaces that opted in.
#[derive(Debug, Default)]
pub struct OptedIn {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` where nobody tells: the operator may not see namespaces.
    names: Option<HashSet<String>>,
    /// What a list under way has named so far.
    relist: HashSet<String>,
}

impl OptedIn {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held cannot leave the sets half-written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this one did, if it is known.
    #[must_use]
    pub fn contains(&self, namespace: &str) -> Option<bool> {
        let state = self.state();
        state.names.as_ref().map(|names| names.contains(namespace))
    }

    /// A list of everything begins.
    pub fn begin_relist(&self) {
        self.state().relist.clear();
    }

    /// The list names one.
    pub fn list(&self, namespace: &str) {
        self.state().relist.insert(namespace.to_owned());
    }

    /// The list is complete. Returns whose answer changed.
    pub fn end_relist(&self) -> Vec<String> {
        let mut state = self.state();
        let listed = std::mem::take(&mut state.relist);
        let before = state.names.replace(listed.clone()).unwrap_or_default();
        before.symmetric_difference(&listed).cloned().collect()
    }

    /// One opted in, or out. Returns whether that is new.
    pub fn put(&self, namespace: &str, opted_in: bool) -> bool {
        let mut state = self.state();
        let names = state.names.get_or_insert_default();
        if opted_in {
            names.insert(namespace.to_owned())
        } else {
            names.remove(namespace)
        }
    }
}

/// What a binding with `injectPods` comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pods {
    /// Pods of the `ServiceAccount` get the role.
    Injected,
    /// Only those pods do that opt in themselves.
    NotOptedIn,
    /// It is not known whether the namespace opted in.
    Unknown,
    /// This older binding decides for them.
    Older(String),
}

impl Pods {
    /// Decides: `older` is the binding of the same `ServiceAccount` that comes first.
    #[must_use]
    pub fn of(older: Option<String>, opted_in: Option<bool>) -> Self {
        match (older, opted_in) {
            (Some(older), _) => Self::Older(older),
            (None, Some(true)) => Self::Injected,
            (None, Some(false)) => Self::NotOptedIn,
            (None, None) => Self::Unknown,
        }
    }

    /// Status, reason and message of the condition.
    #[must_use]
    pub fn said(&self) -> (&'static str, Reason, String) {
        let (status, reason, message) = match self {
            Self::Injected => (
                "True",
                Reason::NamespaceOptedIn,
                "pods of the ServiceAccount that are created from now on get spec.role from the webhook".to_owned(),
            ),
            Self::NotOptedIn => (
                "False",
                Reason::NamespaceNotOptedIn,
                "the namespace did not opt in, so only pods that do so themselves get spec.role".to_owned(),
            ),
            Self::Unknown => (
                "Unknown",
                Reason::OptInNotSeen,
                "pods of the ServiceAccount get spec.role if they or the namespace opted in".to_owned(),
            ),
            Self::Older(older) => (
                "False",
                Reason::OlderBinding,
                format!("AlibabaRoleBinding {older} is for the same ServiceAccount and older: its role is given to pods"),
            ),
        };
        let remedy = reason.remedy();
        let message = if remedy.is_empty() {
            message
        } else {
            format!("{message}. Remedy: {remedy}")
        };
        (status, reason, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_binding_decides_and_then_the_namespace() {
        let older = || Some("first".to_owned());
        assert_eq!(Pods::of(older(), Some(true)), Pods::Older("first".into()));
        assert_eq!(Pods::of(None, Some(true)), Pods::Injected);
        assert_eq!(Pods::of(None, Some(false)), Pods::NotOptedIn);
        assert_eq!(Pods::of(None, None), Pods::Unknown);
    }

    #[test]
    fn namespaces_that_change_their_mind_are_named() {
        let index = OptedIn::default();
        assert_eq!(index.contains("a"), None);
        index.begin_relist();
        index.list("a");
        assert_eq!(index.end_relist(), ["a"]);
        assert_eq!(
            (index.contains("a"), index.contains("b")),
            (Some(true), Some(false))
        );
        assert!(index.put("b", true) && !index.put("b", true) && index.put("a", false));
        index.begin_relist();
        index.list("b");
        assert!(index.end_relist().is_empty());
    }
}
