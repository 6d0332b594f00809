//! The RPC signature, version 1.0: HMAC-SHA1 over method and sorted parameters.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The text that is signed. `parameters` come in the order of their names; `Signature` itself is
/// left out.
pub(crate) fn string_to_sign<'a>(
    method: &str,
    parameters: impl Iterator<Item = (&'a str, &'a str)>,
) -> String {
    let canonical: Vec<String> = parameters
        .filter(|(name, _)| *name != "Signature")
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect();
    format!("{method}&%2F&{}", encoded(&canonical.join("&")))
}

/// The signature of `string_to_sign` with this secret.
///
/// # Panics
/// Never: HMAC takes keys of every length.
#[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
pub(crate) fn sign(access_key_secret: &str, string_to_sign: &str) -> String {
    let key = format!("{access_key_secret}&");
    let mut mac = Hmac::<Sha1>::new_from_slice(key.as_bytes()).expect("any key length");
    mac.update(string_to_sign.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{encoded, sign, string_to_sign};

    fn signed(method: &str, secret: &str, parameters: &[(&str, &str)]) -> String {
        let sorted: BTreeMap<&str, &str> = parameters.iter().copied().collect();
        sign(secret, &string_to_sign(method, sorted.into_iter()))
    }

    const ASSUME_ROLE: [(&str, &str); 10] = [
        ("AccessKeyId", "akid"),
        ("Action", "AssumeRole"),
        ("DurationSeconds", "3600"),
        ("Format", "JSON"),
        ("RoleArn", "acs:ram::1234567890123456:role/demo"),
        ("RoleSessionName", "session~1"),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureNonce", "0123456789abcdef0123456789abcdef"),
        ("SignatureVersion", "1.0"),
        ("Timestamp", "2024-01-02T03:04:05Z"),
    ];
    const VERSION: (&str, &str) = ("Version", "2015-04-01");

    #[test]
    fn signature_is_the_documented_one() {
        let documented = [
            ("AccessKeyId", "testid"),
            ("Action", "CreateUser"),
            ("Format", "JSON"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", "6a6e0ca6-4557-11e5-86a2-b8e8563dc8d2"),
            ("SignatureVersion", "1.0"),
            ("Timestamp", "2015-08-18T03:15:45Z"),
            ("UserName", "test"),
            ("Version", "2015-05-01"),
        ];
        assert_eq!(
            signed("GET", "testsecret", &documented),
            "kRA2cnpJVacIhDMzXnoNZG9tDCI="
        );
    }

    #[test]
    fn method_and_odd_characters_are_signed() {
        let mut parameters = ASSUME_ROLE.to_vec();
        parameters.push(VERSION);
        assert_eq!(
            signed("POST", "aksecret", &parameters),
            "hXqI4W4bvKT9Rp//2UPj3oAhH4w="
        );
        assert_eq!(
            signed("GET", "aksecret", &parameters),
            "2HMiWKTmXxlGV9P2pLFcbARR5hs="
        );
        let policy = r#"{"Version": "1", "Statement": [{"Effect": "Allow", "Action": "oss:*", "Resource": "*"}]}"#;
        parameters.extend([
            ("Policy", policy),
            ("ExternalId", "ext+id"),
            ("SecurityToken", "CAIS/a+b=="),
        ]);
        assert_eq!(
            signed("POST", "aksecret", &parameters),
            "r7HzxZ0MFeGeqqP2FIuzyjyEdsw="
        );
    }

    #[test]
    fn only_unreserved_characters_stay() {
        assert_eq!(
            encoded("123abc!@#$%^&*()-=_+ ~|\\/"),
            "123abc%21%40%23%24%25%5E%26%2A%28%29-%3D_%2B%20~%7C%5C%2F"
        );
        assert_eq!(string_to_sign("GET", std::iter::empty()), "GET&%2F&");
    }
}
