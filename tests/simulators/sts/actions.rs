//! The actions. Each checks in the order of a strict service: what is cheap and says nothing
//! first, then who is asking, and only then whether the role exists and trusts them.
//!
//! | `AssumeRoleWithOIDC` | `AssumeRole` |
//! |---|---|
//! | parameters present and well formed | signature ([`caller`](super::caller)) |
//! | flow control of the role's account | flow control of the caller's account |
//! | provider ARN well formed, provider registered | parameters present and well formed |
//! | token verified ([`token`](super::token)) | caller is not the root account |
//! | role exists | role exists |
//! | role trusts the subject | role trusts the caller, `ExternalId` |
//! | duration within the role's limit | duration within the role's limit, and 1 h when chained |

use std::time::Duration;

use axum::http::Method;
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::arn::RamArn;
use super::caller::{self, Caller};
use super::refusal::Refusal;
use super::request::Parameters;
use super::session_request::SessionRequest;
use super::token::{self, Claims};
use super::{Shared, answer, trust};
use crate::simulators::clock;
use crate::simulators::config::SimulatorConfig;
use crate::simulators::issuance::{IssuedCredentials, Session};
use crate::simulators::live::locked;

/// The only version of the API.
const VERSION: &str = "2015-04-01";
/// Longest session when a session of a role assumes a further role.
const LONGEST_CHAINED: Duration = Duration::from_hours(1);

/// Does what the request asks for.
pub(crate) async fn perform(
    shared: &Shared,
    config: &SimulatorConfig,
    method: &Method,
    parameters: &Parameters,
) -> Result<Value, Refusal> {
    let action = parameters.common("Action")?;
    if !matches!(
        action,
        "AssumeRoleWithOIDC" | "AssumeRole" | "GetCallerIdentity"
    ) {
        return Err(Refusal::action());
    }
    if parameters.common("Version")? != VERSION {
        return Err(Refusal::version());
    }
    let now = shared.now();
    if action == "AssumeRoleWithOIDC" {
        return assume_role_with_oidc(shared, config, parameters, now).await;
    }
    let caller = signed(shared, config, method, parameters, now)?;
    locked(&shared.flow_control).admit(caller.account(), config, now)?;
    if action == "AssumeRole" {
        assume_role(shared, config, parameters, &caller, now)
    } else {
        Ok(answer::identity(&caller))
    }
}

fn signed(
    shared: &Shared,
    config: &SimulatorConfig,
    method: &Method,
    parameters: &Parameters,
    now: DateTime<Utc>,
) -> Result<Caller, Refusal> {
    let caller = caller::authenticate(config, &shared.issuance, method, parameters, now)?;
    let access_key_id = parameters.common("AccessKeyId")?;
    let nonce = parameters.common("SignatureNonce")?;
    if !locked(&shared.nonces).take(access_key_id, nonce, now) {
        return Err(Refusal::nonce_used());
    }
    Ok(caller)
}

async fn assume_role_with_oidc(
    shared: &Shared,
    config: &SimulatorConfig,
    parameters: &Parameters,
    now: DateTime<Utc>,
) -> Result<Value, Refusal> {
    let provider_arn = parameters.required("OIDCProviderArn")?;
    let token = parameters.required("OIDCToken")?;
    let request = SessionRequest::read(parameters)?;
    if !(4..=20_000).contains(&token.chars().count()) {
        return Err(Refusal::malformed("OIDCToken"));
    }
    locked(&shared.flow_control).admit(request.account(), config, now)?;

    if RamArn::of_kind(provider_arn, "oidc-provider").is_none() {
        return Err(Refusal::provider_arn());
    }
    let provider = config
        .provider(provider_arn)
        .ok_or_else(Refusal::no_provider)?;
    let claims = token::verify(token, provider, now).await?;

    let role = config.role(&request.role_arn);
    let role = role.ok_or_else(|| Refusal::no_role(&request.role_arn))?;
    if !trust::trusts_token(role, provider_arn, &claims) {
        return Err(Refusal::untrusted_subject());
    }
    request.at_most(role.max_session_duration)?;
    let credentials = issue(shared, config, &request, Some(&claims), now);
    Ok(answer::assumed(&request, &credentials, Some(&claims)))
}

fn assume_role(
    shared: &Shared,
    config: &SimulatorConfig,
    parameters: &Parameters,
    caller: &Caller,
    now: DateTime<Utc>,
) -> Result<Value, Refusal> {
    let request = SessionRequest::read(parameters)?;
    let external_id = parameters.given("ExternalId");
    if external_id.is_some_and(|id| !is_external_id(id)) {
        return Err(Refusal::malformed("ExternalId"));
    }
    if let Caller::LongLived { principal } = caller
        && principal.ends_with(":root")
    {
        return Err(Refusal::root_account());
    }
    let role = config.role(&request.role_arn);
    let role = role.ok_or_else(|| Refusal::no_role(&request.role_arn))?;
    if !trust::trusts_caller(role, caller, external_id) {
        return Err(Refusal::not_allowed());
    }
    request.at_most(role.max_session_duration)?;
    if matches!(caller, Caller::Session(_)) {
        request.at_most(LONGEST_CHAINED)?;
    }
    let credentials = issue(shared, config, &request, None, now);
    Ok(answer::assumed(&request, &credentials, None))
}

fn is_external_id(id: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte);
    (2..=1224).contains(&id.len()) && id.bytes().all(legal)
}

fn issue(
    shared: &Shared,
    config: &SimulatorConfig,
    request: &SessionRequest,
    claims: Option<&Claims>,
    now: DateTime<Utc>,
) -> IssuedCredentials {
    let life = config.session_lifetime.unwrap_or(request.duration);
    shared.issuance.issue(Session {
        role_arn: request.role_arn.clone(),
        name: request.session_name.clone(),
        subject: claims.map(|claims| claims.subject.clone()),
        policy: request.policy.clone(),
        expiration: clock::end_of(now, life),
        expired: false,
    })
}
