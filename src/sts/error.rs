//! What STS says when it refuses, and what that means.

use http::StatusCode;

use super::request::InvalidRequest;
use crate::world::HttpError;

/// Why an exchange gave no credentials. No answer's body and no parameter is ever part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request would be refused by any STS, so it was not sent.
    #[error(transparent)]
    InvalidRequest(#[from] InvalidRequest),
    /// STS answered and refused.
    #[error(transparent)]
    Refused(Refusal),
    /// STS could not be reached or did not answer in time.
    #[error("STS cannot be reached: {0}")]
    Unreachable(#[from] HttpError),
    /// The answer is no legal answer of STS.
    #[error("the answer of {host} (HTTP {status}) is not a legal STS answer: {problem}")]
    Malformed {
        /// Host that answered.
        host: String,
        /// HTTP status.
        status: StatusCode,
        /// What is wrong with it, without its content.
        problem: String,
    },
}

/// A refusal as STS words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("STS refused: {code}: {message} (request id {request_id})")]
pub struct Refusal {
    /// HTTP status.
    pub status: StatusCode,
    /// `Code` of the answer.
    pub code: String,
    /// `Message` of the answer, cut to 500 characters.
    pub message: String,
    /// `RequestId` of the answer, for a support ticket.
    pub request_id: String,
}

/// What a refusal means. One code of STS carries several meanings, so the message is read too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// The token is past its life.
    TokenExpired,
    /// Not a JWT, or not signed by the issuer's keys.
    TokenInvalid,
    /// The token's audience is not the provider's client id.
    AudienceMismatch,
    /// The token's issuer is not the provider's.
    IssuerMismatch,
    /// STS could not read the issuer's keys.
    IssuerBroken,
    /// The provider's registered certificate fingerprint is out of date.
    FingerprintMismatch,
    /// RAM knows no such OIDC provider.
    ProviderNotFound,
    /// The text is no provider ARN.
    ProviderArnInvalid,
    /// The role's trust policy does not allow this subject.
    NotTrusted,
    /// RAM knows no such role.
    RoleNotFound,
    /// Too many calls of the account.
    Throttled,
    /// STS itself failed.
    ServiceFailure,
    /// The caller's access key: unknown, disabled, over, without its security token, or the
    /// signature was not made with its secret.
    CallerRefused,
    /// The request's time is too far from the service's.
    ClockSkew,
    /// The request's nonce was used before.
    NonceUsed,
    /// A parameter is refused: session name, duration, policy.
    InvalidParameter,
    /// A code this release does not know.
    Unknown,
}

impl Refusal {
    /// What this refusal means.
    #[must_use]
    pub fn kind(&self) -> RefusalKind {
        let message = self.message.to_ascii_lowercase();
        match self.code.as_str() {
            "AuthenticationFail.OIDCToken.Expired" => RefusalKind::TokenExpired,
            "AuthenticationFail.OIDCToken.Invalid" => RefusalKind::TokenInvalid,
            "AuthenticationFail.OIDCToken.AudienceNotMatch" => RefusalKind::AudienceMismatch,
            "AuthenticationFail.OIDCToken.IssuerNotMatch" => RefusalKind::IssuerMismatch,
            "AuthenticationFail.OIDCToken.IssuerConfigurationBroken" => RefusalKind::IssuerBroken,
            "AuthenticationFail.OIDCToken.PublicKeyFingerprintMismatch" => {
                RefusalKind::FingerprintMismatch
            }
            "AuthenticationFail.NoPermission" if message.contains("no such oidc provider") => {
                RefusalKind::ProviderNotFound
            }
            "AuthenticationFail.NoPermission" if message.contains("oidcproviderarn") => {
                RefusalKind::ProviderArnInvalid
            }
            "AuthenticationFail.NoPermission" | "NoPermission" => RefusalKind::NotTrusted,
            "EntityNotExist.Role" => RefusalKind::RoleNotFound,
            "SignatureDoesNotMatch" | "IncompleteSignature" | "MissingSecurityToken" => {
                RefusalKind::CallerRefused
            }
            "InvalidTimeStamp.Expired" => RefusalKind::ClockSkew,
            "SignatureNonceUsed" => RefusalKind::NonceUsed,
            code if code.starts_with("InvalidAccessKeyId")
                || code.starts_with("InvalidSecurityToken") =>
            {
                RefusalKind::CallerRefused
            }
            code if code.starts_with("Throttling") => RefusalKind::Throttled,
            code if code.starts_with("InvalidParameter")
                || code.starts_with("MissingParameter") =>
            {
                RefusalKind::InvalidParameter
            }
            _ if self.status.is_server_error() => RefusalKind::ServiceFailure,
            _ => RefusalKind::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "AuthenticationFail.NoPermission",
        "No such OIDC Provider registered.",
        RefusalKind::ProviderNotFound
    )]
    #[case(
        "AuthenticationFail.NoPermission",
        "There is no permission",
        RefusalKind::NotTrusted
    )]
    #[case(
        "AuthenticationFail.NoPermission",
        "Parameter OIDCProviderArn is not valid",
        RefusalKind::ProviderArnInvalid
    )]
    #[case(
        "Throttling.User",
        "Request was denied due to user flow control.",
        RefusalKind::Throttled
    )]
    #[case(
        "EntityNotExist.Role",
        "The role not exists: x.",
        RefusalKind::RoleNotFound
    )]
    #[case(
        "AuthenticationFail.OIDCToken.IssuerNotMatch",
        "The issuer of the token does not match.",
        RefusalKind::IssuerMismatch
    )]
    #[case("InvalidParameter.RoleSessionName", "", RefusalKind::InvalidParameter)]
    #[case("SignatureDoesNotMatch", "", RefusalKind::CallerRefused)]
    #[case("InvalidAccessKeyId.NotFound", "", RefusalKind::CallerRefused)]
    #[case("InvalidSecurityToken.Expired", "", RefusalKind::CallerRefused)]
    #[case("InvalidTimeStamp.Expired", "", RefusalKind::ClockSkew)]
    #[case("SignatureNonceUsed", "", RefusalKind::NonceUsed)]
    #[case("Brand.New", "", RefusalKind::Unknown)]
    fn one_code_can_carry_several_meanings(
        #[case] code: &str,
        #[case] message: &str,
        #[case] kind: RefusalKind,
    ) {
        let refusal = Refusal {
            status: StatusCode::BAD_REQUEST,
            code: code.to_owned(),
            message: message.to_owned(),
            request_id: String::new(),
        };
        assert_eq!(refusal.kind(), kind);
    }

    #[test]
    fn an_unknown_code_with_a_server_status_is_a_failure_of_the_service() {
        let refusal = Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "ServiceUnavailable".to_owned(),
            message: String::new(),
            request_id: String::new(),
        };
        assert_eq!(refusal.kind(), RefusalKind::ServiceFailure);
    }
}
