//! Who signed a request. Checks in this order: common parameters present, method and version of
//! the signature, timestamp, access key id, security token, signature, nonce. The nonce comes
//! last so that nobody can use up another's nonces without knowing a secret.

use std::collections::{HashSet, VecDeque};

use axum::http::Method;
use chrono::{DateTime, TimeDelta, Utc};

use super::arn::RamArn;
use super::refusal::Refusal;
use super::request::Parameters;
use super::signature;
use crate::simulators::clock;
use crate::simulators::config::SimulatorConfig;
use crate::simulators::issuance::{Issuance, Session};

/// How far a timestamp may be off, either way.
const WINDOW: TimeDelta = TimeDelta::minutes(15);

/// Longest nonce.
const LONGEST_NONCE: usize = 64;

/// An authenticated caller.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// A RAM user, or the account itself.
    LongLived {
        /// ARN of the user, or `…:root`.
        principal: String,
    },
    /// A session of a role.
    Session(Session),
}

impl Caller {
    /// The account that the caller belongs to.
    pub(crate) fn account(&self) -> &str {
        let arn = match self {
            Self::LongLived { principal } => principal,
            Self::Session(session) => &session.role_arn,
        };
        RamArn::parse(arn).map_or("", |arn| arn.account)
    }
}

/// Nonces that were used while their timestamps were acceptable.
#[derive(Default)]
pub(crate) struct Nonces {
    used: HashSet<(String, String)>,
    order: VecDeque<(DateTime<Utc>, (String, String))>,
}

impl Nonces {
    /// Uses up the nonce; false if it was used before.
    pub(crate) fn take(&mut self, access_key_id: &str, nonce: &str, now: DateTime<Utc>) -> bool {
        // A timestamp may lie a window ahead, so the request could be replayed for two of them.
        while self
            .order
            .front()
            .is_some_and(|(used, _)| now - *used > WINDOW * 2)
        {
            if let Some((_, forgotten)) = self.order.pop_front() {
                self.used.remove(&forgotten);
            }
        }
        let key = (access_key_id.to_owned(), nonce.to_owned());
        let fresh = self.used.insert(key.clone());
        if fresh {
            self.order.push_back((now, key));
        }
        fresh
    }
}

/// Checks everything about a signed request but its nonce; says who signed it.
pub(crate) fn authenticate(
    config: &SimulatorConfig,
    issuance: &Issuance,
    method: &Method,
    parameters: &Parameters,
    now: DateTime<Utc>,
) -> Result<Caller, Refusal> {
    let access_key_id = parameters.common("AccessKeyId")?;
    let given = parameters.common("Signature")?;
    let signature_method = parameters.common("SignatureMethod")?;
    let signature_version = parameters.common("SignatureVersion")?;
    let nonce = parameters.common("SignatureNonce")?;
    let timestamp = parameters.common("Timestamp")?;

    if signature_method != "HMAC-SHA1" {
        return Err(Refusal::signature_method());
    }
    if signature_version != "1.0" {
        return Err(Refusal::signature_version());
    }
    if nonce.len() > LONGEST_NONCE {
        return Err(Refusal::signature_nonce());
    }
    let timestamp = clock::read(timestamp).ok_or_else(Refusal::timestamp_format)?;
    if (now - timestamp).abs() > WINDOW {
        return Err(Refusal::timestamp_expired());
    }

    let (secret, caller) = if access_key_id.starts_with("STS.") {
        temporary(issuance, access_key_id, parameters, now)?
    } else {
        long_lived(config, access_key_id, parameters)?
    };

    let string_to_sign = signature::string_to_sign(method.as_str(), parameters.sorted());
    if signature::sign(&secret, &string_to_sign) != given {
        return Err(Refusal::signature(&string_to_sign));
    }
    Ok(caller)
}

fn long_lived(
    config: &SimulatorConfig,
    access_key_id: &str,
    parameters: &Parameters,
) -> Result<(String, Caller), Refusal> {
    let key = config
        .access_key(access_key_id)
        .ok_or_else(Refusal::no_access_key)?;
    if key.inactive {
        return Err(Refusal::inactive_access_key());
    }
    if parameters.get("SecurityToken").is_some() {
        // A long-lived key has no token, so none can belong to it.
        return Err(Refusal::security_token_mismatch());
    }
    Ok((
        key.secret.clone(),
        Caller::LongLived {
            principal: key.principal.clone(),
        },
    ))
}

fn temporary(
    issuance: &Issuance,
    access_key_id: &str,
    parameters: &Parameters,
    now: DateTime<Utc>,
) -> Result<(String, Caller), Refusal> {
    let token = parameters.common("SecurityToken")?;
    let (credentials, session) = issuance
        .find(access_key_id, now)
        .ok_or_else(Refusal::no_access_key)?;
    if !issuance.knows_token(token) {
        return Err(Refusal::security_token_malformed());
    }
    if credentials.security_token != token {
        return Err(Refusal::security_token_mismatch());
    }
    if session.expired {
        return Err(Refusal::security_token_expired());
    }
    Ok((credentials.access_key_secret, Caller::Session(session)))
}
