//! What the operator and its users may do is an exact list, and the operator uses all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authorization::v1::{ResourceRule, SelfSubjectRulesReview};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rrsa::api::v1alpha1::AlibabaRoleBinding;
use serde_json::{Value, json};

use crate::bindings::{SOON, Scene};
use crate::installation::{NAMESPACE, subject};
use crate::support::kubernetes::Cluster;
use crate::support::wait;
use crate::{installation, with_scene};

const CONTROLLER: &str = "rrsa-controller";
const WEBHOOK: &str = "rrsa-webhook";

/// The controller's rights in every namespace.
pub(crate) const OF_CONTROLLER: &[&str] = &[
    "alibabarolebindings.rrsa.io: list watch",
    "alibabarolebindings/status.rrsa.io: patch",
    "events.events.k8s.io: create",
    "namespaces: list watch",
    "secrets: create delete get list patch update watch",
    "serviceaccounts/token: create",
    "serviceaccounts: get list watch",
];
/// Its further rights in its own namespace.
pub(crate) const OF_CONTROLLER_AT_HOME: &[&str] = &[
    "leases.coordination.k8s.io [rrsa-controller]: get update",
    "leases.coordination.k8s.io: create",
];
/// The webhook's rights in every namespace.
const OF_WEBHOOK: &[&str] = &[
    "alibabarolebindings.rrsa.io: list watch",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io [rrsa]: list patch watch",
    "namespaces: get list watch",
    "serviceaccounts: get list watch",
];
/// Its further rights in its own namespace.
const OF_WEBHOOK_AT_HOME: &[&str] = &["secrets [rrsa-webhook-ca]: get update", "secrets: create"];

/// Rights that the shared installation has no occasion to use: who, what, verb.
const USED_ELSEWHERE: &[(&str, &str, &str)] = &[
    // It has one replica and no election: tests/cluster/replicas.rs has several.
    (CONTROLLER, "leases", "create"),
    (CONTROLLER, "leases", "get"),
    (CONTROLLER, "leases", "update"),
    // For a pod that comes before the watch has shown its namespace or ServiceAccount:
    // tests/webhook/running.rs makes the watch late.
    (WEBHOOK, "namespaces", "get"),
    (WEBHOOK, "serviceaccounts", "get"),
    // The authority is renewed after years, or when somebody asks for it.
    (WEBHOOK, "secrets", "update"),
];

/// Rules as lines: `resource.group [names]: verbs`.
fn lines(rules: impl IntoIterator<Item = ResourceRule>) -> BTreeSet<String> {
    let mut verbs = BTreeMap::<String, BTreeSet<String>>::new();
    for rule in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let mut what = resource.clone();
                if !group.is_empty() {
                    what.extend([".", group]);
                }
                if let Some(names) = rule
                    .resource_names
                    .as_ref()
                    .filter(|names| !names.is_empty())
                {
                    what.extend([" [", &names.join(" "), "]"]);
                }
                verbs.entry(what).or_default().extend(rule.verbs.clone());
            }
        }
    }
    let line = |(what, verbs): (String, BTreeSet<String>)| {
        format!(
            "{what}: {}",
            verbs.into_iter().collect::<Vec<_>>().join(" ")
        )
    };
    verbs.into_iter().map(line).collect()
}

/// What `kubectl auth can-i --list` says.
pub(crate) async fn rights(client: Client, namespace: &str) -> Result<BTreeSet<String>> {
    let review = serde_json::from_value(json!({"spec": {"namespace": namespace}}))?;
    let review = Api::<SelfSubjectRulesReview>::all(client)
        .create(&PostParams::default(), &review)
        .await?;
    Ok(lines(review.status.context("no answer")?.resource_rules))
}

fn expected(lists: &[&[&str]]) -> BTreeSet<String> {
    lists.concat().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn the_operators_rights_are_exactly_these() -> Result<()> {
    with_scene(async |scene| {
        let cluster = Cluster::shared().await?;
        let nobody = cluster
            .kubeconfig_for_service_account(scene.namespace.name(), "app", Duration::from_hours(1))
            .await?;
        let nobody = cluster.client_of(&nobody).await?;
        let home: &[&str] = &[];
        for (account, kubeconfig) in installation().await?.identities() {
            let (anywhere, at_home) = match account {
                CONTROLLER => (OF_CONTROLLER, OF_CONTROLLER_AT_HOME),
                _ => (OF_WEBHOOK, OF_WEBHOOK_AT_HOME),
            };
            for (namespace, more) in [(scene.namespace.name(), home), (NAMESPACE, at_home)] {
                wait::until("the rights of the operator", SOON, async || {
                    let everybody = rights(nobody.clone(), namespace).await?;
                    let client = cluster.client_of(kubeconfig).await?;
                    let own: BTreeSet<_> = rights(client, namespace)
                        .await?
                        .difference(&everybody)
                        .cloned()
                        .collect();
                    let wanted = expected(&[anywhere, more]);
                    ensure!(
                        own == wanted,
                        "{account} in {namespace} has {own:#?}, not {wanted:#?}"
                    );
                    Ok(Some(()))
                })
                .await?;
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn users_may_handle_bindings_and_nothing_beside_them() -> Result<()> {
    installation().await?;
    let roles = Api::<ClusterRole>::all(Cluster::shared().await?.client().await?);
    let reading = "alibabarolebindings.rrsa.io: get list watch";
    let all =
        "alibabarolebindings.rrsa.io: create delete deletecollection get list patch update watch";
    for (role, expected) in [("view", reading), ("edit", all), ("admin", all)] {
        wait::until("the aggregated rights", SOON, async || {
            let rules = roles.get(role).await?.rules.unwrap_or_default();
            let ours = rules.into_iter().map(|rule| ResourceRule {
                api_groups: rule.api_groups,
                resources: rule.resources,
                resource_names: rule.resource_names,
                verbs: rule.verbs,
            });
            let ours: Vec<_> = lines(ours)
                .into_iter()
                .filter(|line| line.contains("rrsa.io"))
                .collect();
            ensure!(ours == [expected], "{role}: {ours:?}");
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

async fn bind(scene: &Scene<'_>, name: &str, spec: Value) -> Result<()> {
    let binding = AlibabaRoleBinding::new(name, serde_json::from_value(spec)?);
    scene
        .bindings()
        .create(&PostParams::default(), &binding)
        .await?;
    Ok(())
}

/// What the ServiceAccount has asked for so far, leaving out what it was refused for want of a
/// right: resource and verb.
fn used(cluster: &Cluster, account: &str) -> Result<BTreeSet<(String, String)>> {
    let calls = cluster.audit()?.calls_of(&subject(NAMESPACE, account))?;
    let allowed = calls
        .into_iter()
        .filter(|call| call.response_status.code != 403);
    Ok(allowed
        .map(|call| {
            let object = call.object_ref;
            let mut resource = object.resource;
            if !object.subresource.is_empty() {
                resource.extend(["/", &object.subresource]);
            }
            (resource, call.verb)
        })
        .collect())
}

/// Resource and verb of lines of rights.
fn granted(lists: &[&[&str]]) -> BTreeSet<(String, String)> {
    let mut pairs = BTreeSet::new();
    for line in lists.concat() {
        let (what, verbs) = line.split_once(": ").unwrap_or((line, ""));
        let resource = what.split([' ', '.']).next().unwrap_or_default();
        pairs.extend(
            verbs
                .split(' ')
                .map(|verb| (resource.to_owned(), verb.to_owned())),
        );
    }
    pairs
}

/// Makes the controller do everything that it can do; each binding gives one occasion.
async fn exercise(scene: &Scene<'_>) -> Result<()> {
    let bindings = scene.bindings();
    let plain = PatchParams::default();
    for name in ["renewed", "reshaped", "renamed", "touched"] {
        bind(scene, name, scene.spec()).await?;
    }
    let mut without_account = scene.spec();
    without_account["serviceAccountName"] = json!("absent");
    bind(scene, "lonely", without_account).await?;
    for name in ["renewed", "reshaped", "renamed", "touched"] {
        let secret = format!("{name}-credentials");
        wait::until(&secret, SOON, async || {
            Ok(scene.secrets().get_opt(&secret).await?)
        })
        .await?;
    }
    let ask = json!({"metadata": {"annotations": {"rrsa.io/refresh-requested-at": "now"}}});
    bindings
        .patch("renewed", &plain, &Patch::Merge(ask))
        .await?;
    let reshape = json!({"spec": {"secret": {"formats": ["env"]}}});
    bindings
        .patch("reshaped", &plain, &Patch::Merge(reshape))
        .await?;
    let rename = json!({"spec": {"secret": {"name": "another"}}});
    bindings
        .patch("renamed", &plain, &Patch::Merge(rename))
        .await?;
    let touch = PatchParams {
        field_manager: Some("somebody".to_owned()),
        ..PatchParams::default()
    };
    let more = Patch::Merge(json!({"data": {"more": "eA=="}}));
    scene
        .secrets()
        .patch("touched-credentials", &touch, &more)
        .await?;
    Ok(())
}

#[tokio::test]
async fn every_right_of_the_operator_is_used() -> Result<()> {
    Cluster::shared().await?.require_own("the audit log")?;
    with_scene(async |scene| {
        exercise(scene).await?;
        let cluster = Cluster::shared().await?;
        for (account, granted) in [
            (CONTROLLER, granted(&[OF_CONTROLLER, OF_CONTROLLER_AT_HOME])),
            (WEBHOOK, granted(&[OF_WEBHOOK, OF_WEBHOOK_AT_HOME])),
        ] {
            wait::until("the use of every right", SOON, async || {
                let used = used(cluster, account)?;
                let idle: Vec<_> = granted
                    .difference(&used)
                    .filter(|(resource, verb)| {
                        !USED_ELSEWHERE.contains(&(account, resource.as_str(), verb.as_str()))
                    })
                    .collect();
                ensure!(idle.is_empty(), "{account} never used {idle:?}");
                Ok(Some(()))
            })
            .await?;
        }
        Ok(())
    })
    .await
}
