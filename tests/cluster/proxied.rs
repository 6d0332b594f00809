//! A controller whose way to STS leads through an HTTP proxy with a password, and ends at a
//! certificate of an authority of its own. The proxy leads every STS host to the simulator, so that
//! the real hosts' names can be asked for.
#![expect(clippy::disallowed_methods, reason = "tests write real files")]

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use crate::bindings::{SOON, Scene};
use crate::installation::{ACCOUNT, FALLBACK_ID, Installation, NODE_ROLE, role, subject, swap};
use crate::simulators::authority::Authority;
use crate::simulators::calls::Call;
use crate::simulators::metadata::{Metadata, MetadataConfig};
use crate::simulators::proxy::{Proxy, ProxyConfig};
use crate::support::kubernetes::{Cluster, Process};
use crate::support::{logs, wait};
use crate::{own_installation, reported};

/// What the proxy wants to hear, and what it does not take.
pub(crate) const CREDENTIALS: &str = "rrsa:word-of-the-proxy";
const WRONG: &str = "rrsa:word-of-yesterday";
/// The host of the cluster's region.
const REGIONAL: &str = "sts-vpc.cn-hangzhou.aliyuncs.com";

/// What stands beside the installation.
pub(crate) struct Proxied {
    pub(crate) proxy: Proxy,
    pub(crate) metadata: Metadata,
    credentials: PathBuf,
    bundle: PathBuf,
    process: Process,
}

/// Runs a test with a controller behind a proxy, on a cluster of its own.
pub(crate) async fn with_proxy(
    first_credentials: &str,
    test: impl AsyncFnOnce(&Cluster, &Scene<'_>, &Proxied) -> Result<()>,
) -> Result<()> {
    let (cluster, installation) = own_installation(None).await?;
    installation.kill_controller()?;
    let scene = Scene::set(&installation, cluster.test_namespace().await?).await?;
    let proxied = Proxied::start(&cluster, &scene, first_credentials)?;
    let outcome = test(&cluster, &scene, &proxied).await;
    let outcome = outcome.and_then(|()| proxied.process.ensure_running());
    let outcome = outcome.and_then(|()| installation.assert_no_secret_in_logs(&cluster));
    reported(outcome.and_then(|()| no_password_in_logs(&cluster)))
}

impl Proxied {
    fn start(cluster: &Cluster, scene: &Scene<'_>, first_credentials: &str) -> Result<Self> {
        let installation = scene.installation;
        let proxy = Proxy::start(ProxyConfig {
            credentials: Some(CREDENTIALS.to_owned()),
            lead_to: Some(installation.sts.address()),
        })?;
        let instance = MetadataConfig {
            role: Some(NODE_ROLE.to_owned()),
            account_id: ACCOUNT.to_owned(),
            ..MetadataConfig::default()
        };
        let metadata = Metadata::start(instance, installation.sts.issuance())?;
        let folder = cluster.state_dir();
        let credentials = folder.join("proxy-credentials");
        let bundle = folder.join("bundle.pem");
        std::fs::write(&credentials, first_credentials)?;
        let sts = installation.sts.ca_pem().to_owned();
        // As bundles are: the authority that counts is not the first.
        std::fs::write(&bundle, Authority::new()?.ca_pem().to_owned() + &sts)?;
        let file = folder.join("proxied.yaml");
        std::fs::write(&file, text(scene, &proxy, &credentials, &bundle))?;
        let address = format!("--metadata-address={}", metadata.address());
        let arguments = ["--leader-elect=false", &address];
        let (process, _) =
            installation.start_replica(cluster, "rrsa-proxied", &arguments, None, Some(&file))?;
        Ok(Self {
            proxy,
            metadata,
            credentials,
            bundle,
            process,
        })
    }
}

/// The installation's configuration, with a proxy instead of the simulator's address, and with what
/// the metadata service tells left out.
fn text(
    scene: &Scene<'_>,
    proxy: &Proxy,
    credentials: &std::path::Path,
    bundle: &std::path::Path,
) -> String {
    let way = format!(
        "  proxy: \"http://{}\"\n  proxyCredentialsFile: {}\n  caFile: {}\n",
        proxy.address(),
        credentials.display(),
        bundle.display()
    );
    let whole = scene.installation.configuration_text();
    whole
        .lines()
        .filter(|line| {
            !["accountId:", "region:"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .map(|line| match line {
            _ if line.starts_with("  endpoint:") => way.clone(),
            _ if line.starts_with("  caFile:") => String::new(),
            _ => format!("{line}\n"),
        })
        .collect()
}

fn break_oidc(installation: &Installation, broken: bool) {
    installation
        .sts
        .update(|config| config.providers[0].broken = broken);
}

/// The name of the binding that is made after so many others.
async fn name_after(scene: &Scene<'_>, others: usize) -> Result<String> {
    let made = scene.bindings().list(&ListParams::default()).await?;
    Ok(format!("try-{}", made.items.len() - others))
}

fn no_password_in_logs(cluster: &Cluster) -> Result<()> {
    let words = [CREDENTIALS, WRONG].map(|pair| {
        let (_, word) = pair.split_once(':').unwrap_or_default();
        word.to_owned()
    });
    let leaks = logs::leaks(&cluster.log_dir(), &words)?;
    ensure!(
        leaks.is_empty(),
        "the proxy's password is in the logs: {leaks:?}"
    );
    Ok(())
}

#[tokio::test]
async fn bindings_become_ready_through_a_proxy_and_metadata_is_asked_past_it() -> Result<()> {
    with_proxy(WRONG, async |_, scene, proxied| {
        // The account and the region were asked of the metadata service before anything else.
        scene
            .bind(json!({
                "role": {"name": scene.namespace.name()}, "serviceAccountName": "app",
                "fallback": {"type": "EcsMetadata"},
            }))
            .await?;
        let binding = scene.says("Ready", "False", "STSUnreachable").await?;
        let failure = binding
            .status
            .and_then(|status| status.failure)
            .context("no failure")?;
        let proxy = proxied.proxy.address().to_string();
        for part in [REGIONAL, "through the proxy", &proxy] {
            ensure!(
                failure.message.contains(part),
                "{part} is not in {}",
                failure.message
            );
        }
        ensure!(
            scene.installation.sts.calls().all().is_empty(),
            "STS was asked past the proxy"
        );

        // The password is put right, nobody restarts anything; OIDC does not work, so that the node's
        // role is asked of the metadata service.
        let installation = scene.installation;
        break_oidc(installation, true);
        installation.trust_role(&scene.role_arn(), &role(NODE_ROLE), Some(FALLBACK_ID));
        let calls = proxied.metadata.calls();
        let before = calls.all().len();
        ensure!(before > 0, "account and region were not asked for");
        swap(&proxied.credentials, CREDENTIALS)?;
        scene.says("Ready", "True", "FallbackInUse").await?;
        ensure!(calls.all().len() > before && calls.all().iter().all(Call::succeeded));

        break_oidc(installation, false);
        let request = Patch::Merge(json!({"metadata": {"annotations": {
            "rrsa.io/refresh-requested-at": "now",
        }}}));
        let parameters = PatchParams::default();
        scene.bindings().patch("app", &parameters, &request).await?;
        scene.ready().await?;
        let session = scene.verify(&scene.data().await?)?;
        assert_eq!(session.role_arn, scene.role_arn());
        assert_eq!(
            session.subject,
            Some(subject(scene.namespace.name(), "app"))
        );
        let place = proxied.metadata.address().to_string();
        let heads = proxied.proxy.heads();
        ensure!(
            heads
                .iter()
                .all(|head| head.starts_with(&format!("CONNECT {REGIONAL}:443 "))
                    && !head.contains(&place)),
            "something else came through the proxy: {heads:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_authority_that_is_not_trusted_is_named_and_a_bundle_is_followed() -> Result<()> {
    with_proxy(CREDENTIALS, async |_, scene, proxied| {
        let good = std::fs::read_to_string(&proxied.bundle)?;
        swap(&proxied.bundle, Authority::new()?.ca_pem())?;
        let cause = wait::until("the other bundle to be in use", SOON * 2, async || {
            // The bundle is followed, so what is asked before that succeeds.
            let name = name_after(scene, 0).await?;
            scene.bind_as(&name, scene.spec()).await?;
            let status = wait::until(&name, SOON, async || {
                let status = scene.bindings().get(&name).await?.status;
                Ok(status.filter(|status| !status.conditions.is_empty()))
            })
            .await?;
            Ok(status.failure)
        })
        .await?;
        assert_eq!(cause.code, "STSUnreachable");
        ensure!(cause.message.contains("certificate"), "{}", cause.message);
        swap(&proxied.bundle, &good)?;
        let name = name_after(scene, 1).await?;
        scene
            .says_of(&name, "Ready", "True", "CredentialsFresh")
            .await?;
        Ok(())
    })
    .await
}
