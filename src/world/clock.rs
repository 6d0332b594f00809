//! What time it is.

use std::fmt::Debug;
use std::time::Duration;

use chrono::{DateTime, Utc};

/// A wall clock. Expiry is a wall-clock fact, so everything that decides by time takes one.
pub trait Clock: Debug + Send + Sync {
    /// The present moment.
    fn now(&self) -> DateTime<Utc>;

    /// The steady clock alone: what [`tick`](Self::tick) has, at half the price.
    fn steady(&self) -> Duration {
        self.tick().steady
    }

    /// Both clocks of the machine, cheaply read.
    fn tick(&self) -> Tick {
        let since_1970 = self.now().signed_duration_since(DateTime::UNIX_EPOCH);
        let since_1970 = since_1970.to_std().unwrap_or_default();
        Tick {
            wall: since_1970,
            steady: since_1970,
        }
    }
}

/// A reading of two clocks that may be some milliseconds old. Neither alone tells when something
/// is over: the wall clock is set back and forth, and the steady one stands still while the machine
/// sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// The wall clock: time since 1970 in UTC.
    pub wall: Duration,
    /// A clock that is never set: time since some fixed moment.
    pub steady: Duration,
}

impl Tick {
    /// This much later, on both clocks.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self {
            wall: self.wall.saturating_add(span),
            steady: self.steady.saturating_add(span),
        }
    }

    /// Whether `other` has come by either clock.
    #[must_use]
    pub fn has_reached(self, other: Self) -> bool {
        self.wall >= other.wall || self.steady >= other.steady
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that asks the real clock"
    )]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn steady(&self) -> Duration {
        cheap::steady()
    }

    fn tick(&self) -> Tick {
        Tick {
            wall: cheap::wall(),
            steady: cheap::steady(),
        }
    }
}

/// The clock by which the runtime's timers go: steady, and the one that a test can pause. For
/// spans that are slept through; what is over when is asked of a [`Clock`].
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that asks the runtime's clock"
)]
pub fn runtime_now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// The kernel's coarse clocks, which cost a fraction of the exact ones.
#[cfg(target_os = "linux")]
mod cheap {
    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};

    pub(super) fn wall() -> Duration {
        read(ClockId::RealtimeCoarse)
    }

    pub(super) fn steady() -> Duration {
        read(ClockId::MonotonicCoarse)
    }

    fn read(clock: ClockId) -> Duration {
        // A time before 1970 counts as 1970: everything would be over long ago.
        Duration::try_from(clock_gettime(clock)).unwrap_or_default()
    }
}

#[cfg(not(target_os = "linux"))]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that asks the real clock"
)]
mod cheap {
    use std::sync::LazyLock;
    use std::time::{Duration, Instant, SystemTime};

    static START: LazyLock<Instant> = LazyLock::new(Instant::now);

    pub(super) fn wall() -> Duration {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
    }

    pub(super) fn steady() -> Duration {
        START.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn either_clock_ends_a_span() {
        let start = SystemClock.tick();
        let end = start.after(SECOND);
        assert!(!start.has_reached(end));
        assert!(end.has_reached(end));
        let set_back = Tick {
            wall: start.wall.saturating_sub(SECOND),
            steady: start.steady + 2 * SECOND,
        };
        let slept = Tick {
            wall: start.wall + 2 * SECOND,
            steady: start.steady,
        };
        assert!(set_back.has_reached(end) && slept.has_reached(end));
    }

    #[test]
    fn the_cheap_reading_is_close_to_the_exact_one() {
        let exact = SystemClock.now().timestamp_millis();
        let cheap = i64::try_from(SystemClock.tick().wall.as_millis()).unwrap();
        assert!((exact - cheap).abs() < 1_000, "{exact} {cheap}");
    }
}
