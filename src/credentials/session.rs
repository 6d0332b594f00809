//! What both ways to a role share: the settings of the session.
//!
//! | setting | else the variable | else |
//! |---|---|---|
//! | session name | `ALIBABA_CLOUD_ROLE_SESSION_NAME` | `rrsa-` and the time in microseconds |
//! | duration | — | 1 hour; also when it is zero |
//! | policy | — | none |

use std::time::Duration;

use super::error::CredentialsError;
use super::variables::Variables;
use crate::contract::env;
use crate::sts::{DEFAULT_DURATION, check_session};
use crate::world::Clock;

/// Settings of a session as they were given.
#[derive(Debug, Clone, Default)]
pub(super) struct SessionSettings {
    pub(super) name: Option<String>,
    pub(super) duration: Duration,
    pub(super) policy: Option<String>,
}

/// A session that STS would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) name: String,
    pub(super) duration: Duration,
    pub(super) policy: Option<String>,
}

impl SessionSettings {
    /// Fills in what is left out, and checks the whole.
    pub(super) fn resolve(
        self,
        provider: &'static str,
        variables: Variables<'_>,
        clock: &dyn Clock,
    ) -> Result<Session, CredentialsError> {
        let name = variables
            .text_or(self.name, env::ROLE_SESSION_NAME)?
            .unwrap_or_else(|| format!("rrsa-{}", clock.now().timestamp_micros()));
        let duration = if self.duration.is_zero() {
            DEFAULT_DURATION
        } else {
            self.duration
        };
        let policy = self.policy.filter(|text| !text.is_empty());
        check_session(&name, duration, policy.as_deref())
            .map_err(|error| CredentialsError::misconfigured(provider, error))?;
        Ok(Session {
            name,
            duration,
            policy,
        })
    }
}
