//! What is read of the API server's objects: names, versions, and the labels and annotations that
//! can count. The rest, `managedFields` above all, is most of each object: it is skipped where it
//! stands, so that listing tens of thousands of objects builds next to nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ObjectMeta;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// Where keys of ours and of the official webhook begin.
const PREFIXES: [&str; 2] = ["rrsa.io/", "pod-identity.alibabacloud.com/"];

/// A namespace.
#[derive(Debug, Clone, serde::Deserialize, kube::Resource)]
#[resource(inherit = "Namespace")]
pub struct NamespaceView {
    #[serde(deserialize_with = "metadata")]
    /// What counts of its metadata.
    pub metadata: ObjectMeta,
}

/// A ServiceAccount.
#[derive(Debug, Clone, serde::Deserialize, kube::Resource)]
#[resource(inherit = "ServiceAccount")]
pub struct ServiceAccountView {
    #[serde(deserialize_with = "metadata")]
    /// What counts of its metadata.
    pub metadata: ObjectMeta,
}

/// Metadata with nothing but what can count.
pub(super) fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let view = View::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: view.name,
        namespace: view.namespace,
        resource_version: view.resource_version,
        creation_timestamp: view.creation_timestamp,
        labels: view.labels.0,
        annotations: view.annotations.0,
        ..ObjectMeta::default()
    })
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct View {
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    labels: Texts,
    annotations: Texts,
}

/// The texts whose keys can count.
#[derive(Default)]
struct Texts(Option<BTreeMap<String, String>>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_unit<E>(self) -> Result<Texts, E> {
        Ok(Texts(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some(key) = map.next_key::<Key<'de>>()? {
            if PREFIXES.iter().any(|prefix| key.0.starts_with(prefix)) {
                texts.insert(key.0.into_owned(), map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Texts((!texts.is_empty()).then_some(texts)))
    }
}

/// A key, borrowed where it can be.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::annotations::{self, official};
    use serde_json::json;

    #[test]
    fn only_what_can_count_is_built() {
        let object = json!({"kind": "ServiceAccount", "metadata": {
            "name": "app", "namespace": "team-a", "resourceVersion": "7", "uid": "u",
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": null,
            "annotations": {official::ROLE_NAME: "app", annotations::MODE: "oidc", "x\n": "y"},
            "managedFields": [{"fieldsV1": {"f:metadata": {}}}]}, "secrets": []});
        let view: ServiceAccountView = serde_json::from_str(&object.to_string()).unwrap();
        let metadata = view.metadata;
        let names = (metadata.name.as_deref(), metadata.namespace.as_deref());
        assert_eq!(names, (Some("app"), Some("team-a")));
        assert_eq!(metadata.resource_version.as_deref(), Some("7"));
        assert!(metadata.creation_timestamp.is_some());
        assert!(metadata.labels.is_none() && metadata.managed_fields.is_none());
        let kept: Vec<_> = metadata.annotations.unwrap().into_keys().collect();
        assert_eq!(kept, [official::ROLE_NAME, annotations::MODE]);
    }

    #[test]
    fn every_key_of_the_contract_begins_as_those_that_are_read() {
        for key in [
            annotations::ROLE_ARN,
            annotations::MODE,
            annotations::FALLBACK,
            annotations::BINDING,
            official::ROLE_NAME,
            official::TOKEN_EXPIRATION,
            official::INJECT_STS_ENDPOINT,
            official::INJECTION,
            official::OVERRIDE_ENV,
        ] {
            assert!(
                PREFIXES.iter().any(|prefix| key.starts_with(prefix)),
                "{key}"
            );
        }
    }
}
