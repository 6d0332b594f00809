//! What a newcomer sees of bindings: the table, the description, the explanation of every field, and
//! what the conditions say.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::bindings::{SOON, Scene};
use crate::support::kubernetes::Cluster;
use crate::support::wait;
use crate::with_scene;

const INJECTION: &str = "pod-identity.alibabacloud.com/injection";

async fn kubectl(scene: &Scene<'_>, arguments: &[&str]) -> Result<String> {
    let arguments = [&["-n", scene.namespace.name()], arguments].concat();
    Cluster::shared()
        .await?
        .kubectl(&arguments)
        .await?
        .success()
}

/// The cells of a table's rows, by the positions of its columns.
fn cells(table: &str) -> Result<Vec<Vec<(String, String)>>> {
    let mut lines = table.lines();
    let head = lines.next().context("no head")?;
    let mut columns = Vec::new();
    let mut position = 0;
    // Columns are three blanks apart; names may hold one.
    for name in head
        .split("   ")
        .map(str::trim)
        .filter(|name| !name.is_empty())
    {
        let at = head[position..].find(name).context("a column")? + position;
        columns.push((at, name.to_owned()));
        position = at + name.len();
    }
    let rows = lines.map(|line| {
        let cell = |index: usize| {
            let (from, name) = &columns[index];
            let to = columns.get(index + 1).map_or(line.len(), |(to, _)| *to);
            let text = line.get(*from..to.min(line.len())).unwrap_or_default();
            (name.clone(), text.trim().to_owned())
        };
        (0..columns.len()).map(cell).collect()
    });
    Ok(rows.collect())
}

fn cell<'a>(row: &'a [(String, String)], column: &str) -> &'a str {
    row.iter()
        .find(|(name, _)| name == column)
        .map_or("", |(_, text)| text)
}

#[tokio::test]
async fn the_table_tells_the_well_from_the_ill() -> Result<()> {
    with_scene(async |scene| {
        scene.issue().await?;
        let mut ill = scene.spec();
        ill["serviceAccountName"] = json!("absent");
        scene.bind_as("ill", ill).await?;
        scene
            .says_of("ill", "Ready", "False", "ServiceAccountNotFound")
            .await?;
        let mut still = scene.spec();
        still["suspend"] = json!(true);
        scene.bind_as("still", still).await?;
        scene
            .says_of("still", "Ready", "Unknown", "Suspended")
            .await?;

        let narrow = cells(&kubectl(scene, &["get", "arb"]).await?)?;
        let names: Vec<_> = narrow[0].iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "NAME",
                "ROLE",
                "SERVICEACCOUNT",
                "READY",
                "REASON",
                "EXPIRES",
                "AGE"
            ]
        );
        let wide = cells(&kubectl(scene, &["get", "arb", "-o", "wide"]).await?)?;
        assert_eq!(wide.len(), 3);
        for (row, name, ready, reason) in [
            (&wide[0], "app", "True", "CredentialsFresh"),
            (&wide[1], "ill", "False", "ServiceAccountNotFound"),
            (&wide[2], "still", "Unknown", "Suspended"),
        ] {
            assert_eq!(cell(row, "NAME"), name);
            assert_eq!(cell(row, "READY"), ready);
            assert_eq!(cell(row, "REASON"), reason);
            // Also of one that never had credentials.
            assert_eq!(cell(row, "ROLE"), scene.role_arn());
        }
        let well = &wide[0];
        assert_eq!(cell(well, "SOURCE"), "OIDC");
        assert_eq!(cell(well, "SECRET"), "app-credentials");
        for column in ["EXPIRES", "NEXT REFRESH"] {
            // A date column would say <invalid> of a time to come.
            let time = cell(well, column);
            ensure!(
                time.ends_with('Z') && time.starts_with("20"),
                "{column}: {time:?}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_description_holds_the_remedy_and_the_statement_to_paste() -> Result<()> {
    with_scene(async |scene| {
        scene.installation.trust(&scene.role_arn(), &[]);
        scene.bind(scene.spec()).await?;
        scene.says("Ready", "False", "NotTrusted").await?;
        let subject = format!("system:serviceaccount:{}:app", scene.namespace.name());
        let told = wait::until("the event", SOON, async || {
            let told = kubectl(scene, &["describe", "arb", "app"]).await?;
            ensure!(told.contains("Warning  NotTrusted"), "{told}");
            Ok(Some(told))
        })
        .await?;
        let statement = told
            .lines()
            .find_map(|line| line.trim().strip_prefix("Remedy:"))
            .context("no remedy")?;
        let json = statement.find('{').context("no statement")?;
        let json = &statement[json..=statement.rfind('}').context("no end")?];
        let parsed: serde_json::Value = serde_json::from_str(json)?;
        assert_eq!(parsed["Action"], "sts:AssumeRole");
        assert_eq!(
            parsed["Condition"]["StringEquals"]["oidc:sub"],
            subject.as_str()
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn kubectl_explains_what_it_is_for() -> Result<()> {
    with_scene(async |scene| {
        // The API server publishes a new kind some seconds after it is established.
        for (path, expected) in [
            ("arb", "keeps fresh temporary credentials"),
            ("arb.spec", "FIELDS:"),
            ("arb.spec.role", "exactly one of"),
            ("arb.spec.secret.deletionPolicy", "ENUM: Delete Retain"),
            ("arb.spec.sts.network", "ENUM: Vpc Public"),
            ("arb.spec.assume.externalId", "External id"),
            ("arb.status.conditions", "SecretSynced"),
            ("arb.status.failure.remedy", "What to do about it"),
        ] {
            wait::until(path, Duration::from_mins(1), async || {
                let told = kubectl(scene, &["explain", path]).await?;
                // It wraps lines.
                let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
                ensure!(told.contains(expected), "{told}");
                ensure!(!told.contains("<empty>"), "{told}");
                Ok(Some(()))
            })
            .await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_binding_for_pods_says_whether_they_get_its_role() -> Result<()> {
    with_scene(async |scene| {
        let mut spec = scene.spec();
        spec["injectPods"] = json!(true);
        scene.bind(spec.clone()).await?;
        let binding = scene
            .says("PodsInjected", "False", "NamespaceNotOptedIn")
            .await?;
        let said = |binding: &rrsa::api::v1alpha1::AlibabaRoleBinding| {
            let conditions = binding.status.clone().unwrap_or_default().conditions;
            let found = conditions.into_iter().find(|c| c.type_ == "PodsInjected");
            found.map(|found| found.message).unwrap_or_default()
        };
        let label = format!("{INJECTION}: \"on\"");
        ensure!(said(&binding).contains(&label), "{}", said(&binding));
        // That pods are not injected yet is no fault of the credentials.
        scene.ready().await?;

        let namespaces = Api::<Namespace>::all(scene.namespace.client());
        let opt = async |value: Option<&str>| {
            let patch = Patch::Merge(json!({"metadata": {"labels": {INJECTION: value}}}));
            let name = scene.namespace.name();
            namespaces
                .patch(name, &PatchParams::default(), &patch)
                .await
        };
        opt(Some("on")).await?;
        scene
            .says("PodsInjected", "True", "NamespaceOptedIn")
            .await?;
        scene.bind_as("younger", spec).await?;
        let younger = scene
            .says_of("younger", "PodsInjected", "False", "OlderBinding")
            .await?;
        ensure!(
            said(&younger).contains("AlibabaRoleBinding app"),
            "{}",
            said(&younger)
        );
        // Pods could not keep to a policy, so they get nothing, of the younger binding neither.
        scene
            .change(json!({"session": {"policy": r#"{"Version": "1", "Statement": []}"#}}))
            .await?;
        scene
            .says("PodsInjected", "False", "BindingBeyondPods")
            .await?;
        wait::until("the younger to say so", SOON, async || {
            let younger = said(&scene.bindings().get("younger").await?);
            Ok(younger.contains("nothing is injected").then_some(()))
        })
        .await?;
        scene.change(json!({"session": null})).await?;
        scene
            .says("PodsInjected", "True", "NamespaceOptedIn")
            .await?;
        opt(None).await?;
        scene
            .says("PodsInjected", "False", "NamespaceNotOptedIn")
            .await?;
        // Who no longer asks is told nothing.
        scene.change(json!({"injectPods": false})).await?;
        wait::until("the condition to go", SOON, async || {
            Ok(said(&scene.bindings().get("app").await?)
                .is_empty()
                .then_some(()))
        })
        .await?;
        scene
            .says_of("younger", "PodsInjected", "False", "NamespaceNotOptedIn")
            .await?;
        Ok(())
    })
    .await
}
