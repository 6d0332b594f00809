//! The closed set of reasons that conditions and events carry, with what to do about each.
//!
//! ```text
//! table   reason → meaning, remedy, who can mend it, when it is tried again
//! page    the same as Markdown: docs/reasons.md
//! here    what failed → reason, and the Problem on its way into the status
//! ```

use std::time::Duration;

use crate::sts::{self, RefusalKind};

mod page;
mod table;

pub use page::page;
pub use table::Reason;

/// What the table says of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The word in conditions and events.
    pub word: &'static str,
    /// When an attempt that failed so is repeated.
    pub class: Class,
    /// Who can do something about it.
    pub mender: Mender,
    /// What it means.
    pub meaning: &'static str,
    /// What to do. Empty where nothing is wrong.
    pub remedy: &'static str,
}

/// Kinds of failures, by how they are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nothing failed.
    Nothing,
    /// A fault of the moment: repeated soon.
    Transient,
    /// Too many calls: the budget of the whole process slows down as well.
    Throttled,
    /// Tried once more at once with a new token, then as a fault of the moment.
    FreshToken,
    /// Somebody must change something; where it is not in the cluster, nothing tells us when.
    WaitsForUser,
    /// Nobody knows what it means, so it is repeated rarely.
    Slow,
}

impl Class {
    /// The pace of the attempts.
    #[must_use]
    pub const fn retry(self) -> Retry {
        let (first, cap) = match self {
            Self::Transient | Self::Throttled | Self::FreshToken => {
                (Duration::from_secs(2), Duration::from_mins(2))
            }
            Self::Nothing | Self::WaitsForUser => (Duration::from_secs(5), Duration::from_mins(5)),
            Self::Slow => (Duration::from_mins(1), Duration::from_mins(10)),
        };
        Retry { first, cap }
    }
}

/// Who can do something about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mender {
    /// Nobody needs to.
    Nobody,
    /// Who wrote the binding.
    Author,
    /// Who administers the cluster and the operator.
    Administrator,
    /// Who administers RAM in the account.
    Ram,
}

/// How soon a failed attempt is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Wait after the first failure; doubled with each further one.
    pub first: Duration,
    /// The longest wait.
    pub cap: Duration,
}

impl Reason {
    /// The word in conditions and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.entry().word
    }

    /// The reason with this word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == word)
    }

    /// What to do about it. Empty where nothing is wrong.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        self.entry().remedy
    }

    /// How an attempt that failed so is repeated.
    #[must_use]
    pub const fn class(self) -> Class {
        self.entry().class
    }

    /// How soon an attempt that failed so is repeated.
    #[must_use]
    pub const fn retry(self) -> Retry {
        self.class().retry()
    }

    /// The reason of a failed exchange.
    #[must_use]
    pub fn of_exchange(error: &sts::Error) -> Self {
        match error {
            sts::Error::InvalidRequest(_) => Self::InvalidSpec,
            sts::Error::Unreachable(_) => Self::StsUnreachable,
            sts::Error::Refused(refusal) => match refusal.kind() {
                RefusalKind::TokenExpired => Self::TokenExpired,
                RefusalKind::TokenInvalid => Self::TokenInvalid,
                RefusalKind::AudienceMismatch => Self::AudienceMismatch,
                RefusalKind::IssuerMismatch => Self::IssuerMismatch,
                RefusalKind::IssuerBroken => Self::IssuerBroken,
                RefusalKind::FingerprintMismatch => Self::FingerprintMismatch,
                RefusalKind::ProviderNotFound | RefusalKind::ProviderArnInvalid => {
                    Self::ProviderNotFound
                }
                RefusalKind::NotTrusted => Self::NotTrusted,
                RefusalKind::RoleNotFound => Self::RoleNotFound,
                RefusalKind::Throttled => Self::Throttled,
                RefusalKind::ServiceFailure => Self::StsUnreachable,
                RefusalKind::InvalidParameter => Self::SessionRefused,
                RefusalKind::CallerRefused | RefusalKind::NonceUsed => Self::CallerRefused,
                RefusalKind::ClockSkew => Self::ClockSkew,
                RefusalKind::Unknown => Self::StsRefused,
            },
            // A load balancer's page: the service is not there, whatever the page says.
            sts::Error::Malformed { status, .. } if status.is_server_error() => {
                Self::StsUnreachable
            }
            _ => Self::StsAnswerInvalid,
        }
    }
}

/// A failure on its way into the status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Why.
    pub reason: Reason,
    /// Error code of the other side where it gave one, else the reason.
    pub code: String,
    /// What happened, naming the object.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// STS's request id.
    pub request_id: Option<String>,
}

impl Problem {
    /// A problem of ours, with the reason's own remedy.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            code: reason.as_str().to_owned(),
            message: message.into(),
            remedy: reason.remedy().to_owned(),
            request_id: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use std::collections::BTreeSet;

    #[test]
    fn every_reason_has_a_word_of_its_own_and_every_failure_a_remedy() {
        let words: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let Entry {
                word,
                meaning,
                remedy,
                ..
            } = reason.entry();
            // What Kubernetes takes as the reason of a condition.
            assert!(
                word.bytes().all(|byte| byte.is_ascii_alphanumeric()),
                "{word}"
            );
            assert!(meaning.ends_with('.'), "{word}");
            let well = [Reason::CredentialsFresh, Reason::NamespaceOptedIn].contains(reason);
            assert!(!remedy.is_empty() || well, "{word}");
        }
    }

    #[test]
    fn a_server_failure_of_sts_is_transient() {
        let error = sts::Error::Refused(sts::Refusal {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "InternalError".to_owned(),
            message: String::new(),
            request_id: String::new(),
        });
        assert_eq!(Reason::of_exchange(&error).class(), Class::Transient);
    }
}
