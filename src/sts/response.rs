//! Answers of STS, read strictly: what is incomplete or already over is an error.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde::Deserialize;

use super::error::{Error, Refusal};
use crate::secret::SecretText;
use crate::signing::encoding::percent_encode;

/// Credentials that end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporaryCredentials {
    /// Access key id, `STS.…`; not a secret.
    pub access_key_id: String,
    /// Secret of the access key.
    pub access_key_secret: SecretText,
    /// Security token that belongs to the pair.
    pub security_token: SecretText,
    /// When they end.
    pub expiration: DateTime<Utc>,
}

/// A successful exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The credentials.
    pub credentials: TemporaryCredentials,
    /// ARN of the session with its name.
    pub assumed_role_arn: String,
    /// STS's id of the request.
    pub request_id: String,
    /// How far STS's clock is ahead of this machine's; the expiration is a time of STS's.
    pub issuer_is_ahead: TimeDelta,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Success {
    #[serde(default)]
    request_id: String,
    credentials: Option<RawCredentials>,
    assumed_role_user: Option<AssumedRoleUser>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawCredentials {
    #[serde(default)]
    access_key_id: String,
    access_key_secret: Option<SecretText>,
    security_token: Option<SecretText>,
    #[serde(default)]
    expiration: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumedRoleUser {
    #[serde(default)]
    arn: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    request_id: String,
}

/// What the reader of an answer must know of the request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent<'a> {
    /// The host that answers.
    pub(super) host: &'a str,
    /// The secret that was sent along, which the answer may repeat.
    pub(super) secret: Option<&'a SecretText>,
}

/// Reads an answer.
pub(super) fn parse(
    sent: &Sent<'_>,
    status: StatusCode,
    body: &Bytes,
    now: DateTime<Utc>,
) -> Result<Issued, Error> {
    let malformed = |problem: String| Error::Malformed {
        host: sent.host.to_owned(),
        status,
        problem,
    };
    if status != StatusCode::OK {
        let failure: Failure = serde_json::from_slice(body)
            .map_err(|_| malformed("the body is no STS error; is this host STS?".to_owned()))?;
        return Err(Error::Refused(Refusal {
            status,
            code: cut(&failure.code, 100),
            message: cut(&sent.without_secret(&failure.message), 500),
            request_id: cut(&failure.request_id, 100),
        }));
    }
    // serde_json's own message may quote the input, so only its position is passed on.
    let success: Success = serde_json::from_slice(body).map_err(|error| {
        malformed(format!(
            "no JSON of that shape at line {} column {}",
            error.line(),
            error.column()
        ))
    })?;
    let missing = |field: &str| malformed(format!("{field} is missing"));
    let raw = success.credentials.ok_or_else(|| missing("Credentials"))?;
    if raw.access_key_id.is_empty() {
        return Err(missing("Credentials.AccessKeyId"));
    }
    let present = |value: Option<SecretText>, field| {
        value
            .filter(|text| !text.is_empty())
            .ok_or_else(|| missing(field))
    };
    let access_key_secret = present(raw.access_key_secret, "Credentials.AccessKeySecret")?;
    let security_token = present(raw.security_token, "Credentials.SecurityToken")?;
    let expiration = DateTime::parse_from_rfc3339(&raw.expiration)
        .map_err(|_| malformed("Credentials.Expiration is no time".to_owned()))?
        .with_timezone(&Utc);
    if expiration <= now {
        return Err(malformed(format!(
            "the credentials ended at {expiration}, before they arrived; check this machine's clock"
        )));
    }
    Ok(Issued {
        credentials: TemporaryCredentials {
            access_key_id: raw.access_key_id,
            access_key_secret,
            security_token,
            expiration,
        },
        assumed_role_arn: success
            .assumed_role_user
            .map(|user| user.arn)
            .unwrap_or_default(),
        request_id: success.request_id,
        issuer_is_ahead: TimeDelta::zero(),
    })
}

/// In a signature error STS shows the text that it signed, security token included.
const SIGNED_TEXT: &str = "string to sign is:";

impl Sent<'_> {
    /// A message of STS without what must not get into a log: the text that was signed, and the
    /// secret that was sent, as it is or percent-encoded.
    fn without_secret(&self, message: &str) -> String {
        let mut text = match message.find(SIGNED_TEXT) {
            Some(start) => format!("{}{SIGNED_TEXT} [redacted]", &message[..start]),
            None => message.to_owned(),
        };
        if let Some(secret) = self.secret.filter(|secret| !secret.is_empty()) {
            let once = percent_encode(secret.expose());
            let twice = percent_encode(&once);
            for spelling in [secret.expose(), &once, &twice] {
                text = text.replace(spelling, "[redacted]");
            }
        }
        text
    }
}

/// Bounds a text of the other side and takes control characters out: it ends in logs and statuses.
fn cut(text: &str, limit: usize) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(limit)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"RequestId":"R","AssumedRoleUser":{"Arn":"acs:ram::1:role/app/s"},"Credentials":{"AccessKeyId":"STS.N","AccessKeySecret":"sk-1","SecurityToken":"st-1","Expiration":"2026-01-02T04:00:00Z"}}"#;

    const SENT: Sent<'_> = Sent {
        host: "sts.aliyuncs.com",
        secret: None,
    };

    fn parse_ok(body: &str) -> Result<Issued, Error> {
        let now = "2026-01-02T03:00:00Z".parse().unwrap();
        parse(&SENT, StatusCode::OK, &Bytes::from(body.to_owned()), now)
    }

    #[test]
    fn a_complete_answer_is_read() {
        let issued = parse_ok(GOOD).unwrap();
        assert_eq!(issued.credentials.access_key_id, "STS.N");
        assert_eq!(issued.credentials.security_token.expose(), "st-1");
        assert_eq!(issued.assumed_role_arn, "acs:ram::1:role/app/s");
    }

    #[test]
    fn incomplete_answers_are_errors_without_their_content() {
        for body in [
            GOOD.replace("sk-1", ""),
            GOOD.replace(r#""SecurityToken":"st-1","#, ""),
            GOOD.replace("2026-01-02T04:00:00Z", "soon"),
            GOOD.replace("2026-01-02T04", "2026-01-02T02"),
            GOOD.replace("Credentials", "Other"),
            GOOD[..GOOD.len() - 3].to_owned(),
            "<html>sk-1</html>".to_owned(),
        ] {
            let error = parse_ok(&body).unwrap_err().to_string();
            assert!(error.contains("sts.aliyuncs.com"), "{error}");
            assert!(
                !error.contains("sk-1") && !error.contains("st-1"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_refusal_keeps_code_message_and_request_id() {
        let body = Bytes::from_static(
            br#"{"RequestId":"R1","HostId":"sts","Code":"EntityNotExist.Role","Message":"The role\nnot exists","Recommend":"x"}"#,
        );
        let error = parse(&SENT, StatusCode::NOT_FOUND, &body, DateTime::UNIX_EPOCH).unwrap_err();
        let Error::Refused(refusal) = error else {
            panic!("{error}")
        };
        assert_eq!(
            (refusal.code.as_str(), refusal.request_id.as_str()),
            ("EntityNotExist.Role", "R1")
        );
        assert_eq!(refusal.message, "The rolenot exists");
    }

    #[test]
    fn a_refusal_never_repeats_the_secret_that_was_sent() {
        let secret = "CAIS/a+b==".into();
        let sent = Sent {
            secret: Some(&secret),
            ..SENT
        };
        for message in [
            "Specified signature is not matched. server string to sign is:POST&%2F&CAISxyz",
            "the token CAIS/a+b== is bad",
            "the token CAIS%2Fa%2Bb%3D%3D is bad",
            "the token CAIS%252Fa%252Bb%253D%253D is bad",
        ] {
            let body = Bytes::from(format!(
                r#"{{"Code":"SignatureDoesNotMatch","Message":"{message}"}}"#
            ));
            let error = parse(&sent, StatusCode::BAD_REQUEST, &body, DateTime::UNIX_EPOCH)
                .unwrap_err()
                .to_string();
            assert!(!error.contains("CAIS"), "{error}");
            assert!(error.contains("[redacted]"), "{error}");
        }
    }
}
