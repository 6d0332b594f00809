//! The time that decisions are made by: STS's, as far as it is known.
//!
//! Expiry is a time of STS's. Where the machine's clock is wrong, everything would look expired, and
//! what is issued anew just as well: an exchange without end. So the difference that STS's answers
//! tell is added, for as long as nobody sets the machine's clock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::world::{Clock, Tick};

/// Wall clock and steady clock drift apart by less than this while nobody sets the wall clock: a
/// correction of 500 ppm (the most that NTP slews) for an hour, and some seconds for a coarse clock.
const DRIFT: Duration = Duration::from_secs(5);

/// A clock that is corrected by what STS says.
#[derive(Debug)]
pub struct ServiceClock {
    machine: Arc<dyn Clock>,
    learned: Mutex<Learned>,
}

/// What an answer told.
#[derive(Debug, Clone, Copy)]
struct Learned {
    /// How far STS is ahead of the machine.
    ahead: TimeDelta,
    /// When it was told, by both clocks of the machine.
    at: Tick,
}

impl ServiceClock {
    /// The machine's time, until an answer of STS tells better.
    #[must_use]
    pub fn new(machine: Arc<dyn Clock>) -> Self {
        let learned = Mutex::new(Learned {
            ahead: TimeDelta::zero(),
            at: machine.tick(),
        });
        Self { machine, learned }
    }

    /// STS is that far ahead of the machine.
    pub fn learn(&self, ahead: TimeDelta) {
        let at = self.machine.tick();
        *self.learned() = Learned { ahead, at };
    }

    fn learned(&self) -> std::sync::MutexGuard<'_, Learned> {
        // Two words that are replaced together: a panic cannot leave them half-written.
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ServiceClock {
    fn now(&self) -> DateTime<Utc> {
        let now = self.machine.now();
        let mut learned = self.learned();
        if learned.ahead.is_zero() {
            return now;
        }
        let tick = self.machine.tick();
        if was_set(learned.at, tick) {
            tracing::warn!("the machine's clock was set; what STS said of it is forgotten");
            *learned = Learned {
                ahead: TimeDelta::zero(),
                at: tick,
            };
            return now;
        }
        // Small steps add up to no jump.
        learned.at = tick;
        now.checked_add_signed(learned.ahead).unwrap_or(now)
    }

    fn tick(&self) -> Tick {
        self.machine.tick()
    }
}

/// Whether the wall clock went another way than the steady clock between two readings: somebody set
/// it, or the machine slept.
fn was_set(before: Tick, now: Tick) -> bool {
    let passed = now.steady.saturating_sub(before.steady);
    before.wall.saturating_add(passed).abs_diff(now.wall) > DRIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both clocks of a machine, set by the test.
    #[derive(Debug, Default)]
    struct Machine(Mutex<(Duration, Duration)>);

    impl Machine {
        fn set(&self, wall: Duration, steady: Duration) {
            *self.0.lock().unwrap() = (wall, steady);
        }
    }

    impl Clock for Machine {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH + self.tick().wall
        }

        fn tick(&self) -> Tick {
            let (wall, steady) = *self.0.lock().unwrap();
            Tick { wall, steady }
        }
    }

    const YEAR: Duration = Duration::from_hours(365 * 24);
    const MINUTE: Duration = Duration::from_mins(1);

    fn at(wall: Duration) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + wall
    }

    #[test]
    fn what_sts_says_corrects_a_wrong_clock() {
        let machine = Arc::new(Machine::default());
        machine.set(2 * YEAR, MINUTE);
        let clock = ServiceClock::new(machine.clone());
        assert_eq!(clock.now(), at(2 * YEAR));
        clock.learn(-TimeDelta::from_std(YEAR).unwrap());
        assert_eq!(clock.now(), at(YEAR));
        machine.set(2 * YEAR + 5 * MINUTE, 6 * MINUTE);
        assert_eq!(clock.now(), at(YEAR + 5 * MINUTE));
    }

    #[test]
    fn a_clock_that_is_set_right_needs_no_correction_any_more() {
        let machine = Arc::new(Machine::default());
        machine.set(2 * YEAR, MINUTE);
        let clock = ServiceClock::new(machine.clone());
        clock.learn(-TimeDelta::from_std(YEAR).unwrap());
        machine.set(YEAR + MINUTE, 2 * MINUTE);
        assert_eq!(clock.now(), at(YEAR + MINUTE));
        machine.set(YEAR + 2 * MINUTE, 3 * MINUTE);
        assert_eq!(clock.now(), at(YEAR + 2 * MINUTE));
    }

    #[test]
    fn drift_in_small_steps_is_no_jump() {
        let machine = Arc::new(Machine::default());
        machine.set(YEAR, MINUTE);
        let clock = ServiceClock::new(machine.clone());
        clock.learn(TimeDelta::minutes(10));
        for step in 1..100_u32 {
            // The wall clock gains a second every minute.
            let steady = MINUTE + step * MINUTE;
            machine.set(YEAR + step * (MINUTE + Duration::from_secs(1)), steady);
            let wall = YEAR + step * (MINUTE + Duration::from_secs(1));
            assert_eq!(clock.now(), at(wall + 10 * MINUTE));
        }
    }
}
