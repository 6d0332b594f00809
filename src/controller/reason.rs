//! The closed set of reasons that conditions and events carry, with what to do about each.

use std::time::Duration;

use crate::sts::{self, RefusalKind};

/// Why a binding is, or is not, as its author wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The credentials are fresh.
    CredentialsFresh,
    /// The credentials are valid, but the last attempt to renew them failed.
    RefreshFailing,
    /// The binding asks to be left alone.
    Suspended,
    /// A change waits because the last one was answered just now.
    Deferred,
    /// The credentials have ended and could not be renewed.
    Expired,
    /// The spec asks for something this release does not do.
    Unsupported,
    /// The spec is accepted by the schema but makes no sense.
    InvalidSpec,
    /// The `ServiceAccount` does not exist.
    ServiceAccountNotFound,
    /// Another owner's Secret has the name.
    SecretConflict,
    /// The operator's configuration does not delegate its token to this namespace and role.
    NotDelegated,
    /// The operator's token file cannot be read.
    TokenFileUnreadable,
    /// The template of a key failed.
    TemplateFailed,
    /// The API server does not let the operator do what it must.
    Forbidden,
    /// The API server failed or did not answer.
    ApiServerUnavailable,
    /// STS could not be reached.
    StsUnreachable,
    /// STS answered something that is no STS answer.
    StsAnswerInvalid,
    /// STS found the token to be past its life.
    TokenExpired,
    /// STS does not accept the token.
    TokenInvalid,
    /// The token's audience is not the provider's client id.
    AudienceMismatch,
    /// The token's issuer is not the provider's.
    IssuerMismatch,
    /// STS cannot read the issuer's keys.
    IssuerBroken,
    /// The provider's registered fingerprint is out of date.
    FingerprintMismatch,
    /// RAM knows no such provider.
    ProviderNotFound,
    /// The role's trust policy does not allow the `ServiceAccount`.
    NotTrusted,
    /// RAM knows no such role.
    RoleNotFound,
    /// Too many STS calls of the account.
    Throttled,
    /// STS refuses session name, duration or policy.
    SessionRefused,
    /// STS refused with a code this release does not know.
    StsRefused,
}

/// How soon a failed attempt is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Wait after the first failure; doubled with each further one.
    pub first: Duration,
    /// The longest wait.
    pub cap: Duration,
}

/// A fault of the moment: repeated soon.
const TRANSIENT: Retry = Retry {
    first: Duration::from_secs(2),
    cap: Duration::from_mins(2),
};
/// Somebody must change something outside the cluster; nothing tells us when.
const WAITS_FOR_USER: Retry = Retry {
    first: Duration::from_secs(5),
    cap: Duration::from_mins(5),
};

impl Reason {
    /// The word in conditions and events.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CredentialsFresh => "CredentialsFresh",
            Self::RefreshFailing => "RefreshFailing",
            Self::Suspended => "Suspended",
            Self::Deferred => "Deferred",
            Self::Expired => "Expired",
            Self::Unsupported => "Unsupported",
            Self::InvalidSpec => "InvalidSpec",
            Self::ServiceAccountNotFound => "ServiceAccountNotFound",
            Self::SecretConflict => "SecretConflict",
            Self::NotDelegated => "NotDelegated",
            Self::TokenFileUnreadable => "TokenFileUnreadable",
            Self::TemplateFailed => "TemplateFailed",
            Self::Forbidden => "Forbidden",
            Self::ApiServerUnavailable => "ApiServerUnavailable",
            Self::StsUnreachable => "STSUnreachable",
            Self::StsAnswerInvalid => "STSAnswerInvalid",
            Self::TokenExpired => "TokenExpired",
            Self::TokenInvalid => "TokenInvalid",
            Self::AudienceMismatch => "AudienceMismatch",
            Self::IssuerMismatch => "IssuerMismatch",
            Self::IssuerBroken => "IssuerBroken",
            Self::FingerprintMismatch => "FingerprintMismatch",
            Self::ProviderNotFound => "ProviderNotFound",
            Self::NotTrusted => "NotTrusted",
            Self::RoleNotFound => "RoleNotFound",
            Self::Throttled => "Throttled",
            Self::SessionRefused => "SessionRefused",
            Self::StsRefused => "STSRefused",
        }
    }

    /// What to do about it. Empty where nothing is wrong.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::CredentialsFresh => "",
            Self::Suspended => "Set spec.suspend to false to resume.",
            Self::RefreshFailing | Self::Expired => {
                "See the condition CredentialsIssued and status.failure for the cause."
            }
            Self::Unsupported => "Remove the field; see the documentation of this release.",
            Self::InvalidSpec => "Correct the field that the message names.",
            Self::ServiceAccountNotFound => {
                "Create the ServiceAccount in the binding's namespace or correct spec.serviceAccountName."
            }
            Self::SecretConflict => {
                "Choose another spec.secret.name, or delete the Secret that has the name if nobody needs it."
            }
            Self::NotDelegated => {
                "Use tokenSource type ServiceAccount, or ask the cluster's administrator for a delegation entry that allows this namespace and every role of the chain."
            }
            Self::TokenFileUnreadable => {
                "The cluster's administrator must mount the projected token at the path that tokenFiles of the operator's configuration names."
            }
            Self::TemplateFailed => "Correct the template of the key that the message names.",
            Self::Forbidden => {
                "The cluster's administrator must give the operator's ServiceAccount the right that the message names."
            }
            Self::Deferred => {
                "None; edits, deletions and refresh requests are answered once a minute, this one at status.nextRefreshTime."
            }
            Self::ApiServerUnavailable => "None; it is tried again by itself.",
            Self::StsUnreachable => {
                "Check the network path to the STS host (VPC endpoint, proxy, firewall); it is tried again by itself."
            }
            Self::StsAnswerInvalid => {
                "Check that the STS host of the operator's configuration is STS and no proxy answers in its place."
            }
            Self::TokenExpired => {
                "Check the clocks of the cluster; with tokenSource type File also that the token file is a projected volume that the kubelet renews."
            }
            Self::TokenInvalid => {
                "Check that the OIDC provider belongs to this cluster and knows its signing keys; after RRSA was enabled anew, restart the operator."
            }
            Self::AudienceMismatch => {
                "The token's audience must be sts.aliyuncs.com and that must be a client id of the OIDC provider: with tokenSource type File correct the projected volume's audience, else add the client id to the provider in RAM."
            }
            Self::IssuerMismatch => {
                "Enable RRSA for this cluster and check that the provider ARN is this cluster's (ack-rrsa-<cluster id>)."
            }
            Self::IssuerBroken => {
                "Enable RRSA for this cluster: STS must be able to read the issuer's keys."
            }
            Self::FingerprintMismatch => {
                "Update the certificate fingerprints of the OIDC provider in RAM."
            }
            Self::ProviderNotFound => {
                "Enable RRSA for this cluster and correct the provider ARN: RAM has no OIDC provider of this name."
            }
            Self::NotTrusted => "Add this statement to the trust policy of the role:",
            Self::RoleNotFound => "Create the role in RAM or correct spec.role.",
            Self::Throttled => "None; fewer exchanges of the account, it is tried again by itself.",
            Self::SessionRefused => {
                "Correct spec.session: the duration must not exceed the role's maximum session duration, and the policy must be legal."
            }
            Self::StsRefused => {
                "See the code and the message; the request id helps in a support ticket."
            }
        }
    }

    /// How soon an attempt that failed so is repeated.
    #[must_use]
    pub const fn retry(self) -> Retry {
        match self {
            Self::ApiServerUnavailable
            | Self::StsUnreachable
            | Self::Throttled
            | Self::TokenExpired => TRANSIENT,
            _ => WAITS_FOR_USER,
        }
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
                // The controller's own exchange is not signed, so these two cannot be its user's.
                RefusalKind::CallerRefused
                | RefusalKind::ClockSkew
                | RefusalKind::NonceUsed
                | RefusalKind::Unknown => Self::StsRefused,
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

    #[test]
    fn a_server_failure_of_sts_is_transient() {
        let error = sts::Error::Refused(sts::Refusal {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            code: "InternalError".to_owned(),
            message: String::new(),
            request_id: String::new(),
        });
        assert_eq!(Reason::of_exchange(&error).retry(), TRANSIENT);
    }
}
