//! Gets a token and swaps it for credentials. Every failure becomes a [`Problem`] that names the
//! cause and the remedy.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use serde::Deserialize;
use serde_json::json;

use super::api::{api_problem, within};
use super::gate::{StsGate, Turn};
use super::reason::{Problem, Reason};
use super::wanted::{TokenFrom, Wanted};
use crate::api::configuration::Configuration;
use crate::contract::AUDIENCE;
use crate::secret::SecretText;
use crate::sts::{self, AssumeRoleWithOidc, Issued};
use crate::world::Files;

/// Life of a token that is used once and thrown away; the shortest that Kubernetes gives.
const TOKEN_LIFE: Duration = Duration::from_mins(10);
/// Longest token that STS takes, and a margin for blanks around it.
const MAX_TOKEN_FILE: usize = 20_000 + 64;

/// Exchanges tokens for the controller.
#[derive(Clone)]
pub struct Exchanger {
    /// Asks for tokens of `ServiceAccount`s.
    pub client: kube::Client,
    /// Reads the operator's own tokens.
    pub files: Arc<dyn Files>,
    /// Names them.
    pub configuration: Arc<Configuration>,
    /// Lets the calls to STS through.
    pub gate: StsGate,
}

impl std::fmt::Debug for Exchanger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchanger")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

impl Exchanger {
    /// One exchange: a token is fetched anew and used once. Every call to STS is made through
    /// `turn`.
    ///
    /// # Errors
    /// The problem as the status will show it.
    pub async fn exchange(&self, wanted: &Wanted, turn: &mut Turn) -> Result<Issued, Problem> {
        let token = match &wanted.token {
            TokenFrom::ServiceAccount(name) => {
                self.service_account_token(&wanted.namespace, name).await?
            }
            TokenFrom::File(name) => self.file_token(name)?,
        };
        let request = AssumeRoleWithOidc {
            provider_arn: wanted.provider_arn.clone(),
            role_arn: wanted.role_arn.clone(),
            token,
            session_name: wanted.session_name.clone(),
            duration: wanted.duration,
            policy: wanted.policy.clone(),
        };
        turn.assume_role_with_oidc(&wanted.endpoint, &request)
            .await
            .map_err(|error| explain(&error, &request))
    }

    async fn service_account_token(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<SecretText, Problem> {
        let api = kube::Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(vec![AUDIENCE.to_owned()]),
                expiration_seconds: i64::try_from(TOKEN_LIFE.as_secs()).ok(),
                bound_object_ref: None,
            }),
            ..TokenRequest::default()
        };
        let action = format!("create a token of ServiceAccount {namespace}/{name}");
        let parameters = PostParams::default();
        match within(
            &action,
            api.create_token_request(name, &parameters, &request),
        )
        .await?
        {
            Ok(answer) => answer
                .status
                .and_then(|status| status.token)
                .map(SecretText::new)
                .ok_or_else(|| {
                    Problem::new(
                        Reason::ApiServerUnavailable,
                        "the TokenRequest came back empty",
                    )
                }),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(service_account_missing(namespace, name))
            }
            Err(error) => Err(api_problem(&action, &error)),
        }
    }

    fn file_token(&self, name: &str) -> Result<SecretText, Problem> {
        let unreadable = |cause: String| {
            Problem::new(
                Reason::TokenFileUnreadable,
                format!("the operator's token file {name:?} cannot be used: {cause}"),
            )
        };
        let path = self
            .configuration
            .token_files
            .get(name)
            .ok_or_else(|| unreadable("the configuration does not name it".to_owned()))?;
        let bytes = self
            .files
            .read(path, MAX_TOKEN_FILE)
            .map_err(|error| unreadable(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable("it is no text".to_owned()))?;
        Ok(SecretText::from(text.trim()))
    }
}

/// The problem of a missing `ServiceAccount`.
pub(super) fn service_account_missing(namespace: &str, name: &str) -> Problem {
    Problem::new(
        Reason::ServiceAccountNotFound,
        format!("ServiceAccount {name} does not exist in namespace {namespace}"),
    )
}

/// What an STS error means for this request.
fn explain(error: &sts::Error, request: &AssumeRoleWithOidc) -> Problem {
    let reason = Reason::of_exchange(error);
    let mut problem = Problem::new(reason, error.to_string());
    if let sts::Error::Refused(refusal) = error {
        problem.code.clone_from(&refusal.code);
        problem.request_id = Some(refusal.request_id.clone());
        problem.message = match reason {
            Reason::ProviderNotFound => format!("{} ({})", refusal.message, request.provider_arn),
            Reason::NotTrusted | Reason::RoleNotFound => {
                format!("{} ({})", refusal.message, request.role_arn)
            }
            _ => refusal.message.clone(),
        };
    }
    if reason == Reason::NotTrusted {
        problem.remedy = format!(
            "{} {}",
            reason.remedy(),
            trust_statement(request, &Claims::of(&request.token))
        );
    }
    problem
}

/// What a token says of itself. Not verified: it only words a remedy.
#[derive(Debug, Default, Deserialize)]
struct Claims {
    #[serde(default)]
    iss: String,
    #[serde(default)]
    sub: String,
}

impl Claims {
    fn of(token: &SecretText) -> Self {
        let payload = token.expose().split('.').nth(1).unwrap_or_default();
        BASE64_URL_SAFE_NO_PAD
            .decode(payload)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default()
    }
}

/// The statement that a role's trust policy needs, as the RRSA guide writes it.
fn trust_statement(request: &AssumeRoleWithOidc, claims: &Claims) -> String {
    json!({
        "Action": "sts:AssumeRole",
        "Effect": "Allow",
        "Principal": {"Federated": [request.provider_arn.as_str()]},
        "Condition": {"StringEquals": {
            "oidc:aud": AUDIENCE,
            "oidc:iss": claims.iss,
            "oidc:sub": claims.sub,
        }},
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn request() -> AssumeRoleWithOidc {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(
            r#"{"iss":"https://issuer","sub":"system:serviceaccount:team-a:app","aud":["x"]}"#,
        );
        AssumeRoleWithOidc {
            provider_arn: "acs:ram::1:oidc-provider/p".parse().unwrap(),
            role_arn: "acs:ram::1:role/app".parse().unwrap(),
            token: SecretText::new(format!("header.{payload}.signature")),
            session_name: "s1".to_owned(),
            duration: Duration::from_hours(1),
            policy: None,
        }
    }

    fn refused(code: &str, message: &str) -> Problem {
        let refusal = sts::Refusal {
            status: StatusCode::FORBIDDEN,
            code: code.to_owned(),
            message: message.to_owned(),
            request_id: "R-1".to_owned(),
        };
        explain(&sts::Error::Refused(refusal), &request())
    }

    #[test]
    fn a_missing_trust_statement_is_given_ready_to_paste() {
        let problem = refused("AuthenticationFail.NoPermission", "There is no permission");
        assert_eq!(problem.reason, Reason::NotTrusted);
        let (_, statement) = problem.remedy.split_once(": ").unwrap();
        let statement: serde_json::Value = serde_json::from_str(statement).unwrap();
        let condition = &statement["Condition"]["StringEquals"];
        assert_eq!(condition["oidc:sub"], "system:serviceaccount:team-a:app");
        assert_eq!(condition["oidc:iss"], "https://issuer");
        assert_eq!(
            statement["Principal"]["Federated"][0],
            "acs:ram::1:oidc-provider/p"
        );
        assert!(!problem.remedy.contains("signature"));
    }

    #[test]
    fn a_refusal_keeps_code_and_request_id_and_names_the_object() {
        let problem = refused("EntityNotExist.Role", "The role not exists");
        assert_eq!(problem.code, "EntityNotExist.Role");
        assert_eq!(problem.request_id.as_deref(), Some("R-1"));
        assert!(problem.message.contains("acs:ram::1:role/app"));
    }

    #[test]
    fn a_token_that_is_no_jwt_words_an_empty_statement() {
        assert_eq!(Claims::of(&"nonsense".into()).sub, "");
    }
}
