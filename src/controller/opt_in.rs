//! Which namespaces opted in to injection, and what that means for a binding with `injectPods`. The
//! binding chooses the role; opting in stays the namespace's or the pod's.
//!
//! The watch asks for namespaces with the label only, so that what is kept is their names. A pod may
//! opt in by itself, and pods are not watched: `rrsa doctor` looks at those.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::reason::Reason;
use crate::injection::bindings::Bindings;
use crate::injection::decision;

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
    /// They get nothing, since they cannot get such credentials by themselves.
    BeyondPods,
    /// An older binding decides for them.
    Older {
        /// Its name.
        name: String,
        /// Whether they get nothing of it.
        beyond_pods: bool,
    },
}

/// What the webhook says of a binding that gives pods nothing.
const BEYOND_PODS: &str = decision::Reason::BindingBeyondPods.text();

impl Pods {
    /// Decides as the webhook does: `asking` are the bindings that ask for the pods of this
    /// `ServiceAccount`. `None`: none does any more.
    #[must_use]
    pub fn of(
        name: &str,
        asking: &Bindings,
        account: &str,
        opted_in: Option<bool>,
    ) -> Option<Self> {
        let (decides, given) = asking.for_pods_of(account).next()?;
        let beyond_pods = given.beyond_pods;
        Some(match opted_in {
            _ if *decides.name != *name => Self::Older {
                name: decides.name.to_string(),
                beyond_pods,
            },
            _ if beyond_pods => Self::BeyondPods,
            Some(true) => Self::Injected,
            Some(false) => Self::NotOptedIn,
            None => Self::Unknown,
        })
    }

    /// Status, reason and message of the condition.
    #[must_use]
    pub fn said(&self) -> (&'static str, Reason, String) {
        let (status, reason, message) = match self {
            Self::Injected => (
                "True",
                Reason::NamespaceOptedIn,
                "pods of the ServiceAccount that are created from now on get spec.role from the webhook, unless an \
                 annotation of theirs or of the ServiceAccount names another role or mode".to_owned(),
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
            Self::BeyondPods => ("False", Reason::BindingBeyondPods, BEYOND_PODS.to_owned()),
            Self::Older { name, beyond_pods } => {
                let given = if *beyond_pods {
                    BEYOND_PODS
                } else {
                    "pods that get a role get that one's"
                };
                (
                    "False",
                    Reason::OlderBinding,
                    format!("AlibabaRoleBinding {name} is for the same ServiceAccount and older, so it decides: {given}"),
                )
            }
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
    use crate::injection::bindings::{BindingFacts, BindingView};
    use rstest::rstest;
    use serde_json::{Value, json};

    fn binding(name: &str, day: u32, more: &Value) -> BindingFacts {
        let mut spec =
            json!({"role": {"name": "app"}, "serviceAccountName": "app", "injectPods": true});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let created = format!("2026-01-{day:02}T00:00:00Z");
        let view: BindingView = serde_json::from_value(
            json!({"metadata": {"name": name, "creationTimestamp": created}, "spec": spec}),
        )
        .unwrap();
        view.into()
    }

    fn restricted() -> Value {
        json!({"session": {"policy": "{}"}})
    }

    #[rstest]
    #[case::opted_in(json!({}), Some(true), Pods::Injected)]
    #[case::not_opted_in(json!({}), Some(false), Pods::NotOptedIn)]
    #[case::not_seen(json!({}), None, Pods::Unknown)]
    #[case::chained(json!({"assume": [{"arn": "acs:ram::1:role/b"}]}), Some(true), Pods::BeyondPods)]
    #[case::delegated(json!({"tokenSource": {"type": "File"}}), Some(true), Pods::BeyondPods)]
    #[case::restricted(restricted(), Some(true), Pods::BeyondPods)]
    // Nor do pods get it that opt in themselves.
    #[case::beyond_first(restricted(), Some(false), Pods::BeyondPods)]
    #[case::beyond_not_seen(restricted(), None, Pods::BeyondPods)]
    fn a_binding_alone_decides_and_then_the_namespace(
        #[case] more: Value,
        #[case] opted_in: Option<bool>,
        #[case] expected: Pods,
    ) {
        let asking = [binding("app", 1, &more)].into_iter().collect();
        assert_eq!(Pods::of("app", &asking, "app", opted_in), Some(expected));
    }

    #[rstest]
    #[case::gives_its_role(json!({}), false)]
    #[case::gives_nothing(restricted(), true)]
    fn the_oldest_binding_decides_also_where_it_gives_nothing(
        #[case] more: Value,
        #[case] beyond_pods: bool,
    ) {
        let asking: Bindings = [binding("a", 2, &json!({})), binding("z", 1, &more)]
            .into_iter()
            .collect();
        let younger = Pods::of("a", &asking, "app", Some(true)).unwrap();
        let name = "z".to_owned();
        assert_eq!(younger, Pods::Older { name, beyond_pods });
        let (status, reason, message) = younger.said();
        assert_eq!((status, reason), ("False", Reason::OlderBinding));
        assert!(message.contains("AlibabaRoleBinding z "), "{message}");
        assert_eq!(message.contains(BEYOND_PODS), beyond_pods, "{message}");
    }

    #[test]
    fn a_younger_binding_beyond_pods_takes_nothing_from_the_oldest() {
        let asking: Bindings = [
            binding("a", 2, &restricted()),
            binding("z", 1, &json!({})),
            binding("0", 1, &json!({"injectPods": false})),
        ]
        .into_iter()
        .collect();
        let of = |name| Pods::of(name, &asking, "app", Some(true));
        assert_eq!(of("z"), Some(Pods::Injected));
        let (name, beyond_pods) = ("z".to_owned(), false);
        assert_eq!(of("a"), Some(Pods::Older { name, beyond_pods }));
        assert_eq!(Pods::of("z", &asking, "other", Some(true)), None);
    }

    #[test]
    fn what_pods_cannot_get_is_said_in_the_words_of_the_webhook() {
        let (status, reason, message) = Pods::BeyondPods.said();
        let theirs = decision::Reason::BindingBeyondPods;
        assert_eq!((status, reason.as_str()), ("False", theirs.code()));
        let expected = format!("{}. Remedy: {}", theirs.text(), theirs.remedy());
        assert_eq!(message, expected);
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
