//! Thousands of objects.

use anyhow::Result;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};
use rrsa::api::v1alpha1::AlibabaRoleBinding;
use serde_json::{Value, json};

use crate::servers::ANNOTATIONS;
use crate::support::kubernetes::Cluster;

/// ServiceAccounts in each namespace.
const EACH: usize = 5;
/// Creations under way at once.
const AT_ONCE: usize = 64;

/// The objects that were made so far.
pub(crate) struct Objects {
    client: Client,
    accounts: usize,
}

impl Objects {
    pub(crate) async fn new(cluster: &Cluster) -> Result<Self> {
        Ok(Self {
            client: cluster.client().await?,
            accounts: 0,
        })
    }

    /// Adds namespaces and annotated ServiceAccounts until there are so many.
    pub(crate) async fn accounts(&mut self, wanted: usize) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let missing = self.accounts.div_ceil(EACH)..wanted.div_ceil(EACH);
        let labels = json!({"pod-identity.alibabacloud.com/injection": "on"});
        create(missing.map(|number| {
            let object = json!({"metadata": {"name": namespace(number), "labels": labels}});
            (namespaces.clone(), object)
        }))
        .await?;
        let annotations: Value = ANNOTATIONS
            .map(|(key, value)| (key.to_owned(), json!(value)))
            .into_iter()
            .collect();
        create((self.accounts..wanted).map(|number| {
            let name = format!("account-{}", number % EACH);
            let object = json!({"metadata": {"name": name, "annotations": annotations}});
            let api =
                Api::<ServiceAccount>::namespaced(self.client.clone(), &namespace(number / EACH));
            (api, object)
        }))
        .await?;
        self.accounts = wanted.max(self.accounts);
        Ok(())
    }

    /// Adds bindings, one for each ServiceAccount from the first on.
    pub(crate) async fn bindings(&self, wanted: usize) -> Result<()> {
        create((0..wanted.min(self.accounts)).map(|number| {
            let name = format!("account-{}", number % EACH);
            let role = format!("acs:ram::1234567890123456:role/team/of-{number}");
            let object = json!({
                "apiVersion": "rrsa.io/v1alpha1", "kind": "AlibabaRoleBinding",
                "metadata": {"name": name},
                "spec": {"role": {"arn": role}, "serviceAccountName": name, "injectPods": true},
            });
            let namespace = namespace(number / EACH);
            (
                Api::<AlibabaRoleBinding>::namespaced(self.client.clone(), &namespace),
                object,
            )
        }))
        .await
    }
}

fn namespace(number: usize) -> String {
    format!("team-{number:05}")
}

async fn create<K>(objects: impl Iterator<Item = (Api<K>, Value)>) -> Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let params = PostParams::default();
    futures::stream::iter(objects)
        .map(|(api, object)| {
            let params = &params;
            async move {
                let object: K = serde_json::from_value(object)?;
                api.create(params, &object).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}
