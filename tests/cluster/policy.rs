//! Who may create a binding: only those who could do by themselves what it does.

use anyhow::{Result, ensure};
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use rrsa::api::v1alpha1::{AlibabaRoleBinding, AlibabaRoleBindingSpec};
use serde_json::json;

use crate::bindings::{SOON, Scene};
use crate::support::kubernetes::Cluster;
use crate::support::wait;
use crate::with_scene;

/// A user of this test alone, with these rules or this cluster role.
pub(crate) async fn user(scene: &Scene<'_>, name: &str, role: serde_json::Value) -> Result<String> {
    let user = format!("{name}@{}", scene.namespace.name());
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": name},
        "roleRef": role,
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
    }))?;
    scene
        .namespace
        .api::<RoleBinding>()
        .create(&PostParams::default(), &binding)
        .await?;
    Ok(user)
}

/// A reference to a role or a cluster role.
pub(crate) fn role_ref(kind: &str, name: &str) -> serde_json::Value {
    json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
}

async fn bindings_as(scene: &Scene<'_>, user: &str) -> Result<Api<AlibabaRoleBinding>> {
    let client = Cluster::shared().await?.client_as(user, &[]).await?;
    Ok(Api::namespaced(client, scene.namespace.name()))
}

fn binding(name: &str, spec: serde_json::Value) -> Result<AlibabaRoleBinding> {
    Ok(AlibabaRoleBinding::new(
        name,
        serde_json::from_value::<AlibabaRoleBindingSpec>(spec)?,
    ))
}

#[tokio::test]
async fn binding_rights_alone_do_not_lend_an_identity() -> Result<()> {
    with_scene(async |scene| {
        let rules: Role = serde_json::from_value(json!({
            "metadata": {"name": "bindings-only"},
            "rules": [
                {"apiGroups": ["rrsa.io"], "resources": ["alibabarolebindings"], "verbs": ["*"]},
            ],
        }))?;
        scene
            .namespace
            .api::<Role>()
            .create(&PostParams::default(), &rules)
            .await?;
        let tenant = user(scene, "tenant", role_ref("Role", "bindings-only")).await?;
        let api = bindings_as(scene, &tenant).await?;
        let object = binding("app", scene.spec())?;
        // Rights and policies reach the API server's caches within moments.
        wait::until("the policy's refusal", SOON, async || {
            let error = match api.create(&PostParams::default(), &object).await {
                Ok(_) => anyhow::bail!("the binding was accepted"),
                Err(error) => error.to_string(),
            };
            ensure!(
                error.contains("may not create tokens of serviceaccounts app"),
                "{error}"
            );
            Ok(Some(()))
        })
        .await?;

        // With the token right, but without the right to make Secrets, neither.
        let more = Patch::Merge(json!({"rules": [
            {"apiGroups": ["rrsa.io"], "resources": ["alibabarolebindings"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"],
             "resourceNames": ["app"]},
        ]}));
        let roles = scene.namespace.api::<Role>();
        roles
            .patch("bindings-only", &PatchParams::default(), &more)
            .await?;
        wait::until("the refusal for Secrets", SOON, async || {
            let error = match api.create(&PostParams::default(), &object).await {
                Ok(_) => anyhow::bail!("the binding was accepted"),
                Err(error) => error.to_string(),
            };
            ensure!(error.contains("may not create secrets"), "{error}");
            Ok(Some(()))
        })
        .await?;
        ensure!(
            scene.bindings().get_opt("app").await?.is_none(),
            "a binding was created"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_editor_may_create_a_binding_and_nobody_may_widen_one() -> Result<()> {
    with_scene(async |scene| {
        let roles = Api::<ClusterRole>::all(scene.namespace.client());
        wait::until("the aggregation of edit", SOON, async || {
            let rules = roles.get("edit").await?.rules.unwrap_or_default();
            let ours = rules.iter().any(|rule| {
                rule.resources
                    .iter()
                    .flatten()
                    .any(|name| name == "alibabarolebindings")
            });
            Ok(ours.then_some(()))
        })
        .await?;
        let editor = user(scene, "editor", role_ref("ClusterRole", "edit")).await?;
        let api = bindings_as(scene, &editor).await?;
        wait::until("the editor's binding", SOON, async || {
            Ok(Some(
                api.create(&PostParams::default(), &binding("app", scene.spec())?)
                    .await?,
            ))
        })
        .await?;
        scene.ready().await?;

        // Somebody who may edit bindings but not use the other ServiceAccount.
        let rules: Role = serde_json::from_value(json!({
            "metadata": {"name": "app-only"},
            "rules": [
                {"apiGroups": ["rrsa.io"], "resources": ["alibabarolebindings"], "verbs": ["*"]},
                {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
                {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"],
                 "resourceNames": ["app"]},
            ],
        }))?;
        scene
            .namespace
            .api::<Role>()
            .create(&PostParams::default(), &rules)
            .await?;
        let tenant = user(scene, "tenant", role_ref("Role", "app-only")).await?;
        let api = bindings_as(scene, &tenant).await?;
        let parameters = PatchParams::default();
        let widen = Patch::Merge(json!({"spec": {"serviceAccountName": "default"}}));
        wait::until("the refusal of the change", SOON, async || {
            let error = match api.patch("app", &parameters, &widen).await {
                Ok(_) => return Err(wait::hopeless(anyhow::anyhow!("the change was accepted"))),
                Err(error) => error.to_string(),
            };
            ensure!(
                error.contains("tokens of serviceaccounts default"),
                "{error}"
            );
            Ok(Some(()))
        })
        .await?;
        // A label lends nothing, so it needs nothing.
        let label = Patch::Merge(json!({"metadata": {"labels": {"team": "a"}}}));
        api.patch("app", &parameters, &label).await?;
        Ok(())
    })
    .await
}

/// Somebody with every right on bindings and everything below them, who may use the ServiceAccount
/// `app` and make Secrets.
async fn user_of_app_only(scene: &Scene<'_>) -> Result<String> {
    let rules: Role = serde_json::from_value(json!({
        "metadata": {"name": "everything-of-app"},
        "rules": [
            {"apiGroups": ["rrsa.io"], "resources": ["*"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"],
             "resourceNames": ["app"]},
        ],
    }))?;
    let roles = scene.namespace.api::<Role>();
    roles.create(&PostParams::default(), &rules).await?;
    user(scene, "app-user", role_ref("Role", "everything-of-app")).await
}

/// Fails unless it was refused for the ServiceAccount that its author may not use.
fn refused<T>(attempt: &str, outcome: kube::Result<T>) -> Result<()> {
    let Err(error) = outcome else {
        anyhow::bail!("{attempt}: it was accepted");
    };
    let error = error.to_string();
    let expected = "may not create tokens of serviceaccounts other";
    ensure!(error.contains(expected), "{attempt}: {error}");
    Ok(())
}

#[tokio::test]
async fn there_is_no_way_around_the_policy() -> Result<()> {
    with_scene(async |scene| {
        scene.make_service_account("other").await?;
        scene.issue().await?;
        let mut others = scene.spec();
        others["serviceAccountName"] = json!("other");
        // Made by somebody who may.
        let theirs = binding("theirs", others.clone())?;
        scene
            .bindings()
            .create(&PostParams::default(), &theirs)
            .await?;

        let tenant = user_of_app_only(scene).await?;
        let api = bindings_as(scene, &tenant).await?;
        let plain = PatchParams::default();
        let apply = PatchParams::apply("tenant").force();
        let touch = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
        wait::until("the tenant's rights", SOON, async || {
            Ok(Some(api.patch("app", &plain, &touch).await?))
        })
        .await?;

        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        for parameters in [PostParams::default(), dry] {
            let created = api
                .create(&parameters, &binding("new", others.clone())?)
                .await;
            refused("a new one", created)?;
            let mut unnamed = binding("new", others.clone())?;
            unnamed.metadata.name = None;
            unnamed.metadata.generate_name = Some("new-".to_owned());
            refused(
                "a new one without a name",
                api.create(&parameters, &unnamed).await,
            )?;
        }
        let whole = |name: &str| {
            json!({
                "apiVersion": "rrsa.io/v1alpha1", "kind": "AlibabaRoleBinding",
                "metadata": {"name": name}, "spec": others,
            })
        };
        let applied = api.patch("new", &apply, &Patch::Apply(whole("new"))).await;
        refused("a new one by apply", applied)?;
        let applied = api.patch("app", &apply, &Patch::Apply(whole("app"))).await;
        refused("a change by apply", applied)?;
        let merge = Patch::Merge(json!({"spec": {"serviceAccountName": "other"}}));
        refused("a change by merge", api.patch("app", &plain, &merge).await)?;
        let operations = json!([
            {"op": "replace", "path": "/spec/serviceAccountName", "value": "other"},
        ]);
        let operations = Patch::<()>::Json(serde_json::from_value(operations)?);
        refused(
            "a change by JSON patch",
            api.patch("app", &plain, &operations).await,
        )?;
        let mut replaced = api.get("app").await?;
        replaced.spec.service_account_name = Some("other".to_owned());
        let replaced = api.replace("app", &PostParams::default(), &replaced).await;
        refused("a replacement", replaced)?;
        // What belongs to somebody else's ServiceAccount cannot be turned to another use either.
        let rename = Patch::Merge(json!({"spec": {"secret": {"name": "mine"}}}));
        refused(
            "another Secret for theirs",
            api.patch("theirs", &plain, &rename).await,
        )?;
        let role =
            Patch::Merge(json!({"spec": {"role": {"arn": scene.role_arn()}, "suspend": true}}));
        refused("a stop of theirs", api.patch("theirs", &plain, &role).await)?;

        // The status is no way to the spec, and other subresources do not exist.
        let generation = scene.bindings().get("app").await?.metadata.generation;
        api.patch_status("app", &plain, &merge).await?;
        let now = scene.bindings().get("app").await?;
        ensure!(
            now.metadata.generation == generation,
            "the spec was changed by the status"
        );
        ensure!(now.spec.service_account_name.as_deref() == Some("app"));
        for subresource in ["scale", "finalizers", "token"] {
            let answer = api
                .patch_subresource(subresource, "app", &plain, &merge)
                .await;
            ensure!(
                matches!(&answer, Err(kube::Error::Api(status)) if status.code == 404),
                "{subresource}: {answer:?}"
            );
        }
        // Not what it is about: deleting lends nobody an identity.
        api.delete("theirs", &kube::api::DeleteParams::default())
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_viewer_may_look_and_nothing_else() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        let viewer = user(scene, "viewer", role_ref("ClusterRole", "view")).await?;
        let api = bindings_as(scene, &viewer).await?;
        wait::until("the viewer's rights", SOON, async || {
            Ok(Some(api.get("app").await?))
        })
        .await?;
        let created = api
            .create(&PostParams::default(), &binding("new", scene.spec())?)
            .await;
        let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
        let patched = api.patch("app", &PatchParams::default(), &label).await;
        for outcome in [created, patched] {
            let error = outcome
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            ensure!(error.contains("is forbidden: User"), "{error}");
        }
        Ok(())
    })
    .await
}
