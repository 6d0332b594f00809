//! Signatures as the service checks them: whatever is sent arrives as it was given, and its
//! signature is that of an independent implementation, which shares no crate and no line with the
//! library: its own escaping, sorting, base64 and calendar, and another crate's HMAC.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use rrsa::secret::SecretText;
use rrsa::signing::{Signer, acs3, encoding, rpc};

/// What the service does when a signed request arrives.
mod service {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use sha1::Sha1;
    use sha2::{Digest as _, Sha256};

    use super::BTreeMap;

    /// RFC 3986, section 2.3, byte by byte.
    pub(super) fn escaped(text: &str) -> String {
        let mut escaped = String::new();
        for byte in text.bytes() {
            match byte {
                b'-' | b'.' | b'_' | b'~' => escaped.push(char::from(byte)),
                _ if byte.is_ascii_alphanumeric() => escaped.push(char::from(byte)),
                _ => {
                    escaped.push('%');
                    for half in [byte >> 4, byte & 15] {
                        let digit = char::from_digit(u32::from(half), 16).expect("a half");
                        escaped.push(digit.to_ascii_uppercase());
                    }
                }
            }
        }
        escaped
    }

    /// Undoes the escaping of a query or a form. Only what is escaped in the one legal spelling is
    /// taken, so that a `+` for a blank or a lower-case digit would be seen.
    pub(super) fn arrived(text: &str) -> Vec<(String, String)> {
        let plain = |text: &str| {
            let mut bytes = Vec::new();
            let mut rest = text.bytes();
            while let Some(byte) = rest.next() {
                if byte == b'%' {
                    let digits = [rest.next().expect("a digit"), rest.next().expect("a digit")];
                    let digits = std::str::from_utf8(&digits).expect("ASCII");
                    bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
                } else {
                    bytes.push(byte);
                }
            }
            let plain = String::from_utf8(bytes).expect("UTF-8");
            assert_eq!(escaped(&plain), text, "another spelling than the legal one");
            plain
        };
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').expect("name=value"))
            .map(|(name, value)| (plain(name), plain(value)))
            .collect()
    }

    /// `name=value` joined with `&`, in the order of the names' bytes.
    pub(super) fn canonical(parameters: &BTreeMap<String, String>) -> String {
        let mut pairs: Vec<(&[u8], String)> = Vec::new();
        for (name, value) in parameters {
            let at = pairs.partition_point(|(other, _)| *other < name.as_bytes());
            let pair = [escaped(name), escaped(value)].join("=");
            pairs.insert(at, (name.as_bytes(), pair));
        }
        let pairs: Vec<_> = pairs.into_iter().map(|(_, pair)| pair).collect();
        pairs.join("&")
    }

    pub(super) fn text_of_rpc(method: &str, parameters: &BTreeMap<String, String>) -> String {
        let path = escaped("/");
        [method, &path, &escaped(&canonical(parameters))].join("&")
    }

    pub(super) fn signature_of_rpc(secret: &str, text: &str) -> String {
        let key = [secret.as_bytes(), b"&"].concat();
        let mut mac = Hmac::<Sha1>::new_from_slice(&key).expect("any length");
        mac.update(text.as_bytes());
        base64(&mac.finalize().into_bytes())
    }

    /// A request of the third version as it arrives; the names of the headers are in lower case.
    pub(super) struct Arrived<'a> {
        pub(super) method: &'a str,
        pub(super) path: &'a str,
        pub(super) query: &'a str,
        pub(super) headers: &'a BTreeMap<String, String>,
        pub(super) body: &'a [u8],
    }

    /// The `authorization` that this request must carry.
    pub(super) fn authorization(request: &Arrived<'_>, key_id: &str, secret: &str) -> String {
        let query: BTreeMap<_, _> = arrived(request.query).into_iter().collect();
        let signed =
            |name: &str| name == "host" || name == "content-type" || name.starts_with("x-acs-");
        let headers: Vec<_> = request
            .headers
            .iter()
            .filter(|(name, _)| signed(name))
            .collect();
        let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let mut lines = vec![
            request.method.to_owned(),
            request.path.to_owned(),
            canonical(&query),
        ];
        for (name, value) in headers {
            lines.push([name.as_str(), value.trim_matches(' ')].join(":"));
        }
        lines.extend([String::new(), names.clone(), sha256(request.body)]);
        let text = format!("ACS3-HMAC-SHA256\n{}", sha256(lines.join("\n").as_bytes()));
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
        mac.update(text.as_bytes());
        let signature = hex(&mac.finalize().into_bytes());
        format!("ACS3-HMAC-SHA256 Credential={key_id},SignedHeaders={names},Signature={signature}")
    }

    pub(super) fn sha256(bytes: &[u8]) -> String {
        hex(&Sha256::digest(bytes))
    }

    fn hex(bytes: &[u8]) -> String {
        let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        halves
            .map(|half| char::from_digit(u32::from(half), 16).expect("a half"))
            .collect()
    }

    /// RFC 4648, section 4: three bytes are four digits.
    fn base64(bytes: &[u8]) -> String {
        let digit = |value: u32| {
            let value = u8::try_from(value & 63).expect("six bits");
            char::from(match value {
                0..26 => b'A' + value,
                26..52 => b'a' + value - 26,
                52..62 => b'0' + value - 52,
                62 => b'+',
                _ => b'/',
            })
        };
        let mut text = String::new();
        for three in bytes.chunks(3) {
            let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
                text.push(if at <= three.len() {
                    digit(bits >> shift)
                } else {
                    '='
                });
            }
        }
        text
    }

    /// Seconds since 1970 as `2024-01-02T03:04:05Z`, counted year by year and month by month.
    pub(super) fn written(seconds: u32) -> String {
        let (mut days, time) = (seconds / 86_400, seconds % 86_400);
        let is_leap = |year: u32| {
            year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
        };
        let mut year = 1970;
        while days >= 365 + u32::from(is_leap(year)) {
            days -= 365 + u32::from(is_leap(year));
            year += 1;
        }
        let february = 28 + u32::from(is_leap(year));
        let mut month = 1;
        for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if days < length {
                break;
            }
            days -= length;
            month += 1;
        }
        let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
        format!(
            "{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
            days + 1
        )
    }
}

/// What an RPC request has besides the parameters of its action.
const COMMON: [&str; 10] = [
    "AccessKeyId",
    "Action",
    "Format",
    "SecurityToken",
    "Signature",
    "SignatureMethod",
    "SignatureNonce",
    "SignatureVersion",
    "Timestamp",
    "Version",
];

/// Any text, and often one of what is escaped wrongly most often.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ *~+%&=/?#:;@'()a-zA-Z0-9._ä中😀\n-]{0,24}",
        Just(String::new()),
    ]
}

/// Parameters, no name twice.
fn parameters() -> impl Strategy<Value = BTreeMap<String, String>> {
    proptest::collection::btree_map(text(), text(), 0..10)
}

/// Any second until the year 2106, with a fraction, which is not sent.
fn moment() -> impl Strategy<Value = (u32, DateTime<Utc>)> {
    (any::<u32>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| {
        let time = DateTime::from_timestamp(i64::from(seconds), nanos).expect("a time");
        (seconds, time)
    })
}

/// What can stand in a header.
fn header() -> impl Strategy<Value = String> {
    "[!-~]{1,40}"
}

/// The parameters as a caller has them, not sorted.
fn given(parameters: &BTreeMap<String, String>, rotation: usize) -> Vec<(&str, &str)> {
    let mut given: Vec<_> = parameters
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let middle = rotation.min(given.len());
    given.rotate_left(middle);
    given
}

proptest! {
    #[test]
    fn escaping_is_that_of_the_rfc(text in text()) {
        prop_assert_eq!(encoding::percent_encode(&text), service::escaped(&text));
    }

    #[test]
    fn pairs_arrive_as_they_were_given(parameters in parameters(), rotation in 0_usize..10) {
        let given = given(&parameters, rotation);
        let arrived = service::arrived(&encoding::pairs(&given));
        let arrived: Vec<_> = arrived.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        prop_assert_eq!(arrived, given);
    }

    #[test]
    fn an_rpc_call_arrives_as_it_was_given_with_the_services_signature(
        is_get in any::<bool>(),
        parameters in parameters(),
        rotation in 0_usize..10,
        (key_id, secret, token) in (text(), text(), proptest::option::of(text())),
        (action, version, nonce) in (text(), text(), text()),
        (seconds, time) in moment(),
    ) {
        let parameters: BTreeMap<_, _> = parameters
            .into_iter()
            .filter(|(name, _)| !COMMON.contains(&name.as_str()))
            .collect();
        let key = SecretText::new(secret.clone());
        let security_token = token.clone().map(SecretText::new);
        let method = if is_get { "GET" } else { "POST" };
        let call = rpc::Call {
            method: if is_get { rpc::Method::Get } else { rpc::Method::Post },
            action: &action,
            version: &version,
            parameters: &given(&parameters, rotation),
            signer: Signer {
                access_key_id: &key_id,
                access_key_secret: &key,
                security_token: security_token.as_ref(),
            },
            time,
            nonce: &nonce,
        };
        let (query, form) = (call.query(), call.form());

        let mut arrived: BTreeMap<_, _> = service::arrived(&query).into_iter().collect();
        let in_form: BTreeMap<_, _> = service::arrived(&form).into_iter().collect();
        let expected_in_form = if is_get { BTreeMap::new() } else { parameters.clone() };
        prop_assert_eq!(&in_form, &expected_in_form);
        arrived.extend(in_form);
        let signature = arrived.remove("Signature");

        let mut expected = parameters;
        for (name, value) in [
            ("AccessKeyId", key_id.as_str()),
            ("Action", &action),
            ("Format", "JSON"),
            ("SignatureMethod", "HMAC-SHA1"),
            ("SignatureNonce", &nonce),
            ("SignatureVersion", "1.0"),
            ("Timestamp", &service::written(seconds)),
            ("Version", &version),
        ] {
            expected.insert(name.to_owned(), value.to_owned());
        }
        if let Some(token) = token {
            expected.insert("SecurityToken".to_owned(), token);
        }
        prop_assert_eq!(&arrived, &expected);

        let text = service::text_of_rpc(method, &arrived);
        prop_assert_eq!(signature, Some(service::signature_of_rpc(&secret, &text)));
    }

    #[test]
    fn the_parts_of_an_rpc_signature_are_those_of_the_service(
        method in "GET|POST",
        parameters in parameters(),
        rotation in 0_usize..10,
        secret in text(),
    ) {
        // A signature among the parameters is not signed.
        let mut signed = parameters.clone();
        signed.remove("Signature");
        let text = service::text_of_rpc(&method, &signed);
        let given = given(&parameters, rotation);
        prop_assert_eq!(rpc::string_to_sign(&method, &given), text.as_str());
        let signature = service::signature_of_rpc(&secret, &text);
        prop_assert_eq!(rpc::signature(&secret.as_str().into(), &text), signature);
    }

    #[test]
    fn an_acs3_request_carries_the_services_authorization(
        method in "GET|POST|PUT|DELETE",
        path in proptest::collection::vec(text(), 0..4),
        query in parameters(),
        rotation in 0_usize..10,
        (host, action, version, nonce) in (header(), header(), header(), header()),
        content_type in proptest::option::of(" {0,2}[a-z]{1,8}/[a-z]{1,8}(; charset=[a-z]{4})? {0,2}"),
        body in proptest::collection::vec(any::<u8>(), 0..80),
        (key_id, secret, token) in (header(), text(), proptest::option::of(header())),
        (seconds, time) in moment(),
    ) {
        let path: Vec<_> = path.iter().map(|part| encoding::percent_encode(part)).collect();
        let path = format!("/{}", path.join("/"));
        let key = SecretText::new(secret.clone());
        let security_token = token.clone().map(SecretText::new);
        let query = given(&query, rotation);
        let request = acs3::Request {
            method: &method,
            host: &host,
            path: &path,
            query: &query,
            action: &action,
            version: &version,
            content_type: content_type.as_deref(),
            body: &body,
            signer: Signer {
                access_key_id: &key_id,
                access_key_secret: &key,
                security_token: security_token.as_ref(),
            },
            time,
            nonce: &nonce,
        };
        let headers = request.sign();
        let sent: Vec<_> = headers.iter().collect();
        let mut headers: BTreeMap<String, String> = sent
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        prop_assert_eq!(headers.len(), sent.len(), "no header twice");
        let authorization = headers.remove("authorization");

        let digest = service::sha256(&body);
        let time = service::written(seconds);
        let expected = [
            ("content-type", content_type.as_deref()),
            ("host", Some(host.as_str())),
            ("x-acs-action", Some(&action)),
            ("x-acs-content-sha256", Some(&digest)),
            ("x-acs-date", Some(&time)),
            ("x-acs-security-token", token.as_deref()),
            ("x-acs-signature-nonce", Some(&nonce)),
            ("x-acs-version", Some(&version)),
        ];
        let expected: BTreeMap<_, _> = expected
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        prop_assert_eq!(&headers, &expected);

        let arrived = service::Arrived {
            method: &method,
            path: &path,
            query: &encoding::pairs(&query),
            headers: &headers,
            body: &body,
        };
        let expected = service::authorization(&arrived, &key_id, &secret);
        prop_assert_eq!(authorization, Some(expected));
    }
}

/// The independent implementation is itself held to what the vendor documents.
#[test]
fn the_independent_implementation_has_the_documented_signatures() {
    let own = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let own = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        own.collect()
    };
    let documented = own(&[
        ("UserName", "test"),
        ("Version", "2015-05-01"),
        ("Timestamp", "2015-08-18T03:15:45Z"),
        ("SignatureVersion", "1.0"),
        ("SignatureNonce", "6a6e0ca6-4557-11e5-86a2-b8e8563dc8d2"),
        ("SignatureMethod", "HMAC-SHA1"),
        ("Format", "JSON"),
        ("Action", "CreateUser"),
        ("AccessKeyId", "testid"),
    ]);
    let text = service::text_of_rpc("GET", &documented);
    assert_eq!(
        service::signature_of_rpc("testsecret", &text),
        "kRA2cnpJVacIhDMzXnoNZG9tDCI="
    );

    let time = service::written(1_698_315_752);
    assert_eq!(time, "2023-10-26T10:22:32Z");
    let headers = own(&[
        ("host", "ecs.cn-shanghai.aliyuncs.com"),
        ("x-acs-action", "RunInstances"),
        ("x-acs-content-sha256", &service::sha256(b"")),
        ("x-acs-date", &time),
        ("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
        ("x-acs-version", "2014-05-26"),
    ]);
    let arrived = service::Arrived {
        method: "POST",
        path: "/",
        query: "RegionId=cn-shanghai&ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd",
        headers: &headers,
        body: b"",
    };
    let authorization = service::authorization(&arrived, "YourAccessKeyId", "YourAccessKeySecret");
    assert!(
        authorization.ends_with(
            "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
        ),
        "{authorization}"
    );
}
