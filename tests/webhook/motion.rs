//! ServiceAccounts and bindings that change while reviews are under way (row K2).

use std::time::Duration;

use base64::Engine;
use rstest::rstest;
use serde_json::{Value, json};

use super::fake_api::FakeApi;
use super::running::{CEILING, Webhook, decision, good_round, until};

const ACCOUNT: &str = "/api/v1/namespaces/team-a/serviceaccounts/app";
const BINDING: &str = "/apis/rrsa.io/v1alpha1/namespaces/team-a/alibabarolebindings/app";

/// Whether a ServiceAccount of the cache is asked for as well: it has no role, and that may be old.
#[rstest]
#[case::not_known_yet(false, "ServiceAccountMissing", 1)]
#[case::known_without_a_role(true, "NoRole", 0)]
#[tokio::test]
async fn an_account_that_is_deleted_under_a_review_gives_nothing_and_no_failure(
    #[case] is_known: bool,
    #[case] expected: &str,
    #[case] warnings: usize,
) {
    good_round(async || {
        let api = FakeApi::new();
        if is_known {
            api.put_quietly(ACCOUNT, json!({"metadata": {}}));
        }
        let webhook = Webhook::start(api);
        webhook.registered().await;
        let ready_file = webhook.ready_file();
        until(|| ready_file.exists() && webhook.api.is_watched("serviceaccounts")).await;
        webhook.api.put_quietly(ACCOUNT, json!({"metadata": {}}));
        let client = webhook.api_server();
        webhook.api.answering.send_replace(false);
        let deleted = async {
            until(|| webhook.api.was_asked_for(ACCOUNT)).await;
            webhook.api.delete(ACCOUNT);
            webhook.api.answering.send_replace(true);
        };
        let (answer, ()) = tokio::join!(webhook.post_pod(&client, "app"), deleted);
        if webhook.api.given_up() > 0 {
            return false;
        }
        assert_eq!(answer.status().as_u16(), 200);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(decision(&answer), expected);
        assert_eq!(answer["response"]["allowed"], true);
        assert!(answer["response"]["patch"].is_null());
        let warned = answer["response"]["warnings"].as_array();
        assert_eq!(warned.map_or(0, Vec::len), warnings, "{answer}");
        true
    })
    .await;
}

/// The pod's role and provider, and how long its token lives.
fn given(answer: &Value) -> (String, String, u64) {
    let patch = answer["response"]["patch"].as_str().unwrap();
    let patch = base64::engine::general_purpose::STANDARD
        .decode(patch)
        .unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
    let mut pod = json!({"spec": {"serviceAccountName": "app", "containers": [{"name": "app"}]}});
    json_patch::patch(&mut pod, &patch).unwrap();
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let variable = |name: &str| {
        let found = env.iter().find(|variable| variable["name"] == name);
        found.unwrap()["value"].as_str().unwrap().to_owned()
    };
    let source = &pod["spec"]["volumes"][0]["projected"]["sources"][0];
    let life = &source["serviceAccountToken"]["expirationSeconds"];
    (
        variable("ALIBABA_CLOUD_ROLE_ARN"),
        variable("ALIBABA_CLOUD_OIDC_PROVIDER_ARN"),
        life.as_u64().unwrap(),
    )
}

/// The role and the life of the token are two annotations of one object.
fn annotated(n: u64) -> Value {
    json!({"metadata": {"annotations": {
        "pod-identity.alibabacloud.com/role-name": format!("role-{n}"),
        "pod-identity.alibabacloud.com/service-account-token-expiration": (3600 + n).to_string()}}})
}

/// The role and the provider that trusts it are two fields of one object.
fn bound(n: u64) -> Value {
    json!({"metadata": {}, "spec": {"serviceAccountName": "app", "injectPods": true,
        "role": {"name": format!("role-{n}")},
        "oidcProviderArn": format!("acs:ram::1234567890123456:oidc-provider/provider-{n}")}})
}

#[rstest]
#[case::annotations(ACCOUNT, annotated, |n| format!("ack-rrsa-c0123456789 {}", 3600 + n))]
#[case::binding(BINDING, bound, |n| format!("provider-{n} 3600"))]
#[tokio::test]
async fn what_changes_again_and_again_is_seen_whole_and_the_last_word_wins(
    #[case] path: &str,
    #[case] object: fn(u64) -> Value,
    #[case] besides: fn(u64) -> String,
) {
    const CHANGES: u64 = 100;
    let api = FakeApi::new();
    api.put_quietly(ACCOUNT, json!({"metadata": {}}));
    api.put_quietly(path, object(0));
    let webhook = Webhook::start(api);
    webhook.registered().await;
    let ready_file = webhook.ready_file();
    let kinds = ["namespaces", "serviceaccounts", "alibabarolebindings"];
    let watched = || kinds.iter().all(|kind| webhook.api.is_watched(kind));
    until(|| ready_file.exists() && watched()).await;
    let client = webhook.api_server();
    // Which of the words it was; no answer mixes two.
    let word = async || {
        let answer = webhook.review(&client).await;
        assert_eq!(decision(&answer), "Injected");
        let (role, provider, life) = given(&answer);
        let n: u64 = role.rsplit_once("role/role-").unwrap().1.parse().unwrap();
        let (_, provider) = provider.rsplit_once('/').unwrap();
        assert_eq!(format!("{provider} {life}"), besides(n), "with role {n}");
        n
    };
    let mut seen = 0;
    for n in 1..=CHANGES {
        webhook.api.put(path, object(n));
        let words = futures::future::join_all((0..3).map(|_| word())).await;
        for word in &words {
            assert!(
                (seen..=n).contains(word),
                "{word} after {seen}, {n} is written"
            );
        }
        seen = words.into_iter().max().unwrap();
    }
    assert!(seen > 0, "no change was seen while they were made");
    // No event follows that would bring it: the last one must.
    let last = async {
        while word().await != CHANGES {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(CEILING, last)
        .await
        .expect("the last word in time");
}
