//! A certificate that is mounted, as cert-manager's: served to a real API server, and followed when
//! its files change.
#![expect(
    clippy::disallowed_methods,
    reason = "the test is who mounts the certificate"
)]

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::kubernetes::Cluster;
use crate::support::wait;
use crate::{installation, reported};

/// The files are looked at every 15 s.
const FOLLOWED: Duration = Duration::from_secs(90);

/// Mounts another certificate as the kubelet does: a folder, to which a link is swapped.
fn mount(folder: &Path, version: &str) -> Result<String> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let names = vec!["127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)?.self_signed(&key)?;
    let data = folder.join(version);
    std::fs::create_dir_all(&data)?;
    std::fs::write(data.join("tls.crt"), certificate.pem())?;
    std::fs::write(data.join("tls.key"), key.serialize_pem())?;
    let new = folder.join("new");
    std::os::unix::fs::symlink(version, &new)?;
    std::fs::rename(new, folder.join("..data"))?;
    Ok(certificate.pem())
}

/// Before ours in the alphabet, so that it is called first.
fn configuration(name: &str, namespace: &str, url: &str, bundle: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "webhooks": [{
            "name": "mounted.rrsa.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Fail", "timeoutSeconds": 5,
            "clientConfig": {"url": url, "caBundle": ByteString(bundle.as_bytes().to_vec())},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                "operations": ["CREATE"], "scope": "Namespaced"}],
        }],
    })
}

#[tokio::test]
async fn a_mounted_certificate_is_served_and_followed() -> Result<()> {
    let cluster = Cluster::shared().await?;
    cluster.require_own("a webhook by URL")?;
    let installation = installation().await?;
    let on = [("pod-identity.alibabacloud.com/injection", "on")];
    let namespace = cluster.test_namespace_with(&on).await?;
    let role = json!({"pod-identity.alibabacloud.com/role-name": "app"});
    let account = json!({"metadata": {"name": "app", "annotations": role}});
    let accounts = namespace.api::<ServiceAccount>();
    let params = PostParams::default();
    let account = serde_json::from_value(account)?;
    accounts.create(&params, &account).await?;

    let folder = cluster.state_dir().join("mounted");
    let first = mount(&folder, "first")?;
    let path = |file: &str| folder.join("..data").join(file).display().to_string();
    let arguments = [
        format!("--tls-cert={}", path("tls.crt")),
        format!("--tls-key={}", path("tls.key")),
    ];
    let arguments = arguments.each_ref().map(String::as_str);
    let replica = installation
        .webhook_replica(cluster, "rrsa-mounted", &arguments)
        .await?;
    let configurations = Api::<MutatingWebhookConfiguration>::all(cluster.client().await?);
    let name = "a-mounted-certificate";
    let url = format!("https://{}/mutate", replica.address);
    let registered = configuration(name, namespace.name(), &url, &first);
    configurations
        .create(&params, &serde_json::from_value(registered)?)
        .await?;

    let decided = || -> Result<usize> {
        let log = std::fs::read_to_string(replica.process.log())?;
        let ours = format!("namespace=\"{}\"", namespace.name());
        let lines = log.lines().filter(|line| line.contains(&ours));
        Ok(lines
            .filter(|line| line.contains("decision=\"Injected\""))
            .count())
    };
    let create = async || {
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let pod = json!({"metadata": {"generateName": "app-"}, "spec": {"serviceAccountName": "app",
            "containers": [{"name": "main", "image": "registry.example.com/app:1"}]}});
        let pod: Pod = serde_json::from_value(pod)?;
        anyhow::Ok(namespace.api::<Pod>().create(&dry_run, &pod).await?)
    };
    let outcome = async {
        // The API server learns of the configuration a moment later.
        wait::until(
            "a review over the mounted certificate",
            FOLLOWED,
            async || {
                create().await?;
                Ok((decided()? > 0).then_some(()))
            },
        )
        .await?;
        let second = mount(&folder, "second")?;
        let trusted = json!([{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle",
            "value": ByteString(second.into_bytes())}]);
        let patch = Patch::Json::<()>(serde_json::from_value(trusted)?);
        configurations
            .patch(name, &PatchParams::default(), &patch)
            .await?;
        // Only the second one is trusted now, and without a review there is no pod. Connections that
        // are open already go on, so one review more proves nothing; the log does.
        wait::until("the second certificate", FOLLOWED, async || {
            let log = std::fs::read_to_string(replica.process.log())?;
            let read = log.matches("server certificate read").count();
            Ok((read >= 2).then_some(()))
        })
        .await?;
        let before = decided()?;
        wait::until(
            "a review over the second certificate",
            FOLLOWED,
            async || {
                create().await?;
                Ok((decided()? > before).then_some(()))
            },
        )
        .await?;
        let found = configurations.get(name).await?;
        let bundle = found.webhooks.unwrap_or_default().remove(0);
        ensure!(
            bundle.client_config.ca_bundle == Some(ByteString(mounted(&folder)?)),
            "the webhook has changed a caBundle that is not its own"
        );
        replica.process.ensure_running()
    }
    .await;
    configurations
        .delete(name, &DeleteParams::default())
        .await?;
    reported(outcome)
}

fn mounted(folder: &Path) -> Result<Vec<u8>> {
    Ok(std::fs::read(folder.join("..data/tls.crt"))?)
}
