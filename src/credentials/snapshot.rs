//! One immutable answer of a provider: parts of two answers can never be mixed.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::secret::SecretText;
use crate::sts;

/// Credentials as a provider gave them. Clones share one copy; secrets are wiped with the last.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(Arc<Inner>);

#[derive(Clone, PartialEq, Eq)]
struct Inner {
    access_key_id: String,
    access_key_secret: SecretText,
    security_token: Option<SecretText>,
    bearer_token: Option<SecretText>,
    expiration: Option<DateTime<Utc>>,
    issuer_is_ahead: TimeDelta,
    provider_name: Cow<'static, str>,
}

impl Credentials {
    /// Long-lived credentials from the provider of this name.
    #[must_use]
    pub fn new(
        access_key_id: impl Into<String>,
        access_key_secret: SecretText,
        provider_name: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Arc::new(Inner {
            access_key_id: access_key_id.into(),
            access_key_secret,
            security_token: None,
            bearer_token: None,
            expiration: None,
            issuer_is_ahead: TimeDelta::zero(),
            provider_name: provider_name.into(),
        }))
    }

    /// A bearer token; there are no keys then.
    #[must_use]
    pub fn bearer(token: SecretText, provider_name: impl Into<Cow<'static, str>>) -> Self {
        let mut credentials = Self::new(String::new(), String::new().into(), provider_name);
        Arc::make_mut(&mut credentials.0).bearer_token = Some(token);
        credentials
    }

    /// What STS issued.
    pub(super) fn issued(issued: sts::Issued, provider_name: impl Into<Cow<'static, str>>) -> Self {
        let given = issued.credentials;
        Self::new(given.access_key_id, given.access_key_secret, provider_name)
            .with_security_token(given.security_token)
            .with_expiration(given.expiration)
            .with_issuer_ahead(issued.issuer_is_ahead)
    }

    /// The same with a security token.
    #[must_use]
    pub fn with_security_token(mut self, token: SecretText) -> Self {
        Arc::make_mut(&mut self.0).security_token = Some(token);
        self
    }

    /// The same with an end.
    #[must_use]
    pub fn with_expiration(mut self, expiration: DateTime<Utc>) -> Self {
        Arc::make_mut(&mut self.0).expiration = Some(expiration);
        self
    }

    /// The same, from an issuer whose clock is this far ahead of this machine's (negative: behind).
    /// [`expiration`](Self::expiration) is a time of the issuer's clock.
    #[must_use]
    pub fn with_issuer_ahead(mut self, ahead: TimeDelta) -> Self {
        Arc::make_mut(&mut self.0).issuer_is_ahead = ahead;
        self
    }

    /// The same under another name.
    pub(super) fn named(mut self, name: &'static str) -> Self {
        Arc::make_mut(&mut self.0).provider_name = name.into();
        self
    }

    /// The same, given through another source: its name goes in front, as in `default/env`.
    #[must_use]
    pub fn through(mut self, outer: &str) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        inner.provider_name = format!("{outer}/{}", inner.provider_name).into();
        self
    }

    /// Access key id; not a secret.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.0.access_key_id
    }

    /// Secret of the access key.
    #[must_use]
    pub fn access_key_secret(&self) -> &SecretText {
        &self.0.access_key_secret
    }

    /// Security token; temporary credentials have one.
    #[must_use]
    pub fn security_token(&self) -> Option<&SecretText> {
        self.0.security_token.as_ref()
    }

    /// Bearer token; only the provider `bearer` gives one, and nothing else.
    #[must_use]
    pub fn bearer_token(&self) -> Option<&SecretText> {
        self.0.bearer_token.as_ref()
    }

    /// How far the issuer's clock is ahead of this machine's, as far as the issuer told.
    #[must_use]
    pub fn issuer_is_ahead(&self) -> TimeDelta {
        self.0.issuer_is_ahead
    }

    /// When they end, if they do and the source says so.
    #[must_use]
    pub fn expiration(&self) -> Option<DateTime<Utc>> {
        self.0.expiration
    }

    /// What gave them, spelled as the official SDKs do: `static_ak`, `oidc_role_arn`, ….
    #[must_use]
    pub fn provider_name(&self) -> &str {
        &self.0.provider_name
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key_id", &self.0.access_key_id)
            .field("security_token", &self.0.security_token)
            .field("expiration", &self.0.expiration)
            .field("provider_name", &self.0.provider_name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_does_not_change_with_its_copies() {
        let first = Credentials::new("id", "hunter2".into(), "static_ak");
        let second = first
            .clone()
            .with_security_token("token".into())
            .with_expiration(DateTime::UNIX_EPOCH);
        assert_eq!(first.security_token(), None);
        assert_eq!(first.expiration(), None);
        assert_eq!(second.access_key_secret().expose(), "hunter2");
        assert_eq!(second.expiration(), Some(DateTime::UNIX_EPOCH));
    }

    #[test]
    fn debug_shows_no_secret() {
        let credentials = Credentials::new("akid", "hunter2".into(), "static_sts")
            .with_security_token("CAIS-token".into());
        let shown = format!("{credentials:?}");
        assert!(shown.contains("akid"), "{shown}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("CAIS"),
            "{shown}"
        );
    }
}
