//! The ACS3-HMAC-SHA256 signature ("V3"): over method, path, query, headers and the body's hash.
//!
//! Source: "Request syntax and signature method V3" of the OpenAPI documentation.

use std::fmt;

use aws_lc_rs::{digest, hmac};
use chrono::{DateTime, Utc};

use super::Signer;
use super::encoding::{pairs, timestamp};
use crate::secret::SecretText;

/// The algorithm's name, as header and signed text spell it.
const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// A request to be signed.
///
/// ```
/// use rrsa::signing::{Signer, acs3};
///
/// let secret = "testsecret".into();
/// let request = acs3::Request {
///     method: "POST",
///     host: "ecs.cn-hangzhou.aliyuncs.com",
///     path: "/",
///     query: &[("RegionId", "cn-hangzhou")],
///     action: "DescribeInstances",
///     version: "2014-05-26",
///     content_type: None,
///     body: b"",
///     signer: Signer { access_key_id: "testid", access_key_secret: &secret, security_token: None },
///     time: "2024-01-02T03:04:05Z".parse()?,
///     nonce: "0123456789abcdef0123456789abcdef",
/// };
/// let headers = request.sign();
/// assert!(headers.iter().any(|(name, _)| name == "authorization"));
/// # Ok::<(), chrono::ParseError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// `host` header, with the port if it is sent.
    pub host: &'a str,
    /// Path as it is sent, percent-encoded; `/` in the RPC style.
    pub path: &'a str,
    /// Query parameters, not encoded, in any order.
    pub query: &'a [(&'a str, &'a str)],
    /// `x-acs-action`.
    pub action: &'a str,
    /// `x-acs-version`.
    pub version: &'a str,
    /// `content-type`, where one is sent.
    pub content_type: Option<&'a str>,
    /// The body as it is sent.
    pub body: &'a [u8],
    /// Who signs.
    pub signer: Signer<'a>,
    /// `x-acs-date`.
    pub time: DateTime<Utc>,
    /// `x-acs-signature-nonce`: never used again.
    pub nonce: &'a str,
}

/// The headers that a signed request carries. `Debug` shows their names only, for one of them may
/// be the security token.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedHeaders(Vec<(&'static str, String)>);

impl SignedHeaders {
    /// Names, in lower case, and values. `host` is among them: it is signed.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

impl fmt::Debug for SignedHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Request<'_> {
    /// The headers to send, `authorization` among them.
    #[must_use]
    pub fn sign(&self) -> SignedHeaders {
        let mut headers = self.headers();
        let hash = sha256(self.canonical(&headers).as_bytes());
        let signature = hmac_sha256(
            self.signer.access_key_secret,
            &format!("{ALGORITHM}\n{hash}"),
        );
        headers.push((
            "authorization",
            format!(
                "{ALGORITHM} Credential={},SignedHeaders={},Signature={signature}",
                self.signer.access_key_id,
                names(&headers)
            ),
        ));
        SignedHeaders(headers)
    }

    /// The signed headers, in the order of their names.
    fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("host", self.host.to_owned()),
            ("x-acs-action", self.action.to_owned()),
            ("x-acs-content-sha256", sha256(self.body)),
            ("x-acs-date", timestamp(self.time)),
            ("x-acs-signature-nonce", self.nonce.to_owned()),
            ("x-acs-version", self.version.to_owned()),
        ];
        if let Some(token) = self.signer.security_token {
            headers.push(("x-acs-security-token", token.expose().to_owned()));
        }
        if let Some(content_type) = self.content_type {
            headers.push(("content-type", content_type.to_owned()));
        }
        headers.sort_unstable();
        headers
    }

    fn canonical(&self, headers: &[(&'static str, String)]) -> String {
        let mut query = self.query.to_vec();
        query.sort_unstable();
        let mut text = [self.method, self.path, &pairs(&query)].join("\n");
        text.push('\n');
        for (name, value) in headers {
            text.extend([*name, ":", value.trim(), "\n"]);
        }
        let body = sha256(self.body);
        text + "\n" + &names(headers) + "\n" + &body
    }
}

fn names(headers: &[(&'static str, String)]) -> String {
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    names.join(";")
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hmac_sha256(key: &SecretText, message: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
    hex(hmac::sign(&key, message.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digit = |half: u8| DIGITS[usize::from(half & 0xf)];
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature_of(headers: &SignedHeaders) -> String {
        let (_, value) = headers
            .iter()
            .find(|(name, _)| *name == "authorization")
            .unwrap();
        value.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn the_documented_request_has_the_documented_signature() {
        let secret = "YourAccessKeySecret".into();
        let request = Request {
            method: "POST",
            host: "ecs.cn-shanghai.aliyuncs.com",
            path: "/",
            query: &[
                ("RegionId", "cn-shanghai"),
                (
                    "ImageId",
                    "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd",
                ),
            ],
            action: "RunInstances",
            version: "2014-05-26",
            content_type: None,
            body: b"",
            signer: Signer {
                access_key_id: "YourAccessKeyId",
                access_key_secret: &secret,
                security_token: None,
            },
            time: "2023-10-26T10:22:32Z".parse().unwrap(),
            nonce: "3156853299f313e23d1673dc12e1703d",
        };
        let canonical = request.canonical(&request.headers());
        assert_eq!(
            sha256(canonical.as_bytes()),
            "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259"
        );
        let headers = request.sign();
        assert_eq!(
            signature_of(&headers),
            "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
        );
        let (_, authorization) = headers.iter().last().unwrap();
        assert!(
            authorization.starts_with("ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,Signature="),
            "{authorization}"
        );
    }

    fn assume_role<'a>(secret: &'a SecretText, token: Option<&'a SecretText>) -> Request<'a> {
        Request {
            method: "POST",
            host: "sts.cn-hangzhou.aliyuncs.com",
            path: "/",
            query: &[],
            action: "AssumeRole",
            version: "2015-04-01",
            content_type: Some("application/x-www-form-urlencoded"),
            body: b"DurationSeconds=3600&RoleArn=acs%3Aram%3A%3A1234567890123456%3Arole%2Fdemo&RoleSessionName=session~1",
            signer: Signer {
                access_key_id: "akid",
                access_key_secret: secret,
                security_token: token,
            },
            time: "2024-01-02T03:04:05Z".parse().unwrap(),
            nonce: "0123456789abcdef0123456789abcdef",
        }
    }

    #[test]
    fn body_and_content_type_are_signed() {
        let secret = "aksecret".into();
        assert_eq!(
            signature_of(&assume_role(&secret, None).sign()),
            "f4ed62cdd45c5dac08714b7671c15c5b5c5f02d3638a409311347584b45cd29d"
        );
    }

    #[test]
    fn the_security_token_is_sent_and_signed_and_not_shown() {
        let (secret, token) = ("aksecret".into(), "CAIS-token".into());
        let headers = assume_role(&secret, Some(&token)).sign();
        assert!(
            headers
                .iter()
                .any(|h| h == ("x-acs-security-token", "CAIS-token"))
        );
        assert!(
            headers
                .iter()
                .any(|(_, v)| v.contains(";x-acs-security-token;"))
        );
        assert_ne!(
            signature_of(&headers),
            signature_of(&assume_role(&secret, None).sign())
        );
        assert!(!format!("{headers:?}").contains("CAIS-token"));
    }
}
