//! What becomes of the MutatingWebhookConfiguration while the webhook runs (row K9): deleted, made
//! again, or shared with another installation.

use serde_json::{Value, json};

use super::fake_api::{CONFIGURATION, FakeApi};
use super::logs::Lines;
use super::running::{Webhook, decision, until};

const KIND: &str = "mutatingwebhookconfigurations";
const DELETED: &str = "there is no such MutatingWebhookConfiguration";
const FOREIGN: &str = "these entries call another webhook";

/// A webhook that is registered and watches its registration.
async fn start(api: FakeApi) -> Webhook {
    let webhook = Webhook::start(api);
    webhook.registered().await;
    until(|| webhook.api.is_watched(KIND)).await;
    webhook
}

/// An entry as it is installed: nobody has set its `caBundle` yet.
fn entry(name: &str, client: &Value) -> Value {
    json!({"name": name, "clientConfig": client,
        "admissionReviewVersions": ["v1"], "sideEffects": "None"})
}

fn of_ours(name: &str) -> Value {
    entry(name, &json!({"url": "https://127.0.0.1/mutate"}))
}

#[tokio::test]
async fn a_deleted_configuration_is_reported_and_a_new_one_gets_its_bundle() {
    let lines = Lines::default();
    let _logged = lines.of_this_thread();
    let webhook = start(FakeApi::new()).await;
    let (before, client) = (webhook.bundle(), webhook.api_server());

    webhook.api.delete(CONFIGURATION);
    until(|| lines.with(DELETED) > 0).await;
    // An API server that has not heard of it goes on calling.
    assert_eq!(
        decision(&webhook.review(&client).await),
        "ServiceAccountMissing"
    );
    assert!(webhook.api.get(CONFIGURATION).is_none(), "not ours to make");

    let entries = ["namespace.rrsa.io", "pod.rrsa.io"].map(of_ours);
    let new = json!({"metadata": {}, "webhooks": entries});
    webhook.api.put(CONFIGURATION, new);
    webhook.registered().await;
    assert_eq!(webhook.bundle(), before);
    assert_eq!(lines.with(DELETED), 1, "{}", lines.text());
}

#[tokio::test]
async fn an_installation_of_another_name_is_not_touched() {
    let lines = Lines::default();
    let _logged = lines.of_this_thread();
    let api = FakeApi::new();
    let other = CONFIGURATION.replace("/rrsa", "/rrsa-of-another");
    // Even one that calls us: whoever named it that has a webhook that keeps it.
    let theirs = json!({"metadata": {}, "webhooks": [of_ours("pod.rrsa.io")]});
    api.put_quietly(&other, theirs.clone());
    let webhook = start(api).await;
    let before = webhook.api.get(&other).unwrap();
    assert_eq!(before["webhooks"], theirs["webhooks"]);

    webhook.api.put(&other, theirs.clone());
    let mut ours = webhook.api.get(CONFIGURATION).unwrap();
    ours["webhooks"][0]["clientConfig"]["caBundle"] = json!("");
    webhook.api.put(CONFIGURATION, ours);
    webhook.registered().await;
    assert_eq!(webhook.api.get(&other), Some(before));

    webhook.api.delete(&other);
    webhook.api.delete(CONFIGURATION);
    until(|| lines.with(DELETED) > 0).await;
    assert_eq!(lines.with(DELETED), 1, "of ours alone");
    assert_eq!(lines.with(FOREIGN), 0, "{}", lines.text());
}

#[tokio::test]
async fn entries_of_a_second_installation_are_reported_once_and_left_alone() {
    let lines = Lines::default();
    let _logged = lines.of_this_thread();
    let webhook = start(FakeApi::new()).await;
    let service = json!({"name": "rrsa-webhook", "namespace": "another"});
    let theirs = [
        entry("namespace.rrsa.io", &json!({"service": service})),
        entry(
            "pod.rrsa.io",
            &json!({"service": service, "caBundle": "dGhlaXJz"}),
        ),
    ];
    let ours = of_ours("role.rrsa.io");
    let entries = [&theirs[..], &[ours]].concat();
    let shared = json!({"metadata": {}, "webhooks": entries});
    let now = || webhook.api.get(CONFIGURATION).unwrap()["webhooks"].clone();
    for _ in 0..2 {
        webhook.api.put(CONFIGURATION, shared.clone());
        until(|| now()[2]["clientConfig"]["caBundle"].is_string()).await;
        assert_eq!(now()[0], theirs[0]);
        assert_eq!(now()[1], theirs[1]);
    }
    assert_eq!(lines.with(FOREIGN), 1, "{}", lines.text());
    assert_eq!(
        lines.with("namespace.rrsa.io, pod.rrsa.io"),
        1,
        "by their names"
    );
}
