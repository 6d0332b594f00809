//! The chart with `config.namespaces` on an installation: the controller has Roles in some namespaces,
//! what it may do is an exact list, and the policies hold as everywhere.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use rrsa::api::v1alpha1::AlibabaRoleBinding;
use serde_json::json;
use tokio::process::Command;

use crate::bindings::{SOON, Scene};
use crate::installation::{NAMESPACE, repository};
use crate::operator::refused;
use crate::policy::{role_ref, user};
use crate::rights::{OF_CONTROLLER, OF_CONTROLLER_AT_HOME, rights};
use crate::support::kubernetes::Cluster;
use crate::support::wait;

/// What the look at pods adds in each of the namespaces.
const OF_THE_LOOK: [&str; 2] = ["namespaces: get", "pods: list"];
/// Longest that helm may take.
const HELM: Duration = Duration::from_mins(1);

/// Takes the controller's rights in the whole cluster away and installs the chart for these namespaces,
/// with the look at pods.
pub(crate) async fn install(cluster: &Cluster, namespaces: &[&str]) -> Result<()> {
    for kind in ["clusterrolebinding", "clusterrole"] {
        let arguments = ["delete", kind, "rrsa-controller"];
        cluster.kubectl(&arguments).await?.success()?;
    }
    let list = format!("config.namespaces={{{}}}", namespaces.join(","));
    let rendering = Command::new(cluster.bin_dir().join("helm"))
        .args([
            "template",
            "rrsa",
            "--no-hooks",
            "--namespace",
            NAMESPACE,
            "--values",
        ])
        .arg(repository("charts/rrsa/examples/manifests.yaml"))
        .args(["--set", &list])
        // The webhook of a control plane without nodes is registered by URL, which the chart is not for.
        .args(["--set", "config.podLook.enabled=true,webhook.enabled=false"])
        .arg(repository("charts/rrsa"))
        .env("HOME", cluster.state_dir())
        .kill_on_drop(true)
        .output();
    let rendered = tokio::time::timeout(HELM, rendering)
        .await
        .context("helm did not end")??;
    let complaint = String::from_utf8_lossy(&rendered.stderr);
    ensure!(rendered.status.success(), "helm: {complaint}");
    cluster
        .apply_yaml(&String::from_utf8(rendered.stdout)?)
        .await?;
    Ok(())
}

async fn controller(cluster: &Cluster, scene: &Scene<'_>) -> Result<Client> {
    let [(_, kubeconfig), _] = scene.installation.identities();
    cluster.client_of(kubeconfig).await
}

/// In each of the namespaces what it needs, at home the Lease, elsewhere nothing.
pub(crate) async fn rights_are_exact(
    cluster: &Cluster,
    served: &[&Scene<'_>],
    other: &Scene<'_>,
) -> Result<()> {
    let life = Duration::from_hours(1);
    let nobody = cluster
        .kubeconfig_for_service_account(other.namespace.name(), "app", life)
        .await?;
    let nobody = cluster.client_of(&nobody).await?;
    let mut in_namespaces: BTreeSet<String> = OF_CONTROLLER
        .iter()
        .filter(|line| !line.starts_with("namespaces:"))
        .map(ToString::to_string)
        .collect();
    in_namespaces.extend(OF_THE_LOOK.map(str::to_owned));
    let at_home: BTreeSet<String> = OF_CONTROLLER_AT_HOME
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut expected = vec![
        (NAMESPACE, at_home),
        (other.namespace.name(), BTreeSet::new()),
    ];
    for scene in served {
        expected.push((scene.namespace.name(), in_namespaces.clone()));
    }
    for (namespace, wanted) in expected {
        wait::until("the rights of the controller", SOON, async || {
            let everybody = rights(nobody.clone(), namespace).await?;
            let own = rights(controller(cluster, other).await?, namespace).await?;
            let own: BTreeSet<_> = own.difference(&everybody).cloned().collect();
            ensure!(
                own == wanted,
                "in {namespace} it has {own:#?}, not {wanted:#?}"
            );
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

/// What the policies refuse cluster-wide they refuse here, and elsewhere the right is missing.
pub(crate) async fn policies_hold(
    cluster: &Cluster,
    served: &Scene<'_>,
    other: &Scene<'_>,
) -> Result<()> {
    let client = controller(cluster, served).await?;
    let accounts = |scene: &Scene<'_>| {
        Api::<ServiceAccount>::namespaced(client.clone(), scene.namespace.name())
    };
    let secrets =
        |scene: &Scene<'_>| Api::<Secret>::namespaced(client.clone(), scene.namespace.name());
    let ask = |audience: &str| -> Result<TokenRequest> {
        let spec = json!({"spec": {"audiences": [audience], "expirationSeconds": 600}});
        Ok(serde_json::from_value(spec)?)
    };
    let made = PostParams::default();
    let elsewhere = ask("elsewhere")?;
    let here = accounts(served);
    let asked = here.create_token_request("app", &made, &elsewhere).await;
    refused("another audience", asked, "audience")?;
    let of_sts = ask("sts.aliyuncs.com")?;
    let there = accounts(other);
    let asked = there.create_token_request("app", &made, &of_sts).await;
    refused("a token of another namespace", asked, "cannot create")?;
    let nobodys: Secret = serde_json::from_value(json!({"metadata": {"name": "nobodys"}}))?;
    let created = secrets(served).create(&made, &nobodys).await;
    refused(
        "a Secret of its own",
        created,
        "AlibabaRoleBinding controls",
    )?;
    let listed = secrets(other).list(&ListParams::default()).await;
    refused("the Secrets of another namespace", listed, "cannot list")?;

    // Who writes bindings needs no less here.
    let rules: Role = serde_json::from_value(json!({
        "metadata": {"name": "bindings-only"},
        "rules": [{"apiGroups": ["rrsa.io"], "resources": ["alibabarolebindings"], "verbs": ["*"]}],
    }))?;
    let roles = served.namespace.api::<Role>();
    roles.create(&PostParams::default(), &rules).await?;
    let tenant = user(served, "tenant", role_ref("Role", "bindings-only")).await?;
    let client = cluster.client_as(&tenant, &[]).await?;
    let bindings = Api::<AlibabaRoleBinding>::namespaced(client, served.namespace.name());
    let binding = AlibabaRoleBinding::new("lent", serde_json::from_value(served.spec())?);
    wait::until("the policy on authors", SOON, async || {
        let created = bindings.create(&PostParams::default(), &binding).await;
        refused("a binding of a tenant", created, "uses the cloud identity")?;
        Ok(Some(()))
    })
    .await
}

/// A pod that asks by its label and has nothing is told in the namespaces that are served, also where
/// they opt in while the controller runs, and nowhere else.
pub(crate) async fn pods_are_looked_at(served: &[&Scene<'_>], other: &Scene<'_>) -> Result<()> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "asks", "labels": {"pod-identity.alibabacloud.com/injection": "ON"}},
        "spec": {"containers": [{"name": "main", "image": "registry.example.com/app:1"}]},
    }))?;
    for scene in [&[other], served].concat() {
        let pods = scene.namespace.api::<Pod>();
        pods.create(&PostParams::default(), &pod).await?;
    }
    let told = async |scene: &Scene<'_>| {
        let events = scene.namespace.api::<Event>();
        let events = events.list(&ListParams::default()).await?.items;
        let ours = |event: &&Event| event.reason.as_deref() == Some("NearMiss");
        anyhow::Ok(events.iter().filter(ours).count())
    };
    for scene in served {
        wait::until("the event of the pod", SOON * 2, async || {
            Ok((told(scene).await? == 1).then_some(()))
        })
        .await?;
    }
    ensure!(
        told(other).await? == 0,
        "a pod of another namespace was looked at"
    );
    Ok(())
}
