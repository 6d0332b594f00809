//! The whole webhook: real TLS on loopback, the real wiring, an API server made up.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use rrsa::api::configuration::Configuration;
use rrsa::webhook::{Options, run};
use rrsa::world::SystemClock;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::fake_api::{CONFIGURATION, FakeApi};
use super::rig;

const CEILING: Duration = Duration::from_secs(10);

struct Webhook {
    api: FakeApi,
    address: SocketAddr,
    admin: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
    folder: tempfile::TempDir,
}

impl Webhook {
    fn start(api: FakeApi) -> Self {
        let on = json!({"pod-identity.alibabacloud.com/injection": "on"});
        api.put(
            "/api/v1/namespaces/team-a",
            json!({"metadata": {"labels": on}}),
        );
        let entry = |name: &str| {
            json!({"name": name, "clientConfig": {"url": "https://x/mutate"},
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
        let options = Options {
            client: api.client(),
            configuration: Configuration::parse(rig::CONFIGURATION).unwrap(),
            clock: Arc::new(SystemClock),
            listener,
            admin_listener,
            namespace: "rrsa-system".to_owned(),
            ca_secret_name: "rrsa-webhook-ca".to_owned(),
            webhook_configuration_name: "rrsa".to_owned(),
            server_names: vec![
                "rrsa-webhook.rrsa-system.svc".to_owned(),
                "127.0.0.1".to_owned(),
            ],
            drain_delay: Duration::from_millis(300),
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

    fn add_account(&self) {
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

    async fn registered(&self) {
        until(|| self.bundles().iter().all(Bundle::is_some_and_long)).await;
    }

    /// A client that trusts what is registered, as the API server does.
    #[expect(
        clippy::disallowed_methods,
        reason = "the API server's half of the connection"
    )]
    fn api_server(&self) -> reqwest::Client {
        let bundle = self.bundles()[0].clone().unwrap();
        let pem = base64::engine::general_purpose::STANDARD
            .decode(bundle)
            .unwrap();
        let root = reqwest::Certificate::from_pem(&pem).unwrap();
        reqwest::Client::builder()
            .tls_certs_only([root])
            .build()
            .unwrap()
    }

    async fn review(&self, client: &reqwest::Client) -> Value {
        let pod = json!({"spec": {"serviceAccountName": "app", "containers": [{"name": "app"}]}});
        let url = format!("https://{}/mutate", self.address);
        let answer = client
            .post(url)
            .json(&rig::review(&pod))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.version(), reqwest::Version::HTTP_2);
        answer.json().await.unwrap()
    }

    async fn readyz(&self) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}/readyz", self.admin))
            .await
            .unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
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

async fn until(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(CEILING, waiting)
        .await
        .expect("the condition in time");
}

fn decision(answer: &Value) -> &str {
    answer["response"]["auditAnnotations"]["decision"]
        .as_str()
        .unwrap()
}

#[tokio::test]
async fn ready_means_listed_and_certified_and_the_file_says_where() {
    let api = FakeApi::new();
    api.listing.send_replace(false);
    let webhook = Webhook::start(api);
    let ready_file = webhook.folder.path().join("ready.json");
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
async fn going_down_readiness_falls_first_and_reviews_under_way_are_answered() {
    let mut webhook = Webhook::start(FakeApi::new());
    webhook.registered().await;
    webhook.add_account();
    let client = webhook.api_server();
    *webhook.api.delay.lock().unwrap() = Duration::from_secs(1);
    webhook.stop.take().unwrap().send(()).unwrap();
    let under_way = webhook.review(&client);
    let looked = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (status, report) = webhook.readyz().await;
        assert_eq!(status, 503);
        assert!(report.contains("shutting down"), "{report}");
        assert!(!webhook.folder.path().join("ready.json").exists());
        tokio::time::sleep(Duration::from_millis(400)).await;
        let refused = tokio::net::TcpStream::connect(webhook.address).await;
        assert!(
            refused.is_err(),
            "the listener is closed while the review is under way"
        );
    };
    let (answer, ()) = tokio::join!(under_way, looked);
    assert_eq!(decision(&answer), "Injected");
    drop(client);
    tokio::time::timeout(CEILING, webhook.task)
        .await
        .expect("an end")
        .unwrap()
        .unwrap();
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
