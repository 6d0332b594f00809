//! Asking the API server about what the cache does not have: one question for any number of
//! pods that wait for the same answer, remembered for a moment.
//!
//! A failure is never remembered: the next pod asks again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::{Shared, WeakShared};

use crate::injection::facts::Found;
use crate::world::{BoxFuture, Clock};

/// How long an answer holds. A flood for a missing object costs one question a second.
pub const MEMORY: Duration = Duration::from_secs(1);
/// How many answers are kept before old ones are cleared away.
const SWEEP_FROM: usize = 1024;

type Question<T> = BoxFuture<'static, Found<T>>;

/// Questions under way and answers just given.
#[derive(Debug)]
pub struct Lookups<T> {
    clock: Arc<dyn Clock>,
    entries: Mutex<Entries<T>>,
}

#[derive(Debug)]
struct Entries<T> {
    by_key: HashMap<Box<str>, Entry<T>>,
    sweep_at: usize,
}

enum Entry<T> {
    /// Only those who wait keep the question alive: when they are gone, so is it.
    Asked(WeakShared<Question<T>>),
    Answered(DateTime<Utc>, Option<Arc<T>>),
}

impl<T> std::fmt::Debug for Entry<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Asked(_) => "Asked",
            Self::Answered(..) => "Answered",
        })
    }
}

impl<T: Send + Sync + 'static> Lookups<T> {
    /// Without questions.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let entries = Entries {
            by_key: HashMap::new(),
            sweep_at: SWEEP_FROM,
        };
        Self {
            clock,
            entries: Mutex::new(entries),
        }
    }

    /// The answer to `key`: the one just given, the one that others wait for, or that of `ask`.
    ///
    /// # Errors
    /// Those of the question.
    pub async fn find(&self, key: &str, ask: impl FnOnce() -> Question<T>) -> Found<T> {
        let question = match self.join(key, ask) {
            Ok(answer) => return Ok(answer),
            Err(question) => question,
        };
        let found = question.clone().await;
        let mut entries = self.lock();
        let current = matches!(entries.by_key.get(key), Some(Entry::Asked(asked))
            if asked.upgrade().is_some_and(|asked| asked.ptr_eq(&question)));
        if current {
            match &found {
                Ok(answer) => {
                    let answered = Entry::Answered(self.clock.now(), answer.clone());
                    entries.by_key.insert(key.into(), answered);
                }
                Err(_) => {
                    entries.by_key.remove(key);
                }
            }
        }
        found
    }

    fn join(
        &self,
        key: &str,
        ask: impl FnOnce() -> Question<T>,
    ) -> Result<Option<Arc<T>>, Shared<Question<T>>> {
        let now = self.clock.now();
        let mut entries = self.lock();
        match entries.by_key.get(key) {
            Some(Entry::Answered(at, answer)) if holds(*at, now) => return Ok(answer.clone()),
            Some(Entry::Asked(asked)) if let Some(question) = asked.upgrade() => {
                return Err(question);
            }
            _ => {}
        }
        let question = ask().shared();
        if let Some(asked) = question.downgrade() {
            entries.sweep(now);
            entries.by_key.insert(key.into(), Entry::Asked(asked));
        }
        Err(question)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries<T>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Entries<T> {
    /// Clears old answers away, seldom enough to cost nothing on the whole.
    fn sweep(&mut self, now: DateTime<Utc>) {
        if self.by_key.len() < self.sweep_at {
            return;
        }
        self.by_key.retain(|_, entry| match entry {
            Entry::Asked(asked) => asked.upgrade().is_some(),
            Entry::Answered(at, _) => holds(*at, now),
        });
        self.sweep_at = SWEEP_FROM.max(2 * self.by_key.len());
    }
}

/// Whether an answer given then still holds. One from the future does not: the clock was set.
fn holds(at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    (now - at).to_std().is_ok_and(|age| age < MEMORY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::injection::facts::LookupError;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Debug, Default)]
    struct SetClock(Mutex<DateTime<Utc>>);

    impl Clock for SetClock {
        fn now(&self) -> DateTime<Utc> {
            *self.0.lock().unwrap()
        }
    }

    struct Rig {
        clock: Arc<SetClock>,
        lookups: Lookups<u8>,
        asked: Arc<AtomicU32>,
    }

    impl Rig {
        fn new() -> Self {
            let clock = Arc::new(SetClock::default());
            let lookups = Lookups::new(Arc::clone(&clock) as Arc<dyn Clock>);
            Self {
                clock,
                lookups,
                asked: Arc::default(),
            }
        }

        async fn find(&self, key: &str, answer: Found<u8>) -> Found<u8> {
            let asked = Arc::clone(&self.asked);
            let ask = move || async move {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                answer
            };
            self.lookups.find(key, || Box::pin(ask())).await
        }

        fn asked(&self) -> u32 {
            self.asked.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn many_who_ask_at_once_cost_one_question() {
        let rig = Rig::new();
        let all = futures::future::join_all((0..100).map(|_| rig.find("a", Ok(None)))).await;
        assert!(all.into_iter().all(|found| found == Ok(None)));
        assert_eq!(rig.asked(), 1);
    }

    #[tokio::test]
    async fn an_answer_holds_for_a_second_and_no_longer() {
        let rig = Rig::new();
        rig.find("a", Ok(None)).await.unwrap();
        *rig.clock.0.lock().unwrap() += MEMORY / 2;
        assert_eq!(rig.find("a", Ok(Some(Arc::new(1)))).await, Ok(None));
        *rig.clock.0.lock().unwrap() += MEMORY;
        assert_eq!(
            rig.find("a", Ok(Some(Arc::new(1)))).await,
            Ok(Some(Arc::new(1)))
        );
        *rig.clock.0.lock().unwrap() -= MEMORY * 60;
        rig.find("a", Ok(None)).await.unwrap();
        assert_eq!(rig.asked(), 3);
    }

    #[tokio::test]
    async fn a_failure_is_not_remembered() {
        let rig = Rig::new();
        let error = LookupError {
            what: "a".to_owned(),
            cause: "down".to_owned(),
        };
        assert_eq!(rig.find("a", Err(error.clone())).await, Err(error));
        assert_eq!(rig.find("a", Ok(None)).await, Ok(None));
    }

    #[tokio::test]
    async fn a_question_nobody_waits_for_is_dropped_and_asked_anew() {
        let rig = Rig::new();
        assert!(rig.find("a", Ok(None)).now_or_never().is_none());
        assert_eq!(
            rig.find("a", Ok(Some(Arc::new(1)))).await,
            Ok(Some(Arc::new(1)))
        );
        assert_eq!(rig.asked(), 2);
    }

    #[tokio::test]
    async fn names_made_up_by_thousands_do_not_pile_up() {
        let rig = Rig::new();
        for n in 0..10 * SWEEP_FROM {
            rig.find(&n.to_string(), Ok(None)).await.unwrap();
            *rig.clock.0.lock().unwrap() += MEMORY / 100;
        }
        assert!(rig.lookups.lock().by_key.len() <= SWEEP_FROM);
    }
}
