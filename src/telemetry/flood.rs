//! Lines that come in floods: of each kind one in a while is written, with the number of those that
//! were not. Whoever sends rubbish shall not fill the disk of the node, and what else is said shall
//! stay to be found; the metrics count every one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a kind is silent after a line.
const SILENCE: Duration = Duration::from_secs(10);

/// Lets one line of each kind pass in a while. The kinds must be a closed set.
#[derive(Debug, Default)]
pub struct FloodGate(Mutex<HashMap<&'static str, Kind>>);

#[derive(Debug)]
struct Kind {
    last: Instant,
    held_back: u64,
}

impl FloodGate {
    /// Whether a line of that kind may be written; if so, how many were held back before it.
    pub fn pass(&self, kind: &'static str, now: Instant) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = kinds.get_mut(kind) else {
            let (last, held_back) = (now, 0);
            kinds.insert(kind, Kind { last, held_back });
            return Some(0);
        };
        if now < known.last + SILENCE {
            known.held_back += 1;
            return None;
        }
        known.last = now;
        Some(std::mem::take(&mut known.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "any moment, which the test counts from"
    )]
    fn of_each_kind_one_passes_in_a_while_and_says_how_many_did_not() {
        let (gate, start) = (FloodGate::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(gate.pass("a", at(0)), Some(0));
        assert_eq!(gate.pass("a", at(1)), None);
        assert_eq!(gate.pass("b", at(1)), Some(0));
        assert_eq!(gate.pass("a", at(9)), None);
        assert_eq!(gate.pass("a", at(10)), Some(2));
        assert_eq!(gate.pass("a", at(11)), None);
        assert_eq!(gate.pass("b", at(30)), Some(0));
    }
}
