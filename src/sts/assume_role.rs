//! `AssumeRole`, as a value.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderName, HeaderValue};

use super::endpoint::Endpoint;
use super::request::{InvalidRequest, VERSION, check_session, post};
use crate::contract::arn::RoleArn;
use crate::secret::SecretText;
use crate::signing::{Signer, rpc};
use crate::world::{NoRandomness, Random, Request};

/// Tells the service from which kind of credentials a role is assumed. Not signed.
const PROVIDER_HEADER: HeaderName = HeaderName::from_static("x-acs-credentials-provider");

/// Who assumes the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Access key id.
    pub access_key_id: String,
    /// Secret of the access key; it is never sent.
    pub access_key_secret: SecretText,
    /// Security token, if the caller's credentials are temporary. It goes into the query, as the
    /// official Go SDK sends it.
    pub security_token: Option<SecretText>,
    /// Which provider the caller's credentials came from, such as `static_ak`.
    pub provider_name: String,
}

/// `AssumeRole`: credentials of a role for a caller that has credentials already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssumeRole {
    /// Who asks.
    pub caller: Caller,
    /// The role.
    pub role_arn: RoleArn,
    /// 2 to 64 letters, digits, `.`, `@`, `-`, `_`.
    pub session_name: String,
    /// 15 minutes to 12 hours, no longer than the role allows, and at most an hour when the
    /// caller is itself a role's session.
    pub duration: Duration,
    /// Session policy, at most 2,048 characters.
    pub policy: Option<String>,
    /// What the role's trust policy may ask for besides the caller; some treat it as a secret.
    pub external_id: Option<SecretText>,
}

/// A number that is used once: sending a request takes it, and it cannot be copied.
#[derive(Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// A new one.
    ///
    /// # Errors
    /// [`NoRandomness`] when the system has none to give.
    pub fn new(random: &dyn Random) -> Result<Self, NoRandomness> {
        let mut text = String::with_capacity(32);
        for byte in random.bytes()? {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Ok(Self(text))
    }
}

impl AssumeRole {
    /// The HTTP request, signed: common parameters in the query, those of the action in the form.
    ///
    /// # Errors
    /// [`InvalidRequest`] where STS would refuse the parameters by their form.
    pub fn to_http(
        &self,
        endpoint: &Endpoint,
        now: DateTime<Utc>,
        nonce: &Nonce,
    ) -> Result<Request, InvalidRequest> {
        check_session(&self.session_name, self.duration, self.policy.as_deref())?;
        let external_id = self.external_id.as_ref().map(SecretText::expose);
        if !external_id.is_none_or(is_external_id) {
            return Err(InvalidRequest::ExternalId);
        }
        self.build(endpoint, now, nonce)
    }

    fn build(
        &self,
        endpoint: &Endpoint,
        now: DateTime<Utc>,
        nonce: &Nonce,
    ) -> Result<Request, InvalidRequest> {
        let seconds = self.duration.as_secs().to_string();
        let mut parameters = vec![
            ("DurationSeconds", seconds.as_str()),
            ("RoleArn", self.role_arn.as_str()),
            ("RoleSessionName", &self.session_name),
        ];
        if let Some(id) = &self.external_id {
            parameters.push(("ExternalId", id.expose()));
        }
        if let Some(policy) = &self.policy {
            parameters.push(("Policy", policy));
        }
        let call = rpc::Call {
            method: rpc::Method::Post,
            action: "AssumeRole",
            version: VERSION,
            parameters: &parameters,
            signer: Signer {
                access_key_id: &self.caller.access_key_id,
                access_key_secret: &self.caller.access_key_secret,
                security_token: self.caller.security_token.as_ref(),
            },
            time: now,
            nonce: &nonce.0,
        };
        let mut request = post(endpoint, &call.query(), call.form())?;
        // The header only informs, so the odd name of somebody's own provider is no reason to fail.
        if let Ok(name) = HeaderValue::from_str(&self.caller.provider_name) {
            request.headers_mut().insert(PROVIDER_HEADER, name);
        }
        Ok(request)
    }
}

fn is_external_id(text: &str) -> bool {
    (2..=1224).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::SystemRandom;

    fn request() -> AssumeRole {
        AssumeRole {
            caller: Caller {
                access_key_id: "akid".to_owned(),
                access_key_secret: "aksecret".into(),
                security_token: None,
                provider_name: "static_ak".to_owned(),
            },
            role_arn: "acs:ram::1234567890123456:role/demo".parse().unwrap(),
            session_name: "session~1".to_owned(),
            duration: Duration::from_hours(1),
            policy: None,
            external_id: None,
        }
    }

    fn built(request: &AssumeRole) -> Request {
        request
            .build(
                &"sts.aliyuncs.com".parse().unwrap(),
                "2024-01-02T03:04:05Z".parse().unwrap(),
                &Nonce("0123456789abcdef0123456789abcdef".to_owned()),
            )
            .unwrap()
    }

    #[test]
    fn sig_a_is_the_request_of_the_go_sdk() {
        // Built unchecked: the vector's session name has a `~`, which STS itself refuses.
        let http = built(&request());
        assert_eq!(
            http.uri(),
            "https://sts.aliyuncs.com/?AccessKeyId=akid&Action=AssumeRole&Format=JSON&Signature=hXqI4W4bvKT9Rp%2F%2F2UPj3oAhH4w%3D&SignatureMethod=HMAC-SHA1&SignatureNonce=0123456789abcdef0123456789abcdef&SignatureVersion=1.0&Timestamp=2024-01-02T03%3A04%3A05Z&Version=2015-04-01"
        );
        assert_eq!(
            http.body(),
            "DurationSeconds=3600&RoleArn=acs%3Aram%3A%3A1234567890123456%3Arole%2Fdemo&RoleSessionName=session~1"
        );
        assert_eq!(http.headers()[PROVIDER_HEADER], "static_ak");
        assert_eq!(
            http.headers()["content-type"],
            "application/x-www-form-urlencoded"
        );
        assert_eq!(http.headers()["accept-encoding"], "identity");
    }

    #[test]
    fn sig_b_carries_policy_external_id_and_token() {
        let mut request = request();
        request.policy = Some(
            r#"{"Version": "1", "Statement": [{"Effect": "Allow", "Action": "oss:*", "Resource": "*"}]}"#
                .to_owned(),
        );
        request.external_id = Some("ext+id".into());
        request.caller.security_token = Some("CAIS/a+b==".into());
        let http = built(&request);
        let query = http.uri().query().unwrap();
        assert!(
            query.contains(
                "&SecurityToken=CAIS%2Fa%2Bb%3D%3D&Signature=r7HzxZ0MFeGeqqP2FIuzyjyEdsw%3D&"
            ),
            "{query}"
        );
        let body = std::str::from_utf8(http.body()).unwrap();
        assert!(
            body.starts_with("DurationSeconds=3600&ExternalId=ext%2Bid&Policy=%7B%22Version"),
            "{body}"
        );
    }

    #[test]
    fn what_sts_would_refuse_is_not_sent() {
        let refused = |change: fn(&mut AssumeRole)| {
            let mut request = request();
            request.session_name = "session-1".to_owned();
            change(&mut request);
            let nonce = Nonce::new(&SystemRandom).unwrap();
            request
                .to_http(
                    &"sts.aliyuncs.com".parse().unwrap(),
                    DateTime::UNIX_EPOCH,
                    &nonce,
                )
                .err()
        };
        assert_eq!(refused(|_| ()), None);
        assert!(matches!(
            refused(|r| r.session_name = "session~1".to_owned()),
            Some(InvalidRequest::SessionName(_))
        ));
        for id in ["x", "with space", "ümlaut"] {
            let mut request = request();
            request.session_name = "session-1".to_owned();
            request.external_id = Some(id.into());
            let error = request
                .to_http(
                    &"sts.aliyuncs.com".parse().unwrap(),
                    DateTime::UNIX_EPOCH,
                    &Nonce("n".to_owned()),
                )
                .unwrap_err();
            assert_eq!(error, InvalidRequest::ExternalId);
            assert!(!error.to_string().contains("space"));
        }
    }

    #[test]
    fn a_foreign_provider_name_is_left_out_of_the_header() {
        let mut request = request();
        request.caller.provider_name = "mine\n".to_owned();
        assert!(!built(&request).headers().contains_key(PROVIDER_HEADER));
    }

    #[test]
    fn nonces_differ() {
        let nonce = || Nonce::new(&SystemRandom).unwrap();
        assert_eq!(nonce().0.len(), 32);
        assert_ne!(nonce(), nonce());
    }
}
