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
async fn user(scene: &Scene<'_>, name: &str, role: serde_json::Value) -> Result<String> {
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

fn role_ref(kind: &str, name: &str) -> serde_json::Value {
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
