//! What one replica knows of the Lease, and what follows from it. Pure.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;

/// How long everything takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// So long others leave a Lease alone that is not renewed any more.
    pub lease_duration: Duration,
    /// So long the holder tries to renew it before it gives up.
    pub renew_deadline: Duration,
    /// Pause between renewals, and between looks of the others.
    pub retry_period: Duration,
}

/// Durations that do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTiming {
    /// Two replicas could work at the same time.
    #[error(
        "the renew deadline must be shorter than the lease duration by at least an eighth of it, so that a holder stops before another starts"
    )]
    Deadline,
    /// One lost answer would end the leadership.
    #[error(
        "the retry period must be at most a third of the renew deadline, so that one lost answer does not end the leadership"
    )]
    Retry,
    /// The API holds whole seconds.
    #[error("the lease duration must be between 1 and 3600 seconds")]
    Duration,
}

impl Timing {
    /// Checks that the durations fit together.
    ///
    /// # Errors
    /// Says which do not, and why.
    pub fn check(self) -> Result<Self, InvalidTiming> {
        let Self {
            lease_duration,
            renew_deadline,
            retry_period,
        } = self;
        if !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&lease_duration) {
            return Err(InvalidTiming::Duration);
        }
        if renew_deadline > lease_duration / 8 * 7 {
            return Err(InvalidTiming::Deadline);
        }
        if retry_period.is_zero() || retry_period > renew_deadline / 3 {
            return Err(InvalidTiming::Retry);
        }
        Ok(self)
    }

    /// Longest time for one call: two of them fit before the deadline.
    pub(super) fn call(self) -> Duration {
        self.renew_deadline / 2
    }
}

/// What of the Lease matters: who holds it, and a version that every write changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) version: String,
    pub(super) holder: Option<String>,
    pub(super) duration: Option<Duration>,
    pub(super) transitions: i32,
}

impl Seen {
    pub(super) fn of(version: String, spec: &LeaseSpec) -> Self {
        let seconds = spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok());
        Self {
            version,
            holder: spec.holder_identity.clone().filter(|h| !h.is_empty()),
            duration: seconds.map(Duration::from_secs),
            transitions: spec.lease_transitions.unwrap_or_default(),
        }
    }
}

/// What is written; the times are added by whoever writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Empty: given back.
    pub(super) holder: String,
    pub(super) duration: Duration,
    pub(super) transitions: i32,
    /// Whether the holder changes with it.
    pub(super) acquired: bool,
}

/// What a candidate does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// Another holds it.
    Wait { holder: String },
    /// Nobody does, or not any more.
    Take(Record),
}

/// One replica.
#[derive(Debug)]
pub(super) struct Candidate {
    identity: String,
    timing: Timing,
    /// What was seen last, and since when it has been so.
    seen: Option<(Seen, Duration)>,
    transitions: i32,
}

impl Candidate {
    pub(super) fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            seen: None,
            transitions: 0,
        }
    }

    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Takes in what the Lease is now; `None`: there is none.
    pub(super) fn observe(&mut self, lease: Option<Seen>, now: Duration) -> Claim {
        let Some(lease) = lease else {
            self.seen = None;
            return self.take(0);
        };
        let since = match &self.seen {
            Some((known, since)) if *known == lease => *since,
            _ => now,
        };
        let (holder, transitions) = (lease.holder.clone(), lease.transitions);
        // The holder's promise counts, if it is the longer one.
        let duration = lease
            .duration
            .unwrap_or_default()
            .max(self.timing.lease_duration);
        self.seen = Some((lease, since));
        match holder {
            None => self.take(transitions.saturating_add(1)),
            Some(holder) if holder == self.identity => self.take(transitions),
            Some(_) if now.saturating_sub(since) >= duration => {
                self.take(transitions.saturating_add(1))
            }
            Some(holder) => Claim::Wait { holder },
        }
    }

    fn take(&mut self, transitions: i32) -> Claim {
        self.transitions = transitions;
        Claim::Take(Record {
            acquired: true,
            ..self.renewal()
        })
    }

    /// What a renewal writes.
    pub(super) fn renewal(&self) -> Record {
        Record {
            holder: self.identity.clone(),
            duration: self.timing.lease_duration,
            transitions: self.transitions,
            acquired: false,
        }
    }

    /// What giving it back writes.
    pub(super) fn release(&self) -> Record {
        Record {
            holder: String::new(),
            // Zero is not legal.
            duration: Duration::from_secs(1),
            transitions: self.transitions,
            acquired: false,
        }
    }

    /// After a conflict: whether another has it. Nobody, or a deleted Lease, is no other.
    pub(super) fn still_ours(&self, lease: Option<&Seen>) -> Result<(), String> {
        match lease.and_then(|lease| lease.holder.as_ref()) {
            Some(holder) if *holder != self.identity => Err(holder.clone()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn timing() -> Timing {
        Timing {
            lease_duration: seconds(12),
            renew_deadline: seconds(8),
            retry_period: seconds(2),
        }
    }

    fn candidate() -> Candidate {
        Candidate::new("me".to_owned(), timing())
    }

    fn lease(version: u32, holder: &str, duration: u64) -> Seen {
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: i32::try_from(duration).ok(),
            lease_transitions: Some(3),
            ..LeaseSpec::default()
        };
        Seen::of(version.to_string(), &spec)
    }

    fn is_taken(claim: &Claim) -> bool {
        matches!(claim, Claim::Take(_))
    }

    #[test]
    fn a_lease_that_is_absent_or_given_back_is_taken_at_once() {
        let mut me = candidate();
        assert!(is_taken(&me.observe(None, seconds(0))));
        let Claim::Take(record) = me.observe(Some(lease(1, "", 1)), seconds(0)) else {
            panic!("not taken")
        };
        assert_eq!((record.holder.as_str(), record.transitions), ("me", 4));
    }

    #[test]
    fn a_lease_that_is_renewed_is_left_alone_for_ever() {
        let mut me = candidate();
        for renewal in 0..100 {
            let now = seconds(u64::from(renewal) * 11);
            let claim = me.observe(Some(lease(renewal, "other", 12)), now);
            let holder = "other".to_owned();
            assert_eq!(claim, Claim::Wait { holder });
        }
    }

    #[test]
    fn a_lease_is_over_when_this_replica_saw_no_change_for_its_duration() {
        let mut me = candidate();
        // However old it is when it is first seen: the writer's clock says nothing.
        assert!(!is_taken(
            &me.observe(Some(lease(1, "other", 12)), seconds(1000))
        ));
        assert!(!is_taken(
            &me.observe(Some(lease(1, "other", 12)), seconds(1011))
        ));
        assert!(is_taken(
            &me.observe(Some(lease(1, "other", 12)), seconds(1012))
        ));
    }

    #[test]
    fn the_longer_promise_counts() {
        let mut me = candidate();
        me.observe(Some(lease(1, "other", 60)), seconds(0));
        assert!(!is_taken(
            &me.observe(Some(lease(1, "other", 60)), seconds(59))
        ));
        assert!(is_taken(
            &me.observe(Some(lease(1, "other", 60)), seconds(60))
        ));
        let mut me = candidate();
        me.observe(Some(lease(1, "other", 1)), seconds(0));
        assert!(!is_taken(
            &me.observe(Some(lease(1, "other", 1)), seconds(11))
        ));
    }

    #[test]
    fn after_a_conflict_only_another_holder_means_that_it_is_lost() {
        let me = candidate();
        assert_eq!(me.still_ours(Some(&lease(9, "me", 12))), Ok(()));
        assert_eq!(me.still_ours(Some(&lease(9, "", 1))), Ok(()));
        assert_eq!(me.still_ours(None), Ok(()));
        let lost = me.still_ours(Some(&lease(9, "other", 12)));
        assert_eq!(lost, Err("other".to_owned()));
    }

    #[rstest]
    #[case::default((12, 8, 2), None)]
    #[case::the_holder_would_stop_too_late((12, 12, 2), Some(InvalidTiming::Deadline))]
    #[case::one_lost_answer_would_end_it((12, 8, 4), Some(InvalidTiming::Retry))]
    #[case::no_pause((12, 8, 0), Some(InvalidTiming::Retry))]
    #[case::nothing((0, 0, 0), Some(InvalidTiming::Duration))]
    #[case::for_ever((100_000, 8, 2), Some(InvalidTiming::Duration))]
    fn durations_must_fit_together(
        #[case] (lease, deadline, retry): (u64, u64, u64),
        #[case] expected: Option<InvalidTiming>,
    ) {
        let timing = Timing {
            lease_duration: seconds(lease),
            renew_deadline: seconds(deadline),
            retry_period: seconds(retry),
        };
        assert_eq!(timing.check().err(), expected);
    }
}
