//! Why a service that gives credentials over HTTP gave none: a credentials URI, CloudSSO, OAuth.
//! STS and the metadata service have errors of their own.

use http::StatusCode;

use crate::world::HttpError;

/// Why an exchange gave no credentials. No body, path or token is ever part of it: of the service's
/// address only scheme, host and port are shown, because a credentials URI is a secret itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// No answer, or none that is short and quick enough.
    #[error(transparent)]
    Unreachable(#[from] HttpError),
    /// The service answered that there are none.
    #[error(
        "{origin} gave no credentials: HTTP {status}{}{}{}",
        noted(", code ", code.as_deref()),
        noted(", request id ", request_id.as_deref()),
        noted("; ", *remedy)
    )]
    Failed {
        /// Scheme, host and port that answered.
        origin: String,
        /// HTTP status.
        status: StatusCode,
        /// The service's code, if it gave a legible one.
        code: Option<String>,
        /// The service's id of the request, for a support ticket.
        request_id: Option<String>,
        /// What to do, where waiting does not help.
        remedy: Option<&'static str>,
    },
    /// The answer is not what was asked for.
    #[error(
        "the answer of {origin} (HTTP {status}) is not what was asked for: {problem}{}",
        noted("; request id ", request_id.as_deref())
    )]
    Malformed {
        /// Scheme, host and port that answered.
        origin: String,
        /// HTTP status.
        status: StatusCode,
        /// What is wrong with it, without its content.
        problem: String,
        /// The service's id of the request, for a support ticket.
        request_id: Option<String>,
    },
}

fn noted(before: &str, text: Option<&str>) -> String {
    text.map(|text| format!("{before}{text}"))
        .unwrap_or_default()
}

impl ExchangeError {
    /// The service's id of the request, if it gave one.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Failed { request_id, .. } | Self::Malformed { request_id, .. } => {
                request_id.as_deref()
            }
            Self::Unreachable(_) => None,
        }
    }

    /// Whether the same request will be refused again.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Self::Failed { status, .. } if is_final(*status))
    }
}

/// Whether a status says that the request itself is at fault, so that waiting does not help.
pub(super) fn is_final(status: StatusCode) -> bool {
    let may_pass = matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
    );
    status.is_client_error() && !may_pass
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(200, false)]
    #[case(302, false)]
    #[case(400, true)]
    #[case(401, true)]
    #[case(404, true)]
    #[case(408, false)]
    #[case(429, false)]
    #[case(500, false)]
    fn only_a_fault_of_the_request_is_final(#[case] status: u16, #[case] expected: bool) {
        assert_eq!(is_final(StatusCode::from_u16(status).unwrap()), expected);
    }

    #[test]
    fn an_error_says_what_is_known() {
        let mut error = ExchangeError::Failed {
            origin: "https://h".to_owned(),
            status: StatusCode::FORBIDDEN,
            code: None,
            request_id: None,
            remedy: None,
        };
        assert_eq!(
            error.to_string(),
            "https://h gave no credentials: HTTP 403 Forbidden"
        );
        if let ExchangeError::Failed {
            code,
            request_id,
            remedy,
            ..
        } = &mut error
        {
            *code = Some("NoPermission".to_owned());
            *request_id = Some("R1".to_owned());
            *remedy = Some("log in");
        }
        assert_eq!(
            error.to_string(),
            "https://h gave no credentials: HTTP 403 Forbidden, code NoPermission, request id R1; log in"
        );
        assert_eq!(error.request_id(), Some("R1"));
    }
}
