//! What was issued: remembered in full, so that credentials can be verified like the cloud would,
//! and so that a test can search every log for the secrets that must not be there.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};

use super::live::locked;
use super::{clock, random};

/// Credentials as they are handed out. No `Debug`: all but the id is secret.
#[derive(Clone)]
pub(crate) struct IssuedCredentials {
    /// `STS.N…`.
    pub(crate) access_key_id: String,
    /// The secret.
    pub(crate) access_key_secret: String,
    /// The token that must come along.
    pub(crate) security_token: String,
    /// When they end.
    pub(crate) expiration: DateTime<Utc>,
}

/// A session of a role: what credentials stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// ARN of the role.
    pub(crate) role_arn: String,
    /// Name of the session.
    pub(crate) name: String,
    /// `sub` of the token it was made for, when it was made for a token.
    pub(crate) subject: Option<String>,
    /// The session policy.
    pub(crate) policy: Option<String>,
    /// When it ends.
    pub(crate) expiration: DateTime<Utc>,
    /// Whether it had ended when it was looked up.
    pub(crate) expired: bool,
}

/// Why credentials were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VerifyError {
    /// Nobody was given this id.
    #[error("the access key id was never issued by this simulator")]
    UnknownAccessKeyId,
    /// The secret belongs to other credentials.
    #[error("the secret is not the one that was issued with this access key id")]
    WrongSecret,
    /// The token belongs to other credentials.
    #[error("the security token is not the one that was issued with this access key id")]
    WrongSecurityToken,
}

struct Issued {
    credentials: IssuedCredentials,
    session: Session,
}

#[derive(Default)]
struct State {
    issued: HashMap<String, Issued>,
    secrets: BTreeSet<String>,
    security_tokens: BTreeSet<String>,
}

/// The record of what was issued; clones are handles to the same record, which is how STS knows
/// the credentials of the metadata service.
#[derive(Clone, Default)]
pub(crate) struct Issuance(Arc<Mutex<State>>);

impl Issuance {
    /// Makes credentials for `session`.
    pub(crate) fn issue(&self, session: Session) -> IssuedCredentials {
        let credentials = IssuedCredentials {
            access_key_id: format!("STS.N{}", random::alphanumeric(24)),
            access_key_secret: random::alphanumeric(44),
            // The real ones are long and of no fixed length, and end in padding.
            security_token: format!("CAIS{}==", random::alphanumeric(640)),
            expiration: session.expiration,
        };
        let mut state = locked(&self.0);
        state.secrets.insert(credentials.access_key_secret.clone());
        state.secrets.insert(credentials.security_token.clone());
        state
            .security_tokens
            .insert(credentials.security_token.clone());
        let issued = Issued {
            credentials: credentials.clone(),
            session,
        };
        state
            .issued
            .insert(credentials.access_key_id.clone(), issued);
        credentials
    }

    /// Remembers a secret that was seen, for the log scan: a token that a client sent.
    pub(crate) fn saw(&self, secret: &str) {
        // Short fragments would match anything in a log.
        if secret.len() >= 16 {
            locked(&self.0).secrets.insert(secret.to_owned());
        }
    }

    /// Every secret and security token issued and every token seen.
    pub(crate) fn secrets(&self) -> Vec<String> {
        locked(&self.0).secrets.iter().cloned().collect()
    }

    /// How many secrets there are, to see cheaply whether there are new ones.
    pub(crate) fn secret_count(&self) -> usize {
        locked(&self.0).secrets.len()
    }

    /// The session that these credentials stand for at the time `now`.
    pub(crate) fn verify(
        &self,
        access_key_id: &str,
        access_key_secret: &str,
        security_token: &str,
        now: DateTime<Utc>,
    ) -> Result<Session, VerifyError> {
        let (credentials, session) = self
            .find(access_key_id, now)
            .ok_or(VerifyError::UnknownAccessKeyId)?;
        if credentials.access_key_secret != access_key_secret {
            return Err(VerifyError::WrongSecret);
        }
        if credentials.security_token != security_token {
            return Err(VerifyError::WrongSecurityToken);
        }
        Ok(session)
    }

    /// What was issued under this id.
    pub(crate) fn find(
        &self,
        access_key_id: &str,
        now: DateTime<Utc>,
    ) -> Option<(IssuedCredentials, Session)> {
        let state = locked(&self.0);
        let issued = state.issued.get(access_key_id)?;
        let mut session = issued.session.clone();
        session.expired = session.expiration <= now;
        Some((issued.credentials.clone(), session))
    }

    /// Whether this token was issued with any id.
    pub(crate) fn knows_token(&self, security_token: &str) -> bool {
        locked(&self.0).security_tokens.contains(security_token)
    }

    /// Verifies at the machine's time.
    pub(crate) fn verify_now(
        &self,
        access_key_id: &str,
        access_key_secret: &str,
        security_token: &str,
    ) -> Result<Session, VerifyError> {
        self.verify(
            access_key_id,
            access_key_secret,
            security_token,
            clock::now(),
        )
    }
}
