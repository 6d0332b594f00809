//! The life of a release: installed and tested, restarted, upgraded and rolled back under pods that go
//! on being made, through a loss of power, and uninstalled without taking anybody's credentials away.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::makers::{self, Expect};
use crate::rrsa::{CHART, IMAGE, NAMESPACE, Rrsa, role};
use crate::sdks::{self, Sdk};
use crate::secrets;
use crate::stage::{Stage, tell};
use crate::support::wait;

const CEILING: Duration = Duration::from_mins(4);
/// The version of the release that comes after this one.
const NEXT: &str = "99.0.0";

/// `helm install` brings everything up under restricted Pod Security, and `helm test` is content.
pub(crate) async fn is_installed(stage: &'static Stage) -> Result<()> {
    let rrsa = Rrsa::shared(stage).await?;
    let pods = stage.json(&["pods", "--namespace", NAMESPACE]).await?;
    let pods = pods["items"].as_array().context("no list of pods")?;
    ensure!(
        pods.len() == 4,
        "there are {} pods, two replicas each",
        pods.len()
    );
    let namespace = stage.json(&["namespace", NAMESPACE]).await?;
    let level = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    ensure!(level == "restricted", "Pod Security enforces {level}");
    let said = stage
        .helm(&["test", "rrsa", "--namespace", NAMESPACE, "--logs"])
        .await?;
    for name in [
        "ALIBABA_CLOUD_ROLE_ARN",
        "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
        "ALIBABA_CLOUD_OIDC_TOKEN_FILE",
        "ALIBABA_CLOUD_STS_ENDPOINT",
        "ALIBABA_CLOUD_STS_REGION",
        "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED",
    ] {
        ensure!(
            said.contains(name),
            "helm test says nothing of {name}: {said}"
        );
    }
    tell(&format!(
        "helm install: two replicas of both were ready after {:.1} s, the first pod had its role after {:.1} s",
        rrsa.installed_in.as_secs_f32(),
        rrsa.injected_in.as_secs_f32()
    ));
    Ok(())
}

/// Replicas of the webhook go and come, one by one and all by a rollout, while pods are made together
/// with their ServiceAccounts: none is refused, none is without its role.
pub(crate) async fn replicas_restart(stage: &'static Stage) -> Result<()> {
    Rrsa::shared(stage).await?;
    let restarts = async || {
        let of_webhook = "--selector=app.kubernetes.io/component=webhook";
        let names = ["get", "pods", of_webhook, "--output=name"];
        for name in in_release(stage, &names).await?.lines() {
            // Its grace is as long as kubectl may take here.
            in_release(stage, &["delete", name, "--wait=false"]).await?;
            wait::until(&format!("{name} to end"), CEILING, async || {
                let get = ["get", name, "--ignore-not-found", "--output=name"];
                let left = in_release(stage, &get).await?;
                Ok(left.trim().is_empty().then_some(()))
            })
            .await?;
            rolled_out(stage).await?;
        }
        in_release(stage, &["rollout", "restart", "deployment/rrsa-webhook"]).await?;
        rolled_out(stage).await
    };
    let made = makers::beside(stage, "restarts", Expect::Role, restarts).await?;
    tell(&format!("{made} pods were made while replicas restarted"));
    Ok(())
}

async fn in_release(stage: &Stage, arguments: &[&str]) -> Result<String> {
    let arguments = [&["--namespace", NAMESPACE], arguments].concat();
    stage.kubectl(&arguments).await
}

async fn rolled_out(stage: &Stage) -> Result<()> {
    let status = [
        "rollout",
        "status",
        "deployment/rrsa-webhook",
        // Less than kubectl may take here; it is asked again.
        "--timeout=60s",
    ];
    wait::until("the webhook to be rolled out", CEILING, async || {
        in_release(stage, &status).await?;
        Ok(Some(()))
    })
    .await
}

/// An upgrade to the next version, with another image and another definition, and the way back: every
/// pod of the release is replaced, nobody who makes pods notices, and bindings keep their Secrets.
pub(crate) async fn is_upgraded_and_rolled_back(stage: &'static Stage) -> Result<()> {
    let rrsa = Rrsa::shared(stage).await?;
    secrets::with_binding(stage, rrsa, "upgraded", "upgraded-app").await?;
    let (next, image) = next_version(stage)?;
    stage.node.tag(&stage.cluster, IMAGE, &image).await?;
    ensure!(!has_next_field(stage).await?, "the field is there already");
    let before = identity_of_secret(stage).await?;

    let changes = async || {
        let next = next.display().to_string();
        rrsa.helm(stage, "upgrade", &next, &[]).await?;
        ensure!(
            has_next_field(stage).await?,
            "the definition is the old one"
        );
        ensure!(runs(stage, &image).await?, "not all run {image}");
        stage
            .helm(&["rollback", "rrsa", "1", "--namespace", NAMESPACE, "--wait"])
            .await?;
        ensure!(
            !has_next_field(stage).await?,
            "the definition is the new one"
        );
        ensure!(runs(stage, IMAGE).await?, "not all run {IMAGE}");
        Ok(())
    };
    let made = makers::beside(stage, "upgrades", Expect::Role, changes).await?;
    tell(&format!(
        "{made} pods were made during upgrade and rollback"
    ));

    let after = identity_of_secret(stage).await?;
    ensure!(before == after, "the Secret was made anew");
    stage.forget("upgraded").await
}

/// A copy of the chart as of the next version: its definition has one more field. Returns its folder
/// and the image that it names.
fn next_version(stage: &Stage) -> Result<(PathBuf, String)> {
    let folder = stage.cluster.state_dir().join("next");
    copy(CHART.as_ref(), &folder)?;
    let file = folder.join("Chart.yaml");
    let text = fs::read_to_string(&file)?;
    let changed = text.replace(env!("CARGO_PKG_VERSION"), NEXT);
    ensure!(changed.matches(NEXT).count() == 2, "version and appVersion");
    fs::write(file, changed)?;
    let file = folder.join("files/alibabarolebindings.yaml");
    let text = fs::read_to_string(&file)?;
    let mut definition: Value = serde_saphyr::from_str(&text)?;
    let version = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    version["properties"]["spec"]["properties"]["nextField"] = json!({"type": "string"});
    fs::write(file, definition.to_string())?;
    Ok((folder, format!("localhost/rrsa:{NEXT}")))
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

async fn has_next_field(stage: &Stage) -> Result<bool> {
    let definition = stage.json(&["crd", "alibabarolebindings.rrsa.io"]).await?;
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    Ok(schema["properties"]["spec"]["properties"]["nextField"].is_object())
}

/// Whether all pods of the release that stay run this image.
async fn runs(stage: &Stage, image: &str) -> Result<bool> {
    let pods = stage.json(&["pods", "--namespace", NAMESPACE]).await?;
    let pods = pods["items"].as_array().context("no list of pods")?;
    let staying = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
    Ok(pods
        .iter()
        .filter(staying)
        .all(|pod| pod["spec"]["containers"][0]["image"] == image))
}

async fn identity_of_secret(stage: &Stage) -> Result<Value> {
    let secret = ["secret", "app-credentials", "--namespace=upgraded"];
    Ok(stage.json(&secret).await?["metadata"]["uid"].clone())
}

/// After a loss of power everything comes back by itself: the operator, and the pods with their roles.
pub(crate) async fn survives_a_loss_of_power(stage: &'static Stage) -> Result<()> {
    let rrsa = Rrsa::shared(stage).await?;
    sdks::namespace(stage, rrsa, "reboots", true).await?;
    sdks::account(stage, "reboots", "go", Some("reboots-app")).await?;
    rrsa.trust("reboots-app", "reboots:go");
    stage
        .cluster
        .apply_yaml(&Sdk::Go.pod(("reboots", "go"), "go").to_string())
        .await?;
    sdks::has_role(stage, rrsa, ("reboots", "go"), "reboots-app").await?;

    stage.node.power_off().await?;
    stage.node.start(&stage.cluster).await?;
    wait::until("the operator to be ready again", CEILING, async || {
        let pods = stage.json(&["pods", "--namespace", NAMESPACE]).await?;
        let pods = pods["items"].as_array().context("no list of pods")?;
        for pod in pods {
            let state = &pod["status"]["containerStatuses"][0];
            let restarts = state["restartCount"].as_u64().unwrap_or_default();
            ensure!(
                state["ready"] == true && restarts > 0,
                "{}: {state}",
                pod["metadata"]["name"]
            );
        }
        Ok(Some(()))
    })
    .await?;
    let calls = rrsa.sts.calls().by_role(&role("reboots-app")).len();
    wait::until("the pod to exchange again", CEILING, async || {
        let now = rrsa.sts.calls().by_role(&role("reboots-app")).len();
        Ok((now > calls).then_some(()))
    })
    .await?;
    sdks::has_role(stage, rrsa, ("reboots", "go"), "reboots-app").await?;
    stage.forget("reboots").await
}

/// An uninstallation takes the operator away and what it made for itself, the webhook's registration
/// first; bindings, Secrets and the definition stay, so that pods keep their credentials, and pods that
/// opted in are made again, without a role. The documented purge removes the rest.
pub(crate) async fn is_uninstalled(stage: &'static Stage) -> Result<()> {
    let rrsa = Rrsa::shared(stage).await?;
    secrets::with_binding(stage, rrsa, "leaving", "leaving-app").await?;
    let made = in_release(stage, &["get", "secret,lease", "--output=name"]).await?;
    for name in [
        "secret/rrsa-webhook-ca",
        "lease.coordination.k8s.io/rrsa-controller",
    ] {
        ensure!(made.contains(name), "the operator has not made {name}");
    }
    rrsa.no_secret_in_logs()?;

    let uninstall = async || {
        let release = ["uninstall", "rrsa", "--namespace", NAMESPACE];
        let patiently = ["--wait", "--timeout=180s"];
        stage.helm(&[&release[..], &patiently].concat()).await?;
        Ok(())
    };
    makers::beside(stage, "bereaved", Expect::Anything, uninstall).await?;
    let kinds = "all,secret,lease,configmap,serviceaccount,role,rolebinding,networkpolicy,poddisruptionbudget";
    // Helm waits for the workloads, and their pods take their time to end.
    wait::until("nothing to be left", Duration::from_mins(3), async || {
        let left = in_release(stage, &["get", kinds, "--output=name"]).await?;
        let left: Vec<_> = left
            .lines()
            // What every namespace has.
            .filter(|name| !["configmap/kube-root-ca.crt", "serviceaccount/default"].contains(name))
            .collect();
        ensure!(left.is_empty(), "left in {NAMESPACE}: {left:?}");
        Ok(Some(()))
    })
    .await?;
    let kinds = "mutatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,clusterrolebindings";
    let ours = "--selector=app.kubernetes.io/part-of=rrsa";
    let left = stage
        .kubectl(&["get", kinds, "--output=name", ours])
        .await?;
    ensure!(left.trim().is_empty(), "left in the cluster: {left}");

    let secret = stage
        .json(&["secret", "app-credentials", "--namespace=leaving"])
        .await?;
    ensure!(
        secret["data"]["credentials.json"].is_string(),
        "the Secret is empty"
    );
    stage.json(&["arb", "app", "--namespace=leaving"]).await?;

    // As the README says it.
    for line in [
        "delete alibabarolebindings --all --all-namespaces",
        "delete crd alibabarolebindings.rrsa.io",
    ] {
        let words: Vec<_> = line.split(' ').collect();
        stage.kubectl(&words).await?;
    }
    wait::until("the Secret to go with its binding", CEILING, async || {
        let secrets = stage.json(&["secrets", "--namespace=leaving"]).await?;
        Ok((secrets["items"] == json!([])).then_some(()))
    })
    .await
}
