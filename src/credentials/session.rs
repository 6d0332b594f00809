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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::test_world::world;
    use rstest::rstest;

    fn resolved(
        settings: SessionSettings,
        variables: &[(&str, &str)],
    ) -> Result<Session, CredentialsError> {
        let world = world(variables);
        let variables = Variables::of("p", world.env.as_ref());
        settings.resolve("p", variables, world.clock.as_ref())
    }

    fn named(name: &str) -> SessionSettings {
        SessionSettings {
            name: Some(name.to_owned()),
            ..SessionSettings::default()
        }
    }

    #[test]
    fn what_is_left_out_has_its_defaults() {
        let empty = SessionSettings {
            policy: Some(String::new()),
            ..named("")
        };
        for settings in [SessionSettings::default(), empty] {
            let session = resolved(settings, &[]).unwrap();
            assert_eq!(session.name, "rrsa-1767323045000000");
            assert_eq!(session.duration, Duration::from_hours(1));
            assert_eq!(session.policy, None);
        }
    }

    #[test]
    fn a_given_name_wins_over_the_environment() {
        let variables = [(env::ROLE_SESSION_NAME, "from-env")];
        assert_eq!(resolved(named("given"), &variables).unwrap().name, "given");
        assert_eq!(resolved(named(""), &variables).unwrap().name, "from-env");
    }

    #[rstest]
    #[case::name(named("a b"))]
    #[case::short(SessionSettings { duration: Duration::from_secs(899), ..named("me") })]
    #[case::long(SessionSettings { duration: Duration::from_hours(13), ..named("me") })]
    #[case::policy(SessionSettings { policy: Some("x".repeat(2049)), ..named("me") })]
    fn what_sts_would_refuse_is_a_mistake(#[case] settings: SessionSettings) {
        let error = resolved(settings, &[]).unwrap_err();
        assert!(matches!(error, CredentialsError::Misconfigured { .. }));
        assert_eq!(error.provider(), "p");
    }

    #[test]
    fn an_illegal_name_of_the_environment_is_a_mistake_too() {
        let variables = [(env::ROLE_SESSION_NAME, "a/b")];
        let error = resolved(SessionSettings::default(), &variables).unwrap_err();
        assert!(matches!(error, CredentialsError::Misconfigured { .. }));
    }
}
