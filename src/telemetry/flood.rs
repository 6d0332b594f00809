//! Lines that come in floods: of each kind the first few of a period are written, and later how many
//! were not. Whoever sends rubbish, or fails ten thousand times for one reason, shall not fill the disk
//! of the node, and what else is said shall stay to be found. Metrics, statuses and events tell of all.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lets a few lines of each kind pass in a period. The kinds must be a closed set.
#[derive(Debug)]
pub struct FloodGate<K> {
    lines: u32,
    period: Duration,
    kinds: Mutex<HashMap<K, Kind>>,
}

#[derive(Debug)]
struct Kind {
    since: Instant,
    passed: u32,
    held_back: u64,
}

impl<K: Eq + Hash> FloodGate<K> {
    /// Lets so many lines of a kind pass in such a period, which begins with the first of them.
    #[must_use]
    pub fn new(lines: u32, period: Duration) -> Self {
        Self {
            lines,
            period,
            kinds: Mutex::default(),
        }
    }

    /// Whether a line of that kind may be written; if so, how many were held back before it.
    pub fn pass(&self, kind: K, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kinds.entry(kind).or_insert(Kind {
            since: now,
            passed: 0,
            held_back: 0,
        });
        if !(known.since..known.since + self.period).contains(&now) {
            known.since = now;
            known.passed = 0;
        }
        if known.passed >= self.lines {
            known.held_back = known.held_back.saturating_add(1);
            return None;
        }
        known.passed += 1;
        Some(std::mem::take(&mut known.held_back))
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "any moment, which the tests count from"
)]
mod tests {
    use super::*;

    #[test]
    fn of_each_kind_one_passes_in_a_while_and_says_how_many_did_not() {
        let (gate, start) = (FloodGate::new(1, Duration::from_secs(10)), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(gate.pass("a", at(0)), Some(0));
        assert_eq!(gate.pass("a", at(1)), None);
        assert_eq!(gate.pass("b", at(1)), Some(0));
        assert_eq!(gate.pass("a", at(9)), None);
        assert_eq!(gate.pass("a", at(10)), Some(2));
        assert_eq!(gate.pass("a", at(11)), None);
        assert_eq!(gate.pass("b", at(30)), Some(0));
    }

    #[test]
    fn a_thousand_of_one_kind_are_a_few_lines() {
        let gate = FloodGate::new(10, Duration::from_mins(1));
        let start = Instant::now() + Duration::from_secs(100);
        let at = |seconds| start + Duration::from_secs(seconds);
        let said = (0..1000)
            .filter(|_| gate.pass("throttled", at(1)).is_some())
            .count();
        assert_eq!(said, 10);
        assert_eq!(gate.pass("not trusted", at(1)), Some(0));
        assert_eq!(gate.pass("throttled", at(61)), Some(990));
        assert_eq!(gate.pass("throttled", at(62)), Some(0));
        assert_eq!(
            gate.pass("throttled", start - Duration::from_secs(100)),
            Some(0)
        );
    }
}
