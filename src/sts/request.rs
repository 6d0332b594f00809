//! Requests to STS, as values.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use http::{Method, Uri, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::contract::arn::{ProviderArn, RoleArn};
use crate::secret::SecretText;
use crate::world::Request;

/// The RFC 3986 unreserved set stays, everything else is escaped.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// An STS host with an optional port: `sts.aliyuncs.com`, `localhost:8443`. Always https.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint(String);

/// A text that is no `host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an STS endpoint; write host or host:port, without scheme or path")]
pub struct InvalidEndpoint(String);

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let refuse = || InvalidEndpoint(text.chars().take(120).collect());
        let (host, port) = text
            .split_once(':')
            .map_or((text, None), |(h, p)| (h, Some(p)));
        let host_is_legal = (1..=253).contains(&host.len())
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
            && host.starts_with(|c: char| c.is_ascii_alphanumeric())
            && host.ends_with(|c: char| c.is_ascii_alphanumeric());
        let port_is_legal = port.is_none_or(|port| {
            port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
        });
        if host_is_legal && port_is_legal {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(refuse())
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `AssumeRoleWithOIDC`: swaps a token for credentials of a role. Not signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssumeRoleWithOidc {
    /// The OIDC provider that vouches for the token.
    pub provider_arn: ProviderArn,
    /// The role.
    pub role_arn: RoleArn,
    /// The JWT, trimmed.
    pub token: SecretText,
    /// 2 to 64 letters, digits, `.`, `@`, `-`, `_`.
    pub session_name: String,
    /// 15 minutes to 12 hours, and no longer than the role allows.
    pub duration: Duration,
    /// Session policy, at most 2,048 characters.
    pub policy: Option<String>,
}

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
}

impl AssumeRoleWithOidc {
    /// Shortest session.
    pub const MIN_DURATION: Duration = Duration::from_mins(15);
    /// Longest session.
    pub const MAX_DURATION: Duration = Duration::from_hours(12);

    /// The HTTP request: common parameters in the query, the others, the token among them, in
    /// the form, so that no log of URLs sees it.
    ///
    /// # Errors
    /// [`InvalidRequest`] where STS would refuse the parameters by their form.
    pub fn to_http(
        &self,
        endpoint: &Endpoint,
        now: DateTime<Utc>,
    ) -> Result<Request, InvalidRequest> {
        self.check()?;
        let mut form = vec![
            ("DurationSeconds", self.duration.as_secs().to_string()),
            ("OIDCProviderArn", self.provider_arn.to_string()),
            ("OIDCToken", self.token.expose().to_owned()),
        ];
        if let Some(policy) = &self.policy {
            form.push(("Policy", policy.clone()));
        }
        form.push(("RoleArn", self.role_arn.to_string()));
        form.push(("RoleSessionName", self.session_name.clone()));
        let query = encode(&[
            ("Action", "AssumeRoleWithOIDC".to_owned()),
            ("Format", "JSON".to_owned()),
            ("Timestamp", now.to_rfc3339_opts(SecondsFormat::Secs, true)),
            ("Version", "2015-04-01".to_owned()),
        ]);
        let uri = format!("https://{endpoint}/?{query}")
            .parse::<Uri>()
            .unwrap_or_else(|_| unreachable!("endpoint and query hold only legal characters"));
        let mut request = Request::new(Bytes::from(encode(&form)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers.insert(
            header::ACCEPT_ENCODING,
            header::HeaderValue::from_static("identity"),
        );
        Ok(request)
    }

    fn check(&self) -> Result<(), InvalidRequest> {
        let token = self.token.expose().chars().count();
        if !(4..=20_000).contains(&token) {
            return Err(InvalidRequest::Token(token));
        }
        let name = &self.session_name;
        let name_is_legal = (2..=64).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'@' | b'-' | b'_'));
        if !name_is_legal {
            return Err(InvalidRequest::SessionName(
                name.chars().take(120).collect(),
            ));
        }
        if !(Self::MIN_DURATION..=Self::MAX_DURATION).contains(&self.duration) {
            return Err(InvalidRequest::Duration(self.duration));
        }
        if let Some(policy) = &self.policy {
            let length = policy.chars().count();
            if !(1..=2048).contains(&length) {
                return Err(InvalidRequest::Policy(length));
            }
        }
        Ok(())
    }
}

fn encode(parameters: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (key, value) in parameters {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(key);
        text.push('=');
        text.extend(utf8_percent_encode(value, ESCAPED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn request() -> AssumeRoleWithOidc {
        AssumeRoleWithOidc {
            provider_arn: "acs:ram::1:oidc-provider/ack-rrsa-c1".parse().unwrap(),
            role_arn: "acs:ram::1:role/app".parse().unwrap(),
            token: "a.b.c+/=".into(),
            session_name: "team-a.app".to_owned(),
            duration: Duration::from_hours(1),
            policy: Some(r#"{"Version": "1"}"#.to_owned()),
        }
    }

    #[test]
    fn the_token_goes_into_the_form_and_never_into_the_url() {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let http = request()
            .to_http(&"sts.aliyuncs.com".parse().unwrap(), now)
            .unwrap();
        assert_eq!(
            http.uri(),
            "https://sts.aliyuncs.com/?Action=AssumeRoleWithOIDC&Format=JSON&Timestamp=2026-01-02T03%3A04%3A05Z&Version=2015-04-01"
        );
        assert_eq!(
            http.body(),
            "DurationSeconds=3600&OIDCProviderArn=acs%3Aram%3A%3A1%3Aoidc-provider%2Fack-rrsa-c1&OIDCToken=a.b.c%2B%2F%3D&Policy=%7B%22Version%22%3A%20%221%22%7D&RoleArn=acs%3Aram%3A%3A1%3Arole%2Fapp&RoleSessionName=team-a.app"
        );
    }

    #[test]
    fn what_sts_would_refuse_is_not_sent() {
        let endpoint: Endpoint = "sts.aliyuncs.com".parse().unwrap();
        let now = DateTime::UNIX_EPOCH;
        let refused = |change: fn(&mut AssumeRoleWithOidc)| {
            let mut request = request();
            change(&mut request);
            request.to_http(&endpoint, now).unwrap_err()
        };
        assert_eq!(
            refused(|r| r.token = "abc".into()),
            InvalidRequest::Token(3)
        );
        assert!(matches!(
            refused(|r| r.session_name = "a b".into()),
            InvalidRequest::SessionName(_)
        ));
        assert!(matches!(
            refused(|r| r.duration = Duration::from_mins(14)),
            InvalidRequest::Duration(_)
        ));
        assert_eq!(
            refused(|r| r.policy = Some(String::new())),
            InvalidRequest::Policy(0)
        );
    }

    #[rstest]
    #[case("https://sts.aliyuncs.com")]
    #[case("sts.aliyuncs.com/")]
    #[case("user@sts.aliyuncs.com")]
    #[case("sts.aliyuncs.com:0")]
    #[case("sts.aliyuncs.com:x")]
    #[case("[::1]:443")]
    #[case("")]
    fn an_endpoint_is_a_host_and_perhaps_a_port(#[case] text: &str) {
        assert!(text.parse::<Endpoint>().is_err());
    }
}
