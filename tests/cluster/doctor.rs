//! `rrsa doctor pods` and the controller's look at pods on a real API server, with the rights that its page asks for and no others.
#![expect(clippy::disallowed_methods, reason = "tests read real files")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::installation::{ACCOUNT, Choices, Installation, PROVIDER, repository};
use crate::pods::create_pod;
use crate::support::kubernetes::Cluster;
use crate::support::kubernetes::namespace::TestNamespace;
use crate::support::wait;
use crate::{choices, installation, reported};

const INJECTION: &str = "pod-identity.alibabacloud.com/injection";
const ROLE_NAME: &str = "pod-identity.alibabacloud.com/role-name";
/// Longest a look may take.
const CEILING: Duration = Duration::from_mins(2);
/// What the page of the command asks for, and the ServiceAccount of the person.
const RIGHTS: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: doctor-tester, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: doctor-tester}
rules:
- {apiGroups: [''], resources: [namespaces], verbs: [get, list]}
- {apiGroups: [''], resources: [pods], verbs: [list]}
- {apiGroups: [''], resources: [serviceaccounts, configmaps], verbs: [get]}
- {apiGroups: [rrsa.io], resources: [alibabarolebindings], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: doctor-tester}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: doctor-tester}
subjects: [{kind: ServiceAccount, name: doctor-tester, namespace: default}]
";

/// No Event can be created about the pod `a-secret`.
const SILENCE: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: silence}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [events.k8s.io], apiVersions: ['*'], resources: [events], operations: [CREATE]}
  validations:
  - {expression: \"!has(object.regarding) || object.regarding.name != 'a-secret'\", message: nothing is said about it}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: silence}
spec: {policyName: silence, validationActions: [Deny]}
";

/// A namespace with the `ServiceAccount` `app`, and what is changed about it.
struct Patient<'a>(TestNamespace<'a>);

impl<'a> Patient<'a> {
    pub(crate) async fn with(labels: &[(&str, &str)]) -> Result<Patient<'a>> {
        Self::on(Cluster::shared().await?, labels).await
    }

    async fn on(cluster: &'a Cluster, labels: &[(&str, &str)]) -> Result<Patient<'a>> {
        let namespace = cluster.test_namespace_with(labels).await?;
        let account = json!({"metadata": {"name": "app", "annotations": {ROLE_NAME: "old"}}});
        let accounts = namespace.api::<ServiceAccount>();
        let account = serde_json::from_value(account)?;
        accounts.create(&PostParams::default(), &account).await?;
        Ok(Self(namespace))
    }

    /// Creates a pod that no node ever runs.
    pub(crate) async fn pod(&self, name: &str, labels: Value) -> Result<()> {
        self.create(name, labels, false).await?;
        Ok(())
    }

    async fn create(&self, name: &str, labels: Value, dry_run: bool) -> Result<Value> {
        let pod = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "serviceAccountName": "app",
                "containers": [{"name": "main", "image": "registry.example.com/app:1"}],
            },
        });
        create_pod(self.0.client(), self.0.name(), pod, dry_run).await
    }

    /// Waits until a pod made now would get this role, or none: API server and webhook hear of a
    /// change in their own time.
    async fn until_pods_get(&self, role: Option<&str>) -> Result<()> {
        let wanted = role.map(|role| format!("acs:ram::{ACCOUNT}:role/{role}"));
        wait::until(&format!("pods to get {role:?}"), CEILING, async || {
            let made = self.create("trial", json!({}), true).await?;
            let env = made["spec"]["containers"][0]["env"].as_array();
            let mut env = env.into_iter().flatten();
            let seen = env.find(|variable| variable["name"] == "ALIBABA_CLOUD_ROLE_ARN");
            let seen = seen.and_then(|variable| variable["value"].as_str());
            ensure!(seen == wanted.as_deref(), "they get {seen:?}");
            Ok(Some(()))
        })
        .await
    }

    pub(crate) async fn label(&self, value: &str) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.0.client());
        let patch = Patch::Merge(json!({"metadata": {"labels": {INJECTION: value}}}));
        let parameters = PatchParams::default();
        namespaces.patch(self.0.name(), &parameters, &patch).await?;
        Ok(())
    }

    async fn role(&self, name: &str) -> Result<()> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {ROLE_NAME: name}}}));
        let accounts = self.0.api::<ServiceAccount>();
        accounts
            .patch("app", &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }
}

async fn kubeconfig(cluster: &Cluster) -> Result<PathBuf> {
    cluster.apply_yaml(RIGHTS).await?;
    let life = Duration::from_hours(1);
    cluster
        .kubeconfig_for_service_account("default", "doctor-tester", life)
        .await
}

async fn doctor(cluster: &Cluster, arguments: &[&str]) -> Result<Output> {
    let look = Command::new(env!("CARGO_BIN_EXE_rrsa"))
        .args(["doctor", "pods", "--kubeconfig"])
        .arg(kubeconfig(cluster).await?)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    Ok(timeout(CEILING, look)
        .await
        .context("rrsa doctor pods did not end")??)
}

fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn pods_that_lack_what_they_asked_for_are_found_with_cause_and_remedy() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.require_own("a webhook by URL")?;
    installation().await?;
    let test = async {
        let patient = Patient::with(&[]).await?;
        // Created before its namespace asked.
        patient.pod("before", json!({})).await?;
        patient.label("on").await?;
        patient.until_pods_get(Some("old")).await?;
        patient.pod("older", json!({})).await?;
        patient.role("new").await?;
        patient.until_pods_get(Some("new")).await?;
        patient.pod("well", json!({})).await?;
        // Neither of these reaches the webhook.
        let near = Patient::with(&[(INJECTION, "true")]).await?;
        near.pod("shouts", json!({INJECTION: "ON"})).await?;
        near.pod("silent", json!({})).await?;

        // What is right here comes from a ConfigMap, as the chart installs it.
        let file =
            format!("accountId: '{ACCOUNT}'\noidcProviderArn: {PROVIDER}\nregion: cn-hangzhou\n");
        let map = json!({"metadata": {"name": "config"}, "data": {"config.yaml": file}});
        let maps = patient.0.api::<ConfigMap>();
        maps.create(&PostParams::default(), &serde_json::from_value(map)?)
            .await?;
        let map = format!("{}/config", patient.0.name());

        let output = doctor(cluster, &["--config-map", &map, "-ojson"]).await?;
        ensure!(output.status.code() == Some(1), "{}", told(&output));
        let report: Value =
            serde_json::from_slice(&output.stdout).with_context(|| told(&output))?;
        let ours = |finding: &&Value| {
            [patient.0.name(), near.0.name()].contains(&finding["namespace"].as_str().unwrap_or(""))
        };
        let findings: Vec<&Value> = report["findings"]
            .as_array()
            .context("no findings")?
            .iter()
            .filter(ours)
            .collect();
        let seen: BTreeSet<(&str, &str)> = findings
            .iter()
            .filter_map(|finding| Some((finding["name"].as_str()?, finding["problem"].as_str()?)))
            .collect();
        let expected = BTreeSet::from([
            ("before", "NotInjected"),
            ("older", "OlderRole"),
            (near.0.name(), "NearMiss"),
            ("shouts", "NearMiss"),
        ]);
        ensure!(seen == expected, "{report:#}");
        let older = findings.iter().find(|finding| finding["name"] == "older");
        let older = older.context("older")?;
        let cause = older["cause"].as_str().unwrap_or_default();
        ensure!(
            cause.contains(":role/old") && cause.contains(":role/new"),
            "{older:#}"
        );
        ensure!(older["remedy"] == "delete pod older and create it again");

        // One namespace, for a person, with the words.
        let namespace = ["--config-map", &map, "--namespace", near.0.name()];
        let output = doctor(cluster, &namespace).await?;
        let text = told(&output);
        ensure!(output.status.code() == Some(1), "{text}");
        for part in ["shouts: NearMiss", "  remedy  write \"on\"", "2 findings"] {
            ensure!(text.contains(part), "{part} is missing: {text}");
        }
        Ok(())
    };
    reported(test.await)
}

#[tokio::test]
async fn the_controller_tells_a_pods_problem_by_one_event_however_often_it_looks() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.require_own("an installation of its own")?;
    let rights = std::fs::read_to_string(repository("deploy/optional/pod-look.yaml"))?;
    // Before the controller starts: what it may not do it does not do.
    cluster
        .apply_yaml("apiVersion: v1\nkind: Namespace\nmetadata: {name: rrsa-system}\n")
        .await?;
    cluster.apply_yaml(&rights).await?;
    let choices = Choices {
        configuration: "podLook: {enabled: true, intervalSeconds: 5}\n",
        ..choices(None)
    };
    let installation = Installation::start(&cluster, choices).await?;
    let test = async {
        let patient = Patient::on(&cluster, &[]).await?;
        patient.pod("before", json!({})).await?;
        patient.label("on").await?;
        let events = patient.0.api::<Event>();
        let told = async || {
            let all = events.list(&ListParams::default()).await?;
            let ours = |event: &Event| event.reason.as_deref() == Some("NotInjected");
            anyhow::Ok(all.items.into_iter().filter(ours).collect::<Vec<_>>())
        };
        let first = wait::until("the event", CEILING, async || Ok(told().await?.pop())).await?;
        let regarding = first.regarding.context("an event about nothing")?;
        ensure!(regarding.name.as_deref() == Some("before"));
        let note = first.note.unwrap_or_default();
        ensure!(note.contains(":role/old"), "{note}");
        // Another pod's event comes from a later look, and the first pod has still but one.
        patient.label("off").await?;
        patient.until_pods_get(None).await?;
        patient.pod("later", json!({})).await?;
        patient.label("on").await?;
        wait::until("the second event", CEILING, async || {
            Ok((told().await?.len() > 1).then_some(()))
        })
        .await?;
        ensure!(told().await?.len() == 2, "{:?}", told().await?);

        // An event that cannot be created keeps no other from being told, and comes when it can.
        patient.label("off").await?;
        patient.until_pods_get(None).await?;
        silence(&cluster, &patient.0).await?;
        for name in ["a-secret", "b-open"] {
            patient.pod(name, json!({})).await?;
        }
        patient.label("on").await?;
        let about = async |name: &str| {
            let all = told().await?;
            let mut regarding = all.iter().filter_map(|event| event.regarding.as_ref());
            let told = regarding.any(|object| object.name.as_deref() == Some(name));
            anyhow::Ok(told.then_some(()))
        };
        wait::until("the event of the other pod", CEILING, async || {
            about("b-open").await
        })
        .await?;
        ensure!(about("a-secret").await?.is_none());
        let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(cluster.client().await?);
        bindings.delete("silence", &DeleteParams::default()).await?;
        wait::until("the event that was refused", CEILING, async || {
            about("a-secret").await
        })
        .await?;
        installation.ensure_running()
    };
    reported(test.await)
}

/// Lets no event about `a-secret` be created, and waits until that works.
async fn silence(cluster: &Cluster, namespace: &TestNamespace<'_>) -> Result<()> {
    let events = namespace.api::<Event>();
    cluster.apply_yaml(SILENCE).await?;
    let event = serde_json::from_value(json!({
        "metadata": {"name": "try"},
        "action": "Try",
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reason": "Try",
        "regarding": {"kind": "Pod", "name": "a-secret", "namespace": namespace.name()},
        "reportingController": "example.com/try",
        "reportingInstance": "try",
        "type": "Normal",
    }))?;
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    wait::until("the refusal of an event", CEILING, async || {
        match events.create(&dry_run, &event).await {
            Err(kube::Error::Api(status)) if status.message.contains("nothing is said") => {
                Ok(Some(()))
            }
            Err(error) => Err(wait::hopeless(error.into())),
            Ok(_) => Ok(None),
        }
    })
    .await
}

#[tokio::test]
async fn all_is_well_and_nothing_to_see_are_told_apart() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let test = async {
        let patient = Patient::with(&[]).await?;
        patient.pod("plain", json!({})).await?;
        let of_cluster = ["--oidc-provider-arn", PROVIDER, "--region", "cn-hangzhou"];
        let here = [&of_cluster[..], &["--namespace", patient.0.name()]].concat();
        let output = doctor(cluster, &here).await?;
        ensure!(output.status.code() == Some(0), "{}", told(&output));
        ensure!(told(&output).contains("nothing is wrong; looked at 1 pods"));

        let nowhere = [&of_cluster[..], &["--namespace", "there-is-none"]].concat();
        let output = doctor(cluster, &nowhere).await?;
        ensure!(output.status.code() == Some(2), "{}", told(&output));
        ensure!(told(&output).contains("namespace there-is-none"));

        let output = doctor(cluster, &["--config-map", "default/none"]).await?;
        ensure!(output.status.code() == Some(2), "{}", told(&output));
        ensure!(
            told(&output).contains("--oidc-provider-arn"),
            "{}",
            told(&output)
        );
        Ok(())
    };
    reported(test.await)
}
