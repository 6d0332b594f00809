//! Counts the failures of each binding in a row, and says so in the log without flooding it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use tracing::warn;

use super::plan::Failing;
use super::reason::{Problem, Reason};
use super::reconcile::Context;
use super::refresh;
use crate::api::v1alpha1::AlibabaRoleBinding;
use crate::world::Clock as _;

/// Counts a failure and tells when to try again. `expiration` is that of the credentials that stand
/// meanwhile.
pub(super) fn remember_failure(
    context: &Context,
    binding: &AlibabaRoleBinding,
    problem: Problem,
    attempt: &str,
    expiration: Option<DateTime<Utc>>,
) -> DateTime<Utc> {
    let now = context.clock.now();
    let retry = problem.reason.retry();
    let uid = binding.metadata.uid.as_deref().unwrap_or_default();
    let before = context
        .remembered(uid)
        .failing
        .filter(|failing| failing.attempt == attempt && failing.problem.reason == problem.reason);
    // A look while the wait is on is not another attempt; a longer wait than any was set by a clock
    // that has been put right since.
    if let Some(before) = &before
        && now < before.not_before
        && before.not_before <= now + retry.cap
    {
        return before.not_before;
    }
    let (count, since) = before
        .map(|before| (before.count, before.since))
        .or_else(|| shown_failure(binding, &problem))
        .unwrap_or((0, now));
    let count = count.saturating_add(1);
    let mut wait = refresh::backoff(retry, count, uid);
    if let Some(left) = expiration.and_then(|end| (end - now).to_std().ok()) {
        wait = refresh::while_valid(wait, retry, left);
    }
    let not_before = now + wait;
    match context.failure_log.note(problem.reason, now) {
        Say::Line => warn!(
            reason = problem.reason.as_str(),
            code = problem.code,
            count,
            "{}",
            problem.message
        ),
        Say::Nothing => {}
        Say::Unsaid(unsaid) => warn!(
            reason = problem.reason.as_str(),
            code = problem.code,
            count,
            "{}; {unsaid} more failures with this reason since the last line",
            problem.message
        ),
    }
    let failing = Failing {
        problem,
        count,
        since,
        not_before,
        attempt: attempt.to_owned(),
    };
    context.remember(uid, |memory| memory.failing = Some(failing));
    not_before
}

/// The count and start of the same failure in the status: what a process before this one counted.
fn shown_failure(binding: &AlibabaRoleBinding, problem: &Problem) -> Option<(u32, DateTime<Utc>)> {
    let status = binding.status.as_ref()?;
    let failure = status
        .failure
        .as_ref()
        .filter(|failure| failure.code == problem.code)?;
    if status.observed_generation != binding.metadata.generation {
        return None;
    }
    let since = DateTime::parse_from_rfc3339(&failure.since)
        .ok()?
        .with_timezone(&Utc);
    Some((u32::try_from(failure.count).ok()?, since))
}

/// Lines of one reason that are logged in one [`PERIOD`].
const LINES: u32 = 10;
/// How often lines of a reason are counted anew.
const PERIOD: TimeDelta = TimeDelta::minutes(1);

/// Keeps the log readable when ten thousand bindings fail for one reason: the first lines of a
/// period are said, and then how many were not. Statuses, events and metrics tell of all.
#[derive(Debug, Default)]
pub struct FailureLog {
    said: Mutex<HashMap<Reason, Said>>,
}

#[derive(Debug)]
struct Said {
    since: DateTime<Utc>,
    lines: u32,
    unsaid: u32,
}

/// What to say of a failure.
#[derive(Debug, PartialEq, Eq)]
enum Say {
    Line,
    Nothing,
    /// A line, and that so many were not said before it.
    Unsaid(u32),
}

impl FailureLog {
    fn note(&self, reason: Reason, now: DateTime<Utc>) -> Say {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said = said.entry(reason).or_insert(Said {
            since: now,
            lines: 0,
            unsaid: 0,
        });
        // A clock that was set back begins a period as well.
        if !(said.since..said.since + PERIOD).contains(&now) {
            said.since = now;
            said.lines = 0;
        }
        if said.lines >= LINES {
            said.unsaid = said.unsaid.saturating_add(1);
            return Say::Nothing;
        }
        said.lines += 1;
        match std::mem::take(&mut said.unsaid) {
            0 => Say::Line,
            unsaid => Say::Unsaid(unsaid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_failures_of_one_kind_are_a_few_lines() {
        let log = FailureLog::default();
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let said = (0..1000)
            .filter(|_| log.note(Reason::Throttled, at(1)) != Say::Nothing)
            .count();
        assert_eq!(said, 10);
        assert_eq!(log.note(Reason::NotTrusted, at(1)), Say::Line);
        assert_eq!(log.note(Reason::Throttled, at(61)), Say::Unsaid(990));
        assert_eq!(log.note(Reason::Throttled, at(62)), Say::Line);
        assert_eq!(log.note(Reason::Throttled, at(-100)), Say::Line);
    }
}
