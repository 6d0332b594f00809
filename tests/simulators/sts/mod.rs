//! STS, version 2015-04-01, RPC style, over HTTPS on loopback.
//!
//! A request passes [`request`] (the HTTP side), a fault on demand if one waits, and [`actions`]
//! (which document the order of checks); [`answer`] writes what comes of it and [`refusal`] knows
//! the errors. [`token`], [`caller`] and [`trust`] decide; they send and store nothing.

mod actions;
mod answer;
mod arn;
mod caller;
mod flow_control;
mod refusal;
mod request;
mod session_request;
pub(crate) mod signature;
mod token;
mod trust;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::Response;
use axum::{Extension, Router};
use chrono::{DateTime, TimeDelta, Utc};

use self::caller::Nonces;
use self::flow_control::FlowControl;
use self::refusal::Refusal;
use self::request::{Parameters, Raw};
use super::authority::Authority;
use super::calls::{Call, CallLog, SUCCESS};
use super::clock;
use super::config::SimulatorConfig;
use super::connection::Connection;
use super::faults::{self, Effect, Faults};
use super::issuance::{Issuance, Session, VerifyError};
use super::listener::Listener;
use super::live::Live;
use super::random;

/// Largest body that is read: a token of 20,000 characters and a policy, all percent-encoded.
const LARGEST_BODY: usize = 128 * 1024;
/// How long a client may take to send it.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What requests and the handle share.
pub(crate) struct Shared {
    config: Live<SimulatorConfig>,
    issuance: Issuance,
    calls: CallLog,
    faults: Faults,
    flow_control: Mutex<FlowControl>,
    nonces: Mutex<Nonces>,
}

impl Shared {
    /// The service's time.
    fn now(&self) -> DateTime<Utc> {
        let ahead = TimeDelta::from_std(self.config.get().clock_ahead).unwrap_or_default();
        clock::now() + ahead
    }
}

/// A running STS; dropping it ends it.
pub(crate) struct Sts {
    shared: Arc<Shared>,
    authority: Authority,
    listener: Listener,
}

impl Sts {
    /// Starts on a free port of loopback. Must be called inside a tokio runtime.
    pub(crate) fn start(config: SimulatorConfig) -> Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), config)
    }

    /// Starts at this address.
    pub(crate) fn start_at(address: SocketAddr, config: SimulatorConfig) -> Result<Self> {
        let shared = Arc::new(Shared {
            config: Live::new(config),
            issuance: Issuance::default(),
            calls: CallLog::default(),
            faults: Faults::default(),
            flow_control: Mutex::default(),
            nonces: Mutex::default(),
        });
        let authority = Authority::new()?;
        let router = Router::new()
            .fallback(serve)
            .with_state(Arc::clone(&shared));
        let listener = Listener::start(address, router, Some(authority.server()))?;
        Ok(Self {
            shared,
            authority,
            listener,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// `127.0.0.1:PORT`, as an STS endpoint is configured; `localhost:PORT` is as good.
    pub(crate) fn host(&self) -> String {
        self.address().to_string()
    }

    /// The certificate authority that clients must trust.
    pub(crate) fn ca_pem(&self) -> &str {
        self.authority.ca_pem()
    }

    /// The log of calls.
    pub(crate) fn calls(&self) -> CallLog {
        self.shared.calls.clone()
    }

    /// Faults on demand.
    pub(crate) fn faults(&self) -> Faults {
        self.shared.faults.clone()
    }

    /// Changes the configuration; requests that come later see it.
    pub(crate) fn update(&self, change: impl FnOnce(&mut SimulatorConfig)) {
        self.shared.config.update(change);
    }

    /// The record of what was issued, to be shared with the metadata service.
    pub(crate) fn issuance(&self) -> Issuance {
        self.shared.issuance.clone()
    }

    /// Says what these credentials stand for, or why they are not good.
    pub(crate) fn verify(
        &self,
        access_key_id: &str,
        access_key_secret: &str,
        security_token: &str,
    ) -> Result<Session, VerifyError> {
        let now = self.shared.now();
        self.shared
            .issuance
            .verify(access_key_id, access_key_secret, security_token, now)
    }

    /// Every secret and security token issued and every token seen: what no log may contain.
    pub(crate) fn issued_secrets(&self) -> Vec<String> {
        self.shared.issuance.secrets()
    }

    /// Ends it after the answers that are under way.
    pub(crate) async fn stop(self) -> Result<()> {
        self.listener.stop().await
    }
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let text = |name| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let reading = axum::body::to_bytes(body, LARGEST_BODY);
    let body = tokio::time::timeout(BODY_TIMEOUT, reading)
        .await
        .ok()
        .and_then(Result::ok);
    let raw = Raw {
        method: &parts.method,
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        content_type: text(header::CONTENT_TYPE),
        body: body.as_deref(),
    };
    let host = text(header::HOST).unwrap_or_default();
    let parameters = Parameters::read(&raw);
    for secret in parameters.secrets() {
        shared.issuance.saw(secret);
    }

    let config = shared.config.get();
    let action = parameters.get("Action").unwrap_or_default();
    let role = parameters.get("RoleArn");
    let format = parameters.format();
    let request_id = random::request_id();
    let effect = shared.faults.take(action, role, &config.faults);

    let replaced = effect.as_ref().and_then(Effect::replaces);
    let (answer, status, outcome) = if let Some((status, outcome)) = replaced {
        let refusal = match &effect {
            Some(Effect::Error { code, message, .. }) => Refusal::custom(status, code, message),
            _ => Refusal::custom(500, &outcome, "A fault on demand."),
        };
        (
            answer::failure(&refusal, format, &request_id, host),
            status,
            outcome,
        )
    } else {
        let result = match request::admit(&raw, &parameters) {
            Ok(()) => actions::perform(&shared, &config, &parts.method, &parameters).await,
            Err(refusal) => Err(refusal),
        };
        match result {
            Ok(result) => {
                let answer = answer::success(action, result, format, &request_id);
                (answer, 200, SUCCESS.to_owned())
            }
            Err(refusal) => {
                let answer = answer::failure(&refusal, format, &request_id, host);
                (answer, refusal.status.as_u16(), refusal.code)
            }
        }
    };
    // Recorded before it is sent, so that a test that has the answer also finds the record, and
    // one that waits for a hanging call can see that it came.
    shared.calls.record(Call {
        number: 0,
        time: shared.now(),
        service: "sts",
        action: action.to_owned(),
        role: role.map(str::to_owned),
        method: parts.method.to_string(),
        parameters: parameters.for_log(),
        in_url: parameters.in_url().to_vec(),
        status,
        outcome,
        request_id,
    });
    let mut response = faults::send(&shared.faults, answer, effect, &connection).await;
    // Clients correct their clock by this header; it must be the service's time, not the machine's.
    let date = shared.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(date) = date.parse() {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}
