//! Roles that are assumed one after the other: the Secret holds the session of the last.

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::bindings::{POLICY, Scene};
use crate::installation::{DELEGATED_ID, role, subject};
use crate::with_scene;

fn next(scene: &Scene<'_>, name: &str) -> String {
    role(&format!("{}-{name}", scene.namespace.name()))
}

#[tokio::test]
async fn a_chain_ends_with_the_session_of_its_last_role() -> Result<()> {
    with_scene(async |scene| {
        let (middle, last) = (next(scene, "middle"), next(scene, "last"));
        let installation = scene.installation;
        installation.trust_role(&middle, &scene.role_arn(), None);
        installation.trust_role(&last, &middle, Some("authors/word"));
        let policy = POLICY;
        let mut spec = scene.spec();
        spec["session"] = json!({"name": "chosen", "durationSeconds": 3600});
        spec["assume"] = json!([
            {"arn": middle},
            {"arn": last, "externalId": "authors/word", "durationSeconds": 900, "policy": policy},
        ]);
        spec["secret"] = json!({"template": {"role": "{{ role_arn }}"}});
        scene.bind(spec).await?;
        let binding = scene.ready().await?;
        let data = scene.data().await?;
        let session = scene.verify(&data)?;
        assert_eq!((&session.role_arn, &*session.name), (&last, "chosen"));
        assert_eq!(session.policy.as_deref(), Some(policy));
        assert_eq!(data["role"], last);
        let status = binding.status.unwrap_or_default();
        assert_eq!(status.role_arn, Some(scene.role_arn()));
        let assumed = status.assumed_role_arn.unwrap_or_default();
        ensure!(assumed.contains("last/chosen"), "{assumed}");

        // The chain may change later: the Secret follows.
        scene.change(json!({"assume": [{"arn": middle}]})).await?;
        scene.ready().await?;
        let session = scene.verify(&scene.data().await?)?;
        assert_eq!(session.role_arn, middle);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_step_that_is_not_trusted_is_told_the_statement_to_add() -> Result<()> {
    with_scene(async |scene| {
        let closed = next(scene, "closed");
        scene
            .installation
            .trust_role(&closed, &role("somebody-else"), None);
        scene.issue().await?;
        let before = scene.data().await?;
        scene
            .change(json!({"assume": [{"arn": closed, "externalId": "authors/word"}]}))
            .await?;
        let binding = scene.says("Ready", "False", "NotTrusted").await?;
        let failure = binding
            .status
            .and_then(|status| status.failure)
            .context("no failure")?;
        let message = &failure.message;
        ensure!(
            message.contains("spec.assume[0]") && message.contains(&closed),
            "{message}"
        );
        for part in [
            format!(r#""RAM":["{}"]"#, scene.role_arn()),
            r#""sts:ExternalId":"authors/word""#.to_owned(),
        ] {
            ensure!(failure.remedy.contains(&part), "{}", failure.remedy);
        }
        ensure!(scene.data().await? == before, "the Secret lost its content");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_operators_token_goes_no_further_than_one_entry_allows() -> Result<()> {
    with_scene(async |scene| {
        let installation = scene.installation;
        let (first, last) = (role("chained-a"), role("chained-b"));
        let operator = subject("rrsa-system", "rrsa-controller");
        installation.trust(&first, std::slice::from_ref(&operator));
        installation.trust(&last, &[]);
        installation.trust_role(&last, &first, Some(DELEGATED_ID));
        let spec = json!({
            "role": {"arn": first},
            "tokenSource": {"type": "File", "file": "operator"},
            "assume": [{"arn": last}],
        });
        scene.bind(spec).await?;
        scene.ready().await?;
        let session = scene.verify(&scene.data().await?)?;
        assert_eq!(session.role_arn, last);
        assert_eq!(session.name, format!("{}.app", scene.namespace.name()));

        // A role of another entry; a role of none; an external id of the author's own.
        for (assume, reason) in [
            (json!([{"arn": role("delegated-good")}]), "NotDelegated"),
            (
                json!([{"arn": last}, {"arn": role("prod")}]),
                "NotDelegated",
            ),
            (json!([{"arn": last, "externalId": "mine"}]), "InvalidSpec"),
        ] {
            scene.change(json!({"assume": assume})).await?;
            scene.says("Ready", "False", reason).await?;
        }
        let binding = scene.bindings().get("app").await?;
        let shown = serde_json::to_string(&binding)?;
        ensure!(!shown.contains(DELEGATED_ID), "the external id is shown");
        Ok(())
    })
    .await
}
