//! The table: each field, a change of it, and what comes of that.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{OTHER_PROVIDER, Row, Seen};
use crate::bindings::POLICY;
use crate::installation::subject;

pub(super) const READY: (&str, &str, &str) = ("Ready", "True", "CredentialsFresh");

/// All rows.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = of_the_identity();
    rows.extend(of_the_way());
    rows.extend(of_the_secret());
    rows.extend(of_the_binding());
    rows
}

/// Fails with what was found instead.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a table reads better without references"
)]
fn is<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<()> {
    ensure!(found == expected, "{found:?} instead of {expected:?}");
    Ok(())
}

/// A change that leads to new credentials.
fn issued(field: &'static str, before: Value, after: Value, holds: fn(&Seen) -> Result<()>) -> Row {
    Row {
        field,
        before,
        after,
        says: READY,
        issued: true,
        holds,
    }
}

/// A change that leaves the credentials as they are.
fn kept(
    field: &'static str,
    before: Value,
    after: Value,
    says: (&'static str, &'static str, &'static str),
    holds: fn(&Seen) -> Result<()>,
) -> Row {
    Row {
        field,
        before,
        after,
        says,
        issued: false,
        holds,
    }
}

/// Changes of who asks and for what. Names in `<…>` are filled in.
fn of_the_identity() -> Vec<Row> {
    vec![
        issued(
            "role.arn",
            json!({}),
            json!({"role": {"arn": "<other>"}}),
            |seen| {
                let status = seen.binding.status.clone().unwrap_or_default();
                is(status.role_arn.as_ref(), Some(&seen.names.other))?;
                is(&seen.session.role_arn, &seen.names.other)
            },
        ),
        issued(
            "role.name",
            json!({}),
            json!({"role": {"arn": null, "name": "<other-name>"}}),
            |seen| is(&seen.session.role_arn, &seen.names.other),
        ),
        issued(
            "serviceAccountName",
            json!({}),
            json!({"serviceAccountName": "other"}),
            |seen| {
                let expected = subject(&seen.names.namespace, "other");
                is(seen.session.subject.as_ref(), Some(&expected))
            },
        ),
        issued(
            "oidcProviderArn",
            json!({}),
            json!({"oidcProviderArn": OTHER_PROVIDER}),
            |seen| is(seen.parameter("OIDCProviderArn"), OTHER_PROVIDER),
        ),
        issued(
            "tokenSource.type",
            json!({"role": {"arn": "<delegated>"}}),
            json!({"tokenSource": {"type": "File", "file": "operator"}}),
            |seen| {
                let expected = subject("rrsa-system", "rrsa-controller");
                is(seen.session.subject.as_ref(), Some(&expected))
            },
        ),
        kept(
            "tokenSource.file",
            json!({"role": {"arn": "<delegated>"}, "tokenSource": {"type": "File", "file": "operator"}}),
            json!({"tokenSource": {"file": "elsewhere"}}),
            ("Ready", "False", "AudienceMismatch"),
            |seen| {
                let said = seen.message("Ready");
                ensure!(said.contains("tokenSource"), "{said}");
                Ok(())
            },
        ),
        issued(
            "session.name",
            json!({}),
            json!({"session": {"name": "chosen"}}),
            |seen| is(&*seen.session.name, "chosen"),
        ),
        issued(
            "session.durationSeconds",
            json!({}),
            json!({"session": {"durationSeconds": 1800}}),
            |seen| is(seen.parameter("DurationSeconds"), "1800"),
        ),
        issued(
            "session.policy",
            json!({}),
            json!({"session": {"policy": POLICY}}),
            |seen| is(seen.session.policy.as_deref(), Some(POLICY)),
        ),
        issued(
            "assume[].arn",
            json!({}),
            json!({"assume": [{"arn": "<next>"}]}),
            |seen| is(&seen.session.role_arn, &seen.names.next),
        ),
        issued(
            "assume[].externalId",
            json!({"assume": [{"arn": "<next>", "externalId": "word/a"}]}),
            json!({"assume": [{"arn": "<next>", "externalId": "word/b"}]}),
            |seen| is(seen.parameter("ExternalId"), "word/b"),
        ),
        issued(
            "assume[].durationSeconds",
            json!({"assume": [{"arn": "<next>"}]}),
            json!({"assume": [{"arn": "<next>", "durationSeconds": 900}]}),
            |seen| is(seen.parameter("DurationSeconds"), "900"),
        ),
        issued(
            "assume[].policy",
            json!({"assume": [{"arn": "<next>"}]}),
            json!({"assume": [{"arn": "<next>", "policy": POLICY}]}),
            |seen| is(seen.session.policy.as_deref(), Some(POLICY)),
        ),
    ]
}

/// Changes of where STS is and what stands in for a token.
fn of_the_way() -> Vec<Row> {
    vec![
        issued(
            "sts.region",
            json!({}),
            json!({"sts": {"region": "cn-beijing"}}),
            |seen| {
                ensure!(
                    seen.went_to("sts-vpc.cn-beijing.aliyuncs.com:443"),
                    "{:?}",
                    seen.targets
                );
                is(seen.data()["region"].as_str(), "cn-beijing")
            },
        ),
        issued(
            "sts.network",
            json!({}),
            json!({"sts": {"network": "Public"}}),
            |seen| {
                ensure!(
                    seen.went_to("sts.cn-hangzhou.aliyuncs.com:443"),
                    "{:?}",
                    seen.targets
                );
                Ok(())
            },
        ),
        issued(
            "sts.endpoint",
            json!({}),
            json!({"sts": {"endpoint": "<sts>"}}),
            |seen| {
                ensure!(seen.went_to(&seen.names.sts), "{:?}", seen.targets);
                Ok(())
            },
        ),
        kept(
            "fallback.type",
            json!({"role": {"arn": "<delegated>"}}),
            json!({"fallback": {"type": "EcsMetadata"}}),
            READY,
            |seen| {
                let said = seen.message("CredentialsIssued");
                ensure!(
                    said.contains("fallback") && said.contains("not allowed"),
                    "{said}"
                );
                Ok(())
            },
        ),
    ]
}

/// Changes of the Secret and of the binding itself.
fn of_the_secret() -> Vec<Row> {
    vec![
        issued(
            "secret.name",
            json!({}),
            json!({"secret": {"name": "<binding>-renamed"}}),
            |seen| {
                ensure!(
                    seen.former.is_none(),
                    "the former Secret stays, and nobody renews it"
                );
                let status = seen.binding.status.clone().unwrap_or_default();
                let expected = format!("{}-renamed", seen.names.binding);
                is(status.secret_name, Some(expected))
            },
        ),
        issued(
            "secret.formats",
            json!({}),
            json!({"secret": {"formats": ["ini"]}}),
            |seen| {
                is(
                    seen.data().into_keys().collect::<Vec<_>>(),
                    vec!["credentials.ini".into(), "region".into()],
                )
            },
        ),
        issued(
            "secret.template",
            json!({}),
            json!({"secret": {"template": {"region": null, "ROLE": "{{ role_arn }}"}}}),
            |seen| {
                ensure!(
                    !seen.data().contains_key("region"),
                    "a key that is not asked for stays"
                );
                is(&seen.data()["ROLE"], &seen.names.role)
            },
        ),
        issued(
            "secret.labels",
            json!({"secret": {"labels": {"team": "a", "old": "x"}}}),
            json!({"secret": {"labels": {"team": "b", "old": null}}}),
            |seen| {
                let labels = seen.after.metadata.labels.clone().unwrap_or_default();
                is(labels.get("team").map(String::as_str), Some("b"))?;
                is(labels.get("old"), None)
            },
        ),
        issued(
            "secret.annotations",
            json!({"secret": {"annotations": {"note": "a", "old": "x"}}}),
            json!({"secret": {"annotations": {"note": "b", "old": null}}}),
            |seen| {
                let annotations = seen.after.metadata.annotations.clone().unwrap_or_default();
                is(annotations.get("note").map(String::as_str), Some("b"))?;
                is(annotations.get("old"), None)
            },
        ),
    ]
}

/// Changes of what becomes of the Secret, of pods, and of the binding as a whole.
fn of_the_binding() -> Vec<Row> {
    vec![
        kept(
            "secret.deletionPolicy",
            json!({}),
            json!({"secret": {"deletionPolicy": "Retain"}}),
            READY,
            |seen| {
                is(
                    seen.after
                        .metadata
                        .owner_references
                        .clone()
                        .unwrap_or_default()
                        .len(),
                    0,
                )?;
                is(&seen.after.metadata.uid, &seen.before.metadata.uid)
            },
        ),
        kept(
            "injectPods",
            json!({}),
            json!({"injectPods": true}),
            ("PodsInjected", "False", "NamespaceNotOptedIn"),
            |seen| {
                is(
                    &seen.after.metadata.resource_version,
                    &seen.before.metadata.resource_version,
                )
            },
        ),
        kept(
            "suspend",
            json!({}),
            json!({"suspend": true}),
            ("Ready", "Unknown", "Suspended"),
            |seen| {
                is(
                    &seen.after.metadata.resource_version,
                    &seen.before.metadata.resource_version,
                )
            },
        ),
    ]
}
