//! An API server that is down, refuses or is slow: at the start of the webhook and later.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::fake_api::FakeApi;
use super::running::{OUTAGE_CEILING, Webhook, decision, until};

#[tokio::test]
async fn an_api_server_that_is_down_at_start_delays_readiness_and_no_more() {
    let api = FakeApi::new();
    *api.refusing.lock().unwrap() = 503;
    let webhook = Webhook::start(api);
    until(|| webhook.api.requests.load(Ordering::Relaxed) >= 5).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (status, report) = webhook.readyz().await;
    assert_eq!(status, 503);
    for kind in ["namespaces", "serviceaccounts", "alibabarolebindings"] {
        let why = format!("{kind}: not listed yet: the API server refuses it");
        assert!(report.contains(&why), "{report}");
    }
    *webhook.api.refusing.lock().unwrap() = 0;
    let ready_file = webhook.ready_file();
    let ready = async {
        while !ready_file.exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(OUTAGE_CEILING, ready)
        .await
        .expect("ready after the back-off");
}

/// What is known goes on being decided while the API server is away; only what is not known is
/// refused, with a status that leaves the decision to `failurePolicy`.
#[tokio::test]
async fn an_outage_after_the_start_is_served_from_what_is_known() {
    const ACCOUNT: &str = "/api/v1/namespaces/team-a/serviceaccounts/app";
    let named = |role: &str| {
        let role = json!({"pod-identity.alibabacloud.com/role-name": role});
        json!({"metadata": {"annotations": role}})
    };
    let api = FakeApi::new();
    api.put_quietly(ACCOUNT, named("app"));
    let webhook = Webhook::start(api);
    webhook.registered().await;
    let ready_file = webhook.ready_file();
    until(|| ready_file.exists()).await;
    let client = webhook.api_server();

    for code in [503, 429] {
        *webhook.api.refusing.lock().unwrap() = code;
        webhook.api.interrupt(410);
        // Long enough for watches to fail again and again, if they did so without a pause.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = webhook.api.requests.load(Ordering::Relaxed);
        let answer = webhook.review(&client).await;
        assert_eq!(decision(&answer), "Injected", "{code}");
        assert_eq!(webhook.readyz().await.0, 200, "{code}");
        let answer = webhook.post_pod(&client, "younger-than-the-outage").await;
        assert_eq!(answer.status().as_u16(), 500);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let asked = webhook.api.requests.load(Ordering::Relaxed) - before;
        assert!(asked < 40, "{asked} requests in a second is no back-off");
    }

    // Back again: what changed meanwhile is listed anew.
    *webhook.api.refusing.lock().unwrap() = 0;
    webhook.api.put_quietly(ACCOUNT, named("of-another"));
    let renewed = async {
        loop {
            let answer = webhook.review(&client).await;
            let role = answer["response"]["auditAnnotations"]["role"].clone();
            if role == "acs:ram::1234567890123456:role/of-another" {
                return;
            }
            // A watch that was opened again is told that it came too late.
            webhook.api.interrupt(410);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(OUTAGE_CEILING, renewed)
        .await
        .expect("the lists are made anew after the back-off");
}

/// A question that is not answered is given up before the API server gives up on us, so that the
/// pod's author reads why.
#[tokio::test]
async fn a_slow_api_server_is_given_up_on_and_named() {
    let webhook = Webhook::start(FakeApi::new());
    webhook.registered().await;
    let client = webhook.api_server();
    *webhook.api.delay.lock().unwrap() = Duration::from_mins(10);
    let answer = webhook.post_pod(&client, "app").await;
    assert_eq!(answer.status().as_u16(), 500);
    let text = answer.text().await.unwrap();
    assert!(text.contains("ServiceAccount app cannot be read"), "{text}");
    assert!(text.contains("no answer within 2s"), "{text}");
    // Nothing of it is remembered.
    *webhook.api.delay.lock().unwrap() = Duration::ZERO;
    webhook.add_account();
    assert_eq!(decision(&webhook.review(&client).await), "Injected");
}
