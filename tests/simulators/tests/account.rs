//! The account that all tests use: one provider, a few roles and keys, a running STS, a client.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::TimeDelta;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::Value;
use tempfile::TempDir;

use crate::simulators::config::{
    AccessKey, PrincipalTrust, Provider, Role, SimulatorConfig, Trust,
};
use crate::simulators::sts::{Sts, signature};
use crate::simulators::token_issuer::TokenIssuer;
use crate::simulators::{clock, random};

pub(crate) const ISSUER: &str = "https://oidc.example/c1";
pub(crate) const PROVIDER: &str = "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c1";
pub(crate) const ROLE: &str = "acs:ram::1234567890123456:role/app";
pub(crate) const FURTHER_ROLE: &str = "acs:ram::1234567890123456:role/further";
pub(crate) const USER: &str = "acs:ram::1234567890123456:user/admin";
pub(crate) const SUBJECT: &str = "system:serviceaccount:team-a:app";
/// Every outside wait of these tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Making an RSA key takes a while, so all tests share one issuer.
pub(crate) static CLUSTER: LazyLock<TokenIssuer> =
    LazyLock::new(|| TokenIssuer::rs256(ISSUER).expect("an RSA issuer"));

/// A token of [`CLUSTER`] that is good for [`ROLE`].
pub(crate) fn good_token() -> String {
    CLUSTER.token(SUBJECT).expect("a token")
}

/// Keys to sign with.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

impl Keys {
    /// The keys in the answer of an exchange.
    pub(crate) fn of(credentials: &Value) -> Self {
        let member = |name: &str| credentials[name].as_str().expect(name).to_owned();
        Self {
            id: member("AccessKeyId"),
            secret: member("AccessKeySecret"),
            token: Some(member("SecurityToken")),
        }
    }
}

/// Parameters of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask(pub(crate) BTreeMap<String, String>);

impl Ask {
    /// A good exchange of `token` for [`ROLE`].
    pub(crate) fn oidc(token: &str) -> Self {
        Self::action("AssumeRoleWithOIDC")
            .with("OIDCProviderArn", PROVIDER)
            .with("OIDCToken", token)
            .with("RoleArn", ROLE)
            .with("RoleSessionName", "test-session")
            .with("DurationSeconds", "3600")
    }

    /// A good `AssumeRole` for `role`, not yet signed.
    pub(crate) fn assume(role: &str) -> Self {
        Self::action("AssumeRole")
            .with("RoleArn", role)
            .with("RoleSessionName", "test-session")
    }

    pub(crate) fn action(action: &str) -> Self {
        Self::default()
            .with("Action", action)
            .with("Version", "2015-04-01")
            .with("Format", "JSON")
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.0.remove(name);
        self
    }

    /// With the common parameters of a signed request; those that are there already stay.
    pub(crate) fn common(mut self, keys: &Keys) -> Self {
        let mut common = vec![
            ("AccessKeyId", keys.id.clone()),
            ("SignatureMethod", "HMAC-SHA1".to_owned()),
            ("SignatureVersion", "1.0".to_owned()),
            ("SignatureNonce", random::alphanumeric(32)),
            ("Timestamp", clock::written(clock::now())),
        ];
        common.extend(keys.token.clone().map(|token| ("SecurityToken", token)));
        for (name, value) in common {
            self.0.entry(name.to_owned()).or_insert(value);
        }
        self
    }

    /// Signed for this method.
    pub(crate) fn signed(self, keys: &Keys, method: &Method) -> Self {
        let ask = self.common(keys);
        let sorted = ask
            .0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let text = signature::string_to_sign(method.as_str(), sorted);
        let signature = signature::sign(&keys.secret, &text);
        ask.with("Signature", &signature)
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) async fn of(response: reqwest::Response) -> Self {
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.expect("a body"),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let json = serde_json::from_str(&self.text);
        assert!(json.is_ok(), "no JSON: {}", self.text);
        json.unwrap_or_default()
    }

    /// Status and code, to be compared in one go.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (
            self.status,
            self.json()["Code"].as_str().unwrap_or("no code").to_owned(),
        )
    }

    pub(crate) fn message(&self) -> String {
        self.json()["Message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// `Credentials` of an answer that must be a success.
    pub(crate) fn credentials(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()["Credentials"].clone()
    }
}

/// A running STS with the account in it.
pub(crate) struct Account {
    pub(crate) sts: Sts,
    pub(crate) folder: TempDir,
    pub(crate) client: reqwest::Client,
}

impl Account {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let jwks_file = folder.path().join("jwks.json");
        CLUSTER.write_jwks(&jwks_file).expect("the key set");
        let trust_with_id = Trust::Principal(PrincipalTrust {
            principal: "acs:ram::1234567890123456:role/app".to_owned(),
            external_id: Some("shared/word".to_owned()),
        });
        let key = |id: &str, principal: &str| AccessKey {
            id: id.to_owned(),
            secret: format!("secret-of-{id}"),
            principal: principal.to_owned(),
            inactive: false,
        };
        let sts = Sts::start(SimulatorConfig {
            providers: vec![Provider {
                arn: PROVIDER.to_owned(),
                issuer: ISSUER.to_owned(),
                client_ids: vec!["sts.aliyuncs.com".to_owned()],
                jwks_file,
                ..Provider::default()
            }],
            roles: vec![
                Role::new(
                    ROLE,
                    vec![Trust::subject(PROVIDER, SUBJECT), Trust::principal(USER)],
                ),
                Role {
                    max_session_duration: Duration::from_hours(4),
                    ..Role::new(FURTHER_ROLE, vec![trust_with_id, Trust::principal(USER)])
                },
            ],
            access_keys: vec![
                key("LTAIuser", USER),
                key("LTAIroot", "acs:ram::1234567890123456:root"),
                key("LTAIother", "acs:ram::1234567890123456:user/other"),
                AccessKey {
                    inactive: true,
                    ..key("LTAIoff", USER)
                },
            ],
            ..SimulatorConfig::default()
        })
        .expect("STS starts");
        let client = client(sts.ca_pem());
        Self {
            sts,
            folder,
            client,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}/", self.sts.host())
    }

    /// A static key of the account.
    pub(crate) fn keys(id: &str) -> Keys {
        Keys {
            id: id.to_owned(),
            secret: format!("secret-of-{id}"),
            token: None,
        }
    }

    /// Sends as Go does: the common parameters in the URL, the others in the form.
    pub(crate) async fn post(&self, ask: &Ask) -> Reply {
        let common = |name: &str| {
            matches!(
                name,
                "Action" | "Format" | "Version" | "Timestamp" | "AccessKeyId" | "SecurityToken"
            ) || name.starts_with("Signature")
        };
        let (query, form): (Vec<_>, Vec<_>) = ask.0.iter().partition(|(name, _)| common(name));
        let response = self
            .client
            .post(format!("{}?{}", self.url(), encoded(&query)))
            .form(&form)
            .send();
        Reply::of(response.await.expect("an answer")).await
    }

    /// Sends as Python does: everything in the URL.
    pub(crate) async fn get(&self, ask: &Ask) -> Reply {
        let query: Vec<_> = ask.0.iter().collect();
        let response = self
            .client
            .get(format!("{}?{}", self.url(), encoded(&query)))
            .send();
        Reply::of(response.await.expect("an answer")).await
    }

    /// Signs and posts.
    pub(crate) async fn call(&self, keys: &Keys, ask: Ask) -> Reply {
        self.post(&ask.signed(keys, &Method::POST)).await
    }

    /// Exchanges a good token.
    pub(crate) async fn exchange(&self) -> Keys {
        let token = good_token();
        Keys::of(&self.post(&Ask::oidc(&token)).await.credentials())
    }
}

pub(crate) fn encoded(pairs: &[(&String, &String)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

/// A client that trusts only this authority and follows no redirect.
#[expect(
    clippy::disallowed_methods,
    reason = "the test's own client, not the product's"
)]
pub(crate) fn client(ca_pem: &str) -> reqwest::Client {
    let certificate = reqwest::Certificate::from_pem(ca_pem.as_bytes()).expect("a certificate");
    reqwest::Client::builder()
        .tls_certs_only([certificate])
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .expect("a client")
}

/// A time so many seconds from now.
pub(crate) fn in_seconds(seconds: i64) -> chrono::DateTime<chrono::Utc> {
    clock::now() + TimeDelta::seconds(seconds)
}
