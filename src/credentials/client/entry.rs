//! What is kept: credentials with the two moments that matter.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::schedule::spans;
use crate::credentials::snapshot::Credentials;
use crate::world::{Clock, Random, Tick};

/// Far enough away that no clock gets there.
const NEVER: Tick = Tick {
    wall: Duration::MAX,
    steady: Duration::MAX,
};
/// Long past.
const ALWAYS: Tick = Tick {
    wall: Duration::ZERO,
    steady: Duration::ZERO,
};

/// Credentials, and until when they are used how.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) credentials: Credentials,
    /// From here on new ones are fetched.
    pub(super) due: Tick,
    /// From here on these are not given out.
    pub(super) end: Tick,
    /// When both clocks were last compared with `due` and it had not come, in nanoseconds of the
    /// steady one. It only spares work, so no ordering is needed.
    fresh_at: AtomicU64,
}

/// Credentials that were over when they came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its credentials ended at {0}, before they arrived; check this machine's clock")]
pub(super) struct Over(DateTime<Utc>);

impl Entry {
    /// What stands there before there is anything: never given out.
    pub(super) fn vacant() -> Self {
        Self {
            credentials: Credentials::new(String::new(), String::new().into(), ""),
            due: ALWAYS,
            end: ALWAYS,
            fresh_at: AtomicU64::new(u64::MAX),
        }
    }

    /// What just came. What has no end is kept for ever when it is fixed; else it serves those who
    /// asked for it and nobody after them, because only its source knows how long it is good.
    pub(super) fn arrived(
        credentials: Credentials,
        fixed: bool,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<Self, Over> {
        let Some(expiration) = credentials.expiration() else {
            let moment = if fixed { NEVER } else { ALWAYS };
            return Ok(Self {
                credentials,
                due: moment,
                end: moment,
                fresh_at: AtomicU64::new(u64::MAX),
            });
        };
        // Somebody's own provider may say anything.
        let issuers_now = clock
            .now()
            .checked_add_signed(credentials.issuer_is_ahead())
            .ok_or(Over(expiration))?;
        let life = (expiration - issuers_now)
            .to_std()
            .ok()
            .filter(|life| !life.is_zero())
            .ok_or(Over(expiration))?;
        let spans = spans(life, random);
        let tick = clock.tick();
        Ok(Self {
            credentials,
            due: tick.after(spans.renew_after),
            end: tick.after(spans.serve_for),
            fresh_at: AtomicU64::new(u64::MAX),
        })
    }

    /// Whether nothing is to be done about it yet. The coarse clocks advance every few
    /// milliseconds, and most calls fall between two steps: then reading one of them is enough.
    #[inline]
    pub(super) fn is_fresh(&self, clock: &dyn Clock) -> bool {
        let now = nanoseconds(clock.steady());
        self.fresh_at.load(Ordering::Relaxed) == now || self.compare(clock)
    }

    fn compare(&self, clock: &dyn Clock) -> bool {
        let tick = clock.tick();
        let fresh = !tick.has_reached(self.due);
        if fresh {
            self.fresh_at
                .store(nanoseconds(tick.steady), Ordering::Relaxed);
        }
        fresh
    }
}

/// Five centuries fit.
#[inline]
fn nanoseconds(span: Duration) -> u64 {
    span.as_secs()
        .wrapping_mul(1_000_000_000)
        .wrapping_add(span.subsec_nanos().into())
}
