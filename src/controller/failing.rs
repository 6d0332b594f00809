//! Counts the failures of each binding in a row.

use chrono::{DateTime, Utc};
use tracing::warn;

use super::context::Context;
use super::plan::Failing;
use super::reason::Problem;
use super::refresh;
use crate::api::v1alpha1::AlibabaRoleBinding;
use crate::world::Clock as _;
use crate::world::runtime_now;

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
    match context.lines.pass(problem.reason, runtime_now()) {
        Some(0) => warn!(
            reason = problem.reason.as_str(),
            code = problem.code,
            count,
            "{}",
            problem.message
        ),
        None => {}
        Some(unsaid) => warn!(
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
    context.remember(uid, |memory| memory.failing = Some(Box::new(failing)));
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
