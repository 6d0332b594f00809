//! Keeps the log readable when ten thousand bindings come to the same: the first lines of a period are
//! said, and later how many were not. Statuses, events and metrics tell of all.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use super::reason::Reason;

/// Lines of one reason that are logged in one [`PERIOD`].
const LINES: u32 = 10;
/// How often lines of a reason are counted anew.
const PERIOD: TimeDelta = TimeDelta::minutes(1);

/// Which lines are said.
#[derive(Debug, Default)]
pub struct Lines {
    said: Mutex<HashMap<Reason, Said>>,
}

#[derive(Debug)]
struct Said {
    since: DateTime<Utc>,
    lines: u32,
    unsaid: u32,
}

/// What to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Say {
    Line,
    Nothing,
    /// A line, and that so many were not said before it.
    Unsaid(u32),
}

impl Lines {
    /// Something came to this.
    pub(super) fn note(&self, reason: Reason, now: DateTime<Utc>) -> Say {
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
    fn a_thousand_of_one_kind_are_a_few_lines() {
        let log = Lines::default();
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
