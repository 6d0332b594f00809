//! Pods through the real API server: what they get, and which of them are never sent to the webhook.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::bindings::SOON;
use crate::installation::{ACCOUNT, PROVIDER};
use crate::pods::Pods;
use crate::support::wait;

const INJECTION: &str = "pod-identity.alibabacloud.com/injection";
const OVERRIDE: &str = "pod-identity.alibabacloud.com/override-env";
const ROLE_NAME: &str = "pod-identity.alibabacloud.com/role-name";
const TOKEN_EXPIRATION: &str = "pod-identity.alibabacloud.com/service-account-token-expiration";
const TOKEN_FILE: &str = "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token";

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "serviceAccountName": "app",
            "containers": [{"name": "main", "image": "registry.example.com/app:1"}],
        },
    })
}

fn golden_env(role: &str) -> Value {
    json!([
        {"name": "ALIBABA_CLOUD_ROLE_ARN", "value": role},
        {"name": "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "value": PROVIDER},
        {"name": "ALIBABA_CLOUD_OIDC_TOKEN_FILE", "value": TOKEN_FILE},
        {"name": "ALIBABA_CLOUD_STS_ENDPOINT", "value": "sts-vpc.cn-hangzhou.aliyuncs.com"},
        {"name": "ALIBABA_CLOUD_STS_REGION", "value": "cn-hangzhou"},
        {"name": "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", "value": "true"},
    ])
}

fn golden_mount() -> Value {
    json!({
        "name": "rrsa-oidc-token",
        "mountPath": "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens",
        "readOnly": true,
    })
}

fn golden_volume(seconds: u32) -> Value {
    json!({
        "name": "rrsa-oidc-token",
        "projected": {
            "defaultMode": 420,
            "sources": [{"serviceAccountToken": {
                "audience": "sts.aliyuncs.com",
                "expirationSeconds": seconds,
                "path": "token",
            }}],
        },
    })
}

/// The spec without the names that the API server makes up.
fn comparable(pod: &Value) -> Value {
    let text = pod["spec"].to_string();
    // The default token's volume is named kube-api-access-<random>.
    let Some(at) = text.find("kube-api-access-") else {
        return pod["spec"].clone();
    };
    let name: String = text[at..].chars().take_while(|c| *c != '"').collect();
    serde_json::from_str(&text.replace(&name, "kube-api-access")).unwrap_or_default()
}

fn env_of(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]["env"]
}

fn own_role(name: &str) -> String {
    format!("acs:ram::{ACCOUNT}:role/{name}")
}

#[tokio::test]
async fn the_golden_pod_comes_back_exactly_so() -> Result<()> {
    // The same pod without opt-in is the measure: nothing but the documented additions differs.
    let mut expected = Value::Null;
    Pods::with(&[], json!({ROLE_NAME: "app"}), async |pods| {
        expected = comparable(&pods.create(pod("golden"), false).await?);
        ensure!(
            !pods.was_asked()?,
            "a pod that did not opt in was sent to the webhook"
        );
        ensure!(
            expected["containers"][0].get("env").is_none(),
            "it was changed: {expected}"
        );
        Ok(())
    })
    .await?;
    let append = |list: &mut Value, item: Value| list.as_array_mut().map(|list| list.push(item));
    let container = &mut expected["containers"][0];
    container["env"] = golden_env(&own_role("app"));
    append(&mut container["volumeMounts"], golden_mount()).context("no mounts")?;
    append(&mut expected["volumes"], golden_volume(3600)).context("no volumes")?;

    Pods::with(
        &[(INJECTION, "on")],
        json!({ROLE_NAME: "app"}),
        async |pods| {
            for dry_run in [true, false] {
                let made = pods.create(pod("golden"), dry_run).await?;
                assert_eq!(comparable(&made), expected, "dry run: {dry_run}");
            }
            // The positive control of `was_asked`.
            wait::until("the webhook's log", SOON, async || {
                Ok(pods.was_asked()?.then_some(()))
            })
            .await
        },
    )
    .await
}

#[tokio::test]
async fn a_pod_opts_in_by_its_own_label() -> Result<()> {
    Pods::with(&[], json!({ROLE_NAME: "app"}), async |pods| {
        let mut labelled = pod("labelled");
        labelled["metadata"]["labels"] = json!({INJECTION: "on"});
        let made = pods.create(labelled, true).await?;
        assert_eq!(env_of(&made), &golden_env(&own_role("app")));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_opts_in_by_the_arn_of_its_role() -> Result<()> {
    Pods::with(&[], json!({}), async |pods| {
        let arn = "acs:ram::9876543210987654:role/team/of-another-account";
        let mut annotated = pod("annotated");
        annotated["metadata"]["annotations"] = json!({"rrsa.io/role-arn": arn});
        let made = pods.create(annotated, true).await?;
        assert_eq!(env_of(&made), &golden_env(arn));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_account_may_name_a_full_arn_and_the_pod_wins() -> Result<()> {
    let of_account = "acs:ram::9876543210987654:role/of-the-account";
    let annotations = json!({ROLE_NAME: "app", "rrsa.io/role-arn": of_account});
    Pods::with(&[(INJECTION, "on")], annotations, async |pods| {
        let made = pods.create(pod("plain"), true).await?;
        assert_eq!(env_of(&made), &golden_env(of_account));
        let of_pod = "acs:ram::9876543210987654:role/of-the-pod";
        let mut annotated = pod("annotated");
        annotated["metadata"]["annotations"] = json!({"rrsa.io/role-arn": of_pod});
        let made = pods.create(annotated, true).await?;
        assert_eq!(env_of(&made), &golden_env(of_pod));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_that_opts_out_is_never_sent() -> Result<()> {
    Pods::with(
        &[(INJECTION, "on")],
        json!({ROLE_NAME: "app"}),
        async |pods| {
            let mut out = pod("out");
            out["metadata"]["annotations"] = json!({"rrsa.io/inject": "off"});
            let made = pods.create(out, false).await?;
            assert!(env_of(&made).is_null());
            ensure!(!pods.was_asked()?, "it was sent to the webhook");
            Ok(())
        },
    )
    .await
}

#[tokio::test]
async fn lists_choose_containers_and_init_containers_count() -> Result<()> {
    Pods::with(
        &[(INJECTION, "on")],
        json!({ROLE_NAME: "app"}),
        async |pods| {
            let image = "registry.example.com/app:1";
            let mut several = pod("several");
            several["spec"]["initContainers"] = json!([
                {"name": "setup", "image": image},
                {"name": "proxy", "image": image, "restartPolicy": "Always"},
            ]);
            several["spec"]["containers"] = json!([
                {"name": "main", "image": image},
                {"name": "side", "image": image},
            ]);
            several["metadata"]["annotations"] = json!({
                "pod-identity.alibabacloud.com/only-containers": "setup, main ,side",
                "pod-identity.alibabacloud.com/skip-containers": "side",
            });
            let made = pods.create(several, true).await?;
            let injected = |list: &str, index: usize| made["spec"][list][index]["env"].is_array();
            assert!(injected("initContainers", 0) && !injected("initContainers", 1));
            assert!(injected("containers", 0) && !injected("containers", 1));
            Ok(())
        },
    )
    .await
}

#[tokio::test]
async fn the_life_of_the_token_can_be_chosen_and_nonsense_is_warned_about() -> Result<()> {
    let account = json!({ROLE_NAME: "app", TOKEN_EXPIRATION: "7200"});
    Pods::with(&[(INJECTION, "on")], account, async |pods| {
        let seconds = |pod: &Value| {
            let volumes = pod["spec"]["volumes"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            volumes.last().map(|volume| {
                volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"]
                    .clone()
            })
        };
        assert_eq!(
            seconds(&pods.create(pod("a"), true).await?),
            Some(json!(7200))
        );
        let mut chosen = pod("chosen");
        chosen["metadata"]["annotations"] = json!({TOKEN_EXPIRATION: "600"});
        assert_eq!(
            seconds(&pods.create(chosen.clone(), true).await?),
            Some(json!(600))
        );

        chosen["metadata"]["annotations"] = json!({TOKEN_EXPIRATION: "1h"});
        assert_eq!(
            seconds(&pods.create(chosen.clone(), true).await?),
            Some(json!(3600))
        );
        let warnings = pods.warnings(&chosen).await?;
        for part in ["Warning:", TOKEN_EXPIRATION, "1h", "3600"] {
            assert!(warnings.contains(part), "{part} is not in {warnings}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_pods_own_variables_stay_unless_overridden() -> Result<()> {
    Pods::with(
        &[(INJECTION, "on")],
        json!({ROLE_NAME: "app"}),
        async |pods| {
            let mut own = pod("own");
            own["spec"]["containers"][0]["env"] = json!([
                {"name": "A", "value": "1"},
                {"name": "ALIBABA_CLOUD_STS_REGION", "value": "eu-central-1"},
            ]);
            let value = |pod: &Value, name: &str| {
                let env = env_of(pod).as_array().cloned().unwrap_or_default();
                let found: Vec<_> = env.into_iter().filter(|v| v["name"] == name).collect();
                assert_eq!(found.len(), 1, "{name}");
                found[0]["value"].clone()
            };
            let region = "ALIBABA_CLOUD_STS_REGION";
            let made = pods.create(own.clone(), true).await?;
            assert_eq!(value(&made, region), "eu-central-1");
            assert_eq!(value(&made, "ALIBABA_CLOUD_ROLE_ARN"), own_role("app"));
            own["metadata"]["annotations"] = json!({OVERRIDE: "true"});
            let made = pods.create(own.clone(), true).await?;
            assert_eq!(value(&made, region), "cn-hangzhou");
            assert_eq!(env_of(&made)[1]["name"], region, "replaced in place");

            // The namespace's word, and the pod's against it. The webhook learns of a label by a watch.
            let namespaces = Api::<Namespace>::all(pods.namespace.client());
            let label = Patch::Merge(json!({"metadata": {"labels": {OVERRIDE: "true"}}}));
            namespaces
                .patch(pods.namespace.name(), &PatchParams::default(), &label)
                .await?;
            own["metadata"]["annotations"] = json!({});
            wait::until("the namespace's override", SOON, async || {
                let made = pods.create(own.clone(), true).await?;
                ensure!(value(&made, region) == "cn-hangzhou", "not yet");
                Ok(Some(()))
            })
            .await?;
            own["metadata"]["annotations"] = json!({OVERRIDE: "false"});
            let made = pods.create(own, true).await?;
            assert_eq!(value(&made, region), "eu-central-1");
            Ok(())
        },
    )
    .await
}

/// A pod that asks in all three ways is sent by one entry only. A further pass after other
/// admission would find nothing to do.
#[tokio::test]
async fn a_pod_that_asks_in_every_way_is_injected_once() -> Result<()> {
    let labels = [(INJECTION, "on")];
    Pods::with(&labels, json!({ROLE_NAME: "app"}), async |pods| {
        let mut every = pod("every-way");
        every["metadata"]["labels"] = json!({INJECTION: "on"});
        every["metadata"]["annotations"] = json!({"rrsa.io/role-arn": own_role("of-the-pod")});
        let made = pods.create(every, false).await?;
        assert_eq!(env_of(&made), &golden_env(&own_role("of-the-pod")));
        wait::until("the webhook's log", SOON, async || {
            Ok(pods.was_asked()?.then_some(()))
        })
        .await?;
        let injected = |line: &&String| line.contains("decision=\"Injected\"");
        let decisions = pods.decisions()?;
        assert_eq!(
            decisions.iter().filter(injected).count(),
            1,
            "{decisions:?}"
        );
        Ok(())
    })
    .await
}

/// Pods that are opted in by nothing, without and with annotations and labels, pass the conditions
/// of all entries without a call and without a complaint.
#[tokio::test]
async fn conditions_let_every_other_pod_pass() -> Result<()> {
    Pods::with(&[], json!({ROLE_NAME: "app"}), async |pods| {
        let metadata = [
            json!({"name": "a"}),
            json!({"name": "b", "annotations": {"note": "x"}}),
            json!({"name": "c", "labels": {INJECTION: "On"}}),
            json!({"name": "d", "labels": {INJECTION: "on"}, "annotations": {"rrsa.io/inject": "off"}}),
            json!({"name": "e", "annotations": {"rrsa.io/role-arn": "x", "rrsa.io/inject": "off"}}),
        ];
        for metadata in metadata {
            let mut other = pod("other");
            other["metadata"] = metadata;
            let made = pods.create(other, true).await?;
            assert!(env_of(&made).is_null(), "{made}");
        }
        ensure!(!pods.was_asked()?, "{:?}", pods.decisions()?);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_binding_gives_its_role_to_a_pod_created_at_the_same_moment() -> Result<()> {
    Pods::with(&[(INJECTION, "on")], json!({}), async |pods| {
        let arn = "acs:ram::9876543210987654:role/team/of-the-binding";
        let spec = json!({"role": {"arn": arn}, "serviceAccountName": "app", "injectPods": true});
        pods.bind("app", spec).await?;
        let made = pods.create(pod("at-once"), true).await?;
        assert_eq!(env_of(&made), &golden_env(arn));

        // A second one is told about, and the older one counts.
        let spec =
            json!({"role": {"name": "second"}, "serviceAccountName": "app", "injectPods": true});
        pods.bind("second", spec).await?;
        wait::until("the warning", SOON, async || {
            let warnings = pods.warnings(&pod("told")).await?;
            Ok(warnings.contains("[SeveralBindings]").then_some(()))
        })
        .await?;
        let made = pods.create(pod("still"), true).await?;
        assert_eq!(env_of(&made), &golden_env(arn));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn mode_secret_mounts_the_secret_of_the_binding() -> Result<()> {
    Pods::with(&[(INJECTION, "on")], json!({}), async |pods| {
        let mut asking = pod("asking");
        asking["metadata"]["annotations"] = json!({"rrsa.io/mode": "secret"});
        let warnings = pods.warnings(&asking).await?;
        ensure!(warnings.contains("[BindingMissing]"), "{warnings}");

        let spec = json!({"role": {"name": "app"}, "serviceAccountName": "app",
            "secret": {"name": "chosen"}});
        pods.bind("app", spec).await?;
        // That there was none is remembered for a second.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let made = pods.create(asking, true).await?;
        let files = "/var/run/secrets/rrsa.io/credentials";
        assert_eq!(
            env_of(&made),
            &json!([
                {"name": "ALIBABA_CLOUD_CREDENTIALS_FILE", "value": format!("{files}/credentials.ini")},
                {"name": "ALIBABA_CLOUD_CONFIG_FILE", "value": format!("{files}/config.json")},
                {"name": "ALIBABA_CLOUD_ECS_METADATA_DISABLED", "value": "true"},
            ])
        );
        let volumes = made["spec"]["volumes"].as_array().context("no volumes")?;
        let expected = json!({"name": "rrsa-credentials",
            "secret": {"secretName": "chosen", "defaultMode": 420}});
        ensure!(volumes.contains(&expected), "{volumes:?}");
        // It takes the keys of that Secret as variables as well.
        let mut both = pod("both");
        both["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "chosen"}}]);
        let warnings = pods.warnings(&both).await?;
        ensure!(warnings.contains("[StaticKeys]"), "{warnings}");
        Ok(())
    })
    .await
}

/// The API server applies the patch to the subresource: variables and mount, for the new container
/// alone.
#[tokio::test]
async fn a_debug_container_gets_what_the_pod_has() -> Result<()> {
    let labels = [(INJECTION, "on")];
    Pods::with(&labels, json!({ROLE_NAME: "app"}), async |pods| {
        let made = pods.create(pod("debugged"), false).await?;
        let api = pods.namespace.api::<k8s_openapi::api::core::v1::Pod>();
        let debug = async |name: &str, debugger: &str| -> Result<Value> {
            let container = json!({"name": debugger, "image": "registry.example.com/debug:1"});
            let patch = json!({"spec": {"ephemeralContainers": [container]}});
            let debugged = api
                .patch_ephemeral_containers(name, &PatchParams::default(), &Patch::Strategic(patch))
                .await?;
            Ok(serde_json::to_value(debugged)?)
        };
        let debugged = debug("debugged", "first").await?;
        let first = debugged["spec"]["ephemeralContainers"][0].clone();
        assert_eq!(first["env"], golden_env(&own_role("app")));
        assert_eq!(first["volumeMounts"], json!([golden_mount()]));
        assert_eq!(debugged["spec"]["containers"], made["spec"]["containers"]);
        assert_eq!(debugged["spec"]["volumes"], made["spec"]["volumes"]);
        let debugged = debug("debugged", "second").await?;
        // A strategic merge puts the new one wherever it likes.
        let list = debugged["spec"]["ephemeralContainers"]
            .as_array()
            .context("a list")?;
        ensure!(list.len() == 2 && list.contains(&first), "{list:?}");
        let second = list
            .iter()
            .find(|one| one["name"] == "second")
            .context("the second")?;
        assert_eq!(second["env"], first["env"]);

        // A pod that was never injected has no volume for it.
        let mut out = pod("out");
        out["metadata"]["annotations"] = json!({"rrsa.io/inject": "off"});
        pods.create(out, false).await?;
        let debugged = debug("out", "first").await?;
        assert!(
            debugged["spec"]["ephemeralContainers"][0]
                .get("env")
                .is_none()
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_emptied_ca_bundle_is_put_right() -> Result<()> {
    let (cluster, installation) = crate::own_installation(None).await?;
    let configurations = Api::<MutatingWebhookConfiguration>::all(cluster.client().await?);
    let bundles = async || {
        let found = configurations.get("rrsa").await?;
        let bundles = found.webhooks.unwrap_or_default().into_iter();
        anyhow::Ok(
            bundles
                .map(|hook| hook.client_config.ca_bundle)
                .collect::<Vec<_>>(),
        )
    };
    let before = bundles().await?;
    ensure!(
        before.len() == 3 && before.iter().all(Option::is_some),
        "{}",
        before.len()
    );
    let emptied = Patch::Json::<()>(serde_json::from_value(json!([
        {"op": "remove", "path": "/webhooks/1/clientConfig/caBundle"},
    ]))?);
    configurations
        .patch("rrsa", &PatchParams::default(), &emptied)
        .await?;
    let repaired = async || Ok((bundles().await? == before).then_some(()));
    wait::until("the caBundle", SOON, repaired).await?;

    // A restart finds the CA in its Secret and goes on with it.
    installation.restart_webhook(&cluster).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(bundles().await? == before, "the restart made another CA");
    installation.ensure_running()?;
    installation.assert_no_secret_in_logs(&cluster)
}

/// Two releases of the chart, or rrsa beside the official webhook: both are asked about a pod, and the
/// second adds nothing.
#[tokio::test]
async fn a_second_webhook_finds_everything_there() -> Result<()> {
    let labels = [(INJECTION, "on")];
    Pods::with(&labels, json!({ROLE_NAME: "app"}), async |pods| {
        let alone = pods.create(pod("twice"), true).await?;
        let registrations = Api::<MutatingWebhookConfiguration>::all(pods.namespace.client());
        let mut second = serde_json::to_value(registrations.get("rrsa").await?)?;
        let name = format!("second-{}", pods.namespace.name());
        second["metadata"] = json!({"name": name});
        for entry in second["webhooks"].as_array_mut().context("no entries")? {
            let only = json!({
                "key": "kubernetes.io/metadata.name", "operator": "In",
                "values": [pods.namespace.name()],
            });
            entry["namespaceSelector"]["matchExpressions"]
                .as_array_mut()
                .context("no selector")?
                .push(only);
        }
        registrations
            .create(&PostParams::default(), &serde_json::from_value(second)?)
            .await?;
        // Until the API server knows of it, one is asked.
        let together = wait::until("both webhooks to be asked", SOON, async || {
            let before = pods.decisions()?.len();
            let made = pods.create(pod("twice"), true).await?;
            ensure!(pods.decisions()?.len() >= before + 2, "one is asked");
            Ok(Some(made))
        })
        .await;
        registrations
            .delete(&name, &DeleteParams::default())
            .await?;
        assert_eq!(comparable(&together?), comparable(&alone));
        Ok(())
    })
    .await
}
