//! `rrsa cleanup`: whose the objects are is looked at before they are deleted.

use rstest::rstest;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::person::{self, Person, RRSA};

const SECRET: &str = "/api/v1/namespaces/rrsa-system/secrets/rrsa-webhook-ca";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/rrsa-system/leases/rrsa-controller";
const CA_SECRET: &str = "--ca-secret=rrsa-webhook-ca";

/// An object with these labels and annotations.
fn object(uid: &str, labels: &Value, annotations: &Value) -> Value {
    json!({"metadata": {"name": "n", "uid": uid, "resourceVersion": "7", "labels": labels,
        "annotations": annotations}})
}

fn operators() -> Value {
    object(
        "1",
        &json!({"app.kubernetes.io/managed-by": "rrsa"}),
        &json!({}),
    )
}

fn somebodys() -> Value {
    object("2", &json!({}), &json!({}))
}

async fn cleanup(cluster: &Cluster, arguments: &[&str]) -> String {
    let person = Person::new();
    let kubeconfig = cluster.kubeconfig(&person);
    let person = person.with(&[("KUBECONFIG", kubeconfig.to_str().expect("text"))]);
    let arguments = [&["cleanup"], arguments].concat();
    let said = person::said(person.program(RRSA, &arguments)).await;
    said.succeeded()
}

#[tokio::test]
async fn what_the_operator_made_goes() {
    let cluster = Cluster::start([(SECRET, operators()), (LEASE, operators())]);
    let said = cleanup(&cluster, &[CA_SECRET]).await;
    assert!(!cluster.has(SECRET) && !cluster.has(LEASE), "{said}");
    let again = cleanup(&cluster, &[CA_SECRET]).await;
    assert_eq!(again.matches("not there").count(), 2, "{again}");
}

#[rstest]
#[case::without_labels(somebodys())]
#[case::of_helm(object("2", &json!({"app.kubernetes.io/managed-by": "Helm"}), &json!({})))]
#[case::of_a_binding(object(
    "2",
    &json!({"app.kubernetes.io/managed-by": "rrsa"}),
    &json!({"rrsa.io/binding": "b"})
))]
#[tokio::test]
async fn what_is_somebody_elses_is_left_and_said_so(#[case] object: Value) {
    let cluster = Cluster::start([(SECRET, object.clone()), (LEASE, object)]);
    let said = cleanup(&cluster, &[CA_SECRET]).await;
    assert!(cluster.has(SECRET) && cluster.has(LEASE), "{said}");
    for what in [
        "Secret rrsa-system/rrsa-webhook-ca: left",
        "Lease rrsa-system/rrsa-controller: left",
    ] {
        assert!(said.contains(what), "{said}");
    }
    assert!(
        !cluster
            .asked()
            .iter()
            .any(|asked| asked.starts_with("DELETE"))
    );
}

#[tokio::test]
async fn what_took_its_place_after_the_look_is_left() {
    let cluster = Cluster::start([(SECRET, operators())]);
    cluster.meanwhile(SECRET, somebodys());
    let said = cleanup(&cluster, &[CA_SECRET]).await;
    assert!(cluster.has(SECRET) && said.contains("left"), "{said}");
}

#[tokio::test]
async fn a_change_after_the_look_leads_to_another_look() {
    let cluster = Cluster::start([(LEASE, operators())]);
    let mut renewed = operators();
    renewed["metadata"]["resourceVersion"] = json!("8");
    cluster.meanwhile(LEASE, renewed);
    let said = cleanup(&cluster, &[]).await;
    assert!(!cluster.has(LEASE), "{said}");
}

/// Where the certificate is another's, the chart names no Secret.
#[tokio::test]
async fn a_secret_that_is_not_named_is_not_asked_for() {
    let cluster = Cluster::start([(SECRET, operators())]);
    cleanup(&cluster, &[]).await;
    let asked = cluster.asked();
    assert!(
        !asked.iter().any(|asked| asked.contains("secrets")),
        "{asked:?}"
    );
}
