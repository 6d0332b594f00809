//! The manifests that register the webhook say what the code means.

use std::path::Path;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use rrsa::contract::annotations::{self, official};
use rrsa::webhook::handler;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[expect(
    clippy::disallowed_methods,
    reason = "the manifests are files of the repository"
)]
fn documents(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(file);
    let text = std::fs::read_to_string(path).unwrap();
    text.split("\n---\n")
        .map(|document| serde_saphyr::from_str(document).unwrap())
        .collect()
}

fn named<T: DeserializeOwned>(file: &str, kind: &str) -> T {
    let found = documents(file)
        .into_iter()
        .find(|document| document["kind"] == kind);
    serde_json::from_value(found.unwrap()).unwrap()
}

fn entries() -> Vec<MutatingWebhook> {
    let file = "webhook-configuration.yaml";
    let kind = "MutatingWebhookConfiguration";
    named::<MutatingWebhookConfiguration>(file, kind)
        .webhooks
        .unwrap()
}

/// Whether a selector of these manifests lets an object with that one label pass.
fn passes(selector: Option<&LabelSelector>, label: Option<&str>, namespace: &str) -> bool {
    let expressions = selector.and_then(|selector| selector.match_expressions.as_deref());
    expressions.unwrap_or_default().iter().all(|expression| {
        let value = match expression.key.as_str() {
            official::INJECTION => label,
            "kubernetes.io/metadata.name" => Some(namespace),
            other => panic!("{other} is no key of ours"),
        };
        let values = expression.values.as_deref().unwrap_or_default();
        let contained = value.is_some_and(|value| values.iter().any(|one| one == value));
        match expression.operator.as_str() {
            "In" => contained,
            "NotIn" => !contained,
            other => panic!("{other} is not used here"),
        }
    })
}

/// The entries to which a pod is sent.
fn sent_to(namespace: &str, of_namespace: Option<&str>, of_pod: Option<&str>, arn: bool) -> usize {
    let sent = |entry: &&MutatingWebhook| {
        let conditions = entry.match_conditions.as_deref().unwrap_or_default();
        let wants_arn = conditions
            .iter()
            .any(|condition| condition.name == "names-a-role");
        passes(entry.namespace_selector.as_ref(), of_namespace, namespace)
            && passes(entry.object_selector.as_ref(), of_pod, namespace)
            && (arn || !wants_arn)
    };
    entries().iter().filter(sent).count()
}

#[test]
fn a_pod_that_asks_is_sent_once_and_no_other_is_sent() {
    for of_namespace in [None, Some("on"), Some("off")] {
        for of_pod in [None, Some("on"), Some("On")] {
            for arn in [false, true] {
                let asks = of_namespace == Some("on") || of_pod == Some("on") || arn;
                let sent = sent_to("team-a", of_namespace, of_pod, arn);
                assert_eq!(sent, usize::from(asks), "{of_namespace:?} {of_pod:?} {arn}");
                assert_eq!(sent_to("kube-system", of_namespace, of_pod, arn), 0);
                assert_eq!(sent_to("rrsa-system", of_namespace, of_pod, arn), 0);
            }
        }
    }
}

#[test]
fn every_entry_has_the_promised_policies_and_conditions() {
    for entry in entries() {
        assert_eq!(entry.failure_policy.as_deref(), Some("Fail"));
        assert_eq!(entry.reinvocation_policy.as_deref(), Some("IfNeeded"));
        assert_eq!(entry.side_effects, "None");
        assert_eq!(entry.timeout_seconds, Some(5));
        assert_eq!(entry.admission_review_versions, ["v1"]);
        let mut handled = Vec::new();
        for rule in entry.rules.unwrap() {
            assert_eq!(rule.api_versions, Some(vec!["v1".to_owned()]));
            for resource in rule.resources.unwrap() {
                handled.push(format!(
                    "{} {resource}",
                    rule.operations.as_ref().unwrap().join(" ")
                ));
            }
        }
        assert_eq!(handled, ["CREATE pods", "UPDATE pods/ephemeralcontainers"]);
        let service = entry.client_config.service.unwrap();
        assert_eq!(service.path.as_deref(), Some(handler::PATH));
        assert!(
            entry.client_config.ca_bundle.is_none(),
            "the webhook sets it"
        );
        let conditions = entry.match_conditions.unwrap();
        let of = |name: &str| {
            let found = conditions.iter().find(|condition| condition.name == name);
            found.unwrap().expression.clone()
        };
        assert!(of("not-a-mirror-pod").contains("kubernetes.io/config.mirror"));
        let out = of("not-opted-out");
        assert!(out.contains(&format!("'{}'", annotations::INJECT)));
        assert!(out.contains(&format!("!= '{}'", annotations::INJECT_OFF)));
        // Without the guard every pod without annotations would be refused.
        assert!(
            conditions
                .iter()
                .all(|one| one.expression.contains("has(object.metadata.annot"))
        );
    }
}

#[test]
fn nothing_but_the_own_objects_can_be_read_or_written() {
    let cluster: ClusterRole = named("webhook.yaml", "ClusterRole");
    for rule in cluster.rules.unwrap() {
        let resources = rule.resources.unwrap();
        assert!(
            !resources
                .iter()
                .any(|resource| resource == "secrets" || resource == "*")
        );
        let reading = rule
            .verbs
            .iter()
            .all(|verb| ["get", "list", "watch"].contains(&&**verb));
        assert!(reading || rule.resource_names == Some(vec!["rrsa".to_owned()]));
    }
    let own: Role = named("webhook.yaml", "Role");
    let rules = own.rules.unwrap_or_default();
    assert!(!rules.is_empty());
    for rule in rules {
        assert!(rule.verbs == ["create"] || rule.resource_names.is_some());
    }
}
