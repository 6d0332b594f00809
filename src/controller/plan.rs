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
mod tests;
