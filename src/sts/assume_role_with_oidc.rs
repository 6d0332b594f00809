//! `AssumeRoleWithOIDC`, as a value.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::endpoint::Endpoint;
use super::request::{InvalidRequest, MAX_DURATION, MIN_DURATION, VERSION, check_session, post};
use crate::contract::arn::{ProviderArn, RoleArn};
use crate::secret::SecretText;
use crate::signing::encoding::{pairs, timestamp};
use crate::world::Request;

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

impl AssumeRoleWithOidc {
    /// Shortest session.
    pub const MIN_DURATION: Duration = MIN_DURATION;
    /// Longest session.
    pub const MAX_DURATION: Duration = MAX_DURATION;

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
        let token = self.token.expose().chars().count();
        if !(4..=20_000).contains(&token) {
            return Err(InvalidRequest::Token(token));
        }
        check_session(&self.session_name, self.duration, self.policy.as_deref())?;
        let seconds = self.duration.as_secs().to_string();
        let mut form = vec![
            ("DurationSeconds", seconds.as_str()),
            ("OIDCProviderArn", self.provider_arn.as_str()),
            ("OIDCToken", self.token.expose()),
        ];
        if let Some(policy) = &self.policy {
            form.push(("Policy", policy));
        }
        form.push(("RoleArn", self.role_arn.as_str()));
        form.push(("RoleSessionName", &self.session_name));
        let query = pairs(&[
            ("Action", "AssumeRoleWithOIDC"),
            ("Format", "JSON"),
            ("Timestamp", &timestamp(now)),
            ("Version", VERSION),
        ]);
        post(endpoint, &query, pairs(&form))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
