//! What time it is.

use std::fmt::Debug;

use chrono::{DateTime, Utc};

/// A wall clock. Expiry is a wall-clock fact, so everything that decides by time takes one.
pub trait Clock: Debug + Send + Sync {
    /// The present moment.
    fn now(&self) -> DateTime<Utc>;
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
}
