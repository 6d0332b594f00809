//! When credentials are renewed, when they are given up, and how long a failure is left alone.

use std::time::Duration;

use crate::credentials::retry::part_of;
use crate::world::Random;

/// The longest time before the end at which renewal begins.
const LONGEST_MARGIN: Duration = Duration::from_mins(15);
/// Credentials are not given out this shortly before their end: a request takes a while to arrive.
const LAST_MOMENT: Duration = Duration::from_secs(10);
/// The wait after a first failure.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The wait that no number of failures exceeds.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What is done with credentials, as spans from their arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spans {
    /// After this, new ones are fetched while these are still given out.
    pub(super) renew_after: Duration,
    /// After this, they are not given out any more.
    pub(super) serve_for: Duration,
}

/// Plans for credentials that live this much longer. A quarter of the life, at most 15 minutes, is
/// left when renewal begins; up to a fifth of that comes on top by chance, so that a fleet that
/// started together does not renew together.
pub(super) fn spans(life: Duration, random: &dyn Random) -> Spans {
    let margin = LONGEST_MARGIN.min(life / 4);
    Spans {
        renew_after: life.saturating_sub(margin + part_of(margin / 5, random)),
        serve_for: life.saturating_sub(LAST_MOMENT.min(life / 20)),
    }
}

/// How long nothing is asked after so many failures in a row: doubling from a second to a minute,
/// and of that between half and all.
pub(super) fn wait_after(failures: u32, random: &dyn Random) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let longest = FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT);
    part_of(longest, random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::NoRandomness;
    use rstest::rstest;

    #[derive(Debug)]
    struct Always(u8);

    impl Random for Always {
        fn bytes(&self) -> Result<[u8; 16], NoRandomness> {
            Ok([self.0; 16])
        }
    }

    const MINUTE: u64 = 60;

    #[rstest]
    #[case::an_hour(60 * MINUTE, 43 * MINUTE + 30, 42 * MINUTE, 3590)]
    #[case::twelve_hours(720 * MINUTE, 703 * MINUTE + 30, 702 * MINUTE, 43190)]
    #[case::the_shortest_session(15 * MINUTE, 652, 630, 890)]
    fn a_part_of_the_life_is_left_when_renewal_begins(
        #[case] life: u64,
        #[case] latest: u64,
        #[case] earliest: u64,
        #[case] served: u64,
    ) {
        let life = Duration::from_secs(life);
        let late = spans(life, &Always(0));
        let early = spans(life, &Always(255));
        assert_eq!(late.renew_after.as_secs(), latest);
        assert_eq!(early.renew_after.as_secs(), earliest);
        assert_eq!(late.serve_for.as_secs(), served);
    }

    #[test]
    fn the_shortest_life_still_leaves_time_between_renewals() {
        let second = spans(Duration::from_secs(1), &Always(255));
        assert!(second.renew_after >= Duration::from_millis(500));
        assert!(second.serve_for > second.renew_after);
        let none = spans(Duration::ZERO, &Always(255));
        assert_eq!(none.serve_for, Duration::ZERO);
    }

    #[rstest]
    #[case(1, 1)]
    #[case(2, 2)]
    #[case(6, 32)]
    #[case(7, 60)]
    #[case(u32::MAX, 60)]
    fn the_wait_doubles_up_to_a_minute(#[case] failures: u32, #[case] longest: u64) {
        let longest = Duration::from_secs(longest);
        assert_eq!(wait_after(failures, &Always(255)), longest);
        assert_eq!(wait_after(failures, &Always(0)), longest / 2);
    }
}
