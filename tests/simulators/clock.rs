//! The simulators' only reader of the clock: cloud times are UTC with whole seconds.

use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

/// How cloud services write a time: `2024-01-02T03:04:05Z`.
const LAYOUT: &str = "%Y-%m-%dT%H:%M:%SZ";

/// The time now.
#[expect(
    clippy::disallowed_methods,
    reason = "the simulators stand in for the outside world, so they read the real clock"
)]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}

/// `time` in the cloud's layout.
pub(crate) fn written(time: DateTime<Utc>) -> String {
    time.format(LAYOUT).to_string()
}

/// The time that `text` says, if it is exactly in the cloud's layout.
pub(crate) fn read(text: &str) -> Option<DateTime<Utc>> {
    let parsed = chrono::NaiveDateTime::parse_from_str(text, LAYOUT)
        .ok()?
        .and_utc();
    // The parser also takes unpadded fields; the service does not.
    (written(parsed) == text).then_some(parsed)
}

/// When something that starts at `start` and lives for `life` ends, in whole seconds, so that the
/// published time and the enforced one are the same.
pub(crate) fn end_of(start: DateTime<Utc>, life: Duration) -> DateTime<Utc> {
    let life = TimeDelta::from_std(life).unwrap_or(TimeDelta::MAX);
    start
        .checked_add_signed(life)
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
        .trunc_subsecs(0)
}
