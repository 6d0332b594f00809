//! Answers of the metadata service, read strictly: what is incomplete or already over is an error.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::error::Error;
use super::question::{Question, RoleName};
use crate::secret::SecretText;

/// Longest token that is taken; real ones have under 100 characters.
const MAX_TOKEN: usize = 1024;

/// Credentials of the machine's role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleCredentials {
    /// Access key id, `STS.…`; not a secret.
    pub access_key_id: String,
    /// Secret of the access key.
    pub access_key_secret: SecretText,
    /// Security token that belongs to the pair.
    pub security_token: SecretText,
    /// When they end.
    pub expiration: DateTime<Utc>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    code: Option<String>,
    #[serde(default)]
    access_key_id: Option<String>,
    access_key_secret: Option<SecretText>,
    security_token: Option<SecretText>,
    expiration: Option<String>,
}

fn malformed(question: &Question, problem: impl Into<String>) -> Error {
    Error::Malformed {
        question: question.clone(),
        problem: problem.into(),
    }
}

/// The one word that a body of text holds.
fn word<'a>(question: &Question, body: &'a Bytes, limit: usize) -> Result<&'a str, Error> {
    let text = std::str::from_utf8(body)
        .map_err(|_| malformed(question, "it is no text"))?
        .trim();
    if text.is_empty() {
        return Err(malformed(question, "it is empty"));
    }
    if text.len() > limit || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(malformed(
            question,
            format!("it is not one word of at most {limit} characters"),
        ));
    }
    Ok(text)
}

/// Reads a token.
pub(super) fn token(
    question: &Question,
    body: &Bytes,
    _: DateTime<Utc>,
) -> Result<SecretText, Error> {
    word(question, body, MAX_TOKEN).map(SecretText::from)
}

/// Reads a role's name.
pub(super) fn role_name(
    question: &Question,
    body: &Bytes,
    _: DateTime<Utc>,
) -> Result<RoleName, Error> {
    word(question, body, 64)?
        .parse()
        .map_err(|_| malformed(question, "it is no legal name"))
}

/// Reads a region.
pub(super) fn region(question: &Question, body: &Bytes, _: DateTime<Utc>) -> Result<String, Error> {
    let text = word(question, body, 64)?;
    let legal = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if legal {
        Ok(text.to_owned())
    } else {
        Err(malformed(question, "it is no legal name"))
    }
}

/// Reads an account id.
pub(super) fn account(
    question: &Question,
    body: &Bytes,
    _: DateTime<Utc>,
) -> Result<String, Error> {
    let text = word(question, body, 32)?;
    if text.bytes().all(|b| b.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err(malformed(question, "it is no number"))
    }
}

/// Reads credentials.
pub(super) fn credentials(
    question: &Question,
    body: &Bytes,
    now: DateTime<Utc>,
) -> Result<RoleCredentials, Error> {
    // serde_json's own message may quote the input, so only its position is passed on.
    let raw: Raw = serde_json::from_slice(body).map_err(|error| {
        malformed(
            question,
            format!(
                "no JSON of that shape at line {} column {}",
                error.line(),
                error.column()
            ),
        )
    })?;
    let missing = |field: &str| malformed(question, format!("{field} is missing"));
    let code = raw.code.ok_or_else(|| missing("Code"))?;
    if code != "Success" {
        let legible = code.chars().filter(|c| !c.is_control());
        return Err(Error::NotSuccess {
            question: question.clone(),
            code: legible.take(100).collect(),
        });
    }
    let secret = |value: Option<SecretText>, field| {
        value
            .filter(|text| !text.is_empty())
            .ok_or_else(|| missing(field))
    };
    let access_key_id = raw
        .access_key_id
        .filter(|text| !text.is_empty())
        .ok_or_else(|| missing("AccessKeyId"))?;
    let access_key_secret = secret(raw.access_key_secret, "AccessKeySecret")?;
    let security_token = secret(raw.security_token, "SecurityToken")?;
    let expiration = raw.expiration.ok_or_else(|| missing("Expiration"))?;
    let expiration = DateTime::parse_from_rfc3339(&expiration)
        .map_err(|_| malformed(question, "Expiration is no time"))?
        .with_timezone(&Utc);
    if expiration <= now {
        return Err(malformed(
            question,
            format!("they ended at {expiration}, before they arrived (check this machine's clock)"),
        ));
    }
    Ok(RoleCredentials {
        access_key_id,
        access_key_secret,
        security_token,
        expiration,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const GOOD: &str = r#"{"Code":"Success","AccessKeyId":"STS.N","AccessKeySecret":"sk-1","SecurityToken":"st-1","Expiration":"2026-01-02T09:04:05Z","LastUpdated":"2026-01-02T03:04:05Z"}"#;

    fn read(body: &str) -> Result<RoleCredentials, Error> {
        let question = Question::Credentials("node".parse().unwrap());
        let now = "2026-01-02T03:05:00Z".parse().unwrap();
        credentials(&question, &Bytes::from(body.to_owned()), now)
    }

    #[test]
    fn complete_credentials_are_read() {
        let credentials = read(GOOD).unwrap();
        assert_eq!(credentials.access_key_id, "STS.N");
        assert_eq!(credentials.access_key_secret.expose(), "sk-1");
        assert_eq!(credentials.security_token.expose(), "st-1");
    }

    #[rstest]
    #[case::null("null".to_owned())]
    #[case::empty_object("{}".to_owned())]
    #[case::failed(GOOD.replace("Success", "Failed"))]
    #[case::no_code(GOOD.replace(r#""Code":"Success","#, ""))]
    #[case::no_id(GOOD.replace("STS.N", ""))]
    #[case::no_secret(GOOD.replace("AccessKeySecret", "Other"))]
    #[case::null_secret(GOOD.replace(r#""sk-1""#, "null"))]
    #[case::no_token(GOOD.replace("st-1", ""))]
    #[case::no_expiration(GOOD.replace("Expiration", "Other"))]
    #[case::bad_expiration(GOOD.replace("2026-01-02T09:04:05Z", "soon"))]
    #[case::over(GOOD.replace("2026-01-02T09", "2025-01-02T09"))]
    #[case::half(GOOD[..GOOD.len() / 2].to_owned())]
    #[case::page("<html>sk-1</html>".to_owned())]
    fn incomplete_credentials_are_errors_without_their_content(#[case] body: String) {
        let error = read(&body).unwrap_err().to_string();
        assert!(error.contains("role node"), "{error}");
        assert!(
            !error.contains("sk-1") && !error.contains("st-1"),
            "{error}"
        );
    }

    #[rstest]
    #[case("node\n", Some("node"))]
    #[case(" node ", Some("node"))]
    #[case("", None)]
    #[case("one\ntwo", None)]
    #[case("<html>", None)]
    #[case("../token", None)]
    fn a_role_name_is_one_trimmed_word(#[case] body: &str, #[case] name: Option<&str>) {
        let body = Bytes::from(body.to_owned());
        let read = role_name(&Question::RoleName, &body, DateTime::UNIX_EPOCH);
        assert_eq!(read.ok().as_ref().map(RoleName::as_str), name);
    }

    #[test]
    fn a_page_is_no_token_and_no_region() {
        let page = Bytes::from_static(b"<!DOCTYPE html><html></html>");
        assert!(token(&Question::Token, &page, DateTime::UNIX_EPOCH).is_err());
        assert!(region(&Question::Region, &page, DateTime::UNIX_EPOCH).is_err());
        let region_id = Bytes::from_static(b"cn-hangzhou");
        assert_eq!(
            region(&Question::Region, &region_id, DateTime::UNIX_EPOCH).unwrap(),
            "cn-hangzhou"
        );
    }
}
