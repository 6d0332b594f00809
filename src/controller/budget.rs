//! How fast STS may be called: an even pace that is halved when STS throttles and recovers slowly.
//! Pure; times are spans since some fixed moment.
//!
//! A call counts twice: when it is decided which exchange it is for, and when it leaves.

use std::time::Duration;

use crate::api::configuration::CallsPerSecond;

/// How much of the pace that STS throttled last is come back to quickly, ...
const BORNE: f64 = 0.85;
/// ... and how long that would take from nothing.
const QUICK: Duration = Duration::from_secs(5);
/// Beyond that the pace recovers slowly, because the account's limit is shared with callers that nobody
/// here can see: in this time it grows by a factor of e, ...
const GROWTH: Duration = Duration::from_secs(100);
/// ... and by this share of the configured pace besides. Together: a little over three minutes from
/// nothing to the configured pace.
const BESIDES: f64 = 1.0 / 6.0;
/// The pace below which throttling does not push: slower would not help STS, but tell us late that
/// it answers again.
const FLOOR: f64 = 1.0;
/// How long nothing is sent after a cut, for what others may be owed.
const PAUSE: Duration = Duration::from_secs(1);
/// How much of the wait before a call may be made up for when the timer was late. More would be a
/// burst; none would make every late timer slow the whole pace down.
const CATCH_UP: f64 = 0.5;

/// Moments, a little apart.
#[derive(Debug, Clone)]
struct Row {
    next: Duration,
}

impl Row {
    fn take(&mut self, now: Duration, apart: f64) -> Result<(), Duration> {
        if now < self.next {
            return Err(self.next.saturating_sub(now));
        }
        let late = now.saturating_sub(Duration::from_secs_f64(apart * CATCH_UP));
        self.next = self.next.max(late) + Duration::from_secs_f64(apart);
        Ok(())
    }

    fn give_back(&mut self, apart: f64) {
        self.next = self.next.saturating_sub(Duration::from_secs_f64(apart));
    }

    fn pause(&mut self, until: Duration) {
        self.next = self.next.max(until);
    }
}

/// The pace of calls.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    configured: f64,
    /// Calls a second, as of `as_of`.
    pace: f64,
    as_of: Duration,
    /// The pace that is come back to quickly.
    borne: f64,
    /// When the next call may be decided on.
    permits: Row,
    /// When the next call may leave.
    leaves: Row,
    /// When the pace was last cut.
    cut: Option<Duration>,
}

impl Budget {
    pub(super) fn new(configured: CallsPerSecond, now: Duration) -> Self {
        let configured = f64::from(configured.get());
        Self {
            configured,
            pace: configured,
            as_of: now,
            borne: 0.0,
            permits: Row { next: now },
            leaves: Row { next: now },
            cut: None,
        }
    }

    /// Another pace was configured. A pace that throttling has cut goes on recovering from there.
    pub(super) fn configure(&mut self, configured: CallsPerSecond, now: Duration) {
        let before = self.pace(now);
        let unhindered = before >= self.configured;
        self.configured = f64::from(configured.get());
        self.pace = if unhindered {
            self.configured
        } else {
            before.min(self.configured)
        };
    }

    /// Calls a second at present.
    pub(super) fn pace(&mut self, now: Duration) -> f64 {
        let mut passed = now.saturating_sub(self.as_of).as_secs_f64();
        if self.pace < self.borne {
            let slope = self.borne / QUICK.as_secs_f64();
            let quick = passed.min((self.borne - self.pace) / slope);
            self.pace += slope * quick;
            passed -= quick;
        }
        let besides = self.configured * BESIDES;
        let grown = (self.pace + besides) * (passed / GROWTH.as_secs_f64()).exp() - besides;
        self.pace = grown.min(self.configured);
        self.as_of = self.as_of.max(now);
        self.pace
    }

    /// Takes one call, or tells how long to wait before asking again.
    ///
    /// # Errors
    /// The wait.
    pub(super) fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let apart = 1.0 / self.pace(now);
        self.permits.take(now, apart)
    }

    /// Lets a call that was taken leave, or tells how long to wait before asking again.
    ///
    /// # Errors
    /// The wait.
    pub(super) fn leave(&mut self, now: Duration) -> Result<(), Duration> {
        let apart = 1.0 / self.pace(now);
        self.leaves.take(now, apart)
    }

    /// A call that was taken is not made after all.
    pub(super) fn give_back(&mut self, now: Duration) {
        let apart = 1.0 / self.pace(now);
        self.permits.give_back(apart);
    }

    /// A call that was let out did not leave.
    pub(super) fn stay(&mut self, now: Duration) {
        let apart = 1.0 / self.pace(now);
        self.leaves.give_back(apart);
    }

    /// STS throttled a call that was sent at `sent`. Returns whether the pace was cut: calls that
    /// were under way when it was say nothing new.
    pub(super) fn throttled(&mut self, sent: Duration, now: Duration) -> bool {
        if self.cut.is_some_and(|cut| sent <= cut) {
            return false;
        }
        let before = self.pace(now);
        self.borne = before * BORNE;
        self.pace = (before / 2.0).max(FLOOR.min(self.configured));
        self.cut = Some(now);
        self.permits.pause(now + PAUSE);
        self.leaves.pause(now + PAUSE);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn budget(rate: u32) -> Budget {
        Budget::new(CallsPerSecond::try_from(rate).unwrap(), Duration::ZERO)
    }

    /// How many calls somebody makes who always wants more, asking each millisecond.
    fn calls(budget: &mut Budget, from: Duration, span: Duration) -> usize {
        let milliseconds = u64::try_from(span.as_millis()).unwrap();
        (0..milliseconds)
            .filter(|ms| budget.take(from + Duration::from_millis(*ms)).is_ok())
            .count()
    }

    #[test]
    fn the_pace_is_even_and_holds() {
        let mut budget = budget(50);
        assert_eq!(calls(&mut budget, Duration::ZERO, 10 * SECOND), 500);
        // A pause saves nothing up but the time of half a call.
        assert!(budget.take(60 * SECOND).is_ok());
        assert!(budget.take(60 * SECOND).is_err());
        assert!(budget.take(60 * SECOND + Duration::from_millis(10)).is_ok());
        assert!(
            budget
                .take(60 * SECOND + Duration::from_millis(29))
                .is_err()
        );
    }

    #[test]
    fn throttling_halves_the_pace_once_for_all_calls_under_way() {
        let mut budget = budget(40);
        assert!(budget.throttled(SECOND, 2 * SECOND));
        assert!(!budget.throttled(SECOND, 2 * SECOND));
        assert!(budget.pace(2 * SECOND) <= 20.0);
        assert!(budget.take(2 * SECOND).is_err());
        let again = 3 * SECOND;
        assert!(budget.throttled(again, again));
        assert!(budget.pace(again) < 14.0);
    }

    #[test]
    fn the_pace_recovers_slowly_and_fully() {
        let mut budget = budget(60);
        for second in 1..100 {
            budget.throttled(second * SECOND, second * SECOND);
        }
        let end = 100 * SECOND;
        assert!((1.0..=2.0).contains(&budget.pace(end)));
        assert!(budget.pace(end + 100 * SECOND) < 33.0);
        assert!(budget.pace(end + 200 * SECOND) >= 60.0);
    }

    #[test]
    fn a_limit_below_the_pace_is_nearly_used_up_and_rarely_met() {
        // A limit of 10 calls a second, where 50 are configured.
        let mut budget = budget(50);
        let (mut free, mut made, mut refused) = (Duration::ZERO, 0, 0);
        for millisecond in 0..300_000 {
            let now = Duration::from_millis(millisecond);
            if budget.take(now).is_ok() {
                if now < free {
                    refused += 1;
                    budget.throttled(now, now);
                } else {
                    made += 1;
                    free = now + SECOND / 10;
                }
            }
        }
        assert!((2300..=3000).contains(&made), "{made}");
        assert!(refused < 40, "{refused}");
    }

    #[test]
    fn calls_that_were_held_up_together_do_not_leave_together() {
        let mut budget = budget(100);
        let held_up = calls(&mut budget, Duration::ZERO, SECOND);
        assert_eq!(held_up, 100);
        let left = (1000..1500)
            .filter(|ms| budget.leave(Duration::from_millis(*ms)).is_ok())
            .count();
        assert!((50..=51).contains(&left), "{left}");
        // One that did not leave after all makes room.
        let now = Duration::from_millis(1499);
        assert!(budget.leave(now).is_err());
        budget.stay(now);
        assert!(budget.leave(now).is_ok());
    }

    #[test]
    fn a_call_that_is_not_made_costs_nothing() {
        let mut budget = budget(1);
        assert!(budget.take(SECOND).is_ok());
        budget.give_back(SECOND);
        assert!(budget.take(SECOND).is_ok());
    }

    #[test]
    fn a_new_configuration_holds_at_once_unless_throttled() {
        let mut budget = budget(10);
        budget.configure(CallsPerSecond::try_from(80).unwrap(), SECOND);
        assert!(budget.pace(SECOND) >= 80.0);
        budget.throttled(2 * SECOND, 2 * SECOND);
        budget.configure(CallsPerSecond::try_from(100).unwrap(), 2 * SECOND);
        assert!(budget.pace(2 * SECOND) <= 40.0);
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_its_share(
            rate in 1_u32..200,
            asks in proptest::collection::vec(0_u64..200, 1..400),
        ) {
            let mut budget = budget(rate);
            let mut now = Duration::ZERO;
            let mut made = Vec::new();
            for pause in asks {
                now += Duration::from_millis(pause);
                if budget.take(now).is_ok() {
                    made.push(now);
                }
            }
            for (index, start) in made.iter().enumerate() {
                for (count, end) in made[index..].iter().enumerate() {
                    // Half a call may be made up for.
                    let allowed = end.saturating_sub(*start).as_secs_f64() * f64::from(rate) + 0.5 + 1e-6;
                    prop_assert!(f64::from(u32::try_from(count).unwrap()) <= allowed);
                }
            }
        }
    }
}
