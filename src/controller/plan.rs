//! What to do about a binding: one ordered list of checks over what was observed. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::reason::{Problem, Reason};
use super::refresh;
use super::secrets::SecretFacts;

/// How often a tenant can force an exchange for one binding (edits, deletions, requests).
pub const FORCED_EVERY: Duration = Duration::from_mins(1);

/// How far the clocks of two replicas may differ.
const CLOCKS_DIFFER: Duration = Duration::from_mins(5);

/// Everything a decision needs.
#[derive(Debug, Clone)]
pub struct Observed<'a> {
    /// The present moment.
    pub now: DateTime<Utc>,
    /// UID of the binding.
    pub uid: &'a str,
    /// Hash of what the spec asks for now.
    pub inputs_hash: &'a str,
    /// How many keys the Secret should have.
    pub keys: usize,
    /// The binding's refresh request, if it carries one.
    pub refresh_requested: Option<&'a str>,
    /// The wanted name of the Secret.
    pub secret_name: &'a str,
    /// The Secret of that name, if one with our label exists.
    pub secret: Option<&'a SecretFacts>,
    /// What this process remembers of the binding.
    pub memory: &'a Memory,
}

/// What a process remembers of a binding; losing it costs at most one early attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// The failures in a row, if the last attempt failed.
    pub failing: Option<Failing>,
    /// When a tenant last forced an exchange.
    pub last_forced: Option<DateTime<Utc>>,
    /// When what this process issued last is due. What the Secret says of its times is the word of
    /// whoever may write there.
    pub due: Option<DateTime<Utc>>,
    /// Version of the Secret whose data was compared after somebody else had written it.
    pub verified_version: Option<String>,
}

/// Attempts that failed one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// What went wrong last.
    pub problem: Problem,
    /// How many attempts failed.
    pub count: u32,
    /// When the first of them failed.
    pub since: DateTime<Utc>,
    /// When the next one may be made.
    pub not_before: DateTime<Utc>,
    /// The inputs that failed: others are tried at once.
    pub inputs_hash: String,
}

/// Why an exchange is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// There is no Secret.
    Missing,
    /// The spec, the operator's configuration or the `ServiceAccount` changed.
    InputsChanged,
    /// Somebody else wrote into the Secret.
    ForeignEdit,
    /// The annotation asked for it.
    Requested,
    /// It is time.
    Due,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing until then.
    Fresh {
        /// When the next exchange is due.
        due: DateTime<Utc>,
    },
    /// Another owner has the Secret.
    Conflict(Problem),
    /// Look whether the Secret's data is still what was written.
    Verify,
    /// Wait; the last attempt failed.
    BackOff {
        /// Until when.
        until: DateTime<Utc>,
    },
    /// Wait; a tenant forced the last exchange just now.
    Defer {
        /// Until when.
        until: DateTime<Utc>,
        /// What waits.
        cause: Cause,
    },
    /// Exchange and write.
    Exchange(Cause),
}

/// Decides.
#[must_use]
pub fn decide(seen: &Observed<'_>) -> Decision {
    if let Some(secret) = seen.secret
        && secret.owner_uid.as_deref() != Some(seen.uid)
    {
        return Decision::Conflict(conflict(seen.secret_name, secret));
    }
    let cause = match cause(seen) {
        Ok(cause) => cause,
        Err(decision) => return decision,
    };
    if let Some(failing) = &seen.memory.failing
        && failing.inputs_hash == seen.inputs_hash
        && seen.now < failing.not_before
        // A longer wait than any was set by a clock that has been put right since.
        && failing.not_before <= seen.now + failing.problem.reason.retry().cap
    {
        return Decision::BackOff {
            until: failing.not_before,
        };
    }
    // A first Secret and a refresh in time are ours; everything else a tenant can cause at will.
    let forced = match cause {
        Cause::Due => seen.memory.due.is_some_and(|due| seen.now < due),
        Cause::Missing => seen.memory.last_forced.is_some(),
        Cause::InputsChanged | Cause::ForeignEdit | Cause::Requested => true,
    };
    if forced && let Some(last) = seen.memory.last_forced {
        let until = last + FORCED_EVERY;
        if (last..until).contains(&seen.now) {
            return Decision::Defer { until, cause };
        }
    }
    Decision::Exchange(cause)
}

/// Why an exchange is needed, or the decision where none is.
fn cause(seen: &Observed<'_>) -> Result<Cause, Decision> {
    let Some(secret) = seen.secret else {
        return Ok(Cause::Missing);
    };
    let (Some(issued), Some(expiration)) = (secret.issued_at, secret.expiration) else {
        return Ok(Cause::InputsChanged);
    };
    if secret.inputs_hash.as_deref() != Some(seen.inputs_hash) {
        return Ok(Cause::InputsChanged);
    }
    if secret.own_keys != seen.keys {
        return Ok(Cause::ForeignEdit);
    }
    if secret.foreign_data
        && seen.memory.verified_version.as_deref() != Some(&secret.resource_version)
    {
        return Err(Decision::Verify);
    }
    if seen.refresh_requested.is_some()
        && seen.refresh_requested != secret.refresh_answered.as_deref()
    {
        return Ok(Cause::Requested);
    }
    let due = refresh::due(seen.uid, issued, expiration);
    // Issued in times to come: by a clock that has been put right since, or by a joker.
    let makes_sense = issued <= seen.now + CLOCKS_DIFFER && issued < expiration;
    if makes_sense && seen.now < due {
        Err(Decision::Fresh { due })
    } else {
        Ok(Cause::Due)
    }
}

/// The problem of a Secret that belongs to somebody else.
pub(super) fn conflict(name: &str, secret: &SecretFacts) -> Problem {
    let owner = secret.owner_name.as_deref().map_or_else(
        || "it has no owner".to_owned(),
        |owner| format!("it belongs to {owner}"),
    );
    Problem::new(
        Reason::SecretConflict,
        format!("Secret {name} exists and is not this binding's: {owner}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "hash";

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::TimeDelta::minutes(minutes)
    }

    fn secret() -> SecretFacts {
        SecretFacts {
            uid: "secret-uid".into(),
            resource_version: "7".into(),
            owner_uid: Some("uid".into()),
            owner_name: Some("app".into()),
            issued_at: Some(at(0)),
            expiration: Some(at(60)),
            inputs_hash: Some(HASH.into()),
            data_hash: Some("data".into()),
            refresh_answered: None,
            foreign_data: false,
            own_keys: 7,
        }
    }

    fn failing(until: i64) -> Memory {
        Memory {
            failing: Some(Failing {
                problem: Problem::new(Reason::NotTrusted, "x"),
                count: 1,
                since: at(0),
                not_before: at(until),
                inputs_hash: HASH.into(),
            }),
            ..Memory::default()
        }
    }

    fn decide_with(
        minutes: i64,
        secret: Option<&SecretFacts>,
        requested: Option<&str>,
        memory: &Memory,
        hash: &str,
    ) -> Decision {
        decide(&Observed {
            now: at(minutes),
            uid: "uid",
            inputs_hash: hash,
            keys: 7,
            refresh_requested: requested,
            secret_name: "app-credentials",
            secret,
            memory,
        })
    }

    #[test]
    fn a_fresh_secret_needs_nothing_until_it_is_due() {
        let none = Memory::default();
        let Decision::Fresh { due } = decide_with(10, Some(&secret()), None, &none, HASH) else {
            panic!("not fresh")
        };
        assert!((at(30)..=at(39)).contains(&due));
        assert_eq!(
            decide_with(40, Some(&secret()), None, &none, HASH),
            Decision::Exchange(Cause::Due)
        );
    }

    #[test]
    fn what_differs_is_the_cause() {
        let none = Memory::default();
        let exchange = Decision::Exchange;
        assert_eq!(
            decide_with(1, None, None, &none, HASH),
            exchange(Cause::Missing)
        );
        assert_eq!(
            decide_with(1, Some(&secret()), None, &none, "other"),
            exchange(Cause::InputsChanged)
        );
        assert_eq!(
            decide_with(1, Some(&secret()), Some("now"), &none, HASH),
            exchange(Cause::Requested)
        );
        let taken = SecretFacts {
            own_keys: 6,
            ..secret()
        };
        assert_eq!(
            decide_with(1, Some(&taken), None, &none, HASH),
            exchange(Cause::ForeignEdit)
        );
        let unknown = SecretFacts {
            expiration: None,
            ..secret()
        };
        assert_eq!(
            decide_with(1, Some(&unknown), None, &none, HASH),
            exchange(Cause::InputsChanged)
        );
    }

    #[test]
    fn a_foreign_writer_is_verified_once_per_version() {
        let touched = SecretFacts {
            foreign_data: true,
            ..secret()
        };
        let none = Memory::default();
        assert_eq!(
            decide_with(1, Some(&touched), None, &none, HASH),
            Decision::Verify
        );
        let verified = Memory {
            verified_version: Some("7".into()),
            ..Memory::default()
        };
        assert!(matches!(
            decide_with(1, Some(&touched), None, &verified, HASH),
            Decision::Fresh { .. }
        ));
    }

    #[test]
    fn another_owners_secret_is_never_written() {
        for owner in [None, Some("another uid".to_owned())] {
            let foreign = SecretFacts {
                owner_uid: owner,
                ..secret()
            };
            assert!(matches!(
                decide_with(50, Some(&foreign), None, &Memory::default(), HASH),
                Decision::Conflict(_)
            ));
        }
    }

    #[test]
    fn a_failed_attempt_waits_unless_the_inputs_change() {
        let memory = failing(5);
        assert_eq!(
            decide_with(1, None, None, &memory, HASH),
            Decision::BackOff { until: at(5) }
        );
        assert_eq!(
            decide_with(1, None, None, &memory, "other"),
            Decision::Exchange(Cause::Missing)
        );
        assert_eq!(
            decide_with(5, None, None, &memory, HASH),
            Decision::Exchange(Cause::Missing)
        );
    }

    #[test]
    fn a_clock_that_was_set_back_silences_nothing() {
        const YEAR: i64 = 365 * 24 * 60;
        let (none, exchange) = (Memory::default(), Decision::Exchange);
        // Issued by the wrong clock, with the expiration that STS told.
        let future = SecretFacts {
            issued_at: Some(at(YEAR)),
            ..secret()
        };
        let seen = decide_with(10, Some(&future), None, &none, HASH);
        assert_eq!(seen, exchange(Cause::Due));
        let seen = decide_with(10, None, None, &failing(YEAR), HASH);
        assert_eq!(seen, exchange(Cause::Missing));
        let forced = Memory {
            last_forced: Some(at(YEAR)),
            ..Memory::default()
        };
        let seen = decide_with(10, Some(&secret()), None, &forced, "other");
        assert_eq!(seen, exchange(Cause::InputsChanged));
    }

    #[test]
    fn dates_that_a_tenant_writes_on_the_secret_force_no_more_than_others() {
        let joke = SecretFacts {
            issued_at: Some(at(-100)),
            expiration: Some(at(-40)),
            ..secret()
        };
        let memory = Memory {
            last_forced: Some(at(10)),
            due: Some(at(35)),
            ..Memory::default()
        };
        assert_eq!(
            decide_with(10, Some(&joke), None, &memory, HASH),
            Decision::Defer {
                until: at(11),
                cause: Cause::Due
            }
        );
        assert_eq!(
            decide_with(35, Some(&joke), None, &memory, HASH),
            Decision::Exchange(Cause::Due)
        );
    }

    #[test]
    fn tenants_force_at_most_one_exchange_a_minute() {
        let memory = Memory {
            last_forced: Some(at(10)),
            ..Memory::default()
        };
        for (secret, hash) in [(Some(secret()), "other"), (None, HASH)] {
            assert!(matches!(
                decide_with(10, secret.as_ref(), None, &memory, hash),
                Decision::Defer { .. }
            ));
            assert!(matches!(
                decide_with(11, secret.as_ref(), None, &memory, hash),
                Decision::Exchange(_)
            ));
        }
        // A refresh in time is not the tenant's doing.
        let due = SecretFacts {
            issued_at: Some(at(-50)),
            expiration: Some(at(10)),
            ..secret()
        };
        assert_eq!(
            decide_with(10, Some(&due), None, &memory, HASH),
            Decision::Exchange(Cause::Due)
        );
    }
}
