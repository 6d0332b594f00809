//! What the program prints, read strictly: what is incomplete or already over is an error, and
//! none of it gets into a message.

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::NAME;
use crate::credentials::snapshot::Credentials;
use crate::secret::SecretText;

/// The one mode that is looked at; it promises a token.
const WITH_TOKEN: &str = "StsToken";

/// What is not named here is skipped: a program may print the names of a credentials URI beside
/// these.
#[derive(Deserialize)]
struct Printed {
    mode: Option<String>,
    access_key_id: Option<String>,
    access_key_secret: Option<SecretText>,
    sts_token: Option<SecretText>,
    expiration: Option<String>,
}

/// The credentials, or what is wrong with the output.
pub(super) fn read(stdout: &[u8], now: DateTime<Utc>) -> Result<Credentials, String> {
    // serde_json's own message may quote the input, so only its position is passed on.
    let printed: Printed = serde_json::from_slice(stdout).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("no JSON of that shape at line {line} column {column}")
    })?;
    let missing = |field| format!("{field} is missing or empty");
    let id = printed
        .access_key_id
        .filter(|text| !text.is_empty())
        .ok_or_else(|| missing("access_key_id"))?;
    let secret = printed
        .access_key_secret
        .filter(|text| !text.is_empty())
        .ok_or_else(|| missing("access_key_secret"))?;
    let mut credentials = Credentials::new(id, secret, NAME);
    match printed.sts_token.filter(|text| !text.is_empty()) {
        Some(token) => credentials = credentials.with_security_token(token),
        None if printed.mode.as_deref() == Some(WITH_TOKEN) => {
            return Err(format!(
                "{}, and mode is {WITH_TOKEN}",
                missing("sts_token")
            ));
        }
        None => {}
    }
    if let Some(text) = printed.expiration.filter(|text| !text.is_empty()) {
        let expiration = DateTime::parse_from_rfc3339(&text)
            .map_err(|_| "expiration is not a time like 2026-01-02T03:04:05Z".to_owned())?
            .with_timezone(&Utc);
        if expiration <= now {
            return Err(format!(
                "the credentials ended at {expiration}; if they should be fresh, check this \
                 machine's clock"
            ));
        }
        credentials = credentials.with_expiration(expiration);
    }
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const STS: &str = r#"{
        "mode": "StsToken",
        "access_key_id": "STS.N",
        "access_key_secret": "sk-1",
        "sts_token": "st-1",
        "expiration": "2026-01-02T04:00:00Z"
    }"#;

    fn read_text(text: &str) -> Result<Credentials, String> {
        read(text.as_bytes(), "2026-01-02T03:00:00Z".parse().unwrap())
    }

    fn token(credentials: &Credentials) -> Option<&str> {
        credentials.security_token().map(SecretText::expose)
    }

    #[test]
    fn ex_2_an_access_key_has_neither_token_nor_end() {
        for text in [
            r#"{"mode":"AK","access_key_id":"akid","access_key_secret":"sk-1"}"#,
            r#"{"access_key_id":"akid","access_key_secret":"sk-1","sts_token":"","expiration":""}"#,
            r#"{"mode":null,"access_key_id":"akid","access_key_secret":"sk-1","sts_token":null,"expiration":null}"#,
            // Only exactly this mode asks for a token.
            r#"{"mode":"ststoken","access_key_id":"akid","access_key_secret":"sk-1"}"#,
        ] {
            let credentials = read_text(text).unwrap();
            assert_eq!(credentials.access_key_id(), "akid");
            assert_eq!(credentials.access_key_secret().expose(), "sk-1");
            assert_eq!(token(&credentials), None);
            assert_eq!(credentials.expiration(), None);
            assert_eq!(credentials.provider_name(), "external");
        }
    }

    #[test]
    fn ex_3_temporary_credentials_have_both() {
        let credentials = read_text(STS).unwrap();
        assert_eq!(token(&credentials), Some("st-1"));
        let end = "2026-01-02T04:00:00Z".parse().unwrap();
        assert_eq!(credentials.expiration(), Some(end));
    }

    #[test]
    fn ex_4_a_token_needs_no_end() {
        let text = STS.replace("2026-01-02T04:00:00Z", "");
        assert_eq!(read_text(&text).unwrap().expiration(), None);
    }

    #[test]
    fn a_token_is_passed_on_in_any_mode() {
        for mode in ["AK", "", "Other"] {
            let credentials = read_text(&STS.replace("StsToken", mode)).unwrap();
            assert_eq!(token(&credentials), Some("st-1"));
        }
    }

    #[test]
    fn the_operators_own_file_is_read() {
        let text = STS.replacen(
            '{',
            r#"{"Code":"Success","AccessKeyId":"STS.N","AccessKeySecret":"sk-1","SecurityToken":"st-1","Expiration":"2026-01-02T04:00:00Z","#,
            1,
        );
        assert_eq!(read_text(&text), read_text(STS));
    }

    #[rstest]
    #[case::ex_5_no_time(&STS.replace("2026-01-02T04:00:00Z", "invalid-date"), "expiration is not a time")]
    #[case::ex_7_no_json("sk-1 st-1", "no JSON of that shape at line 1 column 1")]
    #[case::ex_7_nothing("", "no JSON")]
    #[case::ex_7_null("null", "no JSON")]
    #[case::ex_7_cut(&STS[..STS.len() - 3], "no JSON")]
    #[case::ex_7_more(&format!("{STS} sk-1"), "no JSON")]
    #[case::ex_7_no_text(r#"{"access_key_id":"a","access_key_secret":["sk-1"]}"#, "no JSON")]
    #[case::ex_7_no_fields("{}", "access_key_id is missing")]
    #[case::ex_7_empty_id(&STS.replace("STS.N", ""), "access_key_id is missing")]
    #[case::ex_7_empty_secret(&STS.replace("sk-1", ""), "access_key_secret is missing")]
    #[case::ex_7_empty_token(&STS.replace("st-1", ""), "sts_token is missing or empty, and mode is StsToken")]
    #[case::ended(&STS.replace("2026", "2025"), "ended at 2025-01-02 04:00:00 UTC")]
    #[case::ends_now(&STS.replace("T04", "T03"), "ended at")]
    fn unusable_output_is_an_error_without_its_content(#[case] text: &str, #[case] expected: &str) {
        let problem = read_text(text).unwrap_err();
        assert!(problem.contains(expected), "{problem}");
        for secret in ["sk-1", "st-1", "invalid-date"] {
            assert!(!problem.contains(secret), "{problem}");
        }
    }
}
