//! The ECS metadata service over HTTP on loopback: v1, v2, and hardened (v2 only).
//!
//! Order of checks: path, method, `X-Forwarded-For` and time to live for a token request; the
//! token, or its absence in hardened mode, for all others; then whether the thing exists.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, Method, StatusCode};
use axum::response::Response;
use axum::{Extension, Router};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::json;

use super::calls::{Call, CallLog, SUCCESS, fingerprint};
use super::connection::Connection;
use super::faults::{self, Answer, Effect, Fault, Faults};
use super::issuance::{Issuance, IssuedCredentials, Session};
use super::listener::Listener;
use super::live::{Live, locked};
use super::{clock, random};

const TOKEN: HeaderName = HeaderName::from_static("x-aliyun-ecs-metadata-token");
const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aliyun-ecs-metadata-token-ttl-seconds");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

const TOKEN_PATH: &str = "/latest/api/token";
const DATA_PATH: &str = "/latest/meta-data/";
const ROLES_PATH: &str = "ram/security-credentials/";

/// What the service says of its own accord about a credential's life.
const CREDENTIAL_LIFE: Duration = Duration::from_hours(6);
/// A credential that ends sooner is replaced, in parts of its life.
const RENEWED_AT_PART: i32 = 2;

/// The instance.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct MetadataConfig {
    /// Name of the RAM role that is attached, if one is.
    pub(crate) role: Option<String>,
    /// Only v2 is served (`HttpTokens=required`).
    pub(crate) hardened: bool,
    /// The token request exists; without it only v1 works, as on an old instance.
    pub(crate) tokens: bool,
    /// `owner-account-id`; the role is of this account.
    pub(crate) account_id: String,
    /// `region-id`.
    pub(crate) region_id: String,
    /// `zone-id`.
    pub(crate) zone_id: String,
    /// `instance-id`; also the name of the role's session.
    pub(crate) instance_id: String,
    /// Credentials end after this time instead of six hours; the unfaithful knob again.
    #[serde(deserialize_with = "super::config::optional_duration")]
    pub(crate) session_lifetime: Option<Duration>,
    /// Standing faults; the actions are `PutToken`, `ListRoles`, `GetCredentials`, `GetValue`.
    pub(crate) faults: Vec<Fault>,
}

impl Default for MetadataConfig {
    fn default() -> Self {
        Self {
            role: None,
            hardened: false,
            tokens: true,
            account_id: "1234567890123456".to_owned(),
            region_id: "cn-hangzhou".to_owned(),
            zone_id: "cn-hangzhou-i".to_owned(),
            instance_id: "i-bp1simulated0000001".to_owned(),
            session_lifetime: None,
            faults: Vec::new(),
        }
    }
}

impl MetadataConfig {
    /// ARN of the role with this name.
    fn role_arn(&self, name: &str) -> String {
        format!("acs:ram::{}:role/{name}", self.account_id)
    }
}

struct Shared {
    config: Live<MetadataConfig>,
    issuance: Issuance,
    calls: CallLog,
    faults: Faults,
    tokens: Mutex<HashMap<String, DateTime<Utc>>>,
    /// The service hands out the same credentials until they are due, with the time of issue.
    current: Mutex<HashMap<String, (IssuedCredentials, DateTime<Utc>)>>,
}

/// A running metadata service; dropping it ends it.
pub(crate) struct Metadata {
    shared: Arc<Shared>,
    listener: Listener,
}

impl Metadata {
    /// Starts on a free port of loopback. Credentials go into `issuance`, so the STS that shares
    /// it accepts them. Must be called inside a tokio runtime.
    pub(crate) fn start(config: MetadataConfig, issuance: Issuance) -> Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), config, issuance)
    }

    /// Starts at this address.
    pub(crate) fn start_at(
        address: SocketAddr,
        config: MetadataConfig,
        issuance: Issuance,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            config: Live::new(config),
            issuance,
            calls: CallLog::default(),
            faults: Faults::default(),
            tokens: Mutex::default(),
            current: Mutex::default(),
        });
        let router = Router::new()
            .fallback(serve)
            .with_state(Arc::clone(&shared));
        let listener = Listener::start(address, router, None)?;
        Ok(Self { shared, listener })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The log of calls.
    pub(crate) fn calls(&self) -> CallLog {
        self.shared.calls.clone()
    }

    /// Faults on demand.
    pub(crate) fn faults(&self) -> Faults {
        self.shared.faults.clone()
    }

    /// Changes the instance; requests that come later see it.
    pub(crate) fn update(&self, change: impl FnOnce(&mut MetadataConfig)) {
        self.shared.config.update(change);
    }

    /// Ends it after the answers that are under way.
    pub(crate) async fn stop(self) -> Result<()> {
        self.listener.stop().await
    }
}

/// A request, recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    Token,
    Roles,
    Credentials(String),
    Value(String),
    Nothing,
}

impl Wish {
    fn of(path: &str) -> Self {
        if path == TOKEN_PATH {
            return Self::Token;
        }
        match path.strip_prefix(DATA_PATH) {
            Some(ROLES_PATH) => Self::Roles,
            Some(item) => match item.strip_prefix(ROLES_PATH) {
                Some(role) => Self::Credentials(role.to_owned()),
                None => Self::Value(item.to_owned()),
            },
            None => Self::Nothing,
        }
    }

    fn action(&self) -> &'static str {
        match self {
            Self::Token => "PutToken",
            Self::Roles => "ListRoles",
            Self::Credentials(_) => "GetCredentials",
            Self::Value(_) | Self::Nothing => "GetValue",
        }
    }
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let config = shared.config.get();
    let wish = Wish::of(parts.uri.path());
    let role = match &wish {
        Wish::Credentials(name) => Some(config.role_arn(name)),
        _ => None,
    };
    let effect = shared
        .faults
        .take(wish.action(), role.as_deref(), &config.faults);
    let replaced = effect.as_ref().and_then(Effect::replaces);
    let (answer, status, outcome) = if let Some((status, outcome)) = replaced {
        let body = match &effect {
            Some(Effect::Error { message, .. }) => message.clone(),
            _ => String::new(),
        };
        let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (text(code, body), status, outcome)
    } else {
        let answer = answer(&shared, &config, &wish, &parts, clock::now());
        let status = answer.status;
        let outcome = if status == StatusCode::OK {
            SUCCESS
        } else {
            status.as_str()
        };
        (answer, status.as_u16(), outcome.to_owned())
    };
    shared.calls.record(Call {
        number: 0,
        time: clock::now(),
        service: "metadata",
        action: wish.action().to_owned(),
        role,
        method: parts.method.to_string(),
        parameters: for_log(&parts),
        in_url: Vec::new(),
        status,
        outcome,
        request_id: random::request_id(),
    });
    faults::send(&shared.faults, answer, effect, &connection).await
}

fn for_log(parts: &Parts) -> BTreeMap<String, String> {
    let mut parameters = BTreeMap::from([("path".to_owned(), parts.uri.path().to_owned())]);
    for (name, secret) in [(TOKEN, true), (TOKEN_TTL, false), (FORWARDED_FOR, false)] {
        if let Some(value) = parts
            .headers
            .get(&name)
            .and_then(|value| value.to_str().ok())
        {
            let kept = if secret {
                fingerprint(value)
            } else {
                value.to_owned()
            };
            parameters.insert(name.to_string(), kept);
        }
    }
    parameters
}

fn text(status: StatusCode, body: String) -> Answer {
    Answer {
        status,
        content_type: "text/plain".to_owned(),
        body,
        request_id: None,
    }
}

/// The refusals are pages, as those of the real service are.
fn refused(status: StatusCode) -> Answer {
    let body = format!("<?xml version=\"1.0\"?><html><head><title>{status}</title></head></html>");
    Answer {
        status,
        content_type: "text/html".to_owned(),
        body,
        request_id: None,
    }
}

fn answer(
    shared: &Shared,
    config: &MetadataConfig,
    wish: &Wish,
    parts: &Parts,
    now: DateTime<Utc>,
) -> Answer {
    if *wish == Wish::Token {
        return token(shared, config, parts, now);
    }
    if parts.method != Method::GET {
        return refused(StatusCode::METHOD_NOT_ALLOWED);
    }
    if let Some(refusal) = check_token(shared, config, parts, now) {
        return refused(refusal);
    }
    let value = match wish {
        Wish::Roles => config.role.clone(),
        Wish::Credentials(name) if config.role.as_deref() == Some(name) => {
            return credentials(shared, config, name, now);
        }
        Wish::Value(item) => match item.as_str() {
            "region-id" => Some(config.region_id.clone()),
            "zone-id" => Some(config.zone_id.clone()),
            "instance-id" => Some(config.instance_id.clone()),
            "owner-account-id" => Some(config.account_id.clone()),
            _ => None,
        },
        Wish::Token | Wish::Credentials(_) | Wish::Nothing => None,
    };
    match value {
        Some(value) => text(StatusCode::OK, value),
        None => refused(StatusCode::NOT_FOUND),
    }
}

/// Why a request other than for a token is refused, if it is.
fn check_token(
    shared: &Shared,
    config: &MetadataConfig,
    parts: &Parts,
    now: DateTime<Utc>,
) -> Option<StatusCode> {
    let Some(given) = parts.headers.get(TOKEN) else {
        return config.hardened.then_some(StatusCode::FORBIDDEN);
    };
    let given = given.to_str().unwrap_or_default();
    let valid = locked(&shared.tokens)
        .get(given)
        .is_some_and(|end| now < *end);
    (!valid).then_some(StatusCode::UNAUTHORIZED)
}

fn token(shared: &Shared, config: &MetadataConfig, parts: &Parts, now: DateTime<Utc>) -> Answer {
    if !config.tokens {
        return refused(StatusCode::NOT_FOUND);
    }
    if parts.method != Method::PUT {
        return refused(StatusCode::METHOD_NOT_ALLOWED);
    }
    // A forwarded request did not come from the instance itself.
    if parts.headers.contains_key(FORWARDED_FOR) {
        return refused(StatusCode::FORBIDDEN);
    }
    let life = parts
        .headers
        .get(TOKEN_TTL)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok())
        .filter(|seconds| (1..=21_600).contains(seconds));
    let Some(life) = life else {
        return refused(StatusCode::BAD_REQUEST);
    };
    let token = random::alphanumeric(56);
    shared.issuance.saw(&token);
    let end = now + TimeDelta::from_std(Duration::from_secs(life)).unwrap_or_default();
    locked(&shared.tokens).insert(token.clone(), end);
    text(StatusCode::OK, token)
}

fn credentials(shared: &Shared, config: &MetadataConfig, role: &str, now: DateTime<Utc>) -> Answer {
    let role_arn = config.role_arn(role);
    let mut current = locked(&shared.current);
    let due = current.get(&role_arn).is_none_or(|(credentials, issued)| {
        now >= *issued + (credentials.expiration - *issued) / RENEWED_AT_PART
    });
    if due {
        let life = config.session_lifetime.unwrap_or(CREDENTIAL_LIFE);
        let credentials = shared.issuance.issue(Session {
            role_arn: role_arn.clone(),
            name: config.instance_id.clone(),
            subject: None,
            policy: None,
            expiration: clock::end_of(now, life),
            expired: false,
        });
        current.insert(role_arn.clone(), (credentials, now));
    }
    let Some((credentials, issued)) = current.get(&role_arn) else {
        return refused(StatusCode::NOT_FOUND);
    };
    let body = json!({
        "Code": "Success",
        "AccessKeyId": credentials.access_key_id,
        "AccessKeySecret": credentials.access_key_secret,
        "SecurityToken": credentials.security_token,
        "Expiration": clock::written(credentials.expiration),
        "LastUpdated": clock::written(*issued),
    });
    text(StatusCode::OK, body.to_string())
}
