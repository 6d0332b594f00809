//! Replicas that are told to stop: no caller meets a connection that closes under it.

use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::header::CONNECTION;
use hyper::{Request, StatusCode};
use serde_json::{Value, json};

use super::fake_api::FakeApi;
use super::rig;
use super::running::{CEILING, Webhook, decision};
use super::transport::http1;

type Sender = SendRequest<Full<Bytes>>;

/// The decision, and whether the answer was the last one of the connection.
async fn review(sender: &mut Sender) -> (String, bool) {
    let pod = json!({"spec": {"serviceAccountName": "app", "containers": [{"name": "app"}]}});
    let request = Request::post("/mutate")
        .header("content-type", "application/json")
        .header("host", "rrsa-webhook.rrsa-system.svc")
        .body(Full::from(rig::review(&pod).to_string()))
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let last = answer
        .headers()
        .get(CONNECTION)
        .map(|value| value == "close");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    (decision(&body).to_owned(), last.unwrap_or_default())
}

async fn is_closed(mut sender: Sender) {
    let closed = async {
        while sender.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(CEILING, closed).await;
    waited.expect("the connection is closed");
}

#[tokio::test]
async fn kept_connections_are_served_until_their_callers_leave() {
    let mut webhook = Webhook::start_with(FakeApi::new(), Duration::from_mins(1));
    webhook.registered().await;
    webhook.add_account();
    let (mut used, mut idle) = (http1(&webhook).await, http1(&webhook).await);
    for sender in [&mut used, &mut idle] {
        assert_eq!(review(sender).await, ("Injected".to_owned(), false));
    }
    webhook.stop.take().unwrap().send(()).unwrap();
    // Longer than the least pause: the one minute is for connections that are still held.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(review(&mut used).await, ("Injected".to_owned(), true));
    is_closed(used).await;
    // Balancers may not have heard of it yet.
    let mut late = http1(&webhook).await;
    assert_eq!(review(&mut late).await, ("Injected".to_owned(), true));
    assert!(!webhook.task.is_finished());
    drop(idle);
    let ended = tokio::time::timeout(CEILING, webhook.task).await;
    ended.expect("an end once all have left").unwrap().unwrap();
}

#[tokio::test]
async fn who_does_not_leave_is_left_at_the_limit() {
    let mut webhook = Webhook::start_with(FakeApi::new(), Duration::from_secs(1));
    webhook.registered().await;
    webhook.add_account();
    let mut idle = http1(&webhook).await;
    assert_eq!(review(&mut idle).await, ("Injected".to_owned(), false));
    webhook.stop.take().unwrap().send(()).unwrap();
    let ended = tokio::time::timeout(CEILING, webhook.task).await;
    ended.expect("an end").unwrap().unwrap();
    is_closed(idle).await;
}
