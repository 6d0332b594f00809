//! Why the metadata service gave no answer.

use http::StatusCode;

use super::question::{Question, RoleName};
use crate::world::HttpError;

/// Why there is no answer. No body, token or secret is ever part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No answer, or none that is short and quick enough.
    #[error(
        "the ECS metadata service cannot be asked for {question}; is this an ECS instance, and may this program reach the service?"
    )]
    Unreachable {
        /// What was asked.
        question: Question,
        /// The cause.
        #[source]
        source: HttpError,
    },
    /// The machine has no role at all, or not the one that was named.
    #[error(
        "{}; attach the role to the ECS instance, if this machine is one",
        no_role(.0.as_ref())
    )]
    NoRole(Option<RoleName>),
    /// Another status than 200.
    #[error("the ECS metadata service answered HTTP {status} when asked for {question}")]
    Status {
        /// What was asked.
        question: Question,
        /// HTTP status.
        status: StatusCode,
    },
    /// The body is not what was asked for.
    #[error(
        "the ECS metadata service's answer is not {question}: {problem}; does something else answer at its address?"
    )]
    Malformed {
        /// What was asked.
        question: Question,
        /// What is wrong, without the content.
        problem: String,
    },
    /// The service itself says that it failed.
    #[error("the ECS metadata service answered with code {code:?} when asked for {question}")]
    NotSuccess {
        /// What was asked.
        question: Question,
        /// `Code` of the answer, cut to 100 characters.
        code: String,
    },
    /// There is no token, and plain requests are not allowed here.
    #[error(
        "no IMDSv2 token could be had and IMDSv1 is switched off; if this is a container, check that the instance lets token answers travel so far"
    )]
    NoToken(#[source] Box<Error>),
    /// There is no token, and the service refuses plain requests.
    #[error(
        "the instance takes only requests with an IMDSv2 token and none could be had; if this is a container, check that the instance lets token answers travel so far"
    )]
    TokenRequired(#[source] Box<Error>),
}

impl Error {
    /// Whether the service does not know the token that was sent.
    pub(super) fn token_is_unknown(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::UNAUTHORIZED)
    }

    /// This failure of a plain request, after `token` kept it from having a token.
    pub(super) fn for_want_of_a_token(self, token: Self) -> Self {
        match self {
            Self::Status {
                status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN,
                ..
            } => Self::TokenRequired(Box::new(token)),
            other => other,
        }
    }
}

fn no_role(role: Option<&RoleName>) -> String {
    match role {
        Some(role) => format!("the ECS instance has no RAM role {role}"),
        None => "the ECS instance has no RAM role".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_role_is_named_if_it_has_a_name() {
        let named = Error::NoRole(Some("node".parse().unwrap()));
        assert_eq!(
            named.to_string(),
            "the ECS instance has no RAM role node; attach the role to the ECS instance, if this machine is one"
        );
        assert!(
            Error::NoRole(None)
                .to_string()
                .starts_with("the ECS instance has no RAM role;")
        );
    }
}
