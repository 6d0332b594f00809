//! A tenant who may create bindings and means no good: each attempt on the operator's identity, on
//! other hosts, other Secrets or the operator itself is refused with a reason of its own, and costs
//! the tenant's own credentials nothing.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Resource as _};
use rrsa::api::v1alpha1::AlibabaRoleBinding;
use serde_json::{Value, json};

use crate::bindings::{SOON, Scene};
use crate::installation::{ACCOUNT, role};
use crate::policy::{role_ref, user};
use crate::support::kubernetes::Cluster;
use crate::support::wait;
use crate::with_scene;

/// Bindings as the API server takes them from a user with the cluster role `edit`.
async fn bindings_of_an_editor(scene: &Scene<'_>) -> Result<Api<DynamicObject>> {
    let editor = user(scene, "editor", role_ref("ClusterRole", "edit")).await?;
    let client = Cluster::shared().await?.client_as(&editor, &[]).await?;
    let resource = ApiResource::erase::<AlibabaRoleBinding>(&());
    let api = Api::namespaced_with(client, scene.namespace.name(), &resource);
    // Rights reach the API server's caches within moments.
    wait::until("the editor's rights", SOON, async || {
        Ok(Some(api.list(&kube::api::ListParams::default()).await?))
    })
    .await?;
    Ok(api)
}

fn object(name: &str, spec: &Value) -> Result<DynamicObject> {
    Ok(serde_json::from_value(json!({
        "apiVersion": AlibabaRoleBinding::api_version(&()),
        "kind": AlibabaRoleBinding::kind(&()),
        "metadata": {"name": name},
        "spec": spec,
    }))?)
}

/// One attempt: what is merged into a good spec, the reason, and a word of its message.
struct Attempt {
    what: &'static str,
    change: Value,
    reason: &'static str,
    said: &'static str,
}

fn attempts() -> Vec<Attempt> {
    let attempt = |what, change, reason, said| Attempt {
        what,
        change,
        reason,
        said,
    };
    let file = |name: &str| json!({"type": "File", "file": name});
    let delegated = role("delegated-anything");
    let longer = format!("acs:ram::{ACCOUNT}:role/delegated-a/b");
    let abroad = "acs:ram::9999999999999999:role/delegated-a";
    vec![
        attempt(
            "a host that nobody allowed",
            json!({"sts": {"endpoint": "sts.example.com"}}),
            "InvalidSpec",
            "sts.allowedHosts",
        ),
        attempt(
            "an allowed host's name at another port",
            json!({"sts": {"endpoint": "127.0.0.1:1"}}),
            "InvalidSpec",
            "sts.allowedHosts",
        ),
        attempt(
            "somebody's bucket as the region",
            json!({"sts": {"region": "my-bucket"}}),
            "InvalidSpec",
            "not a region with STS",
        ),
        attempt(
            "the operator's token for a role of its own",
            json!({"tokenSource": file("operator"), "role": {"arn": role("mine")}}),
            "NotDelegated",
            "not delegated",
        ),
        attempt(
            "a file that is not there gets the same answer",
            json!({"tokenSource": file("kubeconfig"), "role": {"arn": delegated}}),
            "NotDelegated",
            "not delegated",
        ),
        attempt(
            "a longer path than the glob's",
            json!({"tokenSource": file("operator"), "role": {"arn": longer}}),
            "NotDelegated",
            "not delegated",
        ),
        attempt(
            "the same name in another account",
            json!({"tokenSource": file("operator"), "role": {"arn": abroad}}),
            "NotDelegated",
            "not delegated",
        ),
        attempt(
            "another name in ActionTrail",
            json!({
                "tokenSource": file("operator"),
                "role": {"arn": delegated},
                "session": {"name": "somebody-else"},
            }),
            "InvalidSpec",
            "spec.session.name",
        ),
        attempt(
            "a session policy that is none",
            json!({"session": {"policy": "{\"Version\":"}}),
            "InvalidSpec",
            "spec.session.policy",
        ),
    ]
}

#[tokio::test]
async fn what_a_tenant_may_not_have_is_refused_and_costs_no_credentials() -> Result<()> {
    with_scene(async |scene| {
        let api = bindings_of_an_editor(scene).await?;
        let good = scene.spec();
        api.create(&PostParams::default(), &object("app", &good)?)
            .await?;
        scene.ready().await?;
        let before = scene.data().await?;
        let asked = || {
            scene
                .installation
                .sts
                .calls()
                .by_role(&scene.role_arn())
                .len()
        };
        let calls = asked();
        for attempt in attempts() {
            let mut spec = good.clone();
            for (field, value) in attempt.change.as_object().into_iter().flatten() {
                spec[field] = value.clone();
            }
            let what = attempt.what;
            put(&api, &spec).await.with_context(|| what.to_owned())?;
            let said = scene.says("Ready", "False", attempt.reason).await;
            let binding = said.with_context(|| what.to_owned())?;
            let failure = binding.status.and_then(|status| status.failure);
            let message = failure.context("no failure")?.message;
            ensure!(message.contains(attempt.said), "{what}: {message}");
            ensure!(
                scene.data().await? == before,
                "{what}: the Secret was changed"
            );
            let arn = spec["role"]["arn"].as_str().unwrap_or_default();
            if arn != scene.role_arn() {
                let reached = scene.installation.sts.calls().by_role(arn);
                ensure!(reached.is_empty(), "{what}: STS was asked for {arn}");
            }
        }
        put(&api, &good).await?;
        scene.ready().await?;
        ensure!(scene.data().await? == before);
        ensure!(asked() == calls, "attempts that are refused cost exchanges");
        Ok(())
    })
    .await
}

/// Replaces the spec, whoever wrote the status meanwhile.
async fn put(api: &Api<DynamicObject>, spec: &Value) -> Result<()> {
    let change = json!([{"op": "replace", "path": "/spec", "value": spec}]);
    let change = Patch::<()>::Json(serde_json::from_value(change)?);
    api.patch("app", &PatchParams::default(), &change).await?;
    Ok(())
}

#[expect(clippy::too_many_lines, reason = "a table")]
/// Specs that the API server itself must refuse, with a word of the refusal.
fn illegal_specs(good: &Value) -> Vec<(String, Value, &'static str)> {
    let with = |field: &str, value: Value| {
        let mut spec = good.clone();
        spec[field] = value;
        spec
    };
    let mut specs = Vec::new();
    for name in [
        "/etc/passwd",
        "../token",
        "a/b",
        "..",
        "C:\\token",
        "a b",
        "TOKEN",
        "",
        "a\u{0}b",
    ] {
        let source = json!({"type": "File", "file": name});
        specs.push((
            format!("token file {name:?}"),
            with("tokenSource", source),
            "file",
        ));
    }
    for name in ["a", "a b", "a/b", "a:b", "ä", "a\nb", &"x".repeat(65)] {
        let session = json!({"name": name});
        specs.push((
            format!("session name {name:?}"),
            with("session", session),
            "session",
        ));
    }
    for region in [
        "x.oss-cn-hangzhou",
        "cn-hangzhou/",
        "cn-hangzhou#",
        "cn_hangzhou",
        "CN",
        "a@b",
    ] {
        let sts = json!({"region": region});
        specs.push((format!("region {region:?}"), with("sts", sts), "region"));
    }
    for host in [
        "https://sts.example.com",
        "sts.example.com/x",
        "u@sts.example.com",
        "a b",
        "[::1",
    ] {
        let sts = json!({"endpoint": host});
        specs.push((format!("endpoint {host:?}"), with("sts", sts), "endpoint"));
    }
    for account in [
        "../app",
        "App",
        "a/b",
        "system:serviceaccount:kube-system:x",
        &"a".repeat(254),
    ] {
        let spec = with("serviceAccountName", json!(account));
        specs.push((format!("account {account:?}"), spec, "serviceAccountName"));
    }
    for secret in ["../x", "A", "a/b", "kube-system/x", &"a".repeat(254)] {
        let spec = with("secret", json!({"name": secret}));
        specs.push((format!("Secret {secret:?}"), spec, "secret.name"));
    }
    let many = |count: usize, value: &str| -> Value {
        (0..count)
            .map(|number| (format!("k{number}"), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let huge = "x".repeat(4097);
    for (what, secret) in [
        ("many labels", json!({"labels": many(33, "x")})),
        ("many annotations", json!({"annotations": many(33, "x")})),
        ("many keys", json!({"template": many(33, "x")})),
        ("a long annotation", json!({"annotations": {"k": huge}})),
        ("a long label", json!({"labels": {"k": "x".repeat(64)}})),
        ("a long template", json!({"template": {"k": huge}})),
        ("a key with a path", json!({"template": {"../k": "x"}})),
        (
            "a reserved label",
            json!({"labels": {"rrsa.io/binding": "x"}}),
        ),
        (
            "a reserved label below",
            json!({"labels": {"a.rrsa.io/b": "x"}}),
        ),
        (
            "a reserved annotation",
            json!({"annotations": {"kubernetes.io/service-account.name": "x"}}),
        ),
        (
            "another reserved one",
            json!({"annotations": {"batch.kubernetes.io/x": "x"}}),
        ),
    ] {
        specs.push((what.to_owned(), with("secret", secret), "spec.secret"));
    }
    specs
}

#[tokio::test]
async fn strange_names_and_sizes_never_reach_the_operator() -> Result<()> {
    with_scene(async |scene| {
        let api = bindings_of_an_editor(scene).await?;
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let good = scene.spec();
        api.create(&dry, &object("good", &good)?).await?;
        for (what, spec, said) in illegal_specs(&good) {
            match api.create(&dry, &object("bad", &spec)?).await {
                Ok(_) => bail!("{what} was accepted"),
                Err(kube::Error::Api(status)) if status.code == 422 => {
                    ensure!(status.message.contains(said), "{what}: {}", status.message);
                }
                Err(error) => return Err(error).context(what),
            }
        }
        // More than the API server takes of anything.
        let mut big = object("big", &good)?;
        big.metadata.annotations = Some([("k".to_owned(), "x".repeat(300_000))].into());
        ensure!(
            api.create(&dry, &big).await.is_err(),
            "a huge object was accepted"
        );
        Ok(())
    })
    .await
}

/// Templates that would take the operator's time, memory, files or secrets.
fn bombs() -> Vec<(&'static str, String)> {
    let nested = |open: &str, close: &str, depth: usize| {
        format!(
            "{{{{ {}access_key_id{} }}}}",
            open.repeat(depth),
            close.repeat(depth)
        )
    };
    vec![
        (
            "a long loop",
            "{% for i in range(1000000000) %}x{% endfor %}".to_owned(),
        ),
        (
            "a loop in a loop",
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"
                .to_owned(),
        ),
        (
            "a recursive macro",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
        ),
        (
            "a doubling",
            "{% set a = security_token ~ security_token %}{{ a ~ a ~ a }}".to_owned(),
        ),
        ("a repetition", "{{ security_token * 1000000 }}".to_owned()),
        ("deep parentheses", nested("(", ")", 2000)),
        ("deep lists", nested("[", "]", 2000)),
        (
            "an inclusion",
            "{% include '/var/run/secrets/kubernetes.io/serviceaccount/token' %}".to_owned(),
        ),
        ("an import", "{% from 'x' import y %}".to_owned()),
        ("the engine's own state", "{{ debug() }}".to_owned()),
        (
            "an attribute",
            "{{ access_key_secret.__class__ }}".to_owned(),
        ),
        ("an unknown name", "{{ account_id }}".to_owned()),
        (
            "an unclosed expression",
            format!("{{{{ access_key_id {}", " ".repeat(4000)),
        ),
    ]
}

#[tokio::test]
async fn template_bombs_do_not_go_off() -> Result<()> {
    with_scene(async |scene| {
        let api = bindings_of_an_editor(scene).await?;
        let mut names = Vec::new();
        for (number, (what, template)) in bombs().into_iter().enumerate() {
            let name = format!("bomb-{number}");
            let mut spec = scene.spec();
            spec["secret"] = json!({"template": {"BOMB": template}});
            api.create(&PostParams::default(), &object(&name, &spec)?)
                .await
                .with_context(|| what.to_owned())?;
            names.push((what, name));
        }
        // 32 keys of as much as a key may give: more than a Secret may hold.
        let full = format!("{}{{{{ access_key_id }}}}", "x".repeat(4000));
        let keys: serde_json::Map<_, _> = (0..32)
            .map(|key| (format!("K{key}"), json!(full)))
            .collect();
        let mut large = scene.spec();
        large["secret"] = json!({"template": keys});
        api.create(&PostParams::default(), &object("large", &large)?)
            .await?;
        // A long, legal chain of filters.
        let chain = format!("{{{{ access_key_id{} }}}}", "|trim".repeat(800));
        let mut long = scene.spec();
        long["secret"] = json!({"template": {"CHAIN": chain}});
        api.create(&PostParams::default(), &object("long", &long)?)
            .await?;

        for (what, name) in names {
            let what = format!("the refusal of {what}");
            wait::until(&what, SOON, async || {
                let binding = scene.bindings().get(&name).await?;
                let failure = binding.status.and_then(|status| status.failure);
                let failure = failure.context("no failure yet")?;
                ensure!(failure.code == "TemplateFailed", "{}", failure.message);
                ensure!(
                    failure.message.contains("spec.secret.template[BOMB]"),
                    "{}",
                    failure.message
                );
                ensure!(
                    !failure.message.contains("STS."),
                    "it shows a value: {}",
                    failure.message
                );
                Ok(Some(()))
            })
            .await?;
            let secret = scene
                .secrets()
                .get_opt(&format!("{name}-credentials"))
                .await?;
            ensure!(secret.is_none(), "{name} got a Secret");
        }
        for name in ["large", "long"] {
            let secret = format!("{name}-credentials");
            wait::until(&secret, SOON, async || {
                Ok(scene.secrets().get_opt(&secret).await?)
            })
            .await?;
        }
        // The operator goes on with everybody else's.
        api.create(&PostParams::default(), &object("app", &scene.spec())?)
            .await?;
        scene.ready().await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn exotic_but_legal_names_work() -> Result<()> {
    with_scene(async |scene| {
        let api = bindings_of_an_editor(scene).await?;
        let account = format!("0.{}.z", "a".repeat(60));
        scene.make_service_account(&account).await?;
        scene.installation.trust(
            &scene.role_arn(),
            &[crate::installation::subject(
                scene.namespace.name(),
                &account,
            )],
        );
        let long = [
            "a".repeat(63),
            "b".repeat(63),
            "c".repeat(63),
            "d".repeat(61),
        ]
        .join(".");
        ensure!(long.len() == 253);
        for name in [long.as_str(), "0", "xn--bcher-kva.example"] {
            let mut spec = scene.spec();
            spec["serviceAccountName"] = json!(account);
            api.create(&PostParams::default(), &object(name, &spec)?)
                .await?;
            let binding = wait::until("the strange binding", Duration::from_mins(1), async || {
                let binding = scene.bindings().get(name).await?;
                let status = binding.status.clone().context("no status yet")?;
                ensure!(status.failure.is_none(), "{:?}", status.failure);
                Ok(status.access_key_id.is_some().then_some(binding))
            })
            .await?;
            let secret = binding.status.and_then(|status| status.secret_name);
            scene.secrets().get(&secret.context("no Secret")?).await?;
        }
        Ok(())
    })
    .await
}
