//! Whether a process is ready, and if not, why: named conditions, each set by its owner. Beside them
//! stand notes: what a person should know of a process that is ready all the same.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// All conditions of a process. Clones share them.
#[derive(Debug, Clone)]
pub struct Readiness {
    conditions: Arc<Mutex<Vec<(&'static str, State)>>>,
    notes: Arc<Mutex<Vec<(&'static str, State)>>>,
    changed: Arc<watch::Sender<()>>,
}

/// `None`: ready. Otherwise why not.
type State = Option<String>;

/// One condition, for its owner.
#[derive(Debug, Clone)]
pub struct Condition {
    index: usize,
    readiness: Readiness,
}

/// One note, for its owner.
#[derive(Debug, Clone)]
pub struct Note {
    index: usize,
    notes: Arc<Mutex<Vec<(&'static str, State)>>>,
}

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    conditions: Vec<(&'static str, State)>,
    notes: Vec<(&'static str, State)>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            conditions: Arc::default(),
            notes: Arc::default(),
            changed: Arc::new(watch::Sender::new(())),
        }
    }
}

impl Readiness {
    /// Without conditions, which is ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition that is not met until its owner says so.
    #[must_use]
    pub fn condition(&self, name: &'static str, why_not_yet: &str) -> Condition {
        let mut conditions = self
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        conditions.push((name, Some(why_not_yet.to_owned())));
        Condition {
            index: conditions.len() - 1,
            readiness: self.clone(),
        }
    }

    /// Adds a note, which says nothing yet.
    #[must_use]
    pub fn note(&self, name: &'static str) -> Note {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.push((name, None));
        Note {
            index: notes.len() - 1,
            notes: Arc::clone(&self.notes),
        }
    }

    /// How things stand now.
    #[must_use]
    pub fn report(&self) -> Report {
        let copy = |states: &Mutex<Vec<(&'static str, State)>>| {
            states
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        };
        Report {
            conditions: copy(&self.conditions),
            notes: copy(&self.notes),
        }
    }

    /// Waits until every condition is met.
    pub async fn ready(&self) {
        let mut changes = self.changed.subscribe();
        while !self.report().is_ready() {
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }
}

impl Condition {
    /// The condition is met.
    pub fn ready(&self) {
        self.set(None);
    }

    /// The condition is not met, and why.
    pub fn not_ready(&self, why: impl Into<String>) {
        self.set(Some(why.into()));
    }

    fn set(&self, state: State) {
        let mut conditions = self
            .readiness
            .conditions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some((name, current)) = conditions.get_mut(self.index) else {
            return;
        };
        if *current == state {
            return;
        }
        match &state {
            None => tracing::info!(condition = name, "ready"),
            Some(why) => tracing::warn!(condition = name, why, "not ready"),
        }
        *current = state;
        drop(conditions);
        self.readiness.changed.send_replace(());
    }
}

impl Note {
    /// There is something to know.
    pub fn set(&self, what: impl Into<String>) {
        self.put(Some(what.into()));
    }

    /// There is nothing to know any more.
    pub fn clear(&self) {
        self.put(None);
    }

    fn put(&self, state: State) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, own)) = notes.get_mut(self.index) {
            *own = state;
        }
    }
}

impl Report {
    /// Whether every condition is met.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.conditions.iter().all(|(_, state)| state.is_none())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, state) in &self.conditions {
            match state {
                None => writeln!(f, "[+] {name}")?,
                Some(why) => writeln!(f, "[-] {name}: {why}")?,
            }
        }
        for (name, state) in &self.notes {
            match state {
                None => writeln!(f, "[+] {name}")?,
                Some(what) => writeln!(f, "[!] {name}: {what}")?,
            }
        }
        writeln!(
            f,
            "{}",
            if self.is_ready() {
                "ready"
            } else {
                "not ready"
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_every_condition_and_the_report_says_why_not() {
        let readiness = Readiness::new();
        let one = readiness.condition("one", "not started");
        let two = readiness.condition("two", "not started");
        one.ready();
        two.not_ready("the disk is full");
        assert_eq!(
            readiness.report().to_string(),
            "[+] one\n[-] two: the disk is full\nnot ready\n"
        );
        two.ready();
        assert!(readiness.report().is_ready());
    }

    #[tokio::test]
    async fn waiting_ends_when_the_last_condition_is_met() {
        let readiness = Readiness::new();
        let condition = readiness.condition("one", "not started");
        let waiting = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.ready().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        condition.ready();
        waiting.await.unwrap();
    }
}
