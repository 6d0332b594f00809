//! Settings that follow their files: read anew every few seconds and compared by content, because a
//! mounted `ConfigMap` is swapped by a symbolic link, which no watch on the file sees. What is good is
//! put into use; what is bad is told, and the last good one stays.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tracing::{error, info};

use super::readiness::Note;

/// How often the files are read.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// Reads everything and checks it; the error is for a person.
pub type Load<T> = Box<dyn Fn() -> Result<T, String> + Send + Sync>;

/// Settings and where they come from.
pub struct Reload<T> {
    load: Load<T>,
    current: watch::Sender<Arc<T>>,
    note: Note,
    outcomes: Family<[(&'static str, &'static str); 1], Counter>,
    in_use: Gauge,
    /// Why the last content was refused, so that each refusal is told once.
    refused: Option<String>,
}

impl<T> fmt::Debug for Reload<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload")
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

impl<T: PartialEq + Send + Sync + 'static> Reload<T> {
    /// Starts from what is in use already. `load` must not wait for long.
    #[must_use]
    pub fn new(first: T, load: Load<T>, note: Note, registry: &mut Registry) -> Self {
        let outcomes = Family::<[(&'static str, &'static str); 1], Counter>::default();
        for outcome in [APPLIED, REFUSED] {
            drop(outcomes.get_or_create(&outcome));
        }
        let in_use = Gauge::default();
        in_use.set(1);
        registry.register(
            "configuration_reloads",
            "Changes of the configuration's files, by what became of them",
            outcomes.clone(),
        );
        registry.register(
            "configuration_in_use",
            "1 where the files as they are now are in use, 0 where they were refused and the last good ones are",
            in_use.clone(),
        );
        Self {
            load,
            current: watch::Sender::new(Arc::new(first)),
            note,
            outcomes,
            in_use,
            refused: None,
        }
    }

    /// What is in use, and its changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.current.subscribe()
    }

    /// Follows the files for ever.
    pub async fn run(mut self) -> Infallible {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.look();
        }
    }

    /// Reads the files once.
    fn look(&mut self) {
        match (self.load)() {
            Ok(loaded) => {
                let changed = **self.current.borrow() != loaded;
                if changed {
                    self.current.send_replace(Arc::new(loaded));
                    self.outcomes.get_or_create(&APPLIED).inc();
                    info!("the configuration has changed and is in use");
                } else if self.refused.is_some() {
                    info!("the configuration is the one in use again");
                }
                self.refused = None;
                self.in_use.set(1);
                self.note.clear();
            }
            Err(problem) if self.refused.as_ref() == Some(&problem) => {}
            Err(problem) => {
                error!("the configuration is refused, the last good one stays in use: {problem}");
                self.outcomes.get_or_create(&REFUSED).inc();
                self.in_use.set(0);
                self.note
                    .set(format!("refused, the last good one is in use: {problem}"));
                self.refused = Some(problem);
            }
        }
    }
}

const APPLIED: [(&str, &str); 1] = [("outcome", "applied")];
const REFUSED: [(&str, &str); 1] = [("outcome", "refused")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::readiness::Readiness;
    use crate::telemetry::metrics;
    use std::sync::Mutex;

    #[test]
    fn good_content_is_used_and_bad_content_is_told_and_left_alone() {
        let file = Arc::new(Mutex::new(Ok(1)));
        let content = Arc::clone(&file);
        let readiness = Readiness::new();
        let mut registry = metrics::registry();
        let load: Load<i32> = Box::new(move || content.lock().unwrap().clone());
        let mut reload = Reload::new(1, load, readiness.note("configuration"), &mut registry);
        let used = reload.subscribe();
        let page = || metrics::page(&registry).unwrap();

        reload.look();
        assert!(!used.has_changed().unwrap());
        *file.lock().unwrap() = Err("region: no such region".to_owned());
        reload.look();
        reload.look();
        assert_eq!(**used.borrow(), 1);
        assert!(
            readiness.report().is_ready(),
            "the last good one still works"
        );
        let report = readiness.report().to_string();
        assert!(report.contains("region: no such region"), "{report}");
        let text = page();
        assert!(
            text.contains("rrsa_configuration_reloads_total{outcome=\"refused\"} 1"),
            "{text}"
        );
        assert!(text.contains("rrsa_configuration_in_use 0"), "{text}");

        *file.lock().unwrap() = Ok(2);
        reload.look();
        assert_eq!(**used.borrow(), 2);
        let text = page();
        assert!(
            text.contains("rrsa_configuration_reloads_total{outcome=\"applied\"} 1"),
            "{text}"
        );
        assert!(text.contains("rrsa_configuration_in_use 1"), "{text}");
        assert_eq!(readiness.report().to_string(), "[+] configuration\nready\n");

        // Back from a refused content to the one in use.
        *file.lock().unwrap() = Err("bad".to_owned());
        reload.look();
        *file.lock().unwrap() = Ok(2);
        reload.look();
        assert!(page().contains("rrsa_configuration_in_use 1"));
    }
}
