//! A controller of a few namespaces with Roles only, as the chart installs it, whose account and region
//! come from the ECS metadata service, and whose configuration changes while it runs.
#![expect(clippy::disallowed_methods, reason = "tests write real files")]

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rrsa::api::v1alpha1::AlibabaRoleBinding;
use serde_json::json;

use crate::bindings::{SOON, Scene};
use crate::installation::swap;
use crate::namespaced;
use crate::replicas::ask;
use crate::simulators::calls::Call;
use crate::simulators::metadata::{Metadata, MetadataConfig};
use crate::support::kubernetes::Cluster;
use crate::support::wait;
use crate::{own_installation, reported};

/// A refused file is noticed within seconds; a busy machine gets more.
const NOTICED: Duration = Duration::from_mins(3);

#[tokio::test]
async fn a_controller_of_some_namespaces_needs_roles_there_and_follows_its_file() -> Result<()> {
    let (cluster, installation) = own_installation(None).await?;
    installation.kill_controller()?;
    let served = Scene::set(&installation, cluster.test_namespace().await?).await?;
    let also = Scene::set(&installation, cluster.test_namespace().await?).await?;
    let other = Scene::set(&installation, cluster.test_namespace().await?).await?;
    let outcome = follows_its_file(&cluster, &served, &also, &other).await;
    reported(outcome.and_then(|()| installation.assert_no_secret_in_logs(&cluster)))
}

async fn follows_its_file(
    cluster: &Cluster,
    served: &Scene<'_>,
    also: &Scene<'_>,
    other: &Scene<'_>,
) -> Result<()> {
    let installation = served.installation;
    let namespaces = [served.namespace.name(), also.namespace.name()];
    namespaced::install(cluster, &namespaces).await?;
    namespaced::rights_are_exact(cluster, &[served, also], other).await?;
    let metadata = Metadata::start(MetadataConfig::default(), installation.sts.issuance())?;

    let file = cluster.state_dir().join("namespaced.yaml");
    let text = left_out(&installation.configuration_text())
        + &format!("clusterId: c0test\nnamespaces: {namespaces:?}\n");
    std::fs::write(&file, &text)?;
    let address = format!("--metadata-address={}", metadata.address());
    let arguments = ["--leader-elect=false", &address];
    let (process, ready_file) =
        installation.start_replica(cluster, "rrsa-namespaced", &arguments, None, Some(&file))?;
    for scene in [served, also, other] {
        // The account of the role's ARN is the one that was discovered.
        scene
            .bind(json!({"role": {"name": scene.namespace.name()}, "serviceAccountName": "app"}))
            .await?;
    }
    served
        .ready()
        .await
        .with_context(|| format!("{:?}", process.ensure_running()))?;
    also.ready().await?;
    served.verify(&served.data().await?)?;
    ensure!(
        metadata.calls().all().iter().any(Call::succeeded),
        "metadata was not asked"
    );

    // Watches work in each of the namespaces: a deleted Secret comes back.
    also.secrets()
        .delete("app-credentials", &kube::api::DeleteParams::default())
        .await?;
    wait::until("the deleted Secret to come back", SOON, async || {
        Ok(also.secrets().get_opt("app-credentials").await?)
    })
    .await?;
    ensure!(
        untouched(&other.bindings().get("app").await?),
        "a binding of another namespace was touched"
    );

    namespaced::policies_hold(cluster, served, other).await?;

    // The look at pods is switched on while the controller runs.
    let look = "podLook: {enabled: true, intervalSeconds: 5}\n";
    swap(&file, &format!("{text}{look}"))?;
    namespaced::pods_are_looked_at(&[served, also], other).await?;
    swap(&file, &text)?;

    // A bad file is told and changes nothing.
    let calls = installation.sts.calls().all().len();
    swap(&file, &format!("{text}regoin: typo\n"))?;
    says(&ready_file, "/readyz", "[!] configuration: refused").await?;
    says(&ready_file, "/metrics", "rrsa_configuration_in_use 0").await?;
    let (status, text_of_readiness) = ask(&ready_file, "/readyz").await?;
    ensure!(
        status == 200,
        "not ready for a refused file: {text_of_readiness}"
    );
    ensure!(text_of_readiness.contains("regoin"), "{text_of_readiness}");
    says(
        &ready_file,
        "/metrics",
        "rrsa_configuration_reloads_total{outcome=\"refused\"} 1",
    )
    .await?;
    let log = std::fs::read_to_string(process.log())?;
    let told = log.lines().filter(|line| {
        line.contains("the configuration is refused, the last good one stays in use")
            && line.contains("regoin")
    });
    ensure!(told.count() == 1, "a refusal is told once");
    // With the last good one the work goes on.
    also.bind_as("meanwhile", also.spec()).await?;
    also.says_of("meanwhile", "Ready", "True", "CredentialsFresh")
        .await?;

    // A good one is put into use; what it does not concern is not exchanged anew.
    let sts = "sts:\n  callsPerSecond: 20\n  extraRegions: [cn-newest]\n";
    swap(&file, &text.replace("sts:\n", sts))?;
    says(&ready_file, "/metrics", "rrsa_configuration_in_use 1").await?;
    says(&ready_file, "/metrics", "rrsa_controller_sts_rate 20").await?;
    ensure!(
        installation.sts.calls().all().len() == calls + 1,
        "a change that concerns no binding cost STS calls"
    );
    process.ensure_running()
}

/// Without what is to be discovered.
fn left_out(text: &str) -> String {
    text.lines()
        .filter(|line| {
            !["accountId:", "region:", "oidcProviderArn:"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .flat_map(|line| [line, "\n"])
        .collect()
}

fn untouched(binding: &AlibabaRoleBinding) -> bool {
    binding.status.is_none()
}

async fn says(ready_file: &Path, path: &str, expected: &str) -> Result<()> {
    wait::until(&format!("{path} to say {expected}"), NOTICED, async || {
        let (_, text) = ask(ready_file, path).await?;
        // A metric's description may contain its name and a number as well.
        let said = |line: &str| !line.starts_with('#') && line.contains(expected);
        ensure!(text.lines().any(said), "{text}");
        Ok(Some(()))
    })
    .await
}
