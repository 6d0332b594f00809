//! What whoever holds the operator's token cannot do, tried with that very token on the real API
//! server: each attempt is refused by the policy or the missing right that SECURITY.md names.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use rrsa::api::v1alpha1::AlibabaRoleBinding;
use serde_json::{Value, json};

use crate::bindings::{SOON, Scene};
use crate::installation::NAMESPACE;
use crate::support::kubernetes::Cluster;
use crate::support::wait;
use crate::{installation, with_scene};

const CONTROLLER: &str = "rrsa-controller";
const WEBHOOK: &str = "rrsa-webhook";

/// A client with the token of one of the operator's ServiceAccounts.
async fn client_of(account: &str) -> Result<Client> {
    let installation = installation().await?;
    let identities = installation.identities();
    let (_, kubeconfig) = identities
        .iter()
        .find(|(name, _)| *name == account)
        .context("no such identity")?;
    Cluster::shared().await?.client_of(kubeconfig).await
}

/// Fails unless the attempt was refused as forbidden, with that text in the message.
pub(crate) fn refused<T>(attempt: &str, outcome: kube::Result<T>, expected: &str) -> Result<()> {
    match outcome {
        Ok(_) => bail!("{attempt}: it was allowed"),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            ensure!(
                status.message.contains(expected),
                "{attempt}: refused, but not by {expected:?}: {}",
                status.message
            );
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("{attempt}: not refused but failed")),
    }
}

/// Policies reach the API server's caches within moments: waits until they stand.
async fn policies_stand(scene: &Scene<'_>) -> Result<()> {
    let accounts = accounts_as(scene, CONTROLLER).await?;
    wait::until("the policy on tokens", SOON, async || {
        let request = token_request(&json!({"audiences": ["elsewhere"]}))?;
        let asked = ask(&accounts, &request, false).await;
        refused("a token for another audience", asked, "audience")?;
        Ok(Some(()))
    })
    .await?;
    for (account, expected) in [
        (CONTROLLER, "AlibabaRoleBinding"),
        (WEBHOOK, "rrsa-webhook-ca"),
    ] {
        let secrets = Api::<Secret>::namespaced(client_of(account).await?, NAMESPACE);
        let parameters = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        wait::until("the policies on Secrets", SOON, async || {
            let probe = secret(json!({"metadata": {"name": "probe"}}))?;
            refused(
                "a Secret of its own",
                secrets.create(&parameters, &probe).await,
                expected,
            )?;
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

async fn accounts_as(scene: &Scene<'_>, account: &str) -> Result<Api<ServiceAccount>> {
    Ok(Api::namespaced(
        client_of(account).await?,
        scene.namespace.name(),
    ))
}

async fn secrets_as_controller(scene: &Scene<'_>) -> Result<Api<Secret>> {
    Ok(Api::namespaced(
        client_of(CONTROLLER).await?,
        scene.namespace.name(),
    ))
}

/// Asks for a token of the ServiceAccount `app`.
async fn ask(
    accounts: &Api<ServiceAccount>,
    request: &TokenRequest,
    dry_run: bool,
) -> kube::Result<TokenRequest> {
    let parameters = PostParams {
        dry_run,
        ..PostParams::default()
    };
    accounts
        .create_token_request("app", &parameters, request)
        .await
}

fn token_request(spec: &Value) -> Result<TokenRequest> {
    Ok(serde_json::from_value(json!({"spec": spec}))?)
}

fn secret(object: Value) -> Result<Secret> {
    Ok(serde_json::from_value(object)?)
}

#[tokio::test]
async fn tokens_are_for_sts_only_and_short_lived() -> Result<()> {
    with_scene(async |scene| {
        policies_stand(scene).await?;
        let accounts = accounts_as(scene, CONTROLLER).await?;
        let good = json!({"audiences": ["sts.aliyuncs.com"], "expirationSeconds": 600});
        let with = |change: Value| {
            let mut spec = good.clone();
            for (key, value) in change.as_object().into_iter().flatten() {
                spec[key] = value.clone();
            }
            spec
        };
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "name": "app", "uid": "1"});
        let node = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1"});
        let held = json!({"apiVersion": "v1", "kind": "Secret", "name": "s", "uid": "1"});
        let attempts = [
            (
                "another audience",
                with(json!({"audiences": ["vault"]})),
                "audience",
            ),
            (
                "the API server's audience",
                with(json!({"audiences": []})),
                "audience",
            ),
            (
                "no word of audiences",
                with(json!({"audiences": null})),
                "audience",
            ),
            (
                "a second audience",
                with(json!({"audiences": ["sts.aliyuncs.com", "https://kubernetes.default.svc"]})),
                "audience",
            ),
            (
                "a second more",
                with(json!({"expirationSeconds": 601})),
                "600 seconds",
            ),
            (
                "a day",
                with(json!({"expirationSeconds": 86_400})),
                "600 seconds",
            ),
            (
                "no word of the life",
                with(json!({"expirationSeconds": null})),
                "600 seconds",
            ),
            (
                "bound to a pod",
                with(json!({"boundObjectRef": pod})),
                "bound to an object",
            ),
            (
                "bound to a node",
                with(json!({"boundObjectRef": node})),
                "bound to an object",
            ),
            (
                "bound to a Secret",
                with(json!({"boundObjectRef": held})),
                "bound to an object",
            ),
        ];
        for (attempt, spec, expected) in attempts {
            for dry_run in [false, true] {
                let request = token_request(&spec)?;
                refused(attempt, ask(&accounts, &request, dry_run).await, expected)?;
            }
        }
        let request = token_request(&good)?;
        let made = ask(&accounts, &request, false).await;
        let made = made.context("what the operator needs is refused")?;
        ensure!(made.status.and_then(|status| status.token).is_some());

        // The webhook may not have any.
        let accounts = accounts_as(scene, WEBHOOK).await?;
        let asked = ask(&accounts, &request, false).await;
        refused("a token for the webhook", asked, "cannot create")
    })
    .await
}

/// Makes Secrets that are somebody else's, and returns their names with what they are.
async fn foreign_secrets(scene: &Scene<'_>) -> Result<[Secret; 2]> {
    // The label alone makes it nobody's.
    let labels = json!({"app.kubernetes.io/managed-by": "rrsa"});
    let account = scene.namespace.api::<ServiceAccount>().get("app").await?;
    let theirs = secret(json!({
        "metadata": {"name": "theirs", "labels": labels},
        "stringData": {"password": "of somebody else"},
    }))?;
    let owned = secret(json!({
        "metadata": {
            "name": "owned",
            "labels": labels,
            // The annotations of a retained Secret do not outweigh another controller.
            "annotations": {"rrsa.io/binding": "app", "rrsa.io/binding-uid": "1"},
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "ServiceAccount", "name": "app",
                "uid": account.metadata.uid, "controller": true,
            }],
        },
        "stringData": {"password": "of somebody else"},
    }))?;
    let parameters = PostParams::default();
    let secrets = scene.secrets();
    Ok([
        secrets.create(&parameters, &theirs).await?,
        secrets.create(&parameters, &owned).await?,
    ])
}

/// Every patch that would write a Secret, or read it in the answer.
fn patches(name: &str) -> Result<Vec<(&'static str, PatchParams, Patch<Value>)>> {
    let plain = PatchParams::default();
    let apply = PatchParams::apply("rrsa").force();
    let dry = PatchParams {
        dry_run: true,
        ..apply.clone()
    };
    let nothing = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    let owners = json!([fake_owner()]);
    let mut taken = nothing.clone();
    taken["metadata"]["ownerReferences"] = owners.clone();
    taken["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "rrsa"});
    let retained = json!({"metadata": {
        "ownerReferences": null,
        "annotations": {"rrsa.io/binding": "app", "rrsa.io/binding-uid": "1"},
    }});
    let add = json!([{"op": "add", "path": "/data/more", "value": "eA=="}]);
    let steal = json!({"metadata": {"ownerReferences": owners}});
    let more = json!({"data": {"more": "eA=="}});
    Ok(vec![
        (
            "an empty apply",
            apply.clone(),
            Patch::Apply(nothing.clone()),
        ),
        ("a dry one", dry, Patch::Apply(nothing)),
        ("an apply that takes it", apply, Patch::Apply(taken)),
        ("an empty merge", plain.clone(), Patch::Merge(json!({}))),
        ("an owner put on it", plain.clone(), Patch::Merge(steal)),
        ("the retained mark", plain.clone(), Patch::Merge(retained)),
        ("a strategic patch", plain.clone(), Patch::Strategic(more)),
        (
            "a JSON patch",
            plain,
            Patch::Json(serde_json::from_value(add)?),
        ),
    ])
}

/// A binding that does not exist, as the controller of a Secret.
fn fake_owner() -> Value {
    json!({
        "apiVersion": "rrsa.io/v1alpha1", "kind": "AlibabaRoleBinding", "name": "app",
        "uid": "00000000-0000-0000-0000-000000000000", "controller": true,
    })
}

#[tokio::test]
async fn foreign_secrets_are_neither_written_nor_read_by_writing() -> Result<()> {
    with_scene(async |scene| {
        policies_stand(scene).await?;
        let secrets = secrets_as_controller(scene).await?;
        let by_policy = "no AlibabaRoleBinding controls it";
        for foreign in foreign_secrets(scene).await? {
            let name = &foreign.metadata.name.clone().unwrap_or_default();
            for (attempt, parameters, patch) in patches(name)? {
                let patched = secrets.patch(name, &parameters, &patch).await;
                // A second controller is nothing that the API server takes from anybody.
                if matches!(&patched, Err(kube::Error::Api(status))
                    if status.message.contains("Only one reference can have Controller"))
                {
                    continue;
                }
                refused(attempt, patched, by_policy)?;
            }
            let mut taken = foreign.clone();
            taken.metadata.owner_references = Some(serde_json::from_value(json!([fake_owner()]))?);
            let replaced = secrets.replace(name, &PostParams::default(), &taken).await;
            refused("a replacement", replaced, by_policy)?;
            let deleted = secrets.delete(name, &DeleteParams::default()).await;
            refused("a deletion", deleted, by_policy)?;
            let now = scene.secrets().get(name).await?;
            ensure!(now.metadata.resource_version == foreign.metadata.resource_version);
        }
        let all = secrets
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await;
        refused("a deletion of all", all, "cannot deletecollection")
    })
    .await
}

/// Secrets that the operator has no business making, and what the refusal says.
fn strange_secrets() -> Vec<(&'static str, Value, &'static str)> {
    let labels = json!({"app.kubernetes.io/managed-by": "rrsa"});
    let with_owner = |change: Value| {
        let mut owner = fake_owner();
        for (key, value) in change.as_object().into_iter().flatten() {
            owner[key] = value.clone();
        }
        json!({"metadata": {"labels": labels, "ownerReferences": [owner]}})
    };
    let of_type = |kind: &str| {
        let mut object = with_owner(json!({}));
        object["type"] = json!(kind);
        object
    };
    let mut token = of_type("kubernetes.io/service-account-token");
    token["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "app"});
    let mut unlabelled = with_owner(json!({}));
    unlabelled["metadata"]["labels"] = json!({});
    let mut of_helm = with_owner(json!({}));
    of_helm["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "Helm"});
    let half = json!({"metadata": {"labels": labels, "annotations": {"rrsa.io/binding": "app"}}});
    let ours = "controls";
    vec![
        ("nobody's", json!({"metadata": {}}), ours),
        (
            "only labelled",
            json!({"metadata": {"labels": labels}}),
            ours,
        ),
        (
            "of another kind",
            with_owner(json!({"kind": "Deployment"})),
            ours,
        ),
        (
            "of another group",
            with_owner(json!({"apiVersion": "rrsa.io.example.com/v1"})),
            ours,
        ),
        (
            "owned but not controlled",
            with_owner(json!({"controller": false})),
            ours,
        ),
        ("without the label", unlabelled, ours),
        ("with another's label", of_helm, ours),
        ("half of the retained mark", half, ours),
        ("a token that the cluster fills in", token, "type Opaque"),
        (
            "a release of Helm",
            of_type("helm.sh/release.v1"),
            "type Opaque",
        ),
    ]
}

#[tokio::test]
async fn no_secret_is_made_but_that_of_a_binding() -> Result<()> {
    with_scene(async |scene| {
        policies_stand(scene).await?;
        let secrets = secrets_as_controller(scene).await?;
        for (attempt, object, expected) in strange_secrets() {
            let mut named = object.clone();
            named["metadata"]["name"] = json!("made");
            let created = secrets
                .create(&PostParams::default(), &secret(named.clone())?)
                .await;
            refused(attempt, created, expected)?;
            let mut unnamed = object.clone();
            unnamed["metadata"]["generateName"] = json!("made-");
            let created = secrets
                .create(&PostParams::default(), &secret(unnamed)?)
                .await;
            refused(attempt, created, expected)?;
            named["apiVersion"] = json!("v1");
            named["kind"] = json!("Secret");
            let apply = PatchParams::apply("rrsa").force();
            let applied = secrets.patch("made", &apply, &Patch::Apply(named)).await;
            refused(attempt, applied, expected)?;
        }

        // A bootstrap token would let a stranger join as a node.
        let system = Api::<Secret>::namespaced(client_of(CONTROLLER).await?, "kube-system");
        let bootstrap = secret(json!({
            "metadata": {
                "name": "bootstrap-token-abcdef",
                "labels": {"app.kubernetes.io/managed-by": "rrsa"},
                "ownerReferences": [fake_owner()],
            },
            "type": "bootstrap.kubernetes.io/token",
            "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef"},
        }))?;
        let created = system.create(&PostParams::default(), &bootstrap).await;
        refused("a bootstrap token", created, "type Opaque")?;
        let left: Vec<_> = scene.secrets().list(&ListParams::default()).await?.items;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_bindings_secret_can_be_written_but_not_let_go() -> Result<()> {
    with_scene(async |scene| {
        policies_stand(scene).await?;
        // As it stands nobody looks after it: what the attempts do is not repaired meanwhile.
        scene.issue().await?;
        scene.change(json!({"suspend": true})).await?;
        scene.says("Ready", "Unknown", "Suspended").await?;
        let secrets = secrets_as_controller(scene).await?;
        let plain = PatchParams::default();
        let other = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "x",
            "uid": "00000000-0000-0000-0000-000000000000", "controller": true,
        }]);
        for (attempt, change) in [
            (
                "to nobody",
                json!({"metadata": {"ownerReferences": null, "annotations": null}}),
            ),
            (
                "to somebody else",
                json!({"metadata": {"ownerReferences": other}}),
            ),
            ("without the label", json!({"metadata": {"labels": null}})),
        ] {
            let patched = secrets
                .patch("app-credentials", &plain, &Patch::Merge(change))
                .await;
            refused(attempt, patched, "controls")?;
        }
        // To the annotations alone, as deletionPolicy Retain does it, and back.
        let owners = scene
            .secrets()
            .get("app-credentials")
            .await?
            .metadata
            .owner_references;
        for owners in [json!(null), serde_json::to_value(owners)?] {
            let change = Patch::Merge(json!({"metadata": {"ownerReferences": owners}}));
            secrets
                .patch("app-credentials", &plain, &change)
                .await
                .context("a Secret of ours cannot be written")?;
        }
        secrets
            .delete("app-credentials", &DeleteParams::default())
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_webhook_makes_no_secret_but_its_authority() -> Result<()> {
    with_scene(async |scene| {
        policies_stand(scene).await?;
        let secrets = Api::<Secret>::namespaced(client_of(WEBHOOK).await?, NAMESPACE);
        let by_policy = "only the Secret rrsa-webhook-ca of type kubernetes.io/tls";
        let token = |name: &str| {
            secret(json!({
                "metadata": {
                    "name": name,
                    "annotations": {"kubernetes.io/service-account.name": "rrsa-controller"},
                },
                "type": "kubernetes.io/service-account-token",
            }))
        };
        // It may read what has this name: the controller's token must not get there.
        for name in ["rrsa-webhook-ca", "another"] {
            let parameters = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            let created = secrets.create(&parameters, &token(name)?).await;
            refused("the controller's token", created, by_policy)?;
        }
        let generated = secret(json!({
            "metadata": {"generateName": "rrsa-webhook-ca"},
            "type": "kubernetes.io/tls",
            "stringData": {"tls.crt": "", "tls.key": ""},
        }))?;
        let created = secrets.create(&PostParams::default(), &generated).await;
        refused("another name", created, by_policy)?;
        let elsewhere =
            Api::<Secret>::namespaced(client_of(WEBHOOK).await?, scene.namespace.name());
        let created = elsewhere.create(&PostParams::default(), &token("x")?).await;
        refused("another namespace", created, "cannot create")?;
        let read = elsewhere.list(&ListParams::default()).await;
        refused("other Secrets", read, "cannot list")?;
        let read = secrets.list(&ListParams::default()).await;
        refused("the Secrets of its namespace", read, "cannot list")?;
        let deleted = secrets
            .delete("rrsa-webhook-ca", &DeleteParams::default())
            .await;
        refused("its authority's deletion", deleted, "cannot delete")
    })
    .await
}

/// Everything else that a token could be good for is no right of the operator's at all.
#[tokio::test]
async fn other_doors_are_closed_by_missing_rights() -> Result<()> {
    with_scene(async |scene| {
        let namespace = scene.namespace.name();
        for account in [CONTROLLER, WEBHOOK] {
            let client = client_of(account).await?;
            let bindings = Api::<AlibabaRoleBinding>::namespaced(client.clone(), namespace);
            let spec = serde_json::from_value(scene.spec())?;
            let binding = AlibabaRoleBinding::new("made", spec);
            let made = bindings.create(&PostParams::default(), &binding).await;
            refused("a binding", made, "cannot create")?;
            let change = Patch::Merge(json!({"spec": {"suspend": true}}));
            let changed = bindings
                .patch("app", &PatchParams::default(), &change)
                .await;
            refused("a binding's spec", changed, "cannot patch")?;
            let pods = Api::<Pod>::namespaced(client.clone(), namespace);
            let pod = serde_json::from_value(json!({
                "metadata": {"name": "made"},
                "spec": {"containers": [{"name": "main", "image": "registry.example.com/app:1"}]},
            }))?;
            refused(
                "a pod",
                pods.create(&PostParams::default(), &pod).await,
                "cannot create",
            )?;
            let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
            let account = serde_json::from_value(json!({"metadata": {"name": "made"}}))?;
            let made = accounts.create(&PostParams::default(), &account).await;
            refused("a ServiceAccount", made, "cannot create")?;
            let mark =
                Patch::Merge(json!({"metadata": {"annotations": {"rrsa.io/role-arn": "x"}}}));
            let marked = accounts.patch("app", &PatchParams::default(), &mark).await;
            refused("a mark on a ServiceAccount", marked, "cannot patch")?;

            let rbac = |kind: &str| GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", kind);
            let admission =
                |kind: &str| GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
            for kind in [
                rbac("ClusterRole"),
                rbac("ClusterRoleBinding"),
                admission("ValidatingAdmissionPolicyBinding"),
                admission("ValidatingAdmissionPolicy"),
                admission("MutatingWebhookConfiguration"),
            ] {
                let api =
                    Api::<DynamicObject>::all_with(client.clone(), &ApiResource::from_gvk(&kind));
                let object = DynamicObject::new("made", &ApiResource::from_gvk(&kind));
                let made = api.create(&PostParams::default(), &object).await;
                refused(&format!("a {}", kind.kind), made, "cannot create")?;
                let deleted = api
                    .delete("rrsa-operator-secrets", &DeleteParams::default())
                    .await;
                refused(
                    &format!("the deletion of a {}", kind.kind),
                    deleted,
                    "cannot delete",
                )?;
            }
        }
        Ok(())
    })
    .await
}

/// The API server checks the expressions of policies against the schemas that it knows.
#[tokio::test]
async fn the_api_server_finds_no_fault_in_the_policies() -> Result<()> {
    installation().await?;
    let client = Cluster::shared().await?.client().await?;
    let policies = Api::<ValidatingAdmissionPolicy>::all(client);
    let what = "the type check of the policies";
    let warnings = wait::until(what, Duration::from_mins(1), async || {
        let ours = ListParams::default().labels("app.kubernetes.io/part-of=rrsa");
        let mut warnings = BTreeMap::new();
        let found = policies.list(&ours).await?.items;
        ensure!(found.len() == 4, "there are {} policies", found.len());
        for policy in found {
            let name = policy.metadata.name.clone().unwrap_or_default();
            let status = policy
                .status
                .with_context(|| format!("{name} has no status yet"))?;
            ensure!(
                status.observed_generation == policy.metadata.generation,
                "{name} is not checked yet"
            );
            let found = status
                .type_checking
                .and_then(|checked| checked.expression_warnings);
            for warning in found.into_iter().flatten() {
                warnings.insert(format!("{name} {}", warning.field_ref), warning.warning);
            }
        }
        Ok(Some(warnings))
    })
    .await?;
    ensure!(warnings.is_empty(), "{warnings:#?}");
    Ok(())
}
