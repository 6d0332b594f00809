//! For any pod: what is added can be taken away again and leaves what was sent; doing it twice
//! does nothing; only the author's own wish replaces or removes anything.

use proptest::prelude::*;
use rrsa::injection::variables::Variable;
use serde_json::{Map, Value, json};

use std::sync::Arc;

use rrsa::webhook::handler::Reviewer;

use super::rig::{CONFIGURATION, FakeCluster, Outcome, admit, admit_ephemeral, reviewer};

const OUR_PATH: &str = "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens";
const CREDENTIALS: &str = "/var/run/secrets/rrsa.io/credentials";
const ROLE_RECORD: &str = "/metadata/annotations/rrsa.io~1injected-role-arn";

/// One to whom every mode is open: an agent, and a binding of the ServiceAccount.
fn open_reviewer() -> Reviewer {
    let mut cluster = FakeCluster::ordinary();
    cluster.add_bindings(&json!([{"metadata": {"name": "app", "namespace": "team-a"},
        "spec": {"role": {"name": "app"}, "serviceAccountName": "app"}}]));
    let configuration = format!("{CONFIGURATION}webhook: {{agent: {{}}}}\n");
    reviewer(Arc::new(cluster), &configuration)
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z\"\\\\é\n]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("x[a-z]{0,3}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// An object of the given fields, each there or not, null at times, among unknown ones.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(key, value)| {
            let value = prop_oneof![1 => Just(None), 1 => Just(Some(Value::Null)),
                8 => value.prop_map(Some)];
            value.prop_map(move |value| (key, value))
        })
        .collect();
    (
        fields,
        prop::collection::btree_map("x[a-z]{1,4}", anything(), 0..3),
    )
        .prop_map(|(fields, unknown)| {
            let mut object: Map<String, Value> = unknown.into_iter().collect();
            for (key, value) in fields {
                if let Some(value) = value {
                    object.insert(key.to_owned(), value);
                }
            }
            Value::Object(object)
        })
        .boxed()
}

fn list(element: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop_oneof![60 => prop::collection::vec(element, 0..5).prop_map(Value::from), 1 => anything()]
        .boxed()
}

fn one_of(texts: &[&'static str]) -> BoxedStrategy<Value> {
    prop::sample::select(texts.to_vec())
        .prop_map(Value::from)
        .boxed()
}

fn env() -> BoxedStrategy<Value> {
    let mut names: Vec<_> = Variable::ALL
        .iter()
        .map(|variable| variable.name())
        .collect();
    names.extend(["PATH", "alibaba_cloud_role_arn", ""]);
    let values = [
        "",
        "x",
        "true",
        "cn-hangzhou",
        "/tokens/mine",
        "/var/run/secrets/rrsa.io/credentials/config.json",
        "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token",
        "acs:ram::1234567890123456:role/app",
    ];
    let from = object(vec![]);
    let entry = (one_of(&names), one_of(&values), from, any::<u8>()).prop_map(
        |(name, value, from, kind)| match kind % 8 {
            0 => json!({"name": name, "valueFrom": from}),
            3 => json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}),
            1 => json!({"name": name}),
            2 => Value::Null,
            _ => json!({"name": name, "value": value, "xf": from}),
        },
    );
    list(entry.boxed())
}

fn containers() -> BoxedStrategy<Value> {
    let mounts = list(object(vec![
        (
            "name",
            one_of(&["rrsa-oidc-token", "rrsa-credentials", "mine", "data"]),
        ),
        (
            "mountPath",
            one_of(&[
                OUR_PATH,
                CREDENTIALS,
                "/var/run/secrets/rrsa.io/credentials/sub",
                "/data",
                "/var/run/secrets",
                "/var//run/secrets/x/../ack.alibabacloud.com/rrsa-tokens/",
            ]),
        ),
        ("subPath", one_of(&["", "", "", "token"])),
    ]));
    let container = (
        one_of(&["app", "proxy", "init"]),
        object(vec![("env", env()), ("volumeMounts", mounts)]),
    )
        .prop_map(|(name, mut container)| {
            container["name"] = name;
            container
        });
    list(container.boxed())
}

fn pods() -> BoxedStrategy<Value> {
    let token = object(vec![
        (
            "audience",
            one_of(&["sts.aliyuncs.com", "sts.aliyuncs.com", "other"]),
        ),
        ("path", one_of(&["token", "token", "other"])),
    ]);
    let projected = object(vec![(
        "sources",
        list(object(vec![("serviceAccountToken", token)])),
    )]);
    let secret = object(vec![
        (
            "secretName",
            one_of(&["app-credentials", "app-credentials", "other"]),
        ),
        ("items", list(object(vec![]))),
    ]);
    let volumes = list(object(vec![
        (
            "name",
            one_of(&["mine", "data", "rrsa-oidc-token", "rrsa-credentials"]),
        ),
        ("projected", projected),
        ("secret", secret),
    ]));
    let spec = object(vec![("initContainers", containers()), ("volumes", volumes)]);
    let annotations = object(vec![
        ("rrsa.io/mode", one_of(&["oidc", "secret", "agent"])),
        (
            "rrsa.io/injected-role-arn",
            one_of(&[
                "acs:ram::1:role/forged",
                "acs:ram::1234567890123456:role/app",
            ]),
        ),
        (
            "pod-identity.alibabacloud.com/override-env",
            one_of(&["true", "false", "x"]),
        ),
        (
            "pod-identity.alibabacloud.com/skip-containers",
            one_of(&["proxy", "", "other"]),
        ),
    ]);
    (
        spec,
        containers(),
        prop_oneof![9 => object(vec![("annotations", annotations)]), 1 => Just(Value::Null)],
    )
        .prop_map(|(mut spec, containers, metadata)| {
            spec["containers"] = containers;
            spec["serviceAccountName"] = json!("app");
            json!({"metadata": metadata, "spec": spec})
        })
        .boxed()
}

/// Undoes a patch that only adds, checking that what is taken away is what was added.
fn undo(outcome: &Outcome, original: &Value) -> Value {
    let mut pod = outcome.pod.clone();
    let operations = outcome
        .patch
        .iter()
        .flat_map(|patch| patch.as_array().unwrap());
    for operation in operations.rev() {
        let path = operation["path"].as_str().unwrap();
        // The agent's record is the webhook's to write, whoever wrote there before.
        if operation["op"] == "replace" && path == ROLE_RECORD {
            *pod.pointer_mut(path).unwrap() = original.pointer(path).unwrap().clone();
            continue;
        }
        assert_eq!(operation["op"], "add");
        let (parent, key) = path.rsplit_once('/').unwrap();
        let key = &key.replace("~1", "/");
        match pod.pointer_mut(parent).unwrap() {
            Value::Array(list) => {
                assert_eq!(key, "-", "only the end of a list is added to");
                assert_eq!(list.pop().as_ref(), Some(&operation["value"]));
            }
            Value::Object(object) => {
                assert_eq!(object.remove(key).as_ref(), Some(&operation["value"]));
                if let Some(value) = original.pointer(path) {
                    assert!(value.is_null(), "only what is absent or null is made");
                    object.insert(key.clone(), Value::Null);
                }
            }
            other => panic!("{path} lies in {other}"),
        }
    }
    pod
}

/// With override: nothing but our own variables changes or goes.
fn only_our_variables_change(outcome: &Outcome, original: &Value) {
    for operation in outcome
        .patch
        .iter()
        .flat_map(|patch| patch.as_array().unwrap())
    {
        if operation["op"] == "add" {
            continue;
        }
        let path = operation["path"].as_str().unwrap();
        if path == ROLE_RECORD {
            continue;
        }
        let (list, index) = path.rsplit_once('/').unwrap();
        assert!(list.ends_with("/env"));
        index.parse::<usize>().unwrap();
        let name = original.pointer(path).unwrap()["name"].as_str().unwrap();
        assert!(Variable::named(name).is_some());
    }
}

fn overridden(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations/pod-identity.alibabacloud.com~1override-env")
        == Some(&json!("true"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn additions_can_be_taken_away_and_twice_is_once(pod in pods()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (once, twice) = runtime.block_on(async {
            let reviewer = open_reviewer();
            let once = admit(&reviewer, &pod).await;
            let twice = admit(&reviewer, &once.pod).await;
            (once, twice)
        });
        prop_assert!(twice.patch.is_none(), "again: {:?}", twice.patch);
        if overridden(&pod) {
            only_our_variables_change(&once, &pod);
        } else {
            prop_assert_eq!(undo(&once, &pod), pod);
        }
    }

    #[test]
    fn ephemeral_containers_get_variables_and_mounts_and_nothing_else_changes(
        mut pod in pods(), ephemeral in containers(), old in 0..2_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut before = pod.clone();
        if let Some(list) = ephemeral.as_array() {
            before["spec"]["ephemeralContainers"] = Value::from(list[..old.min(list.len())].to_vec());
        }
        pod["spec"]["ephemeralContainers"] = ephemeral;
        let (once, twice) = runtime.block_on(async {
            let reviewer = open_reviewer();
            let once = admit_ephemeral(&reviewer, &before, &pod).await;
            let twice = admit_ephemeral(&reviewer, &before, &once.pod).await;
            (once, twice)
        });
        prop_assert!(twice.patch.is_none(), "again: {:?}", twice.patch);
        for operation in once.patch.iter().flat_map(|patch| patch.as_array().unwrap()) {
            let path = operation["path"].as_str().unwrap();
            prop_assert!(path.starts_with("/spec/ephemeralContainers/"), "{path}");
        }
        if !overridden(&pod) {
            prop_assert_eq!(undo(&once, &pod), pod);
        }
    }
}
