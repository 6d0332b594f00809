//! The authority's Secret in the cluster, shared by all replicas.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::timeout;

use super::api_cause;
use super::authority::SecretData;
use super::keeper::{AuthorityStore, StoreError};
use crate::contract::{FIELD_MANAGER, MANAGED_BY_LABEL};
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

    fn load(&self) -> BoxFuture<'_, Result<Option<SecretData>, StoreError>> {
        Box::pin(async {
            let secret = self
                .call(self.api.get_opt(&self.name))
                .await?
                .map_err(|error| StoreError(api_cause(&error)))?;
            let data = secret.map(|secret| secret.data.unwrap_or_default());
            Ok(data.map(|data| {
                data.into_iter()
                    .map(|(key, value)| (key, value.0))
                    .collect()
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
                data: Some(
                    data.into_iter()
                        .map(|(key, value)| (key, ByteString(value)))
                        .collect(),
                ),
                type_: Some("kubernetes.io/tls".to_owned()),
                ..Secret::default()
            };
            let params = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            match self.call(self.api.create(&params, &secret)).await? {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
                Err(error) => Err(StoreError(api_cause(&error))),
            }
        })
    }
}
