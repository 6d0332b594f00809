//! What the API server refuses before the controller ever sees it.

use anyhow::{Result, ensure};
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Resource};
use rrsa::api::v1alpha1::AlibabaRoleBinding;
use serde_json::{Value, json};

use crate::with_scene;

fn good() -> Value {
    json!({"role": {"name": "app"}, "serviceAccountName": "app"})
}

#[expect(clippy::too_many_lines, reason = "a table")]
/// A spec that must be refused with a message that contains the text.
fn refused() -> Vec<(&'static str, Value, &'static str)> {
    let with = |change: Value| {
        let mut spec = good();
        for (key, value) in change.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        spec
    };
    let secret = |secret: Value| with(json!({"secret": secret}));
    let many: serde_json::Map<_, _> = (0..33).map(|n| (format!("k{n}"), json!("x"))).collect();
    let arn = "acs:ram::1:role/next";
    let step = json!({"arn": arn});
    vec![
        (
            "no role",
            with(json!({"role": {}})),
            "exactly one of role.arn and role.name",
        ),
        (
            "two roles",
            with(json!({"role": {"name": "a", "arn": arn}})),
            "exactly one of role.arn and role.name",
        ),
        (
            "a role name with a slash",
            with(json!({"role": {"name": "a/b"}})),
            "spec.role.name",
        ),
        (
            "an AWS ARN",
            with(json!({"role": {"arn": "arn:aws:iam::1:role/a"}})),
            "spec.role.arn",
        ),
        (
            "no ServiceAccount",
            json!({"role": {"name": "app"}}),
            "serviceAccountName is required",
        ),
        (
            "a file source without a file",
            with(json!({"tokenSource": {"type": "File"}})),
            "tokenSource.file is required",
        ),
        (
            "a path instead of a file's name",
            with(json!({"tokenSource": {"type": "File", "file": "/etc/passwd"}})),
            "spec.tokenSource.file",
        ),
        (
            "an endpoint for the operator's token",
            with(json!({"tokenSource": {"type": "File", "file": "a"}, "sts": {"endpoint": "h"}})),
            "sts.endpoint cannot be combined",
        ),
        (
            "an endpoint and a region",
            with(json!({"sts": {"endpoint": "h", "region": "cn-hangzhou"}})),
            "either sts.endpoint or sts.region",
        ),
        (
            "a short session",
            with(json!({"session": {"durationSeconds": 899}})),
            "spec.session.durationSeconds",
        ),
        (
            "a long chained session",
            with(json!({"assume": [{"arn": arn, "durationSeconds": 3601}]})),
            "durationSeconds",
        ),
        (
            "a long chain",
            with(json!({"assume": [step, step, step, step, step]})),
            "spec.assume",
        ),
        (
            "an unknown format",
            secret(json!({"formats": ["xml"]})),
            "spec.secret.formats",
        ),
        (
            "a format twice",
            secret(json!({"formats": ["env", "env"]})),
            "spec.secret.formats",
        ),
        (
            "a template key that no Secret takes",
            secret(json!({"template": {"a b": "x"}})),
            "template keys are",
        ),
        (
            "a template key of a format",
            secret(json!({"template": {"config.json": "x"}})),
            "must not be those of a format",
        ),
        (
            "a template key that Kubernetes keeps for itself",
            secret(json!({"template": {"..k": "x"}})),
            "template keys are",
        ),
        (
            "a template key that names the folder",
            secret(json!({"template": {".": "x"}})),
            "template keys are",
        ),
        (
            "a label with a blank",
            secret(json!({"labels": {"a b": "x"}})),
            "keys of labels are",
        ),
        (
            "a label with two slashes",
            secret(json!({"labels": {"a/b/c": "x"}})),
            "keys of labels are",
        ),
        (
            "a label under no DNS name",
            secret(json!({"labels": {"a..b/c": "x"}})),
            "keys of labels are",
        ),
        (
            "a long label",
            secret(json!({"labels": {"k".repeat(64): "x"}})),
            "keys of labels are",
        ),
        (
            "an annotation without a name",
            secret(json!({"annotations": {"a/": "x"}})),
            "keys of annotations are",
        ),
        (
            "an annotation under a long prefix",
            secret(json!({"annotations": {format!("{}/a", "k".repeat(254)): "x"}})),
            "keys of annotations are",
        ),
        (
            "a Secret's name with two dots",
            secret(json!({"name": "a..b"})),
            "spec.secret.name",
        ),
        (
            "a ServiceAccount's name with a dot before a dash",
            with(json!({"serviceAccountName": "a.-b"})),
            "spec.serviceAccountName",
        ),
        (
            "many template keys",
            secret(json!({"template": many})),
            "spec.secret.template",
        ),
        (
            "a long template",
            secret(json!({"template": {"k": "x".repeat(4097)}})),
            "spec.secret.template",
        ),
        (
            "a reserved label",
            secret(json!({"labels": {"app.kubernetes.io/managed-by": "me"}})),
            "are reserved",
        ),
        (
            "a reserved annotation",
            secret(json!({"annotations": {"rrsa.io/binding-uid": "1"}})),
            "are reserved",
        ),
    ]
}

#[tokio::test]
async fn bad_specs_are_refused_with_the_cause() -> Result<()> {
    with_scene(async |scene| {
        let resource = ApiResource::erase::<AlibabaRoleBinding>(&());
        let name = scene.namespace.name();
        let api: Api<DynamicObject> =
            Api::namespaced_with(scene.namespace.client(), name, &resource);
        let attempt = async |spec: Value| {
            let object = json!({
                "apiVersion": AlibabaRoleBinding::api_version(&()),
                "kind": AlibabaRoleBinding::kind(&()),
                "metadata": {"name": "try"},
                "spec": spec,
            });
            let parameters = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            anyhow::Ok(
                api.create(&parameters, &serde_json::from_value(object)?)
                    .await,
            )
        };
        attempt(good()).await??;
        // As long as Kubernetes takes them.
        let longest = format!("{}/{}", "k".repeat(253), "n".repeat(63));
        let mut extreme = good();
        extreme["secret"] = json!({
            "labels": {&longest: "x", "a.example.com/B_c.d": "x"},
            "annotations": {&longest: "x"},
            "template": {"k".repeat(253): "x", ".aws.ini": "x"},
        });
        attempt(extreme).await??;
        for (case, spec, expected) in refused() {
            match attempt(spec).await? {
                Ok(_) => anyhow::bail!("{case} was accepted"),
                Err(error) => {
                    ensure!(error.to_string().contains(expected), "{case}: {error}");
                }
            }
        }
        Ok(())
    })
    .await
}
