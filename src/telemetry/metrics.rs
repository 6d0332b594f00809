//! The metrics of a process: one registry, and the page that a monitoring system reads.
//!
//! Every room registers families of its own below its own prefix. Labels have closed sets of
//! values: never a name, namespace or ARN, for series must not grow with the cluster.

use std::fmt;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::contract::METRICS_PREFIX;

/// The media type of [`page`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A registry whose families all carry the product's prefix, with the one that names the release.
#[must_use]
pub fn registry() -> Registry {
    let mut registry = Registry::with_prefix(METRICS_PREFIX);
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The release that runs", build);
    registry
}

/// All families in the `OpenMetrics` text form.
///
/// # Errors
/// When a collector fails to write, which ours do not.
pub fn page(registry: &Registry) -> Result<String, fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_the_prefix_and_the_release_is_named() {
        let text = page(&registry()).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert!(
            text.contains(&format!("rrsa_build_info{{version=\"{version}\"}} 1")),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
