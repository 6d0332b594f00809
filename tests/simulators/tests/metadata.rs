//! The ECS metadata service.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use crate::account::{Account, Ask, Keys, PATIENCE, ROLE, Reply, client};
use crate::simulators::clock;
use crate::simulators::config::{Role, Trust};
use crate::simulators::faults::{Effect, Fault};
use crate::simulators::metadata::{Metadata, MetadataConfig};

const TTL: &str = "X-aliyun-ecs-metadata-token-ttl-seconds";
const TOKEN: &str = "X-aliyun-ecs-metadata-token";
const CREDENTIALS: &str = "/latest/meta-data/ram/security-credentials/";

/// An instance with the role `node`, in the account of an STS.
struct Instance {
    account: Account,
    metadata: Metadata,
    client: reqwest::Client,
}

impl Instance {
    fn start() -> Self {
        let account = Account::start();
        let config = MetadataConfig {
            role: Some("node".to_owned()),
            ..MetadataConfig::default()
        };
        let metadata = Metadata::start(config, account.sts.issuance()).expect("it starts");
        let client = client(account.sts.ca_pem());
        Self {
            account,
            metadata,
            client,
        }
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.metadata.url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Reply::of(request.send().await.expect("an answer")).await
    }

    async fn get(&self, path: &str, token: Option<&str>) -> Reply {
        let headers: Vec<_> = token.map(|token| (TOKEN, token)).into_iter().collect();
        self.ask(Method::GET, path, &headers).await
    }

    async fn token(&self, life: &str) -> Reply {
        self.ask(Method::PUT, "/latest/api/token", &[(TTL, life)])
            .await
    }

    async fn credentials(&self) -> Value {
        let reply = self.get(&format!("{CREDENTIALS}node"), None).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()
    }
}

#[tokio::test]
async fn instance_describes_itself() {
    let instance = Instance::start();
    for (item, value) in [
        ("region-id", "cn-hangzhou"),
        ("zone-id", "cn-hangzhou-i"),
        ("instance-id", "i-bp1simulated0000001"),
        ("owner-account-id", "1234567890123456"),
        ("ram/security-credentials/", "node"),
    ] {
        let reply = instance
            .get(&format!("/latest/meta-data/{item}"), None)
            .await;
        assert_eq!((reply.status, reply.text.as_str()), (200, value));
    }
    for path in [
        "/",
        "/latest/meta-data/",
        "/latest/meta-data/user-data",
        "/latest/meta-data/ram/security-credentials",
        "/latest/meta-data/ram/security-credentials/other",
    ] {
        assert_eq!(instance.get(path, None).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn role_credentials_are_good_at_sts() {
    let instance = Instance::start();
    let credentials = instance.credentials().await;
    assert_eq!(credentials["Code"], "Success");
    for member in ["Expiration", "LastUpdated"] {
        assert!(
            clock::read(credentials[member].as_str().unwrap()).is_some(),
            "{member}"
        );
    }
    let keys = Keys::of(&credentials);
    let account = &instance.account;
    let who = account
        .call(&keys, Ask::action("GetCallerIdentity"))
        .await
        .json();
    assert_eq!(
        who["Arn"],
        "acs:ram::1234567890123456:assumed-role/node/i-bp1simulated0000001"
    );
    let refused = account.call(&keys, Ask::assume(ROLE)).await;
    assert_eq!(refused.refusal(), (403, "NoPermission".to_owned()));
    account.sts.update(|config| {
        let node = Trust::principal("acs:ram::1234567890123456:role/node");
        config.roles[0] = Role::new(ROLE, vec![node]);
    });
    let assumed = account.call(&keys, Ask::assume(ROLE)).await;
    assert_eq!(assumed.status, 200, "{}", assumed.text);
}

#[tokio::test]
async fn credentials_stay_until_they_are_due() {
    let instance = Instance::start();
    let first = instance.credentials().await;
    assert_eq!(instance.credentials().await, first, "good for hours");

    let instance = Instance::start();
    instance
        .metadata
        .update(|config| config.session_lifetime = Some(Duration::from_secs(2)));
    let first = instance.credentials().await;
    let waiting = async {
        while instance.credentials().await == first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
    let secret = first["AccessKeySecret"].as_str().unwrap().to_owned();
    assert!(instance.account.sts.issued_secrets().contains(&secret));
}

#[tokio::test]
async fn token_request_is_strict() {
    let instance = Instance::start();
    for life in ["1", "21600"] {
        assert_eq!(instance.token(life).await.status, 200);
    }
    for life in ["0", "21601", "-1", "x", ""] {
        assert_eq!(instance.token(life).await.status, 400, "{life:?}");
    }
    let path = "/latest/api/token";
    assert_eq!(instance.ask(Method::PUT, path, &[]).await.status, 400);
    assert_eq!(
        instance.ask(Method::GET, path, &[(TTL, "60")]).await.status,
        405
    );
    let forwarded = [(TTL, "60"), ("X-Forwarded-For", "10.0.0.1")];
    assert_eq!(
        instance.ask(Method::PUT, path, &forwarded).await.status,
        403
    );
    assert_eq!(
        instance.ask(Method::POST, CREDENTIALS, &[]).await.status,
        405
    );
}

#[tokio::test]
async fn hardened_instance_demands_a_token() {
    let instance = Instance::start();
    let token = instance.token("60").await.text;
    assert_eq!(instance.get(CREDENTIALS, Some(&token)).await.text, "node");
    assert_eq!(instance.get(CREDENTIALS, Some("made-up")).await.status, 401);
    instance.metadata.update(|config| config.hardened = true);
    assert_eq!(instance.get(CREDENTIALS, None).await.status, 403);
    assert_eq!(instance.get(CREDENTIALS, Some("made-up")).await.status, 401);
    assert_eq!(instance.get(CREDENTIALS, Some(&token)).await.text, "node");
    assert_eq!(
        instance
            .get(&format!("{CREDENTIALS}node"), Some(&token))
            .await
            .status,
        200
    );

    // On a busy machine its second may be over before it is used.
    let brief = async {
        loop {
            let brief = instance.token("1").await.text;
            if instance.get(CREDENTIALS, Some(&brief)).await.status == 200 {
                return brief;
            }
        }
    };
    let brief = tokio::time::timeout(PATIENCE, brief).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(instance.get(CREDENTIALS, Some(&brief)).await.status, 401);
}

#[tokio::test]
async fn instance_without_tokens_serves_v1() {
    let instance = Instance::start();
    instance.metadata.update(|config| config.tokens = false);
    assert_eq!(instance.token("60").await.status, 404);
    assert_eq!(instance.get(CREDENTIALS, None).await.text, "node");
}

#[tokio::test]
async fn instance_without_a_role_has_no_credentials() {
    let instance = Instance::start();
    instance.metadata.update(|config| config.role = None);
    assert_eq!(instance.get(CREDENTIALS, None).await.status, 404);
    assert_eq!(
        instance
            .get(&format!("{CREDENTIALS}node"), None)
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn faults_come_on_demand() {
    let instance = Instance::start();
    let faults = instance.metadata.faults();
    faults.next(1, Fault::on("PutToken", Effect::Status { status: 405 }));
    assert_eq!(instance.token("60").await.status, 405);
    let pointer = "/Expiration".to_owned();
    faults.next(
        1,
        Fault::on("GetCredentials", Effect::MissingField { pointer }),
    );
    assert!(instance.credentials().await.get("Expiration").is_none());
    faults.next(1, Fault::on("GetCredentials", Effect::ExpirationInPast));
    let past = instance.credentials().await;
    assert!(clock::read(past["Expiration"].as_str().unwrap()).unwrap() < clock::now());
    faults.next(1, Fault::on("ListRoles", Effect::Reset));
    let url = format!("{}{CREDENTIALS}", instance.metadata.url());
    assert!(instance.client.get(url).send().await.is_err());
}

#[tokio::test]
async fn log_of_calls_shows_the_sequence_and_no_token() {
    let instance = Instance::start();
    let token = instance.token("60").await.text;
    instance.get(CREDENTIALS, Some(&token)).await;
    instance
        .get(&format!("{CREDENTIALS}node"), Some(&token))
        .await;
    instance.get("/latest/meta-data/nothing", None).await;
    let calls = instance.metadata.calls().all();
    let seen: Vec<_> = calls
        .iter()
        .map(|call| (call.action.as_str(), call.outcome.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("PutToken", "Success"),
            ("ListRoles", "Success"),
            ("GetCredentials", "Success"),
            ("GetValue", "404"),
        ]
    );
    assert_eq!(
        calls[2].role.as_deref(),
        Some("acs:ram::1234567890123456:role/node")
    );
    assert!(!serde_json::to_string(&calls).unwrap().contains(&token));
    instance.metadata.stop().await.unwrap();
}
