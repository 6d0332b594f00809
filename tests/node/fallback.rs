//! A cluster in which OIDC does not work: the node's RAM role, asked of the metadata service at its real
//! address, stands in for a binding and for a pod where the administrator allows it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::rrsa::{FALLBACK_NAMESPACE, NODE_ROLE, Rrsa, role};
use crate::sdks::{self, Sdk};
use crate::secrets;
use crate::stage::Stage;
use crate::support::wait;

/// A provider that worked a moment ago is believed in for five minutes.
const CEILING: Duration = Duration::from_mins(8);
const IN: [&str; 2] = ["--namespace", FALLBACK_NAMESPACE];

/// The fallback is used while STS cannot fetch the issuer's keys, and left when it can.
pub(crate) async fn stands_in(stage: &'static Stage) -> Result<()> {
    let rrsa = Rrsa::shared(stage).await?;
    sdks::namespace(stage, rrsa, FALLBACK_NAMESPACE, true).await?;
    sdks::account(stage, FALLBACK_NAMESPACE, "app", Some("fallback-app")).await?;
    rrsa.trust_node("fallback-app");
    rrsa.break_issuer(true);
    let outcome = while_oidc_is_broken(stage, rrsa).await;
    rrsa.break_issuer(false);
    outcome?;

    // And the role trusts the ServiceAccount instead of the node.
    rrsa.trust("fallback-app", &format!("{FALLBACK_NAMESPACE}:app"));
    let request = ["annotate", "arb/app", "rrsa.io/refresh-requested-at=now"];
    stage.kubectl(&[&IN[..], &request].concat()).await?;
    issued_by(stage, rrsa, "OIDC").await?;
    stage.forget(FALLBACK_NAMESPACE).await
}

async fn while_oidc_is_broken(stage: &'static Stage, rrsa: &Rrsa) -> Result<()> {
    let spec = json!({"role": {"name": "fallback-app"}, "fallback": {"type": "EcsMetadata"}});
    secrets::bind(stage, FALLBACK_NAMESPACE, spec).await?;
    issued_by(stage, rrsa, "ECSMetadata").await?;
    let asked = rrsa.metadata.calls();
    let asked = asked.count(|call| call.action == "GetCredentials" && call.succeeded());
    ensure!(asked > 0, "nobody asked the metadata service");

    let mut pod = Sdk::Go.pod((FALLBACK_NAMESPACE, "go"), "app");
    pod["metadata"]["annotations"] = json!({"rrsa.io/fallback": "ecs-metadata"});
    stage.cluster.apply_yaml(&pod.to_string()).await?;
    let answer = sdks::has_role(stage, rrsa, (FALLBACK_NAMESPACE, "go"), NODE_ROLE).await?;
    let provider = answer["provider"].as_str().unwrap_or_default();
    ensure!(
        provider.contains("ecs_ram_role"),
        "the SDK says that they come from {provider}"
    );
    Ok(())
}

/// Waits until the binding says where its credentials come from; they are good, and of its role.
async fn issued_by(stage: &Stage, rrsa: &Rrsa, source: &str) -> Result<()> {
    let what = format!("credentials by {source}");
    wait::until(&what, CEILING, async || {
        let binding = stage.json(&[&["arb", "app"], &IN[..]].concat()).await?;
        let status = &binding["status"];
        ensure!(status["source"] == source, "the status is {status}");
        let name = ["secret", "app-credentials"];
        let secret = stage.json(&[&name, &IN[..]].concat()).await?;
        let file = secret["data"]["credentials.json"].as_str();
        let file = BASE64_STANDARD.decode(file.context("no credentials.json")?)?;
        let credentials: Value = serde_json::from_slice(&file)?;
        let found = rrsa.role_of(&credentials)?;
        ensure!(found == role("fallback-app"), "they are of {found}");
        Ok(Some(()))
    })
    .await
}
