//! What the webhook counts. Every label has a closed set of values: no name of an object is one.

use std::time::Duration;

use axum::http::StatusCode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::injection::decision::{Reason, Warning};

/// Seconds that a review takes: a fraction of a millisecond from memory, up to the 5 s for which
/// the API server waits.
const SECONDS: [f64; 15] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0,
];

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The families. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    reviews: Family<Labels<2>, Counter>,
    warnings: Family<Labels<1>, Counter>,
    failures: Family<Labels<1>, Counter>,
    seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reviews: Family::default(),
            warnings: Family::default(),
            failures: Family::default(),
            seconds: Histogram::new(SECONDS),
        }
    }
}

impl Metrics {
    /// Registers all families below `webhook`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let registry = families(registry);
        let metrics = Self::default();
        // A series that only appears with the first injection hides that there was none.
        drop(
            metrics
                .reviews
                .get_or_create(&review(Reason::Injected, false)),
        );
        registry.register(
            "reviews",
            "Reviews that were answered, by decision; docs/decisions.md has the words",
            metrics.reviews.clone(),
        );
        registry.register(
            "warnings",
            "Warnings that were given to authors of pods, by word",
            metrics.warnings.clone(),
        );
        registry.register(
            "failures",
            "Reviews that were not answered, so that failurePolicy decided, by HTTP status",
            metrics.failures.clone(),
        );
        registry.register(
            "review_duration_seconds",
            "From the whole body to the answer",
            metrics.seconds.clone(),
        );
        metrics
    }

    /// A review was answered.
    pub(super) fn answered(&self, reason: Reason, warnings: &[Warning], dry_run: bool) {
        self.reviews.get_or_create(&review(reason, dry_run)).inc();
        for warning in warnings {
            let label = [("warning", warning.reason.code())];
            self.warnings.get_or_create(&label).inc();
        }
    }

    /// A review was not answered.
    pub(super) fn failed(&self, status: StatusCode) {
        let label = [("status", status_label(status))];
        self.failures.get_or_create(&label).inc();
    }

    /// A decision took so long, with an answer or without.
    pub(super) fn took(&self, time: Duration) {
        self.seconds.observe(time.as_secs_f64());
    }
}

/// The status of a review that was not answered, as a label.
pub(super) fn status_label(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "400",
        408 => "408",
        413 => "413",
        415 => "415",
        503 => "503",
        _ => "500",
    }
}

/// Where the webhook's families belong.
pub(super) fn families(registry: &mut Registry) -> &mut Registry {
    registry.sub_registry_with_prefix("webhook")
}

fn review(reason: Reason, dry_run: bool) -> Labels<2> {
    let dry_run = if dry_run { "true" } else { "false" };
    [("decision", reason.code()), ("dry_run", dry_run)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    #[test]
    fn every_family_has_its_series() {
        let mut registry = Registry::with_prefix("rrsa");
        let metrics = Metrics::register(&mut registry);
        let warning = Warning::names(Reason::UnknownContainer, "list", std::iter::once("secret"));
        metrics.answered(Reason::NoContainerChosen, &[warning], true);
        metrics.failed(StatusCode::IM_A_TEAPOT);
        metrics.took(Duration::from_micros(200));
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        for line in [
            r#"rrsa_webhook_reviews_total{decision="Injected",dry_run="false"} 0"#,
            r#"rrsa_webhook_reviews_total{decision="NoContainerChosen",dry_run="true"} 1"#,
            r#"rrsa_webhook_warnings_total{warning="UnknownContainer"} 1"#,
            r#"rrsa_webhook_failures_total{status="500"} 1"#,
            r#"rrsa_webhook_review_duration_seconds_bucket{le="0.0001"} 0"#,
            r#"rrsa_webhook_review_duration_seconds_bucket{le="0.00025"} 1"#,
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("secret"));
    }
}
