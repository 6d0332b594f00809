//! What is known about a namespace or a ServiceAccount: the few texts that decide, and nothing
//! else, because tens of thousands of them stay in memory.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use kube::core::ObjectMeta;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bindings::Bindings;
use crate::contract::annotations::{self, official};
use crate::world::BoxFuture;

/// Longest value that is kept. Every legal one is shorter, and a longer one ends in `…`, so that it is not legal.
const MAX_VALUE: usize = 512;

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceFacts {
    /// Label `pod-identity.alibabacloud.com/injection`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub injection: Option<Box<str>>,
    /// Label `pod-identity.alibabacloud.com/override-env`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub override_env: Option<Box<str>>,
}

/// A ServiceAccount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceAccountFacts {
    /// Annotation `rrsa.io/role-arn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<Box<str>>,
    /// Annotation `rrsa.io/mode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Box<str>>,
    /// Annotation `rrsa.io/fallback`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Box<str>>,
    /// Annotation `rrsa.io/binding`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<Box<str>>,
    /// Annotation `pod-identity.alibabacloud.com/role-name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_name: Option<Box<str>>,
    /// Annotation `pod-identity.alibabacloud.com/service-account-token-expiration`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_expiration: Option<Box<str>>,
    /// Annotation `pod-identity.alibabacloud.com/inject-sts-endpoint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inject_sts_endpoint: Option<Box<str>>,
}

/// Facts as they are made from an object's metadata.
pub trait FromMetadata:
    Debug + Default + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Takes what counts.
    fn from_metadata(metadata: &ObjectMeta) -> Self;
}

impl FromMetadata for NamespaceFacts {
    fn from_metadata(metadata: &ObjectMeta) -> Self {
        let labels = metadata.labels.as_ref();
        Self {
            injection: kept(labels, official::INJECTION),
            override_env: kept(labels, official::OVERRIDE_ENV),
        }
    }
}

impl FromMetadata for ServiceAccountFacts {
    fn from_metadata(metadata: &ObjectMeta) -> Self {
        let texts = metadata.annotations.as_ref();
        Self {
            role_arn: kept(texts, annotations::ROLE_ARN),
            mode: kept(texts, annotations::MODE),
            fallback: kept(texts, annotations::FALLBACK),
            binding: kept(texts, annotations::BINDING),
            role_name: kept(texts, official::ROLE_NAME),
            token_expiration: kept(texts, official::TOKEN_EXPIRATION),
            inject_sts_endpoint: kept(texts, official::INJECT_STS_ENDPOINT),
        }
    }
}

fn kept(texts: Option<&BTreeMap<String, String>>, key: &str) -> Option<Box<str>> {
    let value = texts?.get(key)?;
    if value.len() <= MAX_VALUE {
        return Some(value.as_str().into());
    }
    let end = value.floor_char_boundary(MAX_VALUE);
    Some(format!("{}…", &value[..end]).into())
}

/// Why something could not be looked up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be read from the API server: {cause}; the pod can be created again")]
pub struct LookupError {
    /// Kind and name.
    pub what: String,
    /// What went wrong.
    pub cause: String,
}

/// What a look-up ends with: facts, or the certainty that there is no such object.
pub type Found<T> = Result<Option<Arc<T>>, LookupError>;

/// Where facts come from.
pub trait Cluster: Debug + Send + Sync {
    /// A namespace, if the cache has it.
    fn cached_namespace(&self, name: &str) -> Option<Arc<NamespaceFacts>>;

    /// A ServiceAccount, if the cache has it.
    fn cached_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<ServiceAccountFacts>>;

    /// The bindings of a namespace, as the cache has them.
    fn cached_bindings(&self, namespace: &str) -> Arc<Bindings>;

    /// A namespace as the API server has it now, with a dead-line.
    fn namespace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Found<NamespaceFacts>>;

    /// A ServiceAccount as the API server has it now, with a dead-line.
    fn service_account<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Found<ServiceAccountFacts>>;

    /// The bindings of a namespace as the API server has them now, with a dead-line; `None`
    /// where it has none.
    fn bindings<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Found<Bindings>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_keys_are_kept_and_long_values_are_cut() {
        let metadata = ObjectMeta {
            annotations: Some(BTreeMap::from([
                (official::ROLE_NAME.to_owned(), "é".repeat(1_000_000)),
                ("other".to_owned(), "x".to_owned()),
            ])),
            ..ObjectMeta::default()
        };
        let facts = ServiceAccountFacts::from_metadata(&metadata);
        let role = facts.role_name.as_deref().unwrap();
        assert_eq!(role.len(), MAX_VALUE + "…".len());
        assert!(role.ends_with('…'));
        assert_eq!(
            facts,
            ServiceAccountFacts {
                role_name: facts.role_name.clone(),
                ..Default::default()
            }
        );
    }
}
