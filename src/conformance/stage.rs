//! The namespaces and ServiceAccounts that the cases need, made for a run and taken away after
//! it, whatever comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::ObjectMeta;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::time::timeout;

use super::case::{Case, Texts};
use crate::contract::annotations::CONFORMANCE;

/// How long one call may take: the API server itself waits up to 30 s for a webhook.
const CALL_TIMEOUT: Duration = Duration::from_secs(40);
/// Objects a page when leftovers are looked for.
const PAGE: u32 = 500;

/// Where the cases are played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The namespace that asks for nothing, and whose ServiceAccounts name no role.
    pub plain: String,
    /// Namespaces by name.
    namespaces: BTreeMap<String, Planned>,
    /// Namespace and ServiceAccount of each case.
    places: Vec<(String, String)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Planned {
    labels: Texts,
    /// Annotations of the ServiceAccounts by name.
    accounts: BTreeMap<String, Texts>,
}

impl Plan {
    /// One namespace for each set of labels, and in it one ServiceAccount for each set of
    /// annotations, under names that begin so.
    #[must_use]
    pub fn new(prefix: &str, cases: &[Case]) -> Self {
        let labels: BTreeSet<&Texts> = cases.iter().map(|case| &case.body.namespace).collect();
        let annotations: BTreeSet<&Texts> = cases
            .iter()
            .map(|case| &case.body.service_account)
            .collect();
        let number = |sets: &BTreeSet<&Texts>, set: &Texts| {
            sets.iter().position(|one| *one == set).unwrap_or_default()
        };
        let plain = format!("{prefix}-plain");
        let mut namespaces = BTreeMap::from([(plain.clone(), Planned::default())]);
        let mut places = Vec::with_capacity(cases.len());
        for case in cases {
            let namespace = format!("{prefix}-{}", number(&labels, &case.body.namespace));
            let account = format!("app-{}", number(&annotations, &case.body.service_account));
            let planned = namespaces.entry(namespace.clone()).or_default();
            planned.labels.clone_from(&case.body.namespace);
            let wanted = case.body.service_account.clone();
            planned.accounts.insert(account.clone(), wanted);
            if let Some(plain) = namespaces.get_mut(&plain) {
                plain.accounts.insert(account.clone(), Texts::new());
            }
            places.push((namespace, account));
        }
        Self {
            plain,
            namespaces,
            places,
        }
    }

    /// Namespace and ServiceAccount of a case.
    #[must_use]
    pub fn place(&self, case: usize) -> (&str, &str) {
        let (namespace, account) = &self.places[case];
        (namespace, account)
    }

    /// The names of the namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.namespaces.keys().map(String::as_str)
    }
}

/// The cluster, as far as a run touches it.
pub struct Stage {
    client: Client,
    /// The value of the label that finds a run's namespaces.
    run: String,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage")
            .field("run", &self.run)
            .finish_non_exhaustive()
    }
}

impl Stage {
    /// A stage for the run of that name. Nothing is made yet.
    #[must_use]
    pub const fn new(client: Client, run: String) -> Self {
        Self { client, run }
    }

    /// Makes one of the planned namespaces with its ServiceAccounts.
    ///
    /// # Errors
    /// Tells what could not be made and which right that takes.
    pub async fn set(&self, plan: &Plan, namespace: &str) -> anyhow::Result<()> {
        let Some(planned) = plan.namespaces.get(namespace) else {
            return Ok(());
        };
        let mut labels = planned.labels.clone();
        labels.insert(CONFORMANCE.to_owned(), self.run.clone());
        let object = Namespace {
            metadata: metadata(namespace, Some(labels), None),
            ..Namespace::default()
        };
        let namespaces = Api::<Namespace>::all(self.client.clone());
        within(namespaces.create(&PostParams::default(), &object))
            .await
            .with_context(|| {
                format!("namespace {namespace} cannot be made (it takes the right to create and delete namespaces)")
            })?;
        let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        for (name, annotations) in &planned.accounts {
            let object = ServiceAccount {
                metadata: metadata(name, None, Some(annotations.clone())),
                ..ServiceAccount::default()
            };
            within(accounts.create(&PostParams::default(), &object))
                .await
                .with_context(|| {
                    format!("ServiceAccount {namespace}/{name} cannot be made (it takes the right to create serviceaccounts)")
                })?;
        }
        Ok(())
    }

    /// What the API server would store if the pod were created.
    ///
    /// # Errors
    /// The API server's refusal, or why it did not answer.
    pub async fn dry_run(&self, namespace: &str, pod: Value) -> anyhow::Result<Value> {
        let resource = ApiResource::erase::<Pod>(&());
        let pods = Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, &resource);
        let parameters = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let pod = serde_json::from_value(pod)?;
        let made = within(pods.create(&parameters, &pod)).await?;
        Ok(serde_json::to_value(made)?)
    }

    /// Takes the planned namespaces away, those that were never made included.
    ///
    /// # Errors
    /// Names what is left and how to get rid of it.
    pub async fn clear(&self, plan: &Plan) -> anyhow::Result<()> {
        let mut left = Vec::new();
        for name in plan.namespaces() {
            if let Err(error) = self.delete(name).await {
                left.push(format!("{name} ({error:#})"));
            }
        }
        anyhow::ensure!(
            left.is_empty(),
            "these namespaces of the run are left: {}; remove them with rrsa conformance --cleanup",
            left.join(", ")
        );
        Ok(())
    }

    /// Takes away what earlier runs left whose names begin so, and returns the names.
    ///
    /// # Errors
    /// When namespaces cannot be listed or deleted.
    pub async fn clear_all(client: Client, prefix: &str) -> anyhow::Result<Vec<String>> {
        let stage = Self::new(client, String::new());
        let namespaces = Api::<Namespace>::all(stage.client.clone());
        let mut page = ListParams::default().labels(CONFORMANCE).limit(PAGE);
        let mut deleted = Vec::new();
        loop {
            let listed = within(namespaces.list_metadata(&page))
                .await
                .context("namespaces cannot be listed")?;
            let names = listed.items.iter().map(ResourceExt::name_any);
            for name in names.filter(|name| name.starts_with(prefix)) {
                stage
                    .delete(&name)
                    .await
                    .with_context(|| format!("namespace {name} cannot be deleted"))?;
                deleted.push(name);
            }
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(deleted),
            }
        }
    }

    async fn delete(&self, namespace: &str) -> anyhow::Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        let parameters = DeleteParams::default();
        match timeout(CALL_TIMEOUT, namespaces.delete(namespace, &parameters)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(no_answer()),
        }
    }
}

fn metadata(name: &str, labels: Option<Texts>, annotations: Option<Texts>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        labels,
        annotations,
        ..ObjectMeta::default()
    }
}

async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> anyhow::Result<T> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(no_answer()),
    }
}

fn no_answer() -> anyhow::Error {
    anyhow::anyhow!("the API server did not answer within {CALL_TIMEOUT:?}")
}

#[cfg(test)]
mod tests {
    use super::super::suite::cases;
    use super::*;

    #[test]
    fn cases_of_the_same_labels_share_a_namespace_and_the_plain_one_names_no_role() {
        let cases = cases(true).unwrap();
        let plan = Plan::new("x", &cases);
        assert!(plan.namespaces().count() < 12, "{plan:?}");
        assert!(
            plan.namespaces[&plan.plain]
                .accounts
                .values()
                .all(Texts::is_empty)
        );
        for (index, case) in cases.iter().enumerate() {
            let (namespace, account) = plan.place(index);
            assert_ne!(namespace, plan.plain);
            let planned = &plan.namespaces[namespace];
            assert_eq!(planned.labels, case.body.namespace);
            assert_eq!(planned.accounts[account], case.body.service_account);
            assert!(plan.namespaces[&plan.plain].accounts.contains_key(account));
        }
    }
}
