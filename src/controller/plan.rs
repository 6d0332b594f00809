//! What to do about a binding: one ordered list of checks over what was observed. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::reason::{Problem, Reason};
use super::refresh;
use super::secrets::{SecretFacts, Tenure};
use crate::api::v1alpha1::DeletionPolicy;

/// How often a tenant can force an exchange for one binding (edits, deletions, requests).
pub const FORCED_EVERY: Duration = Duration::from_mins(1);

/// How far the clocks of two replicas may differ.
const CLOCKS_DIFFER: Duration = Duration::from_mins(5);

/// Everything a decision needs.
#[derive(Debug, Clone)]
pub struct Observed<'a> {
    /// The present moment.
    pub now: DateTime<Utc>,
    /// Name of the binding.
    pub name: &'a str,
    /// UID of the binding.
    pub uid: &'a str,
    /// Hash of what the spec asks for now.
    pub inputs_hash: &'a str,
    /// What a failure of an attempt made now would belong to.
    pub attempt: &'a str,
    /// Whether OIDC is known to work in this cluster.
    pub oidc_works: bool,
    /// How many keys the Secret should have.
    pub keys: usize,
    /// The binding's refresh request, if it carries one.
    pub refresh_requested: Option<&'a str>,
    /// The wanted name of the Secret.
    pub secret_name: &'a str,
    /// What is to become of the Secret when the binding goes.
    pub deletion_policy: DeletionPolicy,
    /// Whether the status tells of an exchange into a Secret of this name.
    pub issued_before: bool,
    /// The other binding that is to make this Secret where nobody owns it.
    pub rival: Option<&'a str>,
    /// The Secret of that name, if one with our label exists.
    pub secret: Option<&'a SecretFacts>,
    /// What this process remembers of the binding.
    pub memory: &'a Memory,
}

/// What a process remembers of a binding; losing it costs at most one early attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// The failures in a row, if the last attempt failed.
    pub failing: Option<Box<Failing>>,
    /// When a tenant last forced an exchange.
    pub last_forced: Option<DateTime<Utc>>,
    /// When what this process issued last is due. What the Secret says of its times is the word of
    /// whoever may write there.
    pub due: Option<DateTime<Utc>>,
    /// Version of the Secret whose data was compared after somebody else had written it.
    pub verified_version: Option<String>,
    /// UID of the Secret that this process wrote last.
    pub written: Option<String>,
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
    /// What failed: something else is tried at once.
    pub attempt: String,
}

/// Why an exchange is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// There is no Secret.
    Missing,
    /// An earlier binding of the same name left the Secret.
    Inherited,
    /// The Secret is marked as the binding's, but nobody remembers an exchange for it: what stands
    /// in it may be anybody's.
    Unproven,
    /// The spec, the operator's configuration or the `ServiceAccount` changed.
    InputsChanged,
    /// Somebody else wrote into the Secret.
    ForeignEdit,
    /// The annotation asked for it.
    Requested,
    /// The node's role stood in for a token, and need not any more.
    OidcWorks,
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
    /// Another owner has the Secret, or is to have it.
    Conflict(Problem),
    /// Let the Secret go with the binding, or outlive it, as the spec says now.
    ChangeOwner,
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

/// Whether a Secret's marks are known to be ours. They stand in annotations, which whoever may create
/// Secrets can write before the binding's first exchange; the status only we can write.
#[must_use]
pub fn is_proven(secret: &SecretFacts, issued_before: bool, memory: &Memory) -> bool {
    issued_before || memory.written.as_deref() == Some(&secret.uid)
}

/// What a decision may do to the Secret of the wanted name. There is no deletion, and no write
/// without new credentials except of the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It stays as it is.
    Nothing,
    /// Owner and owner's annotations change, the data stays.
    ChangeOwner,
    /// It is made, if there is none, with new credentials.
    Create,
    /// Its values are replaced by those of new credentials.
    Renew,
    /// It is replaced as a whole, keys and values, with new credentials.
    Replace,
}

impl Cause {
    /// How new credentials are written, by whether there is a Secret.
    #[must_use]
    pub const fn effect(self, exists: bool) -> Effect {
        match self {
            _ if !exists => Effect::Create,
            // The keys are those that we wrote last.
            Self::Due | Self::Requested => Effect::Renew,
            // An apply would leave behind what a POST had written of the fallback.
            Self::OidcWorks
            | Self::Missing
            | Self::Inherited
            | Self::Unproven
            | Self::InputsChanged
            | Self::ForeignEdit => Effect::Replace,
        }
    }
}

impl Decision {
    /// What it may do to the Secret.
    #[must_use]
    pub const fn effect(&self, exists: bool) -> Effect {
        match self {
            Self::Exchange(cause) => cause.effect(exists),
            Self::ChangeOwner => Effect::ChangeOwner,
            Self::Fresh { .. }
            | Self::Conflict(_)
            | Self::Verify
            | Self::BackOff { .. }
            | Self::Defer { .. } => Effect::Nothing,
        }
    }
}

/// The binding's Secrets under former names, which go once the wanted one is written. What is to
/// outlive the binding stays, and so does everything where the spec says so now.
pub fn leftovers<'a>(
    owned: impl IntoIterator<Item = (String, SecretFacts)> + 'a,
    wanted: &'a str,
    deletion_policy: DeletionPolicy,
) -> impl Iterator<Item = (String, SecretFacts)> + 'a {
    owned.into_iter().filter(move |(name, facts)| {
        name != wanted && !facts.retained && deletion_policy == DeletionPolicy::Delete
    })
}

/// Decides.
#[must_use]
pub fn decide(seen: &Observed<'_>) -> Decision {
    match (seen.secret, seen.rival) {
        (Some(secret), _) => match secret.tenure(seen.name, seen.uid) {
            Tenure::Foreign => return Decision::Conflict(conflict(seen.secret_name, secret)),
            Tenure::Own if secret.retained != (seen.deletion_policy == DeletionPolicy::Retain) => {
                return Decision::ChangeOwner;
            }
            Tenure::Own | Tenure::Inherited => {}
        },
        (None, Some(rival)) => return Decision::Conflict(claimed(seen.secret_name, rival)),
        (None, None) => {}
    }
    let cause = match cause(seen) {
        Ok(cause) => cause,
        Err(decision) => return decision,
    };
    let failing = seen.memory.failing.as_ref();
    let failing = failing.filter(|failing| failing.attempt == seen.attempt);
    if let Some(failing) = failing
        && seen.now < failing.not_before
        // A longer wait than any was set by a clock that has been put right since.
        && failing.not_before <= refresh::after(seen.now, failing.problem.reason.retry().cap)
    {
        return Decision::BackOff {
            until: failing.not_before,
        };
    }
    // A first Secret and a refresh in time are ours; everything else a tenant can cause at will.
    let forced = match cause {
        Cause::Due => seen.memory.due.is_some_and(|due| seen.now < due),
        Cause::Missing | Cause::Inherited | Cause::Unproven => seen.memory.last_forced.is_some(),
        // That the node's role stood in is told by an annotation, which a tenant can write as well.
        Cause::InputsChanged | Cause::ForeignEdit | Cause::Requested | Cause::OidcWorks => true,
    };
    // What is tried once more has its own pace, and its failure must not be forgotten meanwhile.
    if forced
        && failing.is_none()
        && let Some(last) = seen.memory.last_forced
    {
        let until = refresh::after(last, FORCED_EVERY);
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
    if secret.tenure(seen.name, seen.uid) == Tenure::Inherited {
        return Ok(Cause::Inherited);
    }
    if !is_proven(secret, seen.issued_before, seen.memory) {
        return Ok(Cause::Unproven);
    }
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
    if secret.fallback.is_some() && seen.oidc_works {
        return Ok(Cause::OidcWorks);
    }
    let due = refresh::due(seen.uid, issued, expiration);
    // Issued in times to come: by a clock that has been put right since, or by a joker.
    let makes_sense = issued <= refresh::after(seen.now, CLOCKS_DIFFER) && issued < expiration;
    if makes_sense && seen.now < due {
        Err(Decision::Fresh { due })
    } else {
        Ok(Cause::Due)
    }
}

/// The problem of a Secret that belongs to somebody else.
pub(super) fn conflict(name: &str, secret: &SecretFacts) -> Problem {
    let owner = match secret.owner_name.as_deref() {
        None => "it has no owner".to_owned(),
        Some(owner) if secret.retained => {
            format!("it is kept for {owner} (deletionPolicy Retain)")
        }
        Some(owner) => format!("it belongs to {owner}"),
    };
    Problem::new(
        Reason::SecretConflict,
        format!("Secret {name} exists and is not this binding's: {owner}"),
    )
}

/// The problem of a Secret that another binding is to make.
fn claimed(name: &str, rival: &str) -> Problem {
    Problem::new(
        Reason::SecretConflict,
        format!("AlibabaRoleBinding {rival} asks for Secret {name} as well, and was there first"),
    )
}

#[cfg(test)]
mod properties;

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
            retained: false,
            issued_at: Some(at(0)),
            expiration: Some(at(60)),
            inputs_hash: Some(HASH.into()),
            data_hash: Some("data".into()),
            refresh_answered: None,
            fallback: None,
            foreign_data: false,
            own_keys: 7,
        }
    }

    fn failing(until: i64) -> Memory {
        Memory {
            failing: Some(Box::new(Failing {
                problem: Problem::new(Reason::NotTrusted, "x"),
                count: 1,
                since: at(0),
                not_before: at(until),
                attempt: HASH.into(),
            })),
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
            inputs_hash: hash,
            attempt: hash,
            refresh_requested: requested,
            ..observed(secret, memory)
        })
    }

    fn observed<'a>(secret: Option<&'a SecretFacts>, memory: &'a Memory) -> Observed<'a> {
        Observed {
            now: at(1),
            name: "app",
            uid: "uid",
            inputs_hash: HASH,
            attempt: HASH,
            oidc_works: false,
            keys: 7,
            refresh_requested: None,
            secret_name: "app-credentials",
            deletion_policy: DeletionPolicy::Delete,
            issued_before: true,
            rival: None,
            secret,
            memory,
        }
    }

    fn kept() -> SecretFacts {
        SecretFacts {
            retained: true,
            ..secret()
        }
    }

    #[test]
    fn a_changed_deletion_policy_changes_the_owner_and_costs_no_exchange() {
        let memory = failing(100);
        for (secret, deletion_policy) in [
            (secret(), DeletionPolicy::Retain),
            (kept(), DeletionPolicy::Delete),
        ] {
            let seen = Observed {
                deletion_policy,
                ..observed(Some(&secret), &memory)
            };
            assert_eq!(decide(&seen), Decision::ChangeOwner);
        }
    }

    #[test]
    fn what_an_earlier_binding_of_the_name_left_is_taken_over_by_an_exchange() {
        let none = Memory::default();
        let left = SecretFacts {
            owner_uid: Some("earlier".into()),
            ..kept()
        };
        assert_eq!(
            decide(&observed(Some(&left), &none)),
            Decision::Exchange(Cause::Inherited)
        );
        let of_another = SecretFacts {
            owner_name: Some("other".into()),
            ..left
        };
        let Decision::Conflict(problem) = decide(&observed(Some(&of_another), &none)) else {
            panic!("taken from another")
        };
        assert!(
            problem.message.contains("kept for other"),
            "{}",
            problem.message
        );
    }

    #[test]
    fn marks_that_nobody_remembers_are_not_believed() {
        let none = Memory::default();
        let secret = secret();
        let unproven = Observed {
            issued_before: false,
            ..observed(Some(&secret), &none)
        };
        assert_eq!(decide(&unproven), Decision::Exchange(Cause::Unproven));
        // The status could not be written, but this process knows what it did.
        let memory = Memory {
            written: Some("secret-uid".into()),
            ..Memory::default()
        };
        let seen = Observed {
            memory: &memory,
            ..unproven
        };
        assert!(matches!(decide(&seen), Decision::Fresh { .. }));
    }

    #[test]
    fn oidc_takes_over_from_the_fallback_as_soon_as_it_works() {
        let none = Memory::default();
        let by_node = SecretFacts {
            fallback: Some(Reason::IssuerBroken),
            ..secret()
        };
        let seen = observed(Some(&by_node), &none);
        assert!(matches!(decide(&seen), Decision::Fresh { .. }));
        let works = Observed {
            oidc_works: true,
            ..seen
        };
        assert_eq!(decide(&works), Decision::Exchange(Cause::OidcWorks));
        let by_oidc = secret();
        let works = Observed {
            secret: Some(&by_oidc),
            ..works
        };
        assert!(matches!(decide(&works), Decision::Fresh { .. }));
    }

    #[test]
    fn a_rival_counts_only_where_nobody_owns_the_secret() {
        let none = Memory::default();
        let seen = Observed {
            rival: Some("older"),
            ..observed(None, &none)
        };
        let Decision::Conflict(problem) = decide(&seen) else {
            panic!("made in spite of the rival")
        };
        assert!(problem.message.contains("older"), "{}", problem.message);
        let secret = secret();
        let seen = Observed {
            secret: Some(&secret),
            ..seen
        };
        assert!(matches!(decide(&seen), Decision::Fresh { .. }));
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
    fn a_forced_exchange_that_failed_is_tried_again_at_the_pace_of_failures() {
        let memory = Memory {
            last_forced: Some(at(10)),
            ..failing(11)
        };
        let seen = |minutes| decide_with(minutes, None, None, &memory, HASH);
        assert_eq!(seen(10), Decision::BackOff { until: at(11) });
        assert_eq!(seen(11), Decision::Exchange(Cause::Missing));
        let memory = Memory {
            last_forced: Some(at(11)),
            ..failing(11)
        };
        let seen = |hash| decide_with(11, Some(&secret()), None, &memory, hash);
        assert_eq!(
            seen(HASH),
            decide_with(11, Some(&secret()), None, &Memory::default(), HASH)
        );
        // Another edit is another attempt.
        assert!(matches!(seen("other"), Decision::Defer { .. }));
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
