//! The errors of STS: code, HTTP status and message.
//!
//! `[doc]` marks what the STS pages say, `[gateway]` what the public error list of the API gateway
//! in front of it says, `[chosen]` what neither says and follows their pattern. STS answers
//! authentication failures of a token with 401, other refusals with 403.

use axum::http::StatusCode;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// `Code`.
    pub(crate) code: String,
    /// `Message`.
    pub(crate) message: String,
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Refusal {
    Refusal {
        status,
        code: code.to_owned(),
        message: message.to_owned(),
    }
}

fn bad(code: &str, message: &str) -> Refusal {
    refusal(StatusCode::BAD_REQUEST, code, message)
}

fn unauthenticated(kind: &str, message: &str) -> Refusal {
    refusal(
        StatusCode::UNAUTHORIZED,
        &format!("AuthenticationFail.{kind}"),
        message,
    )
}

impl Refusal {
    /// Any error, for faults on demand.
    pub(crate) fn custom(status: u16, code: &str, message: &str) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        refusal(status, code, message)
    }

    /// `[gateway]`, its status `[chosen]`.
    pub(crate) fn http_method() -> Self {
        bad(
            "UnsupportedHTTPMethod",
            "This http method is not supported.",
        )
    }

    /// `[doc]`. JSON bodies are real, too, but no client of ours sends them, so they are refused.
    pub(crate) fn content_type() -> Self {
        bad(
            "InvalidParameter.ContentType",
            "The ContentType request header must be either \"application/json\" or \
             \"application/x-www-form-urlencoded\".",
        )
    }

    /// `[chosen]`: what the real gateway does with a body of this size is not written down.
    pub(crate) fn too_large() -> Self {
        let too_large = StatusCode::PAYLOAD_TOO_LARGE;
        refusal(
            too_large,
            "RequestEntityTooLarge",
            "The request body is too large.",
        )
    }

    /// `[chosen]`: a parameter given twice is ambiguous, so a strict service takes neither.
    pub(crate) fn repeated(name: &str) -> Self {
        bad(
            "InvalidParameter",
            &format!("The parameter {name} is specified more than once."),
        )
    }

    /// `[gateway]`.
    pub(crate) fn format() -> Self {
        bad(
            "InvalidParameter.Format",
            "Specified parameter Format is not valid.",
        )
    }

    /// `[gateway]`.
    pub(crate) fn action() -> Self {
        refusal(
            StatusCode::NOT_FOUND,
            "InvalidAction.NotFound",
            "Specified api is not found, please check your url and method.",
        )
    }

    /// `[gateway]`.
    pub(crate) fn version() -> Self {
        bad(
            "InvalidVersion",
            "Specified parameter Version is not valid.",
        )
    }

    /// A common parameter of the RPC style is missing: `MissingAccessKeyId` and so on. `[gateway]`
    pub(crate) fn missing_common(name: &str) -> Self {
        bad(
            &format!("Missing{name}"),
            &format!("{name} is mandatory for this action."),
        )
    }

    /// A parameter of the action is missing. `[doc]` of `AssumeRoleWithSAML`, assumed to be the
    /// same for its siblings.
    pub(crate) fn missing(name: &str) -> Self {
        bad(
            &format!("MissingParameter.{name}"),
            &format!("Parameter {name} is required."),
        )
    }

    /// A parameter of the action is malformed. `[doc]` for most names.
    pub(crate) fn malformed(name: &str) -> Self {
        bad(
            &format!("InvalidParameter.{name}"),
            &format!("The parameter {name} is wrongly formed."),
        )
    }

    /// `[doc]`, with the longest session in words.
    pub(crate) fn duration(longest: &str) -> Self {
        bad(
            "InvalidParameter.DurationSeconds",
            &format!("The Min/Max value of DurationSeconds is 15min/{longest}."),
        )
    }

    /// `[doc]`.
    pub(crate) fn policy_size() -> Self {
        bad(
            "InvalidParameter.PolicySize",
            "The size of Policy must be smaller than 2048 bytes.",
        )
    }

    /// `[doc]`.
    pub(crate) fn policy_grammar() -> Self {
        bad(
            "InvalidParameter.PolicyGrammar",
            "The parameter Policy has not passed grammar check.",
        )
    }

    /// `[doc]` for the code, `[gateway]` for the status.
    pub(crate) fn throttled() -> Self {
        bad(
            "Throttling.User",
            "Request was denied due to user flow control.",
        )
    }

    /// `[doc]`.
    pub(crate) fn provider_arn() -> Self {
        unauthenticated("NoPermission", "Parameter OIDCProviderArn is not valid")
    }

    /// `[doc]`.
    pub(crate) fn no_provider() -> Self {
        unauthenticated("NoPermission", "No such OIDC Provider registered.")
    }

    /// The trust policy allows nobody like this token's subject. `[doc]`
    pub(crate) fn untrusted_subject() -> Self {
        unauthenticated("NoPermission", "There is no permission")
    }

    /// `[doc]` for the code.
    pub(crate) fn token_invalid(why: &str) -> Self {
        unauthenticated(
            "OIDCToken.Invalid",
            &format!("This JsonWebToken is invalid: {why}."),
        )
    }

    /// `[doc]`.
    pub(crate) fn token_expired() -> Self {
        unauthenticated("OIDCToken.Expired", "This JsonWebToken is expired.")
    }

    /// `[doc]`.
    pub(crate) fn audience() -> Self {
        unauthenticated("OIDCToken.AudienceNotMatch", "Invalid audience.")
    }

    /// `[doc]`.
    pub(crate) fn issuer() -> Self {
        unauthenticated(
            "OIDCToken.IssuerNotMatch",
            "The issuer in the OIDC Token doesn't match the OIDC Provider registered.",
        )
    }

    /// `[doc]`.
    pub(crate) fn issuer_broken(issuer: &str) -> Self {
        unauthenticated(
            "OIDCToken.IssuerConfigurationBroken",
            &format!("Get public keys from OIDC Provider failed, the issuer is {issuer}"),
        )
    }

    /// `[doc]` for the code.
    pub(crate) fn fingerprint() -> Self {
        unauthenticated(
            "OIDCToken.PublicKeyFingerprintMismatch",
            "The fingerprint of the issuer's certificate is not among those registered.",
        )
    }

    /// `[doc]`.
    pub(crate) fn no_role(arn: &str) -> Self {
        let message = format!("The role not exists: {arn}.");
        refusal(StatusCode::NOT_FOUND, "EntityNotExist.Role", &message)
    }

    /// `[doc]`.
    pub(crate) fn not_allowed() -> Self {
        refusal(
            StatusCode::FORBIDDEN,
            "NoPermission",
            "You are not authorized to do this action. You should be authorized by RAM.",
        )
    }

    /// `[doc]`.
    pub(crate) fn root_account() -> Self {
        let message = "Roles may not be assumed by root accounts.";
        refusal(StatusCode::FORBIDDEN, "NoPermission", message)
    }

    /// `[gateway]`.
    pub(crate) fn no_access_key() -> Self {
        let message = "Specified access key is not found.";
        refusal(
            StatusCode::NOT_FOUND,
            "InvalidAccessKeyId.NotFound",
            message,
        )
    }

    /// `[gateway]`.
    pub(crate) fn inactive_access_key() -> Self {
        bad(
            "InvalidAccessKeyId.Inactive",
            "Specified access key is disabled.",
        )
    }

    /// `[gateway]`.
    pub(crate) fn security_token_malformed() -> Self {
        bad(
            "InvalidSecurityToken.Malformed",
            "Specified SecurityToken is malformed.",
        )
    }

    /// `[gateway]`.
    pub(crate) fn security_token_mismatch() -> Self {
        bad(
            "InvalidSecurityToken.MismatchWithAccessKey",
            "Specified SecurityToken mismatch with the AccessKey.",
        )
    }

    /// `[gateway]`.
    pub(crate) fn security_token_expired() -> Self {
        bad(
            "InvalidSecurityToken.Expired",
            "Specified SecurityToken is expired.",
        )
    }

    /// `[gateway]`.
    pub(crate) fn signature_method() -> Self {
        bad(
            "InvalidSignatureMethod",
            "Specified signature method is not valid.",
        )
    }

    /// `[chosen]`, by the gateway's pattern `Invalid{ParameterName}`.
    pub(crate) fn signature_version() -> Self {
        bad(
            "InvalidSignatureVersion",
            "Specified parameter SignatureVersion is not valid.",
        )
    }

    /// `[chosen]`, by the gateway's pattern `Invalid{ParameterName}`.
    pub(crate) fn signature_nonce() -> Self {
        bad(
            "InvalidSignatureNonce",
            "Specified parameter SignatureNonce is not valid.",
        )
    }

    /// `[gateway]`.
    pub(crate) fn nonce_used() -> Self {
        bad(
            "SignatureNonceUsed",
            "Specified signature nonce was used already.",
        )
    }

    /// `[gateway]`.
    pub(crate) fn timestamp_format() -> Self {
        bad(
            "InvalidTimeStamp.Format",
            "Specified time stamp or date value is not well formatted.",
        )
    }

    /// `[gateway]`.
    pub(crate) fn timestamp_expired() -> Self {
        bad(
            "InvalidTimeStamp.Expired",
            "Specified time stamp or date value is expired.",
        )
    }

    /// `[gateway]`. Like the real one it shows the whole string to sign, session token included.
    pub(crate) fn signature(string_to_sign: &str) -> Self {
        bad(
            "SignatureDoesNotMatch",
            &format!(
                "Specified signature is not matched with our calculation. \
                 server string to sign is:{string_to_sign}"
            ),
        )
    }
}
