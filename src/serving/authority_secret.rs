//! The Secret of the authorities in the cluster, shared by all replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::time::timeout;

use super::api_cause;
use super::authorities::SecretData;
use super::keeper::{AuthorityStore, StoreError, Stored};
use crate::contract::{FIELD_MANAGER, MANAGED_BY_LABEL, annotations};
use crate::world::BoxFuture;

/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A Secret by its name.
#[derive(Clone)]
pub struct AuthoritySecret {
    api: Api<Secret>,
    namespace: String,
    name: String,
}

impl std::fmt::Debug for AuthoritySecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl AuthoritySecret {
    /// The Secret of that name.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = kube::Result<T>> + Send,
    ) -> Result<kube::Result<T>, StoreError> {
        timeout(CALL_TIMEOUT, call)
            .await
            .map_err(|_| StoreError(format!("no answer from the API server in {CALL_TIMEOUT:?}")))
    }
}

impl AuthorityStore for AuthoritySecret {
    fn name(&self) -> String {
        format!("Secret {}/{}", self.namespace, self.name)
    }

    fn load(&self) -> BoxFuture<'_, Result<Option<Stored>, StoreError>> {
        Box::pin(async {
            let secret = self
                .call(self.api.get_opt(&self.name))
                .await?
                .map_err(|error| StoreError(api_cause(&error)))?;
            Ok(secret.map(|mut secret| Stored {
                request: secret
                    .annotations_mut()
                    .remove(annotations::ROTATION_REQUESTED_AT),
                version: secret.metadata.resource_version.unwrap_or_default(),
                data: secret
                    .data
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(key, value)| (key, value.0))
                    .collect(),
            }))
        })
    }

    fn create(&self, data: SecretData) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async {
            let (label, value) = MANAGED_BY_LABEL;
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    labels: Some(BTreeMap::from([(label.to_owned(), value.to_owned())])),
                    ..ObjectMeta::default()
                },
                data: Some(bytes(data)),
                type_: Some("kubernetes.io/tls".to_owned()),
                ..Secret::default()
            };
            match self.call(self.api.create(&post_params(), &secret)).await? {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
                Err(error) => Err(StoreError(api_cause(&error))),
            }
        })
    }

    fn replace(&self, loaded: Stored, data: SecretData) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            // Read again for the rest of the object, which is not ours to change. Its version makes
            // the write one of exactly what was loaded.
            let current = self.call(self.api.get_opt(&self.name)).await?;
            let current = current.map_err(|error| StoreError(api_cause(&error)))?;
            let Some(mut secret) = current.filter(|secret| {
                secret.metadata.resource_version.as_ref() == Some(&loaded.version)
            }) else {
                return Ok(false);
            };
            secret.data = Some(bytes(data));
            let written = self
                .call(self.api.replace(&self.name, &post_params(), &secret))
                .await?;
            match written {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
                Err(error) => Err(StoreError(api_cause(&error))),
            }
        })
    }
}

fn bytes(data: SecretData) -> BTreeMap<String, ByteString> {
    data.into_iter()
        .map(|(key, value)| (key, ByteString(value)))
        .collect()
}

fn post_params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}
