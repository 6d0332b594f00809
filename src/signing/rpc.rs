//! The RPC signature, version 1.0: HMAC-SHA1 over the method and all parameters, wherever they
//! travel.
//!
//! Source: "RPC request syntax and signature method V2" of the OpenAPI documentation. That page
//! now recommends V3, but STS takes both and every official SDK signs this way.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use zeroize::Zeroizing;

use super::Signer;
use super::encoding::{pairs, percent_encode, timestamp};
use crate::secret::SecretText;

/// Where the parameters of the action travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// All in the query. Proxies and access logs see them.
    Get,
    /// Those of the action in the form, the common ones in the query.
    Post,
}

impl Method {
    /// The HTTP method.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// A call in the RPC style; the path is always `/`.
///
/// ```
/// use rrsa::signing::{Signer, rpc};
///
/// let secret = "testsecret".into();
/// let call = rpc::Call {
///     method: rpc::Method::Post,
///     action: "DescribeRegions",
///     version: "2014-05-26",
///     parameters: &[("AcceptLanguage", "en-US")],
///     signer: Signer { access_key_id: "testid", access_key_secret: &secret, security_token: None },
///     time: "2024-01-02T03:04:05Z".parse()?,
///     nonce: "0123456789abcdef0123456789abcdef",
/// };
/// let (query, form) = (call.query(), call.form());
/// assert!(query.starts_with("AccessKeyId=testid&Action=DescribeRegions&"));
/// assert_eq!(form, "AcceptLanguage=en-US");
/// # Ok::<(), chrono::ParseError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// How it is sent.
    pub method: Method,
    /// `Action`.
    pub action: &'a str,
    /// `Version` of the API.
    pub version: &'a str,
    /// Parameters of the action, without the common ones, in any order; no name twice.
    pub parameters: &'a [(&'a str, &'a str)],
    /// Who signs.
    pub signer: Signer<'a>,
    /// `Timestamp`.
    pub time: DateTime<Utc>,
    /// `SignatureNonce`: at most 64 characters that are never used again.
    pub nonce: &'a str,
}

impl Call<'_> {
    /// The query to send, signature included, in the order of the names. It holds the security
    /// token, so it must not be logged.
    #[must_use]
    pub fn query(&self) -> String {
        let time = timestamp(self.time);
        let common = self.common(&time);
        let all = [common.as_slice(), self.parameters].concat();
        let text = string_to_sign(self.method.as_str(), &all);
        let signature = signature(self.signer.access_key_secret, &text);
        let mut sent = match self.method {
            Method::Get => all,
            Method::Post => common,
        };
        sent.push(("Signature", &signature));
        sent.sort_unstable();
        pairs(&sent)
    }

    /// The form to send as `application/x-www-form-urlencoded`, in the order of the names; empty
    /// for [`Method::Get`].
    #[must_use]
    pub fn form(&self) -> String {
        match self.method {
            Method::Get => String::new(),
            Method::Post => {
                let mut sent = self.parameters.to_vec();
                sent.sort_unstable();
                pairs(&sent)
            }
        }
    }

    fn common<'c>(&'c self, time: &'c str) -> Vec<(&'c str, &'c str)> {
        let mut common = vec![
            ("AccessKeyId", self.signer.access_key_id),
            ("Action", self.action),
            ("Format", "JSON"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", self.nonce),
            ("SignatureVersion", "1.0"),
            ("Timestamp", time),
            ("Version", self.version),
        ];
        if let Some(token) = self.signer.security_token {
            common.push(("SecurityToken", token.expose()));
        }
        common
    }
}

/// The text that is signed: all parameters of query and form but `Signature`, sorted by name.
#[must_use]
pub fn string_to_sign(method: &str, parameters: &[(&str, &str)]) -> String {
    let mut signed: Vec<_> = parameters
        .iter()
        .filter(|(name, _)| *name != "Signature")
        .copied()
        .collect();
    signed.sort_unstable();
    format!("{method}&%2F&{}", percent_encode(&pairs(&signed)))
}

/// The value of `Signature` for [`string_to_sign`].
#[must_use]
pub fn signature(access_key_secret: &SecretText, string_to_sign: &str) -> String {
    let key = Zeroizing::new(format!("{}&", access_key_secret.expose()));
    hmac_sha1(key.as_bytes(), string_to_sign.as_bytes())
}

fn hmac_sha1(key: &[u8], message: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    BASE64_STANDARD.encode(hmac::sign(&key, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const POLICY: &str = r#"{"Version": "1", "Statement": [{"Effect": "Allow", "Action": "oss:*", "Resource": "*"}]}"#;

    const BUSINESS: [(&str, &str); 3] = [
        ("RoleSessionName", "session~1"),
        ("RoleArn", "acs:ram::1234567890123456:role/demo"),
        ("DurationSeconds", "3600"),
    ];

    fn assume_role<'a>(
        method: Method,
        parameters: &'a [(&'a str, &'a str)],
        secret: &'a SecretText,
        security_token: Option<&'a SecretText>,
    ) -> Call<'a> {
        Call {
            method,
            action: "AssumeRole",
            version: "2015-04-01",
            parameters,
            signer: Signer {
                access_key_id: "akid",
                access_key_secret: secret,
                security_token,
            },
            time: "2024-01-02T03:04:05Z".parse().unwrap(),
            nonce: "0123456789abcdef0123456789abcdef",
        }
    }

    fn encoded_signature(signature: &str) -> String {
        format!("&Signature={}&", percent_encode(signature))
    }

    #[rstest]
    #[case::hmac_1("secret", "source", "Jv4yi8SobFhg5t1C7nWLbhBSFZQ=")]
    #[case::hmac_2("secret", "中文", "CqCYIa39h9SSWuXnTz8F5hh9UPA=")]
    #[case::hmac_3("secret", "123", "sU6S6xf2t47FogXuDhqyIPt/htc=")]
    #[case::hmac_4("sk#$!~~~", "abc~!@#", "7eV3A584uvdgKVk8Ck8r9ukg1gE=")]
    fn the_mac_is_the_known_one(#[case] key: &str, #[case] message: &str, #[case] mac: &str) {
        assert_eq!(hmac_sha1(key.as_bytes(), message.as_bytes()), mac);
    }

    #[test]
    fn without_parameters_only_method_and_path_are_signed() {
        assert_eq!(string_to_sign("GET", &[]), "GET&%2F&");
    }

    #[test]
    fn sig_doc_is_the_documented_signature() {
        let documented = [
            ("UserName", "test"),
            ("Version", "2015-05-01"),
            ("Timestamp", "2015-08-18T03:15:45Z"),
            ("SignatureVersion", "1.0"),
            ("SignatureNonce", "6a6e0ca6-4557-11e5-86a2-b8e8563dc8d2"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("Signature", "anything"),
            ("Format", "JSON"),
            ("Action", "CreateUser"),
            ("AccessKeyId", "testid"),
        ];
        let text = string_to_sign("GET", &documented);
        assert_eq!(
            signature(&"testsecret".into(), &text),
            "kRA2cnpJVacIhDMzXnoNZG9tDCI="
        );
    }

    #[test]
    fn sig_a_is_sent_in_two_parts() {
        let secret = "aksecret".into();
        let call = assume_role(Method::Post, &BUSINESS, &secret, None);
        assert_eq!(
            call.query(),
            "AccessKeyId=akid&Action=AssumeRole&Format=JSON&Signature=hXqI4W4bvKT9Rp%2F%2F2UPj3oAhH4w%3D&SignatureMethod=HMAC-SHA1&SignatureNonce=0123456789abcdef0123456789abcdef&SignatureVersion=1.0&Timestamp=2024-01-02T03%3A04%3A05Z&Version=2015-04-01"
        );
        assert_eq!(
            call.form(),
            "DurationSeconds=3600&RoleArn=acs%3Aram%3A%3A1234567890123456%3Arole%2Fdemo&RoleSessionName=session~1"
        );
    }

    #[test]
    fn sig_a_signs_the_known_text() {
        let mut all = BUSINESS.to_vec();
        all.extend([
            ("Version", "2015-04-01"),
            ("Timestamp", "2024-01-02T03:04:05Z"),
            ("SignatureVersion", "1.0"),
            ("SignatureNonce", "0123456789abcdef0123456789abcdef"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("Format", "JSON"),
            ("Action", "AssumeRole"),
            ("AccessKeyId", "akid"),
        ]);
        assert_eq!(
            string_to_sign("POST", &all),
            "POST&%2F&AccessKeyId%3Dakid%26Action%3DAssumeRole%26DurationSeconds%3D3600%26Format%3DJSON%26RoleArn%3Dacs%253Aram%253A%253A1234567890123456%253Arole%252Fdemo%26RoleSessionName%3Dsession~1%26SignatureMethod%3DHMAC-SHA1%26SignatureNonce%3D0123456789abcdef0123456789abcdef%26SignatureVersion%3D1.0%26Timestamp%3D2024-01-02T03%253A04%253A05Z%26Version%3D2015-04-01"
        );
    }

    #[test]
    fn sig_a_get_sends_everything_in_the_query() {
        let secret = "aksecret".into();
        let call = assume_role(Method::Get, &BUSINESS, &secret, None);
        let query = call.query();
        assert!(
            query.contains(&encoded_signature("2HMiWKTmXxlGV9P2pLFcbARR5hs=")),
            "{query}"
        );
        assert!(query.contains("&RoleSessionName=session~1&"), "{query}");
        assert_eq!(call.form(), "");
    }

    #[test]
    fn sig_b_signs_spaces_and_the_security_token() {
        let secret = "aksecret".into();
        let token = "CAIS/a+b==".into();
        let mut parameters = BUSINESS.to_vec();
        parameters.extend([("Policy", POLICY), ("ExternalId", "ext+id")]);
        let call = assume_role(Method::Post, &parameters, &secret, Some(&token));
        let query = call.query();
        assert!(
            query.contains(&encoded_signature("r7HzxZ0MFeGeqqP2FIuzyjyEdsw=")),
            "{query}"
        );
        assert!(
            query.contains("&SecurityToken=CAIS%2Fa%2Bb%3D%3D&"),
            "{query}"
        );
    }
}
