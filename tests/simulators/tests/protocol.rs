//! The RPC style: what is wrong before anything is looked at, forms of the answer, flow control.

use std::num::NonZeroU32;
use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;

use crate::account::{Account, Ask, PATIENCE, ROLE, Reply, client, encoded, good_token};
use crate::simulators::clock;
use crate::simulators::sts::Sts;

fn exchange() -> Ask {
    Ask::oidc(&good_token())
}

#[tokio::test]
async fn error_body_has_all_members() {
    let account = Account::start();
    let reply = account
        .post(&exchange().with("Action", "AssumeAnything"))
        .await;
    assert_eq!(reply.refusal(), (404, "InvalidAction.NotFound".to_owned()));
    let body = reply.json();
    assert_eq!(body["HostId"], account.sts.host());
    assert_eq!(
        reply.headers["x-acs-request-id"],
        body["RequestId"].as_str().unwrap()
    );
    assert_eq!(body["RequestId"].as_str().unwrap().len(), 36);
    assert!(
        body["Recommend"]
            .as_str()
            .unwrap()
            .contains("InvalidAction.NotFound")
    );
    assert!(!reply.message().is_empty());
}

#[tokio::test]
async fn wrong_version_and_format_are_refused() {
    let account = Account::start();
    let reply = account
        .post(&exchange().with("Version", "2014-05-26"))
        .await;
    assert_eq!(reply.refusal(), (400, "InvalidVersion".to_owned()));
    // Nobody knows how to read an unknown format, so this refusal is in XML.
    let reply = account.post(&exchange().with("Format", "json")).await;
    assert_eq!(reply.status, 400);
    assert!(
        reply.text.contains("<Code>InvalidParameter.Format</Code>"),
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn answer_is_xml_unless_json_is_asked_for() {
    let account = Account::start();
    let reply = account.post(&exchange().without("Format")).await;
    assert_eq!(reply.status, 200);
    assert!(
        reply.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/xml")
    );
    assert!(
        reply.text.contains("<AssumeRoleWithOIDCResponse>"),
        "{}",
        reply.text
    );
    assert!(
        reply.text.contains("<Credentials><AccessKeyId>STS.N"),
        "{}",
        reply.text
    );
    let reply = account
        .post(&exchange().without("Format").without("RoleArn"))
        .await;
    assert!(reply.text.contains("<Error>"), "{}", reply.text);
    assert!(
        reply.text.contains("<Code>MissingParameter.RoleArn</Code>"),
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn odd_http_is_refused() {
    let account = Account::start();
    let ask = exchange();
    let form = encoded(&ask.0.iter().collect::<Vec<_>>());
    let url = account.url();
    let query = format!("{url}?{form}");
    let form_type = "application/x-www-form-urlencoded";
    let large = format!("{form}&Padding={}", "x".repeat(200 * 1024));
    let cases = [
        (
            Method::PUT,
            query.clone(),
            form_type,
            String::new(),
            400,
            "UnsupportedHTTPMethod",
        ),
        (
            Method::POST,
            format!("{url}sts?{form}"),
            form_type,
            String::new(),
            404,
            "InvalidAction.NotFound",
        ),
        (
            Method::POST,
            query.clone(),
            "text/plain",
            "x=y".to_owned(),
            400,
            "InvalidParameter.ContentType",
        ),
        (
            Method::POST,
            query.clone(),
            form_type,
            "RoleArn=x".to_owned(),
            400,
            "InvalidParameter",
        ),
        (
            Method::POST,
            query,
            form_type,
            large,
            413,
            "RequestEntityTooLarge",
        ),
    ];
    for (method, url, content_type, body, status, code) in cases {
        let request = account
            .client
            .request(method, url)
            .header("content-type", content_type);
        let reply = Reply::of(request.body(body).send().await.unwrap()).await;
        assert_eq!(reply.refusal(), (status, code.to_owned()));
    }
    // A body that says it is JSON holds no parameters.
    let request = account
        .client
        .post(url)
        .header("content-type", "application/json");
    let reply = Reply::of(request.body("{}").send().await.unwrap()).await;
    assert!(
        reply.text.contains("InvalidParameter.ContentType"),
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn certificate_is_valid_for_both_names_of_loopback() {
    let account = Account::start();
    let port = account.sts.address().port();
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{port}/");
        assert_eq!(account.client.get(url).send().await.unwrap().status(), 400);
    }
    let stranger = Account::start();
    let distrust = stranger.client.get(account.url()).send().await;
    assert!(
        distrust.is_err(),
        "each simulator has an authority of its own"
    );
}

/// Longer than a bucket of three takes to be full at two a second.
const FULL_AGAIN: Duration = Duration::from_millis(1600);

#[tokio::test]
async fn too_many_requests_are_throttled() {
    let account = Account::start();
    account.sts.update(|config| {
        config.requests_per_second = NonZeroU32::new(2);
        config.burst = NonZeroU32::new(3);
    });
    let throttled = (400, "Throttling.User".to_owned());
    let rounds = async {
        loop {
            let start = clock::now();
            let mut admitted = 0;
            for _ in 0..5 {
                let reply = account.post(&exchange()).await;
                if reply.status == 200 {
                    admitted += 1;
                } else {
                    assert_eq!(reply.refusal(), throttled);
                }
            }
            let half_seconds = (clock::now() - start).num_milliseconds() / 500;
            assert!(
                (3..=3 + half_seconds).contains(&admitted),
                "three at once, two a second: {admitted} in {half_seconds} halves of a second"
            );
            if admitted < 5 {
                return;
            }
            // The machine was so slow that nothing had to be refused.
            tokio::time::sleep(FULL_AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, rounds).await.unwrap();
    // Signed actions of the account draw from the same bucket.
    let user = Account::keys("LTAIuser");
    let refused = async {
        loop {
            tokio::time::sleep(FULL_AGAIN).await;
            join_all((0..6).map(|_| async { account.post(&exchange()).await })).await;
            let reply = account.call(&user, Ask::action("GetCallerIdentity")).await;
            if reply.status != 200 {
                return reply.refusal();
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert_eq!(refused, throttled);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(account.post(&exchange()).await.status, 200);
}

#[tokio::test]
async fn log_waits_for_calls() {
    let account = Account::start();
    let calls = account.sts.calls();
    let wait = tokio::spawn({
        let calls = calls.clone();
        async move { calls.wait_for(3, PATIENCE).await }
    });
    for _ in 0..3 {
        account.exchange().await;
    }
    wait.await.unwrap().unwrap();
    assert_eq!(
        calls.count(|call| call.succeeded() && call.action == "AssumeRoleWithOIDC"),
        3
    );
    assert_eq!(calls.by_role(ROLE).len(), 3);
    let error = calls
        .wait_for(4, Duration::from_millis(50))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("for 4 such calls, saw 3"), "{error}");
    calls.clear();
    account.exchange().await;
    assert_eq!(calls.last().unwrap().number, 4);
}

#[test]
fn many_run_in_one_process_on_any_runtime() {
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let accounts = [Account::start(), Account::start(), Account::start()];
            for account in &accounts {
                account.exchange().await;
                assert_eq!(account.sts.calls().all().len(), 1, "each has its own log");
            }
        });
    }
}

#[tokio::test]
async fn stopped_simulator_is_gone() {
    let account = Account::start();
    account.exchange().await;
    let (url, ca) = (account.url(), account.sts.ca_pem().to_owned());
    account.sts.stop().await.unwrap();
    assert!(client(&ca).get(&url).send().await.is_err());

    let dropped = Sts::start(crate::simulators::config::SimulatorConfig::default()).unwrap();
    let url = format!("https://{}/", dropped.host());
    let client = client(dropped.ca_pem());
    assert!(client.get(&url).send().await.is_ok());
    drop(dropped);
    // The kept-alive connection must be cut as well.
    tokio::time::timeout(PATIENCE, async {
        while client.get(&url).send().await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}
