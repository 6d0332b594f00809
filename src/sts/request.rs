//! What both actions share: the limits of a session and the shape of the HTTP request.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::{Method, Uri};

use super::endpoint::Endpoint;
use crate::world::Request;

/// `Version` of the API.
pub(super) const VERSION: &str = "2015-04-01";

/// Shortest session.
pub const MIN_DURATION: Duration = Duration::from_mins(15);
/// Session where nobody says otherwise.
pub const DEFAULT_DURATION: Duration = Duration::from_hours(1);
/// Longest session that any role may allow.
pub const MAX_DURATION: Duration = Duration::from_hours(12);
const DURATIONS: RangeInclusive<Duration> = MIN_DURATION..=MAX_DURATION;

/// A request that no STS would take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// The token's length is not 4 to 20,000 characters.
    #[error("the token has {0} characters; STS takes 4 to 20000: check the token source")]
    Token(usize),
    /// The session name is not legal.
    #[error(
        "session name {0:?} is not legal; STS takes 2 to 64 letters, digits, '.', '@', '-' and '_'"
    )]
    SessionName(String),
    /// The session's life is out of bounds.
    #[error("a session of {0:?} is not possible; STS takes 15 minutes to 12 hours")]
    Duration(Duration),
    /// The policy is too long.
    #[error("the session policy has {0} characters; STS takes 1 to 2048")]
    Policy(usize),
    /// The external id is not legal. It is not shown: some treat it as a secret.
    #[error(
        "the external id is not legal; STS takes 2 to 1224 letters, digits and any of _+=,.@:/-"
    )]
    ExternalId,
    /// The caller's access key id or security token makes the URL longer than HTTP takes.
    #[error(
        "the query would have {0} characters: check the caller's access key id and security token"
    )]
    Query(usize),
}

/// Checks what both actions ask for, so that a mistake is found before there is a token or a key.
///
/// # Errors
/// [`InvalidRequest`] where STS would refuse the parameters by their form.
pub fn check_session(
    name: &str,
    duration: Duration,
    policy: Option<&str>,
) -> Result<(), InvalidRequest> {
    let name_is_legal = (2..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'@' | b'-' | b'_'));
    if !name_is_legal {
        return Err(InvalidRequest::SessionName(
            name.chars().take(120).collect(),
        ));
    }
    if !DURATIONS.contains(&duration) {
        return Err(InvalidRequest::Duration(duration));
    }
    if let Some(policy) = policy {
        let length = policy.chars().count();
        if !(1..=2048).contains(&length) {
            return Err(InvalidRequest::Policy(length));
        }
    }
    Ok(())
}

/// A POST of `form` to `https://<endpoint>/?<query>`; both are percent-encoded already.
pub(super) fn post(
    endpoint: &Endpoint,
    query: &str,
    form: String,
) -> Result<Request, InvalidRequest> {
    // Endpoint and query hold only legal characters, so length is all that can be wrong.
    let uri = format!("https://{endpoint}/?{query}")
        .parse::<Uri>()
        .map_err(|_| InvalidRequest::Query(query.len()))?;
    let mut request = Request::new(Bytes::from(form));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    );
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_no_url_can_hold_is_refused() {
        let endpoint = "sts.aliyuncs.com".parse().unwrap();
        let query = "x".repeat(70_000);
        assert_eq!(
            post(&endpoint, &query, String::new()).unwrap_err(),
            InvalidRequest::Query(70_000)
        );
    }

    #[test]
    fn the_limits_belong_to_the_range() {
        for duration in [MIN_DURATION, DEFAULT_DURATION, MAX_DURATION] {
            assert_eq!(check_session("ab", duration, Some("{}")), Ok(()));
        }
        let policy = "x".repeat(2049);
        assert_eq!(
            check_session("ab", MAX_DURATION, Some(&policy)),
            Err(InvalidRequest::Policy(2049))
        );
    }
}
