//! Answers of services that give credentials over HTTP, read strictly: what is incomplete or
//! already over is an error, and no error repeats a part of a body but a code and a request id.

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::service::Service;
use crate::credentials::exchange::{ExchangeError, is_final};
use crate::credentials::snapshot::Credentials;
use crate::secret::SecretText;
use crate::world::Response;

/// An answer with HTTP 200. It has no `Debug`, which would show the body.
pub(super) struct Answer<'a> {
    service: &'a Service,
    response: Response,
    request_id: Option<String>,
    /// The time at the service when it answered, as well as it is known.
    now: DateTime<Utc>,
    ahead: TimeDelta,
}

/// What a service may say about an answer beside its content. CloudSSO says `ErrorCode`, OAuth
/// `error`.
#[derive(Default, Deserialize)]
struct Remarks {
    #[serde(rename = "Code", alias = "code", alias = "ErrorCode", alias = "error")]
    code: Option<String>,
    #[serde(rename = "RequestId", alias = "requestId", alias = "request_id")]
    request_id: Option<String>,
}

/// Temporary credentials as all these services spell them, or nearly: OAuth's begin with a small
/// letter for some callers.
#[derive(Deserialize)]
pub(super) struct Keys {
    #[serde(rename = "AccessKeyId", alias = "accessKeyId")]
    id: Option<String>,
    #[serde(rename = "AccessKeySecret", alias = "accessKeySecret")]
    secret: Option<SecretText>,
    #[serde(rename = "SecurityToken", alias = "securityToken")]
    token: Option<SecretText>,
    #[serde(rename = "Expiration", alias = "expiration")]
    expiration: Option<String>,
}

impl<'a> Answer<'a> {
    /// The answer, if it is HTTP 200. The service's clock is `ahead` of `now`.
    pub(super) fn of(
        service: &'a Service,
        response: Response,
        now: DateTime<Utc>,
        ahead: TimeDelta,
    ) -> Result<Self, ExchangeError> {
        let status = response.status();
        let remarks: Remarks = serde_json::from_slice(response.body()).unwrap_or_default();
        let answer = Self {
            service,
            response,
            request_id: remarks.request_id.and_then(word),
            now: now + ahead,
            ahead,
        };
        if status == StatusCode::OK {
            Ok(answer)
        } else if status.is_client_error() || status.is_server_error() {
            Err(answer.failed(remarks.code))
        } else if status.is_redirection() {
            Err(answer.malformed("it leads elsewhere, and redirects are not followed"))
        } else {
            Err(answer.malformed("credentials come with HTTP 200"))
        }
    }

    /// The error of a service that says by this code that it failed.
    pub(super) fn failed(&self, code: Option<String>) -> ExchangeError {
        let status = self.response.status();
        ExchangeError::Failed {
            origin: self.service.origin.clone(),
            status,
            code: code.and_then(word),
            request_id: self.request_id.clone(),
            remedy: is_final(status).then_some(self.service.remedy),
        }
    }

    /// The error of an answer that has this problem.
    pub(super) fn malformed(&self, problem: impl Into<String>) -> ExchangeError {
        ExchangeError::Malformed {
            origin: self.service.origin.clone(),
            status: self.response.status(),
            problem: problem.into(),
            request_id: self.request_id.clone(),
        }
    }

    /// The body, read as JSON of this shape; other members are ignored.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ExchangeError> {
        // serde_json's own message may quote the input, so only its position is passed on.
        serde_json::from_slice(self.response.body()).map_err(|error| {
            self.malformed(format!(
                "no JSON of that shape at line {} column {}",
                error.line(),
                error.column()
            ))
        })
    }

    /// A secret that must be there.
    pub(super) fn present(
        &self,
        field: &str,
        value: Option<SecretText>,
    ) -> Result<SecretText, ExchangeError> {
        value
            .filter(|text| !text.is_empty())
            .ok_or_else(|| self.missing(field))
    }

    /// Credentials of these keys; all four are required, and their end must lie ahead.
    pub(super) fn credentials(
        &self,
        keys: Keys,
        provider: &'static str,
    ) -> Result<Credentials, ExchangeError> {
        let id = keys
            .id
            .filter(|text| !text.is_empty())
            .ok_or_else(|| self.missing("AccessKeyId"))?;
        let secret = self.present("AccessKeySecret", keys.secret)?;
        let token = self.present("SecurityToken", keys.token)?;
        let expiration = keys
            .expiration
            .filter(|text| !text.is_empty())
            .ok_or_else(|| self.missing("Expiration"))?;
        let expiration = DateTime::parse_from_rfc3339(&expiration)
            .map_err(|_| self.malformed("Expiration is no time"))?
            .to_utc();
        if expiration <= self.now {
            return Err(self.malformed(format!(
                "the credentials ended at {expiration}, before they arrived; check this machine's clock"
            )));
        }
        Ok(Credentials::new(id, secret, provider)
            .with_security_token(token)
            .with_expiration(expiration)
            .with_issuer_ahead(self.ahead))
    }

    fn missing(&self, field: &str) -> ExchangeError {
        self.malformed(format!("{field} is missing"))
    }
}

/// The text, if it is one word such as codes and ids are: it ends in logs.
fn word(text: String) -> Option<String> {
    let legible = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    ((1..=100).contains(&text.len()) && text.bytes().all(legible)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::test_world::{now, world};
    use bytes::Bytes;
    use rstest::rstest;

    const GOOD: &str = r#"{"RequestId":"R-1","AccessKeyId":"STS.N","AccessKeySecret":"sk-1","SecurityToken":"st-1","Expiration":"2026-01-02T04:00:00Z"}"#;

    fn read_after(status: u16, body: &str, ahead: TimeDelta) -> Result<Credentials, ExchangeError> {
        let world = world(&[]);
        let service = Service {
            origin: "https://h:8443".to_owned(),
            remedy: "log in again",
            http: world.http,
            clock: world.clock,
        };
        let mut response = Response::new(Bytes::from(body.to_owned()));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        let answer = Answer::of(&service, response, now(), ahead)?;
        answer.credentials(answer.read()?, "cloud_sso")
    }

    fn read(status: u16, body: &str) -> Result<Credentials, ExchangeError> {
        read_after(status, body, TimeDelta::zero())
    }

    #[test]
    fn a_complete_answer_is_read() {
        let credentials = read(200, GOOD).unwrap();
        assert_eq!(credentials.access_key_id(), "STS.N");
        assert_eq!(credentials.access_key_secret().expose(), "sk-1");
        assert_eq!(credentials.security_token().unwrap().expose(), "st-1");
        assert_eq!(credentials.provider_name(), "cloud_sso");
        assert_eq!(
            credentials.expiration().unwrap().to_rfc3339(),
            "2026-01-02T04:00:00+00:00"
        );
    }

    #[rstest]
    #[case::fraction("2026-01-02T04:00:00.123Z")]
    #[case::offset("2026-01-02T12:00:00+08:00")]
    fn an_end_may_be_any_time_of_rfc_3339(#[case] end: &str) {
        read(200, &GOOD.replace("2026-01-02T04:00:00Z", end)).unwrap();
    }

    #[test]
    fn fields_may_begin_with_a_small_letter() {
        let body = GOOD
            .replace("AccessKey", "accessKey")
            .replace("SecurityToken", "securityToken")
            .replace("Expiration", "expiration");
        assert_eq!(read(200, &body).unwrap(), read(200, GOOD).unwrap());
    }

    #[rstest]
    #[case::no_id(GOOD.replace("STS.N", ""), "AccessKeyId is missing")]
    #[case::no_secret(GOOD.replace("AccessKeySecret", "Other"), "AccessKeySecret is missing")]
    #[case::null_secret(GOOD.replace(r#""sk-1""#, "null"), "AccessKeySecret is missing")]
    #[case::secret_is_a_number(GOOD.replace(r#""sk-1""#, "1"), "no JSON of that shape")]
    #[case::no_token(GOOD.replace("st-1", ""), "SecurityToken is missing")]
    #[case::no_end(GOOD.replace("Expiration", "Other"), "Expiration is missing")]
    #[case::no_time(GOOD.replace("2026-01-02T04:00:00Z", "soon"), "Expiration is no time")]
    #[case::over(GOOD.replace("2026-01-02T04", "2026-01-02T03"), "before they arrived")]
    #[case::null("null".to_owned(), "no JSON of that shape")]
    #[case::empty_object("{}".to_owned(), "AccessKeyId is missing")]
    #[case::empty(String::new(), "no JSON of that shape")]
    #[case::half(GOOD[..GOOD.len() - 3].to_owned(), "no JSON of that shape")]
    #[case::page("<html>sk-1</html>".to_owned(), "no JSON of that shape")]
    #[case::twice(GOOD.replace('{', r#"{"accessKeySecret":"sk-1","#), "no JSON of that shape")]
    fn incomplete_answers_are_errors_without_their_content(
        #[case] body: String,
        #[case] problem: &str,
    ) {
        let error = read(200, &body).unwrap_err().to_string();
        assert!(
            error.starts_with("the answer of https://h:8443 (HTTP 200 OK)"),
            "{error}"
        );
        assert!(error.contains(problem), "{error}");
        assert!(
            !error.contains("sk-1") && !error.contains("st-1"),
            "{error}"
        );
    }

    #[test]
    fn a_problem_comes_with_the_request_id() {
        let error = read(200, &GOOD.replace("st-1", "")).unwrap_err();
        assert_eq!(error.request_id(), Some("R-1"));
        assert!(error.to_string().ends_with("; request id R-1"), "{error}");
    }

    #[test]
    fn the_end_is_judged_by_the_clock_of_the_service() {
        // The issuer's clock shows 04:10 when this machine's shows 03:04, and the other way round.
        let error = read_after(200, GOOD, TimeDelta::minutes(66)).unwrap_err();
        assert!(error.to_string().contains("before they arrived"), "{error}");
        let credentials = read_after(
            200,
            &GOOD.replace("2026-01-02T04", "2026-01-02T02"),
            TimeDelta::minutes(-66),
        )
        .unwrap();
        assert_eq!(credentials.issuer_is_ahead(), TimeDelta::minutes(-66));
    }

    #[rstest]
    #[case::cloud_sso(
        400,
        r#"{"ErrorCode":"InvalidParameter.AccountId","ErrorMessage":"st-1","RequestId":"R-1"}"#,
        "HTTP 400 Bad Request, code InvalidParameter.AccountId, request id R-1; log in again"
    )]
    #[case::oauth(
        401,
        r#"{"error":"invalid_grant","error_description":"st-1"}"#,
        "HTTP 401 Unauthorized, code invalid_grant; log in again"
    )]
    #[case::page(403, "<html>st-1</html>", "HTTP 403 Forbidden; log in again")]
    #[case::illegible(403, r#"{"Code":"st-1\u001b[2J"}"#, "HTTP 403 Forbidden; log in again")]
    #[case::later(503, r#"{"Code":"Busy"}"#, "HTTP 503 Service Unavailable, code Busy")]
    fn a_failure_keeps_code_and_request_id(
        #[case] status: u16,
        #[case] body: &str,
        #[case] expected: &str,
    ) {
        let error = read(status, body).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("https://h:8443 gave no credentials: {expected}")
        );
    }

    #[rstest]
    #[case(302, "redirects are not followed")]
    #[case(204, "credentials come with HTTP 200")]
    fn credentials_come_with_http_200(#[case] status: u16, #[case] problem: &str) {
        let error = read(status, GOOD).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}
