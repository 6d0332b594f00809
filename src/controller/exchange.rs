//! Gets a token, swaps it for credentials and follows the chain; where OIDC cannot work and the
//! administrator allows it, the node's role stands in for the token. Every failure becomes a
//! [`Problem`] that names the step, the cause and the remedy.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use tracing::warn;

use super::api::{api_problem, within};
use super::chain::{self, Step};
use super::fallback::{Fallback, Grant, Oidc, Verdict, verdict};
use super::gate::{StsGate, Turn};
use super::reason::{Problem, Reason};
use super::settings::Live;
use super::trust::Asker;
use super::wanted::{TokenFrom, Wanted};
use crate::contract::AUDIENCE;
use crate::contract::arn::RoleArn;
use crate::imds;
use crate::secret::SecretText;
use crate::sts::{
    self, AssumeRole, AssumeRoleWithOidc, Caller, Issued, Nonce, TemporaryCredentials,
};
use crate::world::{Clock, Files, Random};

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
    pub configuration: Live,
    /// Lets the calls to STS through.
    pub gate: StsGate,
    /// The role of the operator's node, for the fallback.
    pub node: imds::Client,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Nonces of signed requests.
    pub random: Arc<dyn Random>,
    /// What is known about OIDC in this cluster.
    pub oidc: Arc<Mutex<Oidc>>,
}

impl std::fmt::Debug for Exchanger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchanger")
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}

/// What an exchange came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obtained {
    /// The credentials of the last role.
    pub issued: Issued,
    /// Why the node's role stood in for the token, if it did.
    pub fallback: Option<Reason>,
}

/// A session that assumes the next role.
struct Session {
    role_arn: RoleArn,
    credentials: TemporaryCredentials,
    /// Where its credentials came from, as the SDKs name it.
    provider_name: &'static str,
}

impl Session {
    fn request(&self, step: &Step, session_name: &str) -> AssumeRole {
        AssumeRole {
            caller: Caller {
                access_key_id: self.credentials.access_key_id.clone(),
                access_key_secret: self.credentials.access_key_secret.clone(),
                security_token: Some(self.credentials.security_token.clone()),
                provider_name: self.provider_name.to_owned(),
            },
            role_arn: step.role_arn.clone(),
            session_name: session_name.to_owned(),
            duration: step.duration,
            policy: step.policy.clone(),
            external_id: step.external_id.as_ref().map(|id| id.text().clone()),
        }
    }

    fn asker<'a>(&'a self, step: &'a Step) -> Asker<'a> {
        Asker::Role {
            arn: &self.role_arn,
            external_id: step.external_id.as_ref(),
        }
    }
}

/// The name of a session: that of one which the node's identity opens is never the author's choice.
fn session_name(wanted: &Wanted, by_node: bool) -> &str {
    if by_node {
        &wanted.default_session_name
    } else {
        &wanted.session_name
    }
}

fn in_field(field: &str, problem: Problem) -> Problem {
    Problem {
        message: format!("{field}: {}", problem.message),
        ..problem
    }
}

impl Exchanger {
    /// What is known about OIDC in this cluster.
    pub(super) fn oidc(&self) -> MutexGuard<'_, Oidc> {
        // Every change of it is complete in itself.
        self.oidc.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One exchange: a token is fetched anew and used once, then each role of the chain is assumed
    /// with the session before. Every call to STS is made through `turn`. `insist`: a token is sent
    /// also where that was found to be in vain a moment ago.
    ///
    /// # Errors
    /// The problem as the status will show it.
    pub async fn exchange(
        &self,
        wanted: &Wanted,
        turn: &mut Turn,
        insist: bool,
    ) -> Result<Obtained, Problem> {
        let (mut issued, fallback) = match self.first(wanted, turn, insist).await {
            Ok(issued) => (issued, None),
            Err((problem, grant)) => {
                let Some(grant) = grant else {
                    return Err(problem);
                };
                warn!(
                    reason = problem.reason.as_str(),
                    "OIDC cannot work: the node's role stands in"
                );
                let issued = self.by_node(wanted, &grant, turn).await;
                let issued = issued.map_err(|failed| Problem {
                    message: format!(
                        "{} The fallback failed, too: {}",
                        super::status::sentence(&problem.message),
                        failed.message
                    ),
                    ..failed
                })?;
                (issued, Some(problem.reason))
            }
        };
        let name = session_name(wanted, fallback.is_some());
        let mut role_arn = wanted.role_arn.clone();
        for (number, step) in wanted.chain.iter().enumerate() {
            let session = Session {
                role_arn,
                credentials: issued.credentials,
                provider_name: "ram_role_arn",
            };
            let field = format!("spec.assume[{number}]");
            let request = session.request(step, name);
            let asker = session.asker(step);
            let assumed = self.assume(wanted, &request, &asker, turn).await;
            issued = assumed.map_err(|problem| in_field(&field, problem))?;
            role_arn = step.role_arn.clone();
        }
        Ok(Obtained { issued, fallback })
    }

    /// The first session, by the token. The grant, if there is one, says that the node's role may
    /// stand in for it.
    async fn first(
        &self,
        wanted: &Wanted,
        turn: &mut Turn,
        insist: bool,
    ) -> Result<Issued, (Problem, Option<Grant>)> {
        let may_fall_back = matches!(wanted.fallback, Fallback::Allowed(_));
        let known = if may_fall_back && !insist {
            self.oidc().known_broken(self.clock.now()).cloned()
        } else {
            None
        };
        let (problem, broken) = match known {
            Some(problem) => (problem, true),
            None => match self.by_token(wanted, turn).await {
                Ok(issued) => return Ok(issued),
                Err(told) => told,
            },
        };
        Err(match verdict(&wanted.fallback, &problem, broken) {
            Verdict::Stands => (problem, None),
            Verdict::Refused(refused) => (refused, None),
            Verdict::FallBack(grant) => (problem, Some(grant)),
        })
    }

    /// Swaps a new token. A failure comes with whether it means that OIDC cannot work in this cluster.
    pub(super) async fn by_token(
        &self,
        wanted: &Wanted,
        turn: &mut Turn,
    ) -> Result<Issued, (Problem, bool)> {
        let unrelated = |problem| (problem, false);
        let token = match &wanted.token {
            TokenFrom::ServiceAccount(name) => self
                .service_account_token(&wanted.namespace, name)
                .await
                .map_err(unrelated)?,
            TokenFrom::File(name) => self.file_token(name).map_err(unrelated)?,
        };
        let request = AssumeRoleWithOidc {
            provider_arn: wanted.provider_arn.clone(),
            role_arn: wanted.role_arn.clone(),
            token,
            session_name: wanted.session_name.clone(),
            duration: wanted.duration,
            policy: wanted.policy.clone(),
        };
        let outcome = turn
            .assume_role_with_oidc(&wanted.endpoint, &request)
            .await
            .map_err(|error| {
                let asker = Asker::Token {
                    provider: &request.provider_arn,
                    token: &request.token,
                };
                explain(&error, &request.role_arn, &asker)
            });
        if !wanted.usual {
            return outcome.map_err(unrelated);
        }
        let now = self.clock.now();
        match outcome {
            Ok(issued) => {
                if self.oidc().worked(now) {
                    warn!("OIDC works again: bindings on the fallback go back to it");
                }
                Ok(issued)
            }
            Err(problem) => {
                let broken = self.oidc().failed(&problem, now);
                Err((problem, broken))
            }
        }
    }

    /// The first session, by the node's role instead of a token.
    async fn by_node(
        &self,
        wanted: &Wanted,
        grant: &Grant,
        turn: &mut Turn,
    ) -> Result<Issued, Problem> {
        let unavailable =
            |error: imds::Error| Problem::new(Reason::MetadataUnavailable, error.to_string());
        let found = self.node.credentials().await.map_err(unavailable)?;
        let name = self.node.role_name().await.map_err(unavailable)?;
        let node = RoleArn::of(
            &self.configuration.configuration().account_id,
            name.as_str(),
        )
        .map_err(|error| {
            Problem::new(
                Reason::MetadataUnavailable,
                format!("the node's role: {error}"),
            )
        })?;
        let credentials = TemporaryCredentials {
            access_key_id: found.access_key_id,
            access_key_secret: found.access_key_secret,
            security_token: found.security_token,
            expiration: found.expiration,
        };
        // A policy would not bind credentials that nobody opens a session for.
        if grant.node_role && wanted.role_arn == node && wanted.policy.is_none() {
            return Ok(Issued {
                credentials,
                assumed_role_arn: node.to_string(),
                request_id: String::new(),
                issuer_is_ahead: chrono::TimeDelta::zero(),
            });
        }
        let session = Session {
            role_arn: node,
            credentials,
            provider_name: "ecs_ram_role",
        };
        let step = Step {
            role_arn: wanted.role_arn.clone(),
            external_id: grant.external_id.clone(),
            // The node's credentials are a session, too.
            duration: wanted.duration.min(chain::MAX_DURATION),
            policy: wanted.policy.clone(),
        };
        let request = session.request(&step, session_name(wanted, true));
        let asker = session.asker(&step);
        let assumed = self.assume(wanted, &request, &asker, turn).await;
        assumed.map_err(|problem| in_field("spec.role", problem))
    }

    async fn assume(
        &self,
        wanted: &Wanted,
        request: &AssumeRole,
        asker: &Asker<'_>,
        turn: &mut Turn,
    ) -> Result<Issued, Problem> {
        let nonce = Nonce::new(self.random.as_ref())
            .map_err(|error| Problem::new(Reason::StsUnreachable, error.to_string()))?;
        turn.assume_role(&wanted.endpoint, request, nonce)
            .await
            .map_err(|error| explain(&error, &request.role_arn, asker))
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
        let configuration = self.configuration.configuration();
        let path = configuration
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

/// What an STS error means for whoever asked for the role.
fn explain(error: &sts::Error, role_arn: &RoleArn, asker: &Asker<'_>) -> Problem {
    let reason = Reason::of_exchange(error);
    let mut problem = Problem::new(reason, error.to_string());
    if let sts::Error::Refused(refusal) = error {
        problem.code.clone_from(&refusal.code);
        problem.request_id = Some(refusal.request_id.clone());
        problem.message = match (reason, asker) {
            (Reason::ProviderNotFound, Asker::Token { provider, .. }) => {
                format!("{} ({provider})", refusal.message)
            }
            (Reason::NotTrusted, Asker::Role { arn, .. }) => {
                format!("{} ({arn} may not assume {role_arn})", refusal.message)
            }
            (Reason::NotTrusted | Reason::RoleNotFound, _) => {
                format!("{} ({role_arn})", refusal.message)
            }
            _ => refusal.message.clone(),
        };
    }
    if reason == Reason::NotTrusted {
        problem.remedy = asker.remedy();
    }
    problem
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn refused(asker: &Asker<'_>, code: &str, message: &str) -> Problem {
        let refusal = sts::Refusal {
            status: StatusCode::FORBIDDEN,
            code: code.to_owned(),
            message: message.to_owned(),
            request_id: "R-1".to_owned(),
        };
        let role = "acs:ram::1:role/app".parse().unwrap();
        explain(&sts::Error::Refused(refusal), &role, asker)
    }

    #[test]
    fn a_refusal_keeps_code_and_request_id_and_names_the_object() {
        let (provider, token) = ("acs:ram::1:oidc-provider/p".parse().unwrap(), "x".into());
        let asker = Asker::Token {
            provider: &provider,
            token: &token,
        };
        let missing = refused(&asker, "EntityNotExist.Role", "The role not exists");
        assert_eq!(missing.code, "EntityNotExist.Role");
        assert_eq!(missing.request_id.as_deref(), Some("R-1"));
        assert!(missing.message.contains("acs:ram::1:role/app"));
        let untrusted = refused(
            &asker,
            "AuthenticationFail.NoPermission",
            "There is no permission",
        );
        assert_eq!(untrusted.reason, Reason::NotTrusted);
        assert!(
            untrusted.remedy.contains("oidc:sub"),
            "{}",
            untrusted.remedy
        );
    }

    #[test]
    fn a_refused_step_names_both_roles() {
        let before = "acs:ram::1:role/before".parse().unwrap();
        let asker = Asker::Role {
            arn: &before,
            external_id: None,
        };
        let problem = refused(&asker, "NoPermission", "You are not authorized.");
        assert_eq!(problem.reason, Reason::NotTrusted);
        for part in ["role/before", "role/app"] {
            assert!(problem.message.contains(part), "{}", problem.message);
        }
        assert!(
            problem
                .remedy
                .contains(r#""RAM":["acs:ram::1:role/before"]"#)
        );
    }
}
