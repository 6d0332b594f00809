//! What the controller counts. The stock (bindings, Secrets, how long they live) is counted when
//! somebody asks: see [`census`](super::census).

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::reason::Reason;

/// Seconds that an exchange takes: some milliseconds in a VPC, ten seconds at most.
const EXCHANGE_SECONDS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// One label with a closed set of values.
type Label = [(&'static str, &'static str); 1];

/// The families. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    exchanges: Family<Label, Counter>,
    exchange_seconds: Histogram,
    queue_depth: Gauge,
    sts_rate: Gauge<f64, AtomicU64>,
    throttled: Counter,
    leader: Gauge,
    pod_problems: Family<Label, Gauge>,
}

impl Metrics {
    /// Registers all families below `controller`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("controller");
        let metrics = Self {
            exchanges: Family::default(),
            exchange_seconds: Histogram::new(EXCHANGE_SECONDS),
            queue_depth: Gauge::default(),
            sts_rate: Gauge::default(),
            throttled: Counter::default(),
            leader: Gauge::default(),
            pod_problems: Family::default(),
        };
        // A series that only appears with the first success hides that there was none.
        drop(metrics.exchanges.get_or_create(&issued()));
        registry.register(
            "exchanges",
            "Attempts to get credentials, by outcome: Issued, or the reason of the failure",
            metrics.exchanges.clone(),
        );
        registry.register(
            "exchange_duration_seconds",
            "How long those attempts took, the request for the token included",
            metrics.exchange_seconds.clone(),
        );
        registry.register(
            "queue_depth",
            "Bindings that wait for their turn",
            metrics.queue_depth.clone(),
        );
        registry.register(
            "sts_rate",
            "Calls a second that this process allows itself at STS",
            metrics.sts_rate.clone(),
        );
        registry.register(
            "sts_throttled",
            "Calls that STS refused because the account made too many",
            metrics.throttled.clone(),
        );
        registry.register(
            "leader",
            "1 where this replica does the work, 0 where it stands by",
            metrics.leader.clone(),
        );
        registry.register(
            "pods_with_problems",
            "What the last look at pods found, by problem; nothing where podLook is off",
            metrics.pod_problems.clone(),
        );
        metrics
    }

    /// An attempt to get credentials ended.
    pub fn exchanged(&self, outcome: Result<(), Reason>, took: Duration) {
        let label = match outcome {
            Ok(()) => issued(),
            Err(reason) => [("outcome", reason.as_str())],
        };
        self.exchanges.get_or_create(&label).inc();
        self.exchange_seconds.observe(took.as_secs_f64());
        if outcome == Err(Reason::Throttled) {
            self.throttled.inc();
        }
    }

    /// So many bindings wait for their turn.
    pub fn queue_depth(&self, depth: usize) {
        self.queue_depth
            .set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// So many calls a second are allowed at STS from now on.
    pub fn sts_rate(&self, per_second: f64) {
        self.sts_rate.set(per_second);
    }

    /// What a look at pods has found; what it has not found again is forgotten.
    pub fn pods_with_problems(&self, counts: &BTreeMap<&'static str, i64>) {
        self.pod_problems.clear();
        for (problem, count) in counts {
            let label = [("problem", *problem)];
            self.pod_problems.get_or_create(&label).set(*count);
        }
    }

    /// Whether this replica does the work.
    pub fn leading(&self, leading: bool) {
        self.leader.set(leading.into());
    }
}

const fn issued() -> Label {
    [("outcome", "Issued")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics;

    #[test]
    fn each_family_has_its_name_and_its_value() {
        let mut registry = metrics::registry();
        let counted = Metrics::register(&mut registry);
        let text = metrics::page(&registry).unwrap();
        assert!(
            text.contains("rrsa_controller_exchanges_total{outcome=\"Issued\"} 0"),
            "{text}"
        );

        counted.exchanged(Ok(()), Duration::from_millis(30));
        counted.exchanged(Err(Reason::Throttled), Duration::from_millis(30));
        counted.exchanged(Err(Reason::NotTrusted), Duration::from_secs(3));
        counted.queue_depth(7);
        counted.sts_rate(12.5);
        counted.leading(true);
        counted.pods_with_problems(&BTreeMap::from([("NearMiss", 9)]));
        counted.pods_with_problems(&BTreeMap::from([("OlderRole", 2)]));
        let text = metrics::page(&registry).unwrap();
        for line in [
            "rrsa_controller_exchanges_total{outcome=\"Issued\"} 1",
            "rrsa_controller_exchanges_total{outcome=\"Throttled\"} 1",
            "rrsa_controller_exchanges_total{outcome=\"NotTrusted\"} 1",
            "rrsa_controller_exchange_duration_seconds_bucket{le=\"0.05\"} 2",
            "rrsa_controller_exchange_duration_seconds_count 3",
            "rrsa_controller_queue_depth 7",
            "rrsa_controller_sts_rate 12.5",
            "rrsa_controller_sts_throttled_total 1",
            "rrsa_controller_leader 1",
            "rrsa_controller_pods_with_problems{problem=\"OlderRole\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
    }
}
