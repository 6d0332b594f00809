//! When the next exchange is due, and how long to wait after a failure. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::reason::Retry;

/// Refresh falls at a point of the life between these two fractions (design 4.2).
const EARLIEST: f64 = 0.50;
const LATEST: f64 = 0.65;

/// When credentials issued at `issued_at` are renewed.
///
/// The point is fixed by the binding's UID: bindings made in one go spread out, and a restart
/// finds the same plan.
#[must_use]
pub fn due(uid: &str, issued_at: DateTime<Utc>, expiration: DateTime<Utc>) -> DateTime<Utc> {
    let life = (expiration - issued_at).to_std().unwrap_or_default();
    let fraction = EARLIEST + (LATEST - EARLIEST) * unit(&[uid.as_bytes()]);
    after(issued_at, life.mul_f64(fraction))
}

/// That much later, or the end of all time: what stands on a Secret or a clock may be absurd.
#[must_use]
pub fn after(time: DateTime<Utc>, span: Duration) -> DateTime<Utc> {
    chrono::TimeDelta::from_std(span)
        .ok()
        .and_then(|span| time.checked_add_signed(span))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// How long to wait after the `failures`th failure in a row: doubled each time up to the cap, of
/// which a quarter is spread by UID and count.
#[must_use]
pub fn backoff(retry: Retry, failures: u32, uid: &str) -> Duration {
    let exponent = failures.saturating_sub(1).min(16);
    let wait = retry.first.saturating_mul(1 << exponent).min(retry.cap);
    wait.mul_f64(0.75 + 0.25 * unit(&[uid.as_bytes(), &failures.to_be_bytes()]))
}

/// The wait, made shorter where good credentials have only so much life left: when the other side is
/// back before they end, they are saved.
#[must_use]
pub fn while_valid(wait: Duration, retry: Retry, left: Duration) -> Duration {
    wait.min((left / 4).max(retry.first))
}

/// A number in [0, 1) that looks random and is the same each time.
fn unit(parts: &[&[u8]]) -> f64 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    let digest = hasher.finalize();
    let high = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    f64::from(high) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn refresh_is_due_between_half_and_two_thirds_of_the_life(
            uid in "[a-f0-9-]{36}",
            life in 1_u32..43_200,
        ) {
            let issued = DateTime::UNIX_EPOCH;
            let expiration = issued + Duration::from_secs(life.into());
            let point = (due(&uid, issued, expiration) - issued).as_seconds_f64() / f64::from(life);
            prop_assert!((0.499..=0.651).contains(&point), "{point}");
        }

        #[test]
        fn back_off_grows_to_its_cap(uid in "[a-f0-9-]{36}", failures in 1_u32..1000) {
            let retry = Retry { first: Duration::from_secs(2), cap: Duration::from_mins(2) };
            let wait = backoff(retry, failures, &uid);
            prop_assert!(wait <= retry.cap);
            prop_assert!(wait >= retry.first.mul_f64(0.75));
            prop_assert!(failures < 8 || wait >= retry.cap.mul_f64(0.75));
        }
    }

    #[test]
    fn what_ends_soon_is_tried_sooner() {
        let (first, cap) = (Duration::from_secs(2), Duration::from_mins(2));
        let retry = Retry { first, cap };
        assert_eq!(while_valid(cap, retry, Duration::from_hours(1)), cap);
        assert_eq!(
            while_valid(cap, retry, Duration::from_mins(1)),
            Duration::from_secs(15)
        );
        assert_eq!(while_valid(cap, retry, Duration::from_secs(1)), first);
    }

    #[test]
    fn an_hour_long_session_always_has_twenty_minutes_left() {
        let issued = DateTime::UNIX_EPOCH;
        let expiration = issued + Duration::from_hours(1);
        for n in 0..1000 {
            assert!(
                expiration - due(&n.to_string(), issued, expiration)
                    > chrono::TimeDelta::minutes(20)
            );
        }
    }

    #[test]
    fn times_that_make_no_sense_are_due_at_once() {
        let issued = DateTime::UNIX_EPOCH + Duration::from_secs(10);
        assert_eq!(due("x", issued, DateTime::UNIX_EPOCH), issued);
    }
}
