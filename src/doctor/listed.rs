//! The parts of listed objects that a look needs beside what the webhook reads of a pod.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// A page of a list, whose items are left as text until their turn comes.
#[derive(Debug, Deserialize)]
pub struct Page<'a> {
    /// Where the next page begins.
    #[serde(default)]
    pub metadata: PageMetadata,
    /// The objects.
    #[serde(borrow)]
    pub items: Vec<&'a RawValue>,
}

/// What a page says about itself.
#[derive(Debug, Default, Deserialize)]
pub struct PageMetadata {
    /// What the next page is asked for with; empty on the last one.
    #[serde(default, rename = "continue")]
    pub next: String,
}

/// A pod, as far as the webhook does not read it.
#[derive(Debug, Default, Deserialize)]
pub struct ListedPod {
    /// Who it is.
    pub metadata: PodMetadata,
    #[serde(default)]
    status: PodStatus,
}

/// Texts by key.
pub type Texts = BTreeMap<String, String>;

/// Who a pod is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodMetadata {
    /// Its namespace.
    #[serde(default)]
    pub namespace: String,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its UID.
    #[serde(default)]
    pub uid: String,
    #[serde(default)]
    deletion_timestamp: Option<String>,
    /// Its labels.
    #[serde(default)]
    pub labels: Texts,
    /// Its annotations.
    #[serde(default)]
    pub annotations: Texts,
    #[serde(default)]
    owner_references: Vec<Owner>,
}

#[derive(Debug, Default, Deserialize)]
struct PodStatus {
    #[serde(default)]
    phase: String,
}

#[derive(Debug, Default, Deserialize)]
struct Owner {
    kind: String,
    name: String,
    #[serde(default)]
    controller: bool,
}

impl ListedPod {
    /// Whether the pod has ended or is about to: nothing can be mended then.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let ended = matches!(self.status.phase.as_str(), "Succeeded" | "Failed");
        ended || self.metadata.deletion_timestamp.is_some()
    }

    /// How the pod is created again, with the command where there is one.
    #[must_use]
    pub fn create_again(&self) -> String {
        let PodMetadata {
            namespace,
            name,
            labels,
            owner_references,
            ..
        } = &self.metadata;
        let restart = |kind: &str, name: &str| {
            format!("create it again: kubectl -n {namespace} rollout restart {kind}/{name}")
        };
        match owner_references.iter().find(|owner| owner.controller) {
            Some(Owner { kind, name, .. }) if kind == "ReplicaSet" => {
                let hash = labels
                    .get("pod-template-hash")
                    .map(|hash| format!("-{hash}"));
                match hash.and_then(|hash| name.strip_suffix(&hash)) {
                    Some(deployment) => restart("deployment", deployment),
                    None => format!("delete it, ReplicaSet {name} creates it again"),
                }
            }
            Some(Owner { kind, name, .. }) if kind == "StatefulSet" => restart("statefulset", name),
            Some(Owner { kind, name, .. }) if kind == "DaemonSet" => restart("daemonset", name),
            Some(Owner { kind, name, .. }) => {
                format!("delete it, {kind} {name} creates it again")
            }
            None => format!("delete pod {name} and create it again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::deployment("ReplicaSet", "app-7d9f", "rollout restart deployment/app")]
    #[case::bare_replica_set("ReplicaSet", "app", "ReplicaSet app creates it again")]
    #[case::daemon_set("DaemonSet", "logs", "rollout restart daemonset/logs")]
    #[case::job("Job", "once", "Job once creates it again")]
    fn the_remedy_names_what_makes_the_pod(
        #[case] kind: &str,
        #[case] name: &str,
        #[case] expected: &str,
    ) {
        let json = format!(
            r#"{{"metadata":{{"namespace":"a","name":"p","labels":{{"pod-template-hash":"7d9f"}},
            "ownerReferences":[{{"kind":"{kind}","name":"{name}","controller":true,"uid":"u"}}]}}}}"#
        );
        let pod: ListedPod = serde_json::from_str(&json).unwrap();
        assert!(
            pod.create_again().contains(expected),
            "{}",
            pod.create_again()
        );
        assert!(!pod.is_over());
    }

    #[test]
    fn a_pod_that_ends_is_over() {
        for json in [
            r#"{"metadata":{},"status":{"phase":"Succeeded"}}"#,
            r#"{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}}"#,
        ] {
            let pod: ListedPod = serde_json::from_str(json).unwrap();
            assert!(pod.is_over());
        }
    }

    #[test]
    fn a_page_leaves_its_items_as_text() {
        let json = r#"{"metadata":{"continue":"abc"},"items":[{"a":1},{"b":[2]}]}"#;
        let page: Page<'_> = serde_json::from_str(json).unwrap();
        assert_eq!(page.metadata.next, "abc");
        assert_eq!(page.items[1].get(), r#"{"b":[2]}"#);
    }
}
