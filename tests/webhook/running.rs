//! The whole webhook: real TLS on loopback, the real wiring, an API server made up.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine;
use chrono::{DateTime, Utc};
use rrsa::api::configuration::Configuration;
use rrsa::serving::rotation::Times;
use rrsa::webhook::registration::Callee;
use rrsa::webhook::{Certificates, Options, Own, run};
use rrsa::world::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::fake_api::{CONFIGURATION, FakeApi};
use super::rig;

pub(crate) const CEILING: Duration = Duration::from_mins(1);
/// After an outage everything waits for its back-off.
pub(crate) const OUTAGE_CEILING: Duration = Duration::from_secs(90);

pub(crate) struct Webhook {
    pub(crate) api: FakeApi,
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
    folder: tempfile::TempDir,
}

impl Webhook {
    pub(crate) fn start(api: FakeApi) -> Self {
        Self::start_with(api, Duration::from_millis(300))
    }

    /// Starts one with that longest pause before its end; the least is 300 ms.
    pub(crate) fn start_with(api: FakeApi, drain_limit: Duration) -> Self {
        Self::start_by(Arc::new(SystemClock), api, drain_limit)
    }

    /// Starts one that goes by that clock.
    fn start_by(clock: Arc<dyn Clock>, api: FakeApi, drain_limit: Duration) -> Self {
        let client = api.client();
        Self::start_as(client, clock, api, drain_limit)
    }

    /// Starts one that reaches the API server by that client.
    pub(crate) fn start_over(client: kube::Client, api: FakeApi) -> Self {
        let clock = Arc::new(SystemClock);
        Self::start_as(client, clock, api, Duration::from_millis(300))
    }

    fn start_as(
        client: kube::Client,
        clock: Arc<dyn Clock>,
        api: FakeApi,
        drain_limit: Duration,
    ) -> Self {
        let on = json!({"pod-identity.alibabacloud.com/injection": "on"});
        api.put(
            "/api/v1/namespaces/team-a",
            json!({"metadata": {"labels": on}}),
        );
        let entry = |name: &str| {
            json!({"name": name, "clientConfig": {"url": "https://127.0.0.1/mutate"},
            "admissionReviewVersions": ["v1"], "sideEffects": "None"})
        };
        let entries = [
            entry("namespace.rrsa.io"),
            entry("pod.rrsa.io"),
            entry("role.rrsa.io"),
        ];
        api.put(CONFIGURATION, json!({"metadata": {}, "webhooks": entries}));

        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (listener, admin_listener) = (bind(), bind());
        let address = listener.local_addr().unwrap();
        let admin = admin_listener.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        write(&file, rig::CONFIGURATION);
        let options = Options {
            client,
            configuration: Box::new(move || {
                let text = String::from_utf8(read(&file)).unwrap();
                Configuration::parse(&text).map_err(|error| error.to_string())
            }),
            clock,
            listener,
            admin_listener,
            certificates: Certificates::Own(Own {
                secret_name: "rrsa-webhook-ca".to_owned(),
                webhook_configuration_name: "rrsa".to_owned(),
                callee: Callee {
                    namespace: "rrsa-system".to_owned(),
                    service: "rrsa-webhook".to_owned(),
                    server_names: vec![
                        "rrsa-webhook.rrsa-system.svc".to_owned(),
                        "127.0.0.1".to_owned(),
                    ],
                },
                times: Times::default(),
            }),
            drain_delay: Duration::from_millis(300),
            drain_limit,
            ready_file: Some(folder.path().join("ready.json")),
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(options, async {
            let _ = stopped.await;
        }));
        Self {
            api,
            address,
            admin,
            stop: Some(stop),
            task,
            folder,
        }
    }

    /// Is there when the webhook is ready.
    pub(crate) fn ready_file(&self) -> PathBuf {
        self.folder.path().join("ready.json")
    }

    /// Puts another configuration in place of the one that there is.
    fn configure(&self, text: &str) {
        write(&self.folder.path().join("config.yaml"), text);
    }

    pub(crate) fn add_account(&self) {
        let role = json!({"pod-identity.alibabacloud.com/role-name": "app"});
        let account = json!({"metadata": {"annotations": role}});
        self.api
            .put_quietly("/api/v1/namespaces/team-a/serviceaccounts/app", account);
    }

    fn bundles(&self) -> Vec<Option<String>> {
        let configuration = self.api.get(CONFIGURATION).unwrap();
        let entries = configuration["webhooks"].as_array().unwrap();
        entries
            .iter()
            .map(|entry| {
                entry["clientConfig"]["caBundle"]
                    .as_str()
                    .map(ToOwned::to_owned)
            })
            .collect()
    }

    pub(crate) async fn registered(&self) {
        until(|| self.bundles().iter().all(Bundle::is_some_and_long)).await;
    }

    /// What the API server trusts.
    pub(crate) fn bundle(&self) -> String {
        let bundle = self.bundles()[0].clone().unwrap();
        let pem = base64::engine::general_purpose::STANDARD.decode(bundle);
        String::from_utf8(pem.unwrap()).unwrap()
    }

    /// A client that trusts what is registered, as the API server does.
    #[expect(
        clippy::disallowed_methods,
        reason = "the API server's half of the connection"
    )]
    pub(crate) fn api_server(&self) -> reqwest::Client {
        let root = reqwest::Certificate::from_pem(self.bundle().as_bytes()).unwrap();
        reqwest::Client::builder()
            .tls_certs_only([root])
            .build()
            .unwrap()
    }

    pub(crate) async fn review(&self, client: &reqwest::Client) -> Value {
        self.post_pod(client, "app").await.json().await.unwrap()
    }

    /// Asks about a pod of that ServiceAccount.
    pub(crate) async fn post_pod(
        &self,
        client: &reqwest::Client,
        account: &str,
    ) -> reqwest::Response {
        let pod = json!({"spec": {"serviceAccountName": account, "containers": [{"name": "app"}]}});
        let url = format!("https://{}/mutate", self.address);
        let answer = client
            .post(url)
            .json(&rig::review(&pod))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.version(), reqwest::Version::HTTP_11);
        answer
    }

    pub(crate) async fn readyz(&self) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}/readyz", self.admin))
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

impl Webhook {
    pub(crate) async fn metrics(&self) -> String {
        let answer = reqwest::get(format!("http://{}/metrics", self.admin)).await;
        answer.unwrap().text().await.unwrap()
    }
}

trait Bundle {
    fn is_some_and_long(&self) -> bool;
}

impl Bundle for Option<String> {
    fn is_some_and_long(&self) -> bool {
        self.as_ref().is_some_and(|bundle| bundle.len() > 100)
    }
}

pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(CEILING, waiting)
        .await
        .expect("the condition in time");
}

/// Goes round until one is good: the webhook gives a question up after 2 s and an unread answer after 10 s,
/// and on a busy machine that may be over before the test has looked. Then the round is no good and says
/// nothing.
pub(crate) async fn good_round(mut round: impl AsyncFnMut() -> bool) {
    for _ in 0..10 {
        if round().await {
            return;
        }
    }
    panic!("in no round was the machine quick enough to see it");
}

pub(crate) fn decision(answer: &Value) -> &str {
    answer["response"]["auditAnnotations"]["decision"]
        .as_str()
        .unwrap()
}

#[tokio::test]
async fn ready_means_listed_and_certified_and_the_file_says_where() {
    let api = FakeApi::new();
    api.listing.send_replace(false);
    let webhook = Webhook::start(api);
    let ready_file = webhook.ready_file();
    until(|| {
        webhook
            .api
            .get("/api/v1/namespaces/rrsa-system/secrets/rrsa-webhook-ca")
            .is_some()
    })
    .await;
    let (status, report) = webhook.readyz().await;
    assert_eq!(status, 503);
    assert!(report.contains("namespaces: not listed yet"), "{report}");
    assert!(!ready_file.exists());

    webhook.api.listing.send_replace(true);
    until(|| ready_file.exists()).await;
    assert_eq!(webhook.readyz().await.0, 200);
    let addresses: Value = serde_json::from_slice(&read(&ready_file)).unwrap();
    assert_eq!(addresses["address"], json!(webhook.address));
    assert_eq!(addresses["adminAddress"], json!(webhook.admin));
}

#[expect(
    clippy::disallowed_methods,
    reason = "a file that this test had written"
)]
fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// A configuration as an administrator writes it.
fn write(path: &Path, text: &str) {
    // Never half of it.
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[tokio::test]
async fn an_account_younger_than_the_cache_is_injected_over_trusted_tls() {
    let webhook = Webhook::start(FakeApi::new());
    webhook.registered().await;
    let client = webhook.api_server();
    assert_eq!(
        decision(&webhook.review(&client).await),
        "ServiceAccountMissing"
    );
    webhook.add_account();
    // What was missing is remembered for a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let answer = webhook.review(&client).await;
    assert_eq!(decision(&answer), "Injected");
    assert!(answer["response"]["patch"].is_string());
}

#[tokio::test]
async fn an_emptied_ca_bundle_is_set_again() {
    let webhook = Webhook::start(FakeApi::new());
    webhook.registered().await;
    let before = webhook.bundles();
    let mut configuration = webhook.api.get(CONFIGURATION).unwrap();
    configuration["webhooks"][1]["clientConfig"]["caBundle"] = json!("");
    webhook.api.put(CONFIGURATION, configuration);
    webhook.registered().await;
    assert_eq!(webhook.bundles(), before);
}

#[tokio::test]
async fn a_replica_that_may_not_write_the_secret_gets_ready_and_sets_an_emptied_ca_bundle() {
    const SECRET: &str = "/api/v1/namespaces/rrsa-system/secrets/rrsa-webhook-ca";
    let mut webhook = Webhook::start(FakeApi::new());
    webhook.registered().await;
    let (api, trusted) = (webhook.api.clone(), webhook.bundle());
    webhook.stop.take().unwrap().send(()).unwrap();
    webhook.task.await.unwrap().unwrap();
    // The step of a rotation is due, and no Secret can be replaced here.
    let mut secret = api.get(SECRET).unwrap();
    let asked = json!({"rrsa.io/rotation-requested-at": "2026-05-01T00:00:00Z"});
    secret["metadata"]["annotations"] = asked;
    api.put_quietly(SECRET, secret);
    // The configuration is applied anew, without a bundle.
    let webhook = Webhook::start(api);
    let ready_file = webhook.ready_file();
    until(|| ready_file.exists()).await;
    webhook.registered().await;
    assert_eq!(webhook.bundle(), trusted);
}

#[tokio::test]
async fn going_down_readiness_falls_first_and_reviews_under_way_are_answered() {
    good_round(goes_down).await;
}

/// Whether all of it was seen while the review was under way.
async fn goes_down() -> bool {
    let mut webhook = Webhook::start(FakeApi::new());
    webhook.registered().await;
    let ready_file = webhook.ready_file();
    until(|| ready_file.exists()).await;
    webhook.add_account();
    let client = webhook.api_server();
    webhook.api.answering.send_replace(false);
    let stop = webhook.stop.take().unwrap();
    let api = &webhook.api;
    let started = api.started();
    let under_way = webhook.post_pod(&client, "app");
    let looked = async {
        until(|| api.started() > started).await;
        stop.send(()).unwrap();
        let pause = || tokio::time::sleep(Duration::from_millis(20));
        // As long as the review waits for its answer.
        while api.given_up() == 0 {
            let answer = reqwest::get(format!("http://{}/readyz", webhook.admin)).await;
            if let Ok(answer) = answer
                && answer.status().as_u16() == 503
            {
                let report = answer.text().await.unwrap();
                assert!(report.contains("shutting down"), "{report}");
                break;
            }
            pause().await;
        }
        while api.given_up() == 0 && ready_file.exists() {
            pause().await;
        }
        while api.given_up() == 0
            && tokio::net::TcpStream::connect(webhook.address)
                .await
                .is_ok()
        {
            pause().await;
        }
        // The listener is closed while the review is under way.
        api.answering.send_replace(true);
    };
    let (answer, ()) = tokio::join!(under_way, looked);
    if api.given_up() > 0 {
        return false;
    }
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(decision(&answer.json().await.unwrap()), "Injected");
    drop(client);
    tokio::time::timeout(CEILING, webhook.task)
        .await
        .expect("an end")
        .unwrap()
        .unwrap();
    true
}

#[tokio::test]
async fn a_plain_request_on_the_tls_port_is_cut_off_and_others_are_served() {
    let webhook = Webhook::start(FakeApi::new());
    webhook.registered().await;
    webhook.add_account();
    let plain = reqwest::get(format!("http://{}/mutate", webhook.address)).await;
    assert!(plain.is_err());
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(
            tokio::net::TcpStream::connect(webhook.address)
                .await
                .unwrap(),
        );
    }
    assert_eq!(
        decision(&webhook.review(&webhook.api_server()).await),
        "Injected"
    );
}

#[tokio::test]
async fn a_binding_younger_than_the_cache_gives_its_role_and_failures_are_ours() {
    let webhook = Webhook::start(FakeApi::new());
    webhook.registered().await;
    let account = json!({"metadata": {}});
    webhook
        .api
        .put_quietly("/api/v1/namespaces/team-a/serviceaccounts/app", account);
    let client = webhook.api_server();
    assert_eq!(decision(&webhook.review(&client).await), "NoRole");
    webhook.api.put_quietly(
        "/apis/rrsa.io/v1alpha1/namespaces/team-a/alibabarolebindings/app",
        json!({"metadata": {}, "spec": {"role": {"name": "app"}, "serviceAccountName": "app",
            "injectPods": true}}),
    );
    // That there was none is remembered for a second.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let answer = webhook.review(&client).await;
    assert_eq!(decision(&answer), "Injected");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    *webhook.api.refusing.lock().unwrap() = 503;
    let answer = webhook.post_pod(&client, "app").await;
    assert_eq!(answer.status().as_u16(), 500);
}

#[derive(Debug)]
struct StandsStill(DateTime<Utc>);

impl Clock for StandsStill {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }
}

#[tokio::test]
async fn a_flood_for_what_is_missing_costs_one_question_of_each_kind() {
    // What was answered holds for a second, and here no second passes.
    let clock = Arc::new(StandsStill(SystemClock.now()));
    let webhook = Webhook::start_by(clock, FakeApi::new(), Duration::from_millis(300));
    webhook.registered().await;
    let ready_file = webhook.ready_file();
    until(|| ready_file.exists()).await;
    let client = webhook.api_server();
    *webhook.api.delay.lock().unwrap() = Duration::from_millis(200);
    let before = webhook.api.requests.load(Ordering::Relaxed);
    let flood = (0..50).map(|_| webhook.post_pod(&client, "missing"));
    for answer in futures::future::join_all(flood).await {
        assert_eq!(answer.status().as_u16(), 200);
    }
    let asked = webhook.api.requests.load(Ordering::Relaxed) - before;
    // The rest is room for a watch that is opened anew.
    assert!(
        asked <= 6,
        "{asked} questions for one missing ServiceAccount"
    );
}

#[tokio::test]
async fn reviews_are_counted_by_decision_and_no_name_becomes_a_label() {
    let webhook = Webhook::start(FakeApi::new());
    webhook.registered().await;
    webhook.add_account();
    let client = webhook.api_server();
    assert_eq!(decision(&webhook.review(&client).await), "Injected");
    let url = format!("https://{}/mutate", webhook.address);
    let refused = client.post(&url).json(&json!({})).send().await.unwrap();
    assert_eq!(refused.status().as_u16(), 400);
    let page = webhook.metrics().await;
    for line in [
        r#"rrsa_webhook_reviews_total{decision="Injected",dry_run="false"} 1"#,
        r#"rrsa_webhook_failures_total{status="400"} 1"#,
        "rrsa_webhook_review_duration_seconds_count 2",
        r#"rrsa_webhook_certificate_expiry_timestamp_seconds{certificate="server"} "#,
        r#"rrsa_webhook_certificate_expiry_timestamp_seconds{certificate="authority"} "#,
    ] {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    let ours = page.lines().filter(|line| line.starts_with("rrsa_webhook"));
    assert!(ours.clone().count() > 3);
    for line in ours {
        assert!(
            !line.contains("team-a") && !line.contains("role/"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_dry_run_is_counted_apart() {
    let webhook = Webhook::start(FakeApi::new());
    webhook.registered().await;
    webhook.add_account();
    let client = webhook.api_server();
    let counted = async || {
        let page = webhook.metrics().await;
        let mut lines: Vec<_> = page
            .lines()
            .filter(|line| line.starts_with("rrsa_webhook_reviews_total{") && !line.ends_with(" 0"))
            .map(ToOwned::to_owned)
            .collect();
        lines.sort();
        lines
    };
    let dry = r#"rrsa_webhook_reviews_total{decision="Injected",dry_run="true"} 1"#;
    let real = r#"rrsa_webhook_reviews_total{decision="Injected",dry_run="false"} 1"#;
    let pod = json!({"spec": {"serviceAccountName": "app", "containers": [{"name": "app"}]}});
    let mut asked = rig::review(&pod);
    asked["request"]["dryRun"] = json!(true);
    let url = format!("https://{}/mutate", webhook.address);
    let answer = client.post(&url).json(&asked).send().await.unwrap();
    assert_eq!(decision(&answer.json().await.unwrap()), "Injected");
    assert_eq!(counted().await, [dry]);
    assert_eq!(decision(&webhook.review(&client).await), "Injected");
    assert_eq!(counted().await, [real, dry]);
}

#[tokio::test]
async fn the_configuration_is_followed_and_a_bad_one_keeps_the_last_good() {
    let webhook = Webhook::start(FakeApi::new());
    webhook.registered().await;
    webhook.add_account();
    let client = webhook.api_server();
    let role = async || {
        let answer = webhook.review(&client).await;
        let role = &answer["response"]["auditAnnotations"]["role"];
        role.as_str().unwrap().to_owned()
    };
    let says = async |text: &str| {
        let waiting = async {
            while !webhook.readyz().await.1.contains(text) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(OUTAGE_CEILING, waiting)
            .await
            .expect("the report in time");
    };
    let becomes = async |wanted: &str| {
        let waiting = async {
            while role().await != wanted {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(OUTAGE_CEILING, waiting)
            .await
            .expect("the configuration in time");
    };
    assert_eq!(role().await, "acs:ram::1234567890123456:role/app");
    let other = |account: &str| rig::CONFIGURATION.replace("1234567890123456", account);
    webhook.configure(&other("6543210987654321"));
    becomes("acs:ram::6543210987654321:role/app").await;

    webhook.configure("accountId: none\n");
    says("configuration: refused").await;
    assert_eq!(webhook.readyz().await.0, 200);
    let page = webhook.metrics().await;
    assert!(page.contains("rrsa_configuration_in_use 0"), "{page}");
    assert_eq!(role().await, "acs:ram::6543210987654321:role/app");

    webhook.configure(&other("1111222233334444"));
    becomes("acs:ram::1111222233334444:role/app").await;
    assert!(!webhook.readyz().await.1.contains("refused"));
}
