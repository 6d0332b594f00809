//! Waiting for what comes true later, never without a ceiling.
//!
//! A test says what it waits for; when that does not come, the error repeats it together with what
//! was last seen, so that nobody has to run the test again to learn why.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

/// The first pause between two looks; it grows to [`LONGEST_STEP`].
const FIRST_STEP: Duration = Duration::from_millis(20);
/// Short enough that a test hardly notices, long enough that polling costs nothing.
const LONGEST_STEP: Duration = Duration::from_millis(200);

/// Looks again and again until `look` gives a value, for `ceiling` at most.
///
/// `Ok(None)` is "not yet". An error is "not yet" too and kept as the last observation, so
/// `ensure!(ready, "phase is {phase}")` makes a good message; [`hopeless`] ends the wait at once.
///
/// # Errors
/// Names what was awaited, for how long, and the last observation.
pub(crate) async fn until<T>(
    what: &str,
    ceiling: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    let mut step = FIRST_STEP;
    let mut last = anyhow!("nothing was seen yet");
    loop {
        let left = ceiling.saturating_sub(started.elapsed());
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => last = anyhow!("the last look said: not yet"),
            Ok(Err(error)) if error.is::<Hopeless>() => {
                return Err(error).with_context(|| format!("waited for {what}"));
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = last.context("the last look itself did not end in time; before it"),
        }
        if started.elapsed() + step >= ceiling {
            return Err(last)
                .with_context(|| format!("waited {ceiling:?} for {what}; last observation"));
        }
        tokio::time::sleep(step).await;
        step = (step * 2).min(LONGEST_STEP);
    }
}

/// Marks an error after which [`until`] need not look again.
pub(crate) fn hopeless(error: anyhow::Error) -> anyhow::Error {
    error.context(Hopeless)
}

/// The mark that [`hopeless`] leaves on an error.
#[derive(Debug)]
struct Hopeless;

impl fmt::Display for Hopeless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it cannot come true any more")
    }
}
