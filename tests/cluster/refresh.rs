//! Time passes: refreshes, restarts and outages, on an installation of their own with sessions of
//! less than a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use rrsa::api::v1alpha1::AlibabaRoleBinding;

use crate::bindings::{SOON, Scene, data_of, verify};
use crate::installation::Installation;
use crate::simulators::faults::{Effect, Fault};
use crate::support::kubernetes::Cluster;
use crate::support::wait;
use crate::{own_installation, reported};

/// How long sessions last here: a refresh is due after 25 to 33 s, so that a busy machine has 17 s
/// for it, and an outage shows for as long.
const LIFETIME: Duration = Duration::from_secs(50);
/// A pause of the reader: no version of a Secret lasts shorter.
const PAUSE: Duration = Duration::from_millis(20);

/// Runs a test on a cluster and an installation of its own.
async fn alone(
    lifetime: Option<Duration>,
    test: impl AsyncFnOnce(&Cluster, &Scene<'_>) -> Result<()>,
) -> Result<()> {
    let (cluster, installation) = own_installation(lifetime).await?;
    let namespace = cluster.test_namespace().await?;
    let scene = Scene::set(&installation, namespace).await?;
    reported(test(&cluster, &scene).await)
}

/// Reads the Secret again and again until it has seen `wanted` refreshes, and fails on the first
/// reading that is not good. Returns the access key ids.
async fn read_until(
    secrets: &Api<Secret>,
    installation: &Installation,
    wanted: usize,
) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    let reading = async {
        while seen.len() < wanted {
            let secret = secrets.get("app-credentials").await?;
            let data = data_of(&secret)?;
            // One version holds one set of credentials, in all formats, and STS takes them.
            let session = verify(installation, &data)?;
            ensure!(!session.expired, "a reader got credentials that had ended");
            seen.insert(data["ALIBABA_CLOUD_ACCESS_KEY_ID"].clone());
            tokio::time::sleep(PAUSE).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIFETIME * 6, reading)
        .await
        .with_context(|| format!("{wanted} refreshes did not come"))??;
    Ok(seen)
}

#[tokio::test]
async fn credentials_are_renewed_in_time_kept_in_an_outage_and_never_mixed() -> Result<()> {
    alone(Some(LIFETIME), renewed_in_time).await
}

async fn renewed_in_time(cluster: &Cluster, scene: &Scene<'_>) -> Result<()> {
    let installation = scene.installation;
    scene.bind(scene.spec()).await?;
    scene.ready().await?;

    // The first issue and two refreshes.
    let seen = read_until(&scene.secrets(), installation, 3).await?;
    assert_eq!(seen.len(), 3);

    // STS fails: what is valid stays, and the status says so; then it ends, and the status says
    // that too; then STS is back.
    let effect = Effect::Status { status: 503 };
    installation
        .sts
        .faults()
        .until_cleared(Fault::always(effect));
    let binding = scene.says("Ready", "True", "RefreshFailing").await?;
    let data = scene.data().await?;
    ensure!(
        !scene.verify(&data)?.expired,
        "valid credentials were lost in the outage"
    );
    let status = binding.status.unwrap_or_default();
    let issued = status
        .conditions
        .iter()
        .find(|c| c.type_ == "CredentialsIssued");
    assert_eq!(issued.map(|c| c.reason.as_str()), Some("STSUnreachable"));
    scene.says("Ready", "False", "Expired").await?;
    assert_eq!(
        scene.data().await?,
        data,
        "the Secret stays as it is when it ends"
    );
    installation.sts.faults().clear();
    scene.ready().await?;
    ensure!(
        !scene.verify(&scene.data().await?)?.expired,
        "not renewed after the outage"
    );

    installation.ensure_running()?;
    installation.assert_no_secret_in_logs(cluster)
}

/// Bindings of the restart test.
const MANY: usize = 200;
/// How long the restarted controller is watched.
const QUIET: Duration = Duration::from_secs(8);
const CONTROLLER: &str = "system:serviceaccount:rrsa-system:rrsa-controller";

#[tokio::test]
async fn a_killed_controller_comes_back_without_a_call() -> Result<()> {
    alone(None, back_without_a_call).await
}

async fn back_without_a_call(cluster: &Cluster, scene: &Scene<'_>) -> Result<()> {
    let installation = scene.installation;
    let bindings = scene.bindings();
    let spec = serde_json::from_value::<rrsa::api::v1alpha1::AlibabaRoleBindingSpec>(scene.spec())?;
    for number in 0..MANY {
        let binding = AlibabaRoleBinding::new(&format!("app-{number}"), spec.clone());
        bindings.create(&PostParams::default(), &binding).await?;
    }
    wait::until(
        "all bindings to be ready",
        Duration::from_mins(6),
        async || {
            let list = bindings.list(&ListParams::default()).await?;
            let ready = list
                .items
                .iter()
                .filter(|binding| is_ready(binding))
                .count();
            ensure!(ready == MANY, "{ready} of {MANY} are ready");
            Ok(Some(()))
        },
    )
    .await?;
    let calls = installation.sts.calls().all().len();
    assert_eq!(calls, MANY, "each binding is exchanged once");
    let expected = [
        "create events/",
        "create secrets/",
        "create serviceaccounts/token",
        "patch alibabarolebindings/status",
    ];
    let own_writes: BTreeMap<_, _> = expected.map(|what| (what.to_owned(), MANY)).into();
    // The last events come after the last status.
    wait::until("the API writes of the controller", SOON, async || {
        let seen = writes(cluster)?;
        ensure!(seen == own_writes, "they are {seen:?}, not {own_writes:?}");
        Ok(Some(()))
    })
    .await?;

    installation.kill_controller()?;
    installation.start_controller(cluster)?;
    tokio::time::sleep(QUIET).await;
    installation.ensure_running()?;
    assert_eq!(
        installation.sts.calls().all().len(),
        calls,
        "STS calls after the restart"
    );
    assert_eq!(writes(cluster)?, own_writes, "API writes after the restart");

    // It is awake, not dead: a deleted Secret comes back.
    scene
        .secrets()
        .delete("app-7-credentials", &DeleteParams::default())
        .await?;
    wait::until("the deleted Secret to come back", SOON, async || {
        Ok(scene.secrets().get_opt("app-7-credentials").await?)
    })
    .await?;
    assert_eq!(installation.sts.calls().all().len(), calls + 1);
    installation.assert_no_secret_in_logs(cluster)
}

fn is_ready(binding: &AlibabaRoleBinding) -> bool {
    let conditions = binding
        .status
        .as_ref()
        .map(|status| status.conditions.as_slice());
    conditions
        .unwrap_or_default()
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Requests of the controller that change something, by verb and resource.
fn writes(cluster: &Cluster) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for call in cluster.audit()?.calls_of(CONTROLLER)? {
        if matches!(call.verb.as_str(), "create" | "update" | "patch" | "delete") {
            let object = &call.object_ref;
            let what = format!("{} {}/{}", call.verb, object.resource, object.subresource);
            *counts.entry(what).or_default() += 1;
        }
    }
    Ok(counts)
}
