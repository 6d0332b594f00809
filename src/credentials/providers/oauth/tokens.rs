//! The tokens of a login: when they are renewed, with what request, and by what answer.

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded;

use crate::credentials::exchange::ExchangeError;
use crate::credentials::providers::answer::Answer;
use crate::secret::SecretText;

/// An access token with this much life or less is renewed before it is used.
const MARGIN: TimeDelta = TimeDelta::minutes(20);
/// Life of an access token of which the service does not say it.
const USUAL_LIFE: TimeDelta = TimeDelta::hours(1);

/// The tokens of a login, none of them empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tokens {
    pub(super) access: Option<SecretText>,
    pub(super) access_ends: Option<DateTime<Utc>>,
    pub(super) refresh: Option<SecretText>,
}

#[derive(Deserialize)]
struct Renewed {
    access_token: Option<SecretText>,
    refresh_token: Option<SecretText>,
    /// Seconds.
    expires_in: Option<Value>,
}

impl Tokens {
    /// The refresh token, if the access token has to be renewed with it first.
    pub(super) fn to_renew_with(&self, now: DateTime<Utc>) -> Option<&SecretText> {
        let refresh = self.refresh.as_ref()?;
        let lasts = self.access_ends.is_some_and(|ends| ends - now > MARGIN);
        (self.access.is_none() || !lasts).then_some(refresh)
    }

    /// The tokens that the service gives in place of old ones.
    pub(super) fn renewed(
        answer: &Answer<'_>,
        asked: DateTime<Utc>,
    ) -> Result<Self, ExchangeError> {
        let Renewed {
            access_token,
            refresh_token,
            expires_in,
        } = answer.read()?;
        // The old tokens may be dead by now, so the new ones are not thrown away for an odd number.
        let life = expires_in
            .and_then(|seconds| seconds.as_u64())
            .and_then(|seconds| u32::try_from(seconds).ok())
            .map_or(USUAL_LIFE, |seconds| TimeDelta::seconds(seconds.into()));
        Ok(Self {
            access: Some(answer.present("access_token", access_token)?),
            access_ends: Some(asked + life),
            refresh: Some(answer.present("refresh_token", refresh_token)?),
        })
    }
}

/// The form that asks for new tokens.
pub(super) fn form(client_id: &str, refresh_token: &SecretText, now: DateTime<Utc>) -> Bytes {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "refresh_token")
        .append_pair("refresh_token", refresh_token.expose())
        .append_pair("client_id", client_id)
        .append_pair("Timestamp", &now.to_rfc3339_opts(SecondsFormat::Secs, true))
        .finish()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::test_world::now;
    use rstest::rstest;

    fn tokens(access: Option<&str>, life: Option<i64>, refresh: Option<&str>) -> Tokens {
        Tokens {
            access: access.map(SecretText::from),
            access_ends: life.map(|seconds| now() + TimeDelta::seconds(seconds)),
            refresh: refresh.map(SecretText::from),
        }
    }

    #[rstest]
    #[case::oa_3_long_enough(Some("at"), Some(1500), Some("rt"), false)]
    #[case::oa_3_longer(Some("at"), Some(2000), Some("rt"), false)]
    #[case::just_long_enough(Some("at"), Some(1201), Some("rt"), false)]
    #[case::oa_4_boundary(Some("at"), Some(1200), Some("rt"), true)]
    #[case::oa_4_short(Some("at"), Some(900), Some("rt"), true)]
    #[case::oa_4_now(Some("at"), Some(0), Some("rt"), true)]
    #[case::oa_4_past(Some("at"), Some(-1), Some("rt"), true)]
    #[case::oa_4_unknown(Some("at"), None, Some("rt"), true)]
    #[case::oa_4_no_token(None, Some(2000), Some("rt"), true)]
    #[case::nothing_to_renew_with(Some("at"), Some(-1), None, false)]
    fn an_access_token_is_renewed_in_time(
        #[case] access: Option<&str>,
        #[case] life: Option<i64>,
        #[case] refresh: Option<&str>,
        #[case] due: bool,
    ) {
        let tokens = tokens(access, life, refresh);
        assert_eq!(tokens.to_renew_with(now()).is_some(), due);
    }

    #[test]
    fn the_form_is_encoded() {
        assert_eq!(
            form("4038", &"r+t/=".into(), now()),
            "grant_type=refresh_token&refresh_token=r%2Bt%2F%3D&client_id=4038&Timestamp=2026-01-02T03%3A04%3A05Z"
        );
    }
}
