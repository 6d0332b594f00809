//! The steps of the demo. Each shows something and checks that it was really so.
#![expect(clippy::disallowed_methods, reason = "the demo tells how long it took")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::installation::{Choices, Installation, role, subject};
use crate::node;
use crate::stage::{file, kubectl, kubectl_as, say, seen, step};
use crate::support::kubernetes::Cluster;
use crate::support::wait;

/// How long sessions last here, so that nobody waits an hour for a refresh. It comes after two thirds
/// at the latest, and on a busy machine it must still have time.
const LIFETIME: Duration = Duration::from_secs(30);
/// Longest wait for something that should happen at once, or with the next refresh.
const SOON: Duration = Duration::from_mins(3);

pub(crate) const TEAM: &str = r#"
apiVersion: v1
kind: Namespace
metadata:
  name: team-a
  labels: {pod-identity.alibabacloud.com/injection: "on"}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: app
  namespace: team-a
  annotations: {pod-identity.alibabacloud.com/role-name: app}
"#;

const BINDING: &str = r"
apiVersion: rrsa.io/v1alpha1
kind: AlibabaRoleBinding
metadata: {name: app, namespace: team-a}
spec:
  role: {name: app}
  serviceAccountName: app
";

const POD: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: app, namespace: team-a}
spec:
  serviceAccountName: app
  containers:
    - {name: main, image: registry.example.com/app:1}
";

const REFUSED: &str = r"
apiVersion: rrsa.io/v1alpha1
kind: AlibabaRoleBinding
metadata: {name: reports, namespace: team-a}
spec:
  role: {name: reports}
  serviceAccountName: app
";

/// Tells the whole story.
pub(crate) async fn tell() -> Result<()> {
    let started = Instant::now();
    step(1, "A real Kubernetes, and STS simulated beside it");
    let cluster = Cluster::start().await?;
    cluster.require_own("the demo")?;
    kubectl(&cluster, "version").await?;
    let seconds = cluster.started_in().as_secs_f32();
    seen(&format!(
        "etcd, API server, controller manager and scheduler work after {seconds:.1} s"
    ));

    let choices = Choices {
        rrsa: beside_this_program("rrsa")?,
        session_lifetime: Some(LIFETIME),
        ..Choices::default()
    };
    let installation = install(&cluster, choices).await?;
    let story = Story {
        cluster: &cluster,
        installation: &installation,
    };
    story.a_binding_becomes_a_secret().await?;
    story.a_pod_gets_its_role().await?;
    story.the_secret_is_refreshed().await?;
    story.a_refusal_says_what_to_do().await?;

    step(7, "No secret in any log");
    installation.ensure_running()?;
    let secrets = installation.sts.issued_secrets().len();
    installation.assert_no_secret_in_logs(&cluster)?;
    seen(&format!(
        "{secrets} secrets and tokens were issued; controller and webhook logged at TRACE, and none of them is in a log"
    ));
    drop(installation);
    drop(cluster);
    node::show(8).await?;
    let seconds = started.elapsed().as_secs();
    say(&format!(
        "\nAll steps were seen, in {seconds} s. Everything that was started has been ended."
    ));
    Ok(())
}

/// A program of the same build.
pub(crate) fn beside_this_program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own
        .parent()
        .and_then(std::path::Path::parent)
        .context("no build folder")?;
    let program = folder.join(name);
    ensure!(
        program.exists(),
        "{} is not built; run `make demo`",
        program.display()
    );
    Ok(program)
}

async fn install(cluster: &Cluster, choices: Choices) -> Result<Installation> {
    step(
        2,
        "Install rrsa: custom resource, rights, policy, webhook; two processes",
    );
    for name in ["app", "reports"] {
        say(&format!("   RAM has the role {}", role(name)));
    }
    let installation = Installation::start(cluster, choices).await?;
    installation.trust(&role("app"), &[subject("team-a", "app")]);
    installation.trust(&role("reports"), &[]);
    for (who, kubeconfig) in installation.identities() {
        let name = kubectl_as(
            cluster,
            kubeconfig,
            "auth whoami -o jsonpath={.status.userInfo.username}",
            "",
        )
        .await?;
        ensure!(name == subject("rrsa-system", who), "{who} runs as {name}");
    }
    let (_, controller) = installation.identities()[0];
    let mut command = vec!["auth", "can-i", "delete", "namespaces"];
    command.push("--all-namespaces");
    let may = cluster.kubectl_with(controller, &command, "").await?;
    ensure!(
        may.stdout.trim() == "no",
        "the controller may delete namespaces"
    );
    seen(
        "controller and webhook run with the rights of their ServiceAccounts, not as administrator",
    );
    Ok(installation)
}

struct Story<'a> {
    cluster: &'a Cluster,
    installation: &'a Installation,
}

impl Story<'_> {
    async fn apply(&self, text: &str) -> Result<()> {
        file(text);
        let admin = self.cluster.admin_kubeconfig();
        kubectl_as(self.cluster, admin, "apply -f -", text).await?;
        Ok(())
    }

    async fn json(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [&["-n", "team-a", "get", "-o", "json"], arguments].concat();
        let output = self.cluster.kubectl(&arguments).await?.success()?;
        Ok(serde_json::from_str(&output)?)
    }

    /// Waits until a binding's Ready says this.
    async fn ready(&self, binding: &str, status: &str, reason: &str) -> Result<Value> {
        let what = format!("Ready={status} {reason} on {binding}");
        wait::until(&what, SOON, async || {
            let object = self.json(&["arb", binding]).await?;
            let conditions = object["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let ready = conditions
                .iter()
                .find(|condition| condition["type"] == "Ready");
            let ready = ready.context("no condition yet")?;
            ensure!(
                ready["status"] == status && ready["reason"] == reason,
                "it says {ready}"
            );
            Ok(Some(object))
        })
        .await
    }

    /// The Secret's data as text.
    async fn data(&self) -> Result<BTreeMap<String, String>> {
        use base64::Engine as _;
        let secret = self.json(&["secret", "app-credentials"]).await?;
        let data = secret["data"].as_object().context("the Secret is empty")?;
        data.iter()
            .map(|(key, value)| {
                let value = value.as_str().context("no text")?;
                let bytes = base64::prelude::BASE64_STANDARD.decode(value)?;
                Ok((key.clone(), String::from_utf8(bytes)?))
            })
            .collect()
    }

    /// Asks STS whose credentials these are.
    fn identity(&self, data: &BTreeMap<String, String>) -> Result<String> {
        let of = |key: &str| data.get(key).map(String::as_str).unwrap_or_default();
        let session = self
            .installation
            .sts
            .verify(
                of("ALIBABA_CLOUD_ACCESS_KEY_ID"),
                of("ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
                of("ALIBABA_CLOUD_SECURITY_TOKEN"),
            )
            .map_err(|error| anyhow::anyhow!("STS does not know the credentials: {error:?}"))?;
        ensure!(!session.expired, "the credentials have ended");
        Ok(format!("{}, session {}", session.role_arn, session.name))
    }

    async fn a_binding_becomes_a_secret(&self) -> Result<()> {
        step(3, "A binding becomes a Secret with fresh credentials");
        self.apply(TEAM).await?;
        self.apply(BINDING).await?;
        self.ready("app", "True", "CredentialsFresh").await?;
        kubectl(self.cluster, "-n team-a get arb -o wide").await?;
        let data = self.data().await?;
        say("   The Secret app-credentials (values masked):");
        for (key, value) in &data {
            say(&format!(
                "     {key:<38} {} ({} bytes)",
                "•".repeat(8),
                value.len()
            ));
        }
        seen(&format!("STS accepts them: {}", self.identity(&data)?));
        Ok(())
    }

    async fn a_pod_gets_its_role(&self) -> Result<()> {
        step(
            4,
            "A pod of the annotated ServiceAccount gets what every official SDK needs",
        );
        self.apply(POD).await?;
        let pod = self.json(&["pod", "app"]).await?;
        let container = &pod["spec"]["containers"][0];
        say("   What the API server stored for container main:");
        let env = container["env"]
            .as_array()
            .context("nothing was injected")?;
        for variable in env {
            let text = |key: &str| variable[key].as_str().unwrap_or_default().to_owned();
            say(&format!("     {:<38} {}", text("name"), text("value")));
        }
        let value = |name: &str| {
            env.iter()
                .find(|variable| variable["name"] == name)
                .map(|v| v["value"].clone())
        };
        ensure!(
            value("ALIBABA_CLOUD_ROLE_ARN") == Some(role("app").into()),
            "another role"
        );
        let file = value("ALIBABA_CLOUD_OIDC_TOKEN_FILE").context("no token file")?;
        let mounts = container["volumeMounts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mount = mounts
            .iter()
            .find(|mount| mount["name"] == "rrsa-oidc-token");
        let mount = mount.context("the token is not mounted")?;
        say(&format!(
            "     volume rrsa-oidc-token at {}",
            mount["mountPath"]
        ));
        let path = mount["mountPath"].as_str().unwrap_or_default();
        ensure!(
            file.as_str().unwrap_or_default().starts_with(path),
            "the token is elsewhere"
        );
        seen("role, provider, token file, STS endpoint and the token's volume are there");
        let line = format!(
            "-n default run plain --image=x --dry-run=server -o jsonpath={}",
            "{.spec.containers[0].env}"
        );
        let plain = kubectl(self.cluster, &line).await?;
        ensure!(
            plain.trim().is_empty(),
            "a pod that did not opt in was changed: {plain}"
        );
        seen("a pod in a namespace that did not opt in is left as it is");
        Ok(())
    }

    async fn the_secret_is_refreshed(&self) -> Result<()> {
        step(5, "Credentials are renewed before they end");
        let before = self.data().await?;
        let key = "ALIBABA_CLOUD_ACCESS_KEY_ID";
        say(&format!(
            "   sessions last {} s here; waiting for the next refresh",
            LIFETIME.as_secs()
        ));
        let after = wait::until("a refresh", SOON, async || {
            let data = self.data().await?;
            self.identity(&data)
                .context("a reader met credentials that are not good")?;
            Ok((data[key] != before[key]).then_some(data))
        })
        .await?;
        say(&format!("     {} → {}", before[key], after[key]));
        kubectl(self.cluster, "-n team-a get arb app").await?;
        seen(&format!(
            "STS accepts the new ones: {}",
            self.identity(&after)?
        ));
        Ok(())
    }

    async fn a_refusal_says_what_to_do(&self) -> Result<()> {
        step(6, "A refusal of STS, and the remedy that the status gives");
        self.apply(REFUSED).await?;
        let object = self.ready("reports", "False", "NotTrusted").await?;
        kubectl(self.cluster, "-n team-a get arb reports").await?;
        let line = "-n team-a get arb reports -o jsonpath={.status.failure.remedy}";
        let remedy = kubectl(self.cluster, line).await?;
        let (_, statement) = remedy
            .split_once(": ")
            .context("the remedy has no statement")?;
        let statement: Value =
            serde_json::from_str(statement).context("the statement is no JSON")?;
        let trusted = statement["Condition"]["StringEquals"]["oidc:sub"].as_str();
        let trusted = trusted.context("the statement names no subject")?;
        ensure!(
            object["status"]["failure"]["requestId"].is_string(),
            "no request id"
        );
        seen("the reason is in the table, the statement to add is in the status");
        say("   The administrator adds that statement to the role's trust policy.");
        self.installation
            .trust(&role("reports"), &[trusted.to_owned()]);
        self.ready("reports", "True", "CredentialsFresh").await?;
        kubectl(self.cluster, "-n team-a get arb").await?;
        seen("the next attempt succeeds by itself");
        Ok(())
    }
}
