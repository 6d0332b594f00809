//! The stock, counted whenever the metrics are read: bindings by readiness and source, Secrets by
//! the time that their credentials have left. Nothing has to be kept in step for it.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::bindings::{Bindings, Name, Standing};
use super::secrets::SecretIndex;
use crate::world::Clock;

/// Who counts.
#[derive(Clone)]
pub struct Census {
    /// The present moment.
    pub clock: Arc<dyn Clock>,
    /// All bindings.
    pub bindings: Bindings,
    /// All our Secrets.
    pub secrets: Arc<SecretIndex>,
}

impl fmt::Debug for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Census").finish_non_exhaustive()
    }
}

/// What was counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stock {
    ready: u64,
    not_ready: u64,
    /// Without a status.
    new: u64,
    fallback: u64,
    expired: u64,
    under_5_minutes: u64,
    under_20_minutes: u64,
    longer: u64,
    /// The next moment at which something that is valid ends.
    soonest: Option<DateTime<Utc>>,
}

impl Stock {
    fn binding(&mut self, standing: Standing) {
        match standing.ready {
            None => self.new += 1,
            Some(true) => self.ready += 1,
            Some(false) => self.not_ready += 1,
        }
        self.fallback += u64::from(standing.on_fallback);
    }

    fn secret(&mut self, expiration: DateTime<Utc>, now: DateTime<Utc>) {
        let left = expiration - now;
        if left <= TimeDelta::zero() {
            self.expired += 1;
            return;
        }
        if left < TimeDelta::minutes(5) {
            self.under_5_minutes += 1;
        } else if left < TimeDelta::minutes(20) {
            self.under_20_minutes += 1;
        } else {
            self.longer += 1;
        }
        let soonest = self
            .soonest
            .map_or(expiration, |known| known.min(expiration));
        self.soonest = Some(soonest);
    }
}

impl Census {
    /// Registers the families below `controller`.
    pub fn register(self, registry: &mut Registry) {
        registry
            .sub_registry_with_prefix("controller")
            .register_collector(Box::new(self));
    }

    fn count(&self) -> Stock {
        let mut stock = Stock::default();
        self.bindings
            .each_standing(|standing| stock.binding(standing));
        let now = self.clock.now();
        self.secrets
            .each_expiration(|namespace, binding, expiration| {
                // What is to end is not counted: a retained Secret whose binding is gone, a
                // suspended one.
                let standing = self.bindings.standing(&Name::new(namespace, binding));
                if standing.is_some_and(|standing| !standing.suspended) {
                    stock.secret(expiration, now);
                }
            });
        stock
    }
}

impl Collector for Census {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let stock = self.count();
        family(
            &mut encoder,
            "bindings",
            "Bindings, by whether their credentials are ready",
            "ready",
            &[
                ("true", stock.ready),
                ("false", stock.not_ready),
                ("unknown", stock.new),
            ],
        )?;
        family(
            &mut encoder,
            "secrets",
            "Secrets that are kept fresh, by the time that their credentials have left",
            "left",
            &[
                ("none", stock.expired),
                ("under_5m", stock.under_5_minutes),
                ("under_20m", stock.under_20_minutes),
                ("longer", stock.longer),
            ],
        )?;
        encoder
            .encode_descriptor(
                "fallback_bindings",
                "Bindings whose credentials came from the node's role because OIDC does not work",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&stock.fallback)?;
        // 0 where nothing is valid: there is nothing to lose.
        encoder
            .encode_descriptor(
                "soonest_expiration_timestamp_seconds",
                "When the first of the credentials that are valid now ends, in seconds since 1970",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&stock.soonest.map_or(0, |at| at.timestamp()))
    }
}

fn family(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    label: &'static str,
    values: &[(&'static str, u64)],
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (value, number) in values {
        family
            .encode_family(&[(label, *value)])?
            .encode_gauge(number)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::{AlibabaRoleBinding, AlibabaRoleBindingStatus, CredentialSource};
    use crate::contract::annotations::secret as keys;
    use crate::telemetry::metrics;
    use crate::world::SystemClock;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use kube::runtime::watcher::Event;

    fn binding(
        name: &str,
        ready: Option<&str>,
        source: Option<CredentialSource>,
    ) -> AlibabaRoleBinding {
        let mut binding: AlibabaRoleBinding = serde_json::from_value(serde_json::json!({
            "apiVersion": "rrsa.io/v1alpha1",
            "kind": "AlibabaRoleBinding",
            "metadata": {"name": name, "namespace": "team-a"},
            "spec": {"role": {"name": "app"}, "serviceAccountName": "app"},
        }))
        .unwrap();
        binding.status = ready.map(|ready| {
            let mut status: AlibabaRoleBindingStatus = serde_json::from_value(serde_json::json!({
                "conditions": [{
                    "type": "Ready", "status": ready, "reason": "X", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
            }))
            .unwrap();
            status.source = source;
            status
        });
        binding
    }

    #[test]
    fn the_stock_is_counted_when_it_is_asked_for() {
        let clock = Arc::new(SystemClock);
        let bindings = Bindings::default();
        let secrets = Arc::new(SecretIndex::default());
        let mut registry = metrics::registry();
        Census {
            clock: clock.clone(),
            bindings: bindings.clone(),
            secrets: secrets.clone(),
        }
        .register(&mut registry);
        let mut suspended = binding("suspended", Some("True"), None);
        suspended.spec.suspend = true;
        for made in [
            binding("a", Some("True"), None),
            binding("b", Some("True"), Some(CredentialSource::EcsMetadata)),
            binding("c", Some("False"), None),
            binding("d", None, None),
            suspended,
        ] {
            bindings.take_in(Event::Apply(made));
        }
        let now = clock.now();
        for (name, minutes) in [
            ("a", -1),
            ("b", 4),
            ("c", 19),
            ("d", 30),
            ("suspended", -1),
            ("gone", -1),
        ] {
            let expiration = now + TimeDelta::minutes(minutes);
            let facts = super::super::secrets::SecretFacts::of(&ObjectMeta {
                uid: Some(name.to_owned()),
                resource_version: Some("1".to_owned()),
                annotations: Some(
                    [
                        (keys::EXPIRATION.to_owned(), expiration.to_rfc3339()),
                        (keys::BINDING.to_owned(), name.to_owned()),
                    ]
                    .into(),
                ),
                ..ObjectMeta::default()
            });
            secrets.put("team-a", name, facts.unwrap());
        }
        let text = metrics::page(&registry).unwrap();
        let soonest = (now + TimeDelta::minutes(4)).timestamp();
        for line in [
            "rrsa_controller_bindings{ready=\"true\"} 3",
            "rrsa_controller_bindings{ready=\"false\"} 1",
            "rrsa_controller_bindings{ready=\"unknown\"} 1",
            "rrsa_controller_secrets{left=\"none\"} 1",
            "rrsa_controller_secrets{left=\"under_5m\"} 1",
            "rrsa_controller_secrets{left=\"under_20m\"} 1",
            "rrsa_controller_secrets{left=\"longer\"} 1",
            "rrsa_controller_fallback_bindings 1",
            &format!("rrsa_controller_soonest_expiration_timestamp_seconds {soonest}"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
    }
}
