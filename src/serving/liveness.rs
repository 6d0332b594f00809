//! Whether a process is stuck: loops that must go round tell so, and one that has not for long
//! means that only a restart helps.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::world::Clock;

/// All loops of a process. Clones share them.
#[derive(Debug, Clone)]
pub struct Liveness {
    clock: Arc<dyn Clock>,
    loops: Arc<Mutex<Vec<Loop>>>,
}

#[derive(Debug)]
struct Loop {
    name: &'static str,
    limit: Duration,
    /// By the steady clock: a wall clock that is set does not make a process stuck.
    last: Duration,
}

/// One loop, for its owner.
#[derive(Debug, Clone)]
pub struct Heart {
    index: usize,
    liveness: Liveness,
}

impl Liveness {
    /// Without loops, which is alive.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            loops: Arc::default(),
        }
    }

    /// Adds a loop, which must go round at least once in `limit`. Choose it far above what the
    /// slowest machine needs: the process is restarted for it.
    #[must_use]
    pub fn heart(&self, name: &'static str, limit: Duration) -> Heart {
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops.push(Loop {
            name,
            limit,
            last: self.clock.steady(),
        });
        Heart {
            index: loops.len() - 1,
            liveness: self.clone(),
        }
    }

    /// The loops that stand still, one line each; empty: alive.
    #[must_use]
    pub fn stuck(&self) -> String {
        let now = self.clock.steady();
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops
            .iter()
            .filter_map(|each| {
                let silent = now.saturating_sub(each.last);
                (silent > each.limit).then(|| {
                    format!(
                        "{} has not gone round for {} s\n",
                        each.name,
                        silent.as_secs()
                    )
                })
            })
            .collect()
    }
}

impl Heart {
    /// The loop went round.
    pub fn beat(&self) {
        let now = self.liveness.clock.steady();
        let mut loops = self
            .liveness
            .loops
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = loops.get_mut(self.index) {
            own.last = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Utc};

    #[derive(Debug)]
    struct SetClock(Mutex<u64>);

    impl Clock for SetClock {
        fn now(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }

        fn steady(&self) -> Duration {
            Duration::from_secs(*self.0.lock().unwrap())
        }
    }

    #[test]
    fn a_loop_that_stands_still_for_long_is_named_until_it_turns_again() {
        let clock = Arc::new(SetClock(Mutex::new(100)));
        let liveness = Liveness::new(clock.clone());
        let slow = liveness.heart("slow", Duration::from_mins(10));
        let fast = liveness.heart("fast", Duration::from_mins(1));
        *clock.0.lock().unwrap() = 160;
        assert_eq!(liveness.stuck(), "");
        *clock.0.lock().unwrap() = 161;
        assert_eq!(liveness.stuck(), "fast has not gone round for 61 s\n");
        fast.beat();
        slow.beat();
        assert_eq!(liveness.stuck(), "");
    }
}
