//! Namespaces with bindings, each with a ServiceAccount of its own.

use anyhow::{Context, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use rrsa::api::v1alpha1::AlibabaRoleBinding;
use serde_json::json;

/// Requests under way at the same time.
const AT_ONCE: usize = 24;

/// A set of bindings, spread over namespaces.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    /// Start of the namespaces' names.
    pub(crate) prefix: &'static str,
    pub(crate) namespaces: usize,
    pub(crate) bindings: usize,
    /// The role of all of them.
    pub(crate) role: String,
    pub(crate) duration_seconds: u32,
}

impl Objects {
    pub(crate) fn namespace(&self, number: usize) -> String {
        format!("{}-{}", self.prefix, number % self.namespaces)
    }

    /// Makes them all.
    pub(crate) async fn make(&self, client: &Client) -> Result<()> {
        let post = PostParams::default();
        let names = (0..self.namespaces).map(|number| self.namespace(number));
        stream::iter(names)
            .map(|name| {
                let api = Api::<Namespace>::all(client.clone());
                let post = &post;
                async move {
                    let namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
                    api.create(post, &namespace).await.context("a namespace")?;
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        stream::iter(0..self.bindings)
            .map(|number| self.make_one(client, number))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }

    async fn make_one(&self, client: &Client, number: usize) -> Result<()> {
        let post = PostParams::default();
        let namespace = self.namespace(number);
        let name = format!("app-{number}");
        let account = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        Api::<ServiceAccount>::namespaced(client.clone(), &namespace)
            .create(&post, &account)
            .await
            .context("a ServiceAccount")?;
        let binding: AlibabaRoleBinding = serde_json::from_value(json!({
            "apiVersion": "rrsa.io/v1alpha1",
            "kind": "AlibabaRoleBinding",
            "metadata": {"name": name},
            "spec": {
                "role": {"arn": self.role},
                "serviceAccountName": name,
                "session": {"durationSeconds": self.duration_seconds},
            },
        }))?;
        Api::<AlibabaRoleBinding>::namespaced(client.clone(), &namespace)
            .create(&post, &binding)
            .await
            .context("a binding")?;
        Ok(())
    }

    /// How many of them are ready.
    pub(crate) async fn ready(&self, client: &Client) -> Result<usize> {
        let api = Api::<AlibabaRoleBinding>::all(client.clone());
        let mut ready = 0;
        let mut page = ListParams::default().limit(1000);
        loop {
            let list = api.list(&page).await?;
            ready += list
                .items
                .iter()
                .filter(|binding| {
                    let namespace = binding.metadata.namespace.as_deref().unwrap_or_default();
                    namespace
                        .strip_prefix(self.prefix)
                        .is_some_and(|rest| rest.starts_with('-'))
                })
                .filter_map(|binding| binding.status.as_ref())
                .filter(|status| {
                    status
                        .conditions
                        .iter()
                        .any(|c| c.type_ == "Ready" && c.status == "True")
                })
                .count();
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => return Ok(ready),
            }
        }
    }
}
