//! When certificates end, for a monitoring system: it warns of a renewal that does not happen.

use chrono::{DateTime, Utc};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type Label = [(&'static str, &'static str); 1];

const SERVER: Label = [("certificate", "server")];
const AUTHORITY: Label = [("certificate", "authority")];

/// The ends of the certificates that are in use. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Expiries(Family<Label, Gauge>);

impl Expiries {
    /// Registers the family; a certificate has a series as soon as it is known.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the server's certificate and the authority that signs end, in seconds since 1970",
            self.0.clone(),
        );
    }

    /// The server's certificate ends then.
    pub fn server(&self, end: DateTime<Utc>) {
        self.0.get_or_create(&SERVER).set(end.timestamp());
    }

    /// The authority that signs ends then.
    pub fn authority(&self, end: DateTime<Utc>) {
        self.0.get_or_create(&AUTHORITY).set(end.timestamp());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;

    #[test]
    fn a_certificate_has_a_series_once_it_is_known() {
        let (mut registry, expiries) = (Registry::default(), Expiries::default());
        expiries.register(&mut registry);
        expiries.server(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        let line = r#"certificate_expiry_timestamp_seconds{certificate="server"} 1800000000"#;
        assert!(page.contains(line), "{page}");
        assert!(!page.contains("authority\""), "{page}");
    }
}
