//! Why a source gave no credentials. The kinds decide what may happen next: only a source that is
//! not set up may be passed over in favour of another identity.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::exchange::ExchangeError;
use crate::imds;
use crate::sts::{self, Refusal, RefusalKind};
use crate::world::HttpError;

/// The cause below an error, shared: callers that waited for one exchange get the same error.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Why there are no credentials. Secrets, tokens and bodies of answers are never part of it; the
/// cause is in [`source`](std::error::Error::source), and [`chain`](CredentialsError::chain) shows
/// all of them in one line.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// This source is not set up here; another one may be asked.
    #[error("{provider} is not configured: {hint}")]
    NotConfigured {
        /// The source.
        provider: Cow<'static, str>,
        /// What would set it up.
        hint: String,
    },
    /// Set up, but wrongly or by half. No other identity may take its place.
    #[error("{provider} is misconfigured")]
    Misconfigured {
        /// The source.
        provider: Cow<'static, str>,
        /// What is wrong, and what to do.
        #[source]
        source: Cause,
    },
    /// The service refused for good: the same request will be refused again.
    #[error("{provider} was refused")]
    Refused {
        /// The source.
        provider: Cow<'static, str>,
        /// The refusal, with code and request id as far as the service gave them: an
        /// [`sts::Error`] or an [`ExchangeError`].
        #[source]
        source: Cause,
    },
    /// No usable answer now; later there may be one.
    #[error("{provider} is unavailable")]
    Unavailable {
        /// The source.
        provider: Cow<'static, str>,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// None of the sources of a chain is set up here.
    #[error("no source of credentials is set up here: {}", listed(sources))]
    NoSource {
        /// The sources that were asked, in order, each with what would set it up.
        sources: Vec<PassedOver>,
    },
}

/// A source that a chain passed over, because it is not set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// The source.
    pub source: Cow<'static, str>,
    /// Why it counts as not set up, and what would set it up.
    pub why: String,
}

fn listed(sources: &[PassedOver]) -> String {
    if sources.is_empty() {
        return "all of them are left out of the chain".to_owned();
    }
    let each: Vec<_> = sources
        .iter()
        .map(|passed| format!("{}: {}", passed.source, passed.why))
        .collect();
    each.join("; ")
}

/// An error and all its causes in one line, from [`CredentialsError::chain`].
#[derive(Debug, Clone, Copy)]
pub struct CauseChain<'a>(&'a CredentialsError);

impl fmt::Display for CauseChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some errors say their cause themselves.
            if !last.ends_with(&text) {
                write!(f, ": {text}")?;
                last = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl CredentialsError {
    /// The source that failed.
    #[must_use]
    pub fn provider(&self) -> &str {
        match self {
            Self::NotConfigured { provider, .. }
            | Self::Misconfigured { provider, .. }
            | Self::Refused { provider, .. }
            | Self::Unavailable { provider, .. } => provider,
            Self::NoSource { .. } => "default",
        }
    }

    /// What STS said, if it was STS that refused: code and request id.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        let error = match self {
            // A throttled call is a refusal, too, but not for good.
            Self::Refused { source, .. } | Self::Unavailable { source, .. } => {
                source.downcast_ref::<sts::Error>()
            }
            Self::NotConfigured { .. } | Self::Misconfigured { .. } | Self::NoSource { .. } => None,
        };
        match error {
            Some(sts::Error::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// The error and all its causes in one line, for a log or a person.
    #[must_use]
    pub fn chain(&self) -> CauseChain<'_> {
        CauseChain(self)
    }

    pub(super) fn not_configured(provider: &'static str, hint: impl Into<String>) -> Self {
        Self::NotConfigured {
            provider: provider.into(),
            hint: hint.into(),
        }
    }

    pub(super) fn misconfigured(
        provider: &'static str,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self::Misconfigured {
            provider: provider.into(),
            source: Arc::new(source),
        }
    }

    pub(super) fn unavailable(
        provider: &'static str,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self::Unavailable {
            provider: provider.into(),
            source: Arc::new(source),
        }
    }

    fn refused(provider: &'static str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Refused {
            provider: provider.into(),
            source: Arc::new(source),
        }
    }

    /// What a failed exchange with STS means for its caller.
    pub(super) fn of_sts(provider: &'static str, error: sts::Error) -> Self {
        let later = match &error {
            sts::Error::InvalidRequest(_) | sts::Error::Unreachable(HttpError::Setup(_)) => {
                return Self::misconfigured(provider, error);
            }
            sts::Error::Refused(refusal) => matches!(
                refusal.kind(),
                RefusalKind::Throttled
                    | RefusalKind::ServiceFailure
                    | RefusalKind::NonceUsed
                    | RefusalKind::ClockSkew
                    | RefusalKind::TokenExpired
            ),
            sts::Error::Unreachable(_) | sts::Error::Malformed { .. } => true,
        };
        if later {
            Self::unavailable(provider, error)
        } else {
            Self::refused(provider, error)
        }
    }

    /// What a failed exchange with another service means for its caller.
    pub(super) fn of_exchange(provider: &'static str, error: ExchangeError) -> Self {
        match error {
            ExchangeError::Unreachable(HttpError::Setup(_)) => Self::misconfigured(provider, error),
            _ if error.is_final() => Self::refused(provider, error),
            _ => Self::unavailable(provider, error),
        }
    }

    /// What a failed question to the metadata service means for its caller.
    pub(super) fn of_imds(provider: &'static str, error: imds::Error) -> Self {
        match error {
            // Nobody named a role, so an instance without one is no mistake of the configuration.
            imds::Error::NoRole(None) => {
                Self::not_configured(provider, imds::Error::NoRole(None).to_string())
            }
            imds::Error::NoRole(Some(_))
            | imds::Error::Unreachable {
                source: HttpError::Setup(_),
                ..
            } => Self::misconfigured(provider, error),
            _ => Self::unavailable(provider, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use rstest::rstest;

    fn refused(status: u16, code: &str) -> CredentialsError {
        let refusal = Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            code: code.to_owned(),
            message: String::new(),
            request_id: "R1".to_owned(),
        };
        CredentialsError::of_sts("oidc_role_arn", sts::Error::Refused(refusal))
    }

    #[rstest]
    #[case(401, "AuthenticationFail.NoPermission", false)]
    #[case(404, "EntityNotExist.Role", false)]
    #[case(400, "SignatureDoesNotMatch", false)]
    #[case(400, "Throttling.User", true)]
    #[case(503, "ServiceUnavailable", true)]
    fn only_what_passes_by_itself_is_transient(
        #[case] status: u16,
        #[case] code: &str,
        #[case] transient: bool,
    ) {
        let error = refused(status, code);
        assert_eq!(error.is_transient(), transient);
        assert_eq!(error.provider(), "oidc_role_arn");
        let refusal = error.refusal().unwrap();
        assert_eq!(
            (refusal.code.as_str(), refusal.request_id.as_str()),
            (code, "R1")
        );
    }

    #[test]
    fn a_named_role_that_is_missing_is_a_mistake_and_an_unnamed_one_is_not() {
        let named = imds::Error::NoRole(Some("node".parse().unwrap()));
        let named = CredentialsError::of_imds("ecs_ram_role", named);
        assert!(matches!(named, CredentialsError::Misconfigured { .. }));
        let unnamed = CredentialsError::of_imds("ecs_ram_role", imds::Error::NoRole(None));
        assert!(matches!(unnamed, CredentialsError::NotConfigured { .. }));
    }
}
