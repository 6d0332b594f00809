//! A binding's Secret in pods: mounted as files it follows every refresh without a restart, for plain
//! readers as for SDKs that read the Alibaba Cloud CLI's profile; by `envFrom` a Job has it at its start.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::rrsa::{Rrsa, role};
use crate::sdks::{self, Sdk};
use crate::stage::{SOON, Stage, condition};
use crate::support::wait;

/// A refresh at two thirds of a session, and the kubelet's round.
const CEILING: Duration = Duration::from_mins(4);
/// Where profiles of mode External expect the Secret.
const MOUNT: &str = "/var/run/secrets/rrsa.io/credentials";

/// A namespace that did not opt in, with a binding and its Secret.
pub(crate) async fn with_binding(
    stage: &Stage,
    rrsa: &Rrsa,
    namespace: &str,
    role_name: &str,
) -> Result<()> {
    sdks::namespace(stage, rrsa, namespace, false).await?;
    sdks::account(stage, namespace, "app", None).await?;
    rrsa.trust(role_name, &format!("{namespace}:app"));
    bind(stage, namespace, json!({"role": {"name": role_name}})).await?;
    let what = format!("the binding in {namespace} to be ready");
    wait::until(&what, CEILING, async || {
        let binding = ["arb", "app", "--namespace", namespace];
        let binding = stage.json(&binding).await?;
        let ready = condition(&binding, "Ready").context("it says nothing yet")?;
        ensure!(ready["status"] == "True", "it says {ready}");
        Ok(Some(()))
    })
    .await
}

/// Makes the binding `app`, for the ServiceAccount of that name, with these further fields.
pub(crate) async fn bind(stage: &Stage, namespace: &str, mut spec: Value) -> Result<()> {
    spec["serviceAccountName"] = json!("app");
    let binding = json!({
        "apiVersion": "rrsa.io/v1alpha1",
        "kind": "AlibabaRoleBinding",
        "metadata": {"name": "app", "namespace": namespace},
        "spec": spec,
    });
    stage.cluster.apply_yaml(&binding.to_string()).await?;
    Ok(())
}

fn busybox(namespace: &str, name: &str, command: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main",
                "image": "localhost/busybox:1",
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", command],
                "volumeMounts": [{"name": "credentials", "mountPath": MOUNT, "readOnly": true}],
            }],
            "volumes": [{"name": "credentials", "secret": {"secretName": "app-credentials"}}],
        },
    })
}

/// Files change under a pod that goes on running; a Job reads its variables once.
pub(crate) async fn are_followed(stage: &'static Stage) -> Result<()> {
    let rrsa = Rrsa::shared(stage).await?;
    with_binding(stage, rrsa, "secrets", "secret-app").await?;
    let reader = busybox("secrets", "reader", "while :; do sleep 1; done");
    stage.cluster.apply_yaml(&reader.to_string()).await?;
    stage.pod_is_ready("secrets", "reader").await?;
    let file = format!("{MOUNT}/credentials.json");
    let read = async || {
        let cat = ["--namespace=secrets", "exec", "reader", "--", "cat", &file];
        let credentials: Value = serde_json::from_str(&stage.kubectl(&cat).await?)?;
        let found = rrsa.role_of(&credentials)?;
        ensure!(found == role("secret-app"), "it has {found}");
        anyhow::Ok(credentials)
    };
    // On a busy machine what it holds may end before it was looked at.
    let first = wait::until("the file to hold credentials", CEILING, async || {
        Ok(Some(read().await?))
    })
    .await?;
    wait::until(
        "the file to hold refreshed credentials",
        CEILING,
        async || {
            let now = read().await?;
            Ok((now["AccessKeyId"] != first["AccessKeyId"]).then_some(()))
        },
    )
    .await?;
    let pod = stage
        .json(&["pod", "reader", "--namespace=secrets"])
        .await?;
    let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
    ensure!(restarts == 0, "the pod was restarted {restarts} times");

    let mut jobs = 0;
    wait::until("a Job to have what is still good", 2 * SOON, async || {
        jobs += 1;
        let told = told_by_job(stage, &format!("by-env-{jobs}")).await?;
        let found = rrsa.role_of(&told)?;
        ensure!(found == role("secret-app"), "the Job has {found}");
        Ok(Some(()))
    })
    .await?;
    stage.forget("secrets").await
}

/// The credentials that a Job of that name has in its variables.
async fn told_by_job(stage: &Stage, name: &str) -> Result<Value> {
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "secrets"},
        "spec": {"backoffLimit": 0, "template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "main",
                "image": "localhost/busybox:1",
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", concat!(
                    r#"echo "{\"accessKeyId\":\"$ALIBABA_CLOUD_ACCESS_KEY_ID\","#,
                    r#"\"accessKeySecret\":\"$ALIBABA_CLOUD_ACCESS_KEY_SECRET\","#,
                    r#"\"securityToken\":\"$ALIBABA_CLOUD_SECURITY_TOKEN\"}""#,
                )],
                "envFrom": [{"secretRef": {"name": "app-credentials"}}],
            }],
        }}},
    });
    stage.cluster.apply_yaml(&job.to_string()).await?;
    let name = format!("job/{name}");
    wait::until(&format!("{name} to tell"), SOON, async || {
        let log = stage
            .kubectl(&["--namespace=secrets", "logs", &name])
            .await?;
        let line = log.lines().next().context("it has told nothing yet")?;
        Ok(Some(serde_json::from_str::<Value>(line)?))
    })
    .await
}

/// Both SDKs follow the Secret through the CLI's profile of mode External: Go by the variable that
/// names the file, as the webhook sets it in mode `secret`, Python in the home folder, the only place
/// where it looks, mounted by hand.
pub(crate) async fn profiles_are_followed(stage: &'static Stage) -> Result<()> {
    let rrsa = Rrsa::shared(stage).await?;
    with_binding(stage, rrsa, "profiles", "profile-app").await?;
    let mut go = Sdk::Go.pod(("profiles", "go"), "app");
    go["metadata"]["annotations"] = json!({"rrsa.io/mode": "secret"});
    go["metadata"]["labels"] = json!({"pod-identity.alibabacloud.com/injection": "on"});
    let mut python = Sdk::Python.pod(("profiles", "python"), "app");
    let container = &mut python["spec"]["containers"][0];
    container["env"] = json!([{"name": "ALIBABA_CLOUD_ECS_METADATA_DISABLED", "value": "true"}]);
    container["volumeMounts"] = json!([
        {"name": "credentials", "mountPath": MOUNT, "readOnly": true},
        {"name": "credentials", "mountPath": "/home/app/.aliyun", "readOnly": true},
    ]);
    python["spec"]["volumes"] =
        json!([{"name": "credentials", "secret": {"secretName": "app-credentials"}}]);
    for pod in [go, python] {
        stage.cluster.apply_yaml(&pod.to_string()).await?;
    }
    for sdk in Sdk::ALL {
        let name = sdk.name();
        let place = ("profiles", name);
        let first = sdks::has_role(stage, rrsa, place, "profile-app").await?;
        let provider = first["provider"].as_str().unwrap_or_default().to_owned();
        ensure!(
            provider.contains("external"),
            "the {name} SDK says that they come from {provider}"
        );
        let what = format!("the {name} SDK to follow a refresh");
        wait::until(&what, CEILING, async || {
            let now = sdks::has_role(stage, rrsa, place, "profile-app").await?;
            Ok((now["accessKeyId"] != first["accessKeyId"]).then_some(()))
        })
        .await?;
    }
    stage.forget("profiles").await
}
