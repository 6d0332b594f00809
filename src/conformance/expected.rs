//! What must come back: the pod as it is without injection, and the documented additions. Pure.
//!
//! Compared is what a container sees. The order of variables, mounts and volumes is not
//! documented and does not count, and of two variables of one name the last one counts, as in
//! the kubelet. So a webhook may append, prepend or replace.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::case::{Additions, Case};
use super::parameters::Parameters;
use crate::contract::{AUDIENCE, token_volume};

/// Most differences of a case that are shown.
const SHOWN: usize = 8;
/// The lists of containers in a pod.
const CONTAINERS: [&str; 2] = ["initContainers", "containers"];
/// What the API server names the volume of the ordinary token, with something random after it.
const ORDINARY_TOKEN: &str = "kube-api-access-";

/// One place at which a pod is not as expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where in the pod.
    pub path: String,
    /// What belongs there; `None`: nothing.
    pub expected: Option<String>,
    /// What is there; `None`: nothing.
    pub seen: Option<String>,
}

/// Compares a pod that came back with what belongs there. `plain` is the same pod as it comes
/// back without injection.
#[must_use]
pub fn differences(
    case: &Case,
    parameters: &Parameters,
    plain: &Value,
    seen: &Value,
) -> Vec<Difference> {
    let mut expected = view(&plain["spec"]);
    if let Some(additions) = &case.body.expect {
        add(&mut expected, additions, parameters);
    }
    let mut found = Vec::new();
    compare("spec", &expected, &view(&seen["spec"]), &mut found);
    if case.body.unmarked {
        marks(case, plain, seen, &mut found);
    }
    found.truncate(SHOWN);
    found
}

/// Whether the pod shows any trace of an injection.
#[must_use]
pub fn is_injected(plain: &Value, seen: &Value) -> bool {
    view(&plain["spec"]) != view(&seen["spec"])
}

/// The documented additions.
fn add(spec: &mut Value, additions: &Additions, parameters: &Parameters) {
    let variables = parameters.variables(additions);
    for list in CONTAINERS {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let injected = |name: &str| additions.containers.iter().any(|chosen| chosen == name);
            if container["name"].as_str().is_some_and(injected) {
                add_to_container(container, &variables, additions.override_env);
            }
        }
    }
    let there = &spec["volumes"][token_volume::NAME];
    if additions.volume && there.is_null() {
        spec["volumes"][token_volume::NAME] = json!({"projected": {
            "defaultMode": token_volume::DEFAULT_MODE,
            "sources": [{"serviceAccountToken": {
                "audience": AUDIENCE,
                "expirationSeconds": additions.expiration_seconds,
                "path": token_volume::FILE,
            }}],
        }});
    }
}

fn add_to_container(container: &mut Value, variables: &[(&str, String)], override_env: bool) {
    for (name, value) in variables {
        if override_env || container["env"][name].is_null() {
            container["env"][name] = json!({"value": value});
        }
    }
    let mount = &mut container["volumeMounts"][token_volume::MOUNT_PATH];
    if mount.is_null() {
        *mount = json!({"name": token_volume::NAME, "readOnly": true});
    }
}

/// A pod's specification with its lists as objects by what names their entries.
fn view(spec: &Value) -> Value {
    let mut spec = spec.clone();
    rename_ordinary_token(&mut spec);
    spec["volumes"] = by_key(spec["volumes"].take(), "name");
    for list in CONTAINERS {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container["env"] = by_key(container["env"].take(), "name");
            container["volumeMounts"] = by_key(container["volumeMounts"].take(), "mountPath");
        }
    }
    spec
}

/// The entries of a list by the text at that key, of which the last one counts.
fn by_key(list: Value, key: &str) -> Value {
    let Value::Array(list) = list else {
        return json!({});
    };
    let mut entries = Map::new();
    for mut entry in list {
        let name = entry.as_object_mut().and_then(|entry| entry.remove(key));
        if let Some(Value::String(name)) = name {
            entries.insert(name, entry);
        }
    }
    Value::Object(entries)
}

/// Takes the random end off the name that the API server makes up for each pod.
fn rename_ordinary_token(value: &mut Value) {
    match value {
        Value::String(text) if text.starts_with(ORDINARY_TOKEN) => {
            text.truncate(ORDINARY_TOKEN.len());
        }
        Value::Array(list) => list.iter_mut().for_each(rename_ordinary_token),
        Value::Object(entries) => entries.values_mut().for_each(rename_ordinary_token),
        _ => {}
    }
}

fn marks(case: &Case, plain: &Value, seen: &Value, found: &mut Vec<Difference>) {
    for kind in ["labels", "annotations"] {
        let texts = |pod: &Value| pod["metadata"][kind].as_object().cloned();
        // What another webhook of the cluster adds, it adds to the plain pod as well.
        let mut expected = texts(plain).unwrap_or_default();
        expected.extend(texts(&case.body.pod).unwrap_or_default());
        let seen = texts(seen).unwrap_or_default();
        let path = format!("metadata.{kind}");
        compare(&path, &Value::Object(expected), &Value::Object(seen), found);
    }
}

fn compare(path: &str, expected: &Value, seen: &Value, found: &mut Vec<Difference>) {
    match (expected, seen) {
        (Value::Object(expected), Value::Object(seen)) => {
            let mut keys: Vec<_> = expected.keys().chain(seen.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let at = |object: &Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                compare(&below(path, key), &at(expected), &at(seen), found);
            }
        }
        (Value::Array(expected), Value::Array(seen)) => {
            for index in 0..expected.len().max(seen.len()) {
                let at = |list: &[Value]| list.get(index).cloned().unwrap_or_default();
                let (expected, seen) = (at(expected), at(seen));
                let name = expected["name"].as_str().or_else(|| seen["name"].as_str());
                let entry = name.map_or_else(|| index.to_string(), ToOwned::to_owned);
                compare(&format!("{path}[{entry}]"), &expected, &seen, found);
            }
        }
        _ if expected == seen => {}
        _ => found.push(Difference {
            path: path.to_owned(),
            expected: shown(expected),
            seen: shown(seen),
        }),
    }
}

fn below(path: &str, key: &str) -> String {
    if key.contains(['/', '.']) {
        format!("{path}[{key}]")
    } else {
        format!("{path}.{key}")
    }
}

fn shown(value: &Value) -> Option<String> {
    const LONGEST: usize = 200;
    if value.is_null() || *value == json!({}) {
        return None;
    }
    let mut text = value.to_string();
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push_str("...");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::super::case::List;
    use super::*;

    fn case(expect: &str) -> Case {
        let text = format!(
            "title: t\nsays: s\npod: {{metadata: {{labels: {{a: b}}}}, spec: {{containers: [{{name: app}}]}}}}\n{expect}"
        );
        Case::parse(List::Documented, "c", &text).unwrap()
    }

    fn parameters() -> Parameters {
        let provider = "acs:ram::42:oidc-provider/ack-rrsa-c1".parse().unwrap();
        Parameters {
            auto_inject_sts_env_vars: false,
            ..Parameters::new(&provider, "cn-hangzhou")
        }
    }

    fn plain() -> Value {
        json!({"metadata": {}, "spec": {"containers": [{"name": "app", "env": [
            {"name": "A", "value": "1"}, {"name": "ALIBABA_CLOUD_ROLE_ARN", "value": "own"}],
            "volumeMounts": [{"name": "kube-api-access-11111", "mountPath": "/token"}]}],
            "volumes": [{"name": "kube-api-access-11111", "projected": {}}]}})
    }

    fn injected(role: &str) -> Value {
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "app", "env": [
            {"name": "ALIBABA_CLOUD_OIDC_TOKEN_FILE", "value": token_volume::TOKEN_FILE},
            {"name": "A", "value": "1"},
            {"name": "ALIBABA_CLOUD_ROLE_ARN", "value": "own"},
            {"name": "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "value": "acs:ram::42:oidc-provider/ack-rrsa-c1"},
            {"name": "ALIBABA_CLOUD_ROLE_ARN", "value": role}],
            "volumeMounts": [
                {"name": token_volume::NAME, "mountPath": token_volume::MOUNT_PATH, "readOnly": true},
                {"name": "kube-api-access-22222", "mountPath": "/token"}]}],
            "volumes": [{"name": "kube-api-access-22222", "projected": {}},
                {"name": token_volume::NAME, "projected": {"defaultMode": 420, "sources": [
                    {"serviceAccountToken": {"audience": "sts.aliyuncs.com", "expirationSeconds": 3600, "path": "token"}}]}}]}})
    }

    const WITH_OVERRIDE: &str =
        "expect: {role: r, containers: [app], override: true}\nunmarked: true";

    #[test]
    fn order_and_random_names_do_not_count_and_the_last_variable_does() {
        let seen = injected("acs:ram::42:role/r");
        let found = differences(&case(WITH_OVERRIDE), &parameters(), &plain(), &seen);
        assert_eq!(found, []);
        assert!(is_injected(&plain(), &seen));
    }

    #[test]
    fn without_override_the_pods_own_variable_must_stay() {
        let case = case("expect: {role: r, containers: [app]}");
        let seen = injected("acs:ram::42:role/r");
        let found = differences(&case, &parameters(), &plain(), &seen);
        let own = Difference {
            path: "spec.containers[app].env.ALIBABA_CLOUD_ROLE_ARN.value".to_owned(),
            expected: Some("\"own\"".to_owned()),
            seen: Some("\"acs:ram::42:role/r\"".to_owned()),
        };
        assert_eq!(found, [own]);
    }

    #[test]
    fn whatever_is_added_beyond_is_found() {
        let mut seen = injected("acs:ram::42:role/r");
        seen["spec"]["hostNetwork"] = json!(true);
        seen["metadata"]["annotations"] = json!({"mark": "x"});
        let found = differences(&case(WITH_OVERRIDE), &parameters(), &plain(), &seen);
        let paths: Vec<_> = found.iter().map(|found| found.path.as_str()).collect();
        assert_eq!(paths, ["spec.hostNetwork", "metadata.annotations.mark"]);
    }

    #[test]
    fn a_pod_that_should_stay_must_stay() {
        let found = differences(
            &case(""),
            &parameters(),
            &plain(),
            &injected("acs:ram::42:role/r"),
        );
        assert!(found.len() > 3, "{found:?}");
        assert_eq!(
            differences(&case(""), &parameters(), &plain(), &plain()),
            []
        );
        assert!(!is_injected(&plain(), &plain()));
    }

    #[test]
    fn nothing_where_everything_belongs_is_told_place_by_place() {
        let found = differences(&case(WITH_OVERRIDE), &parameters(), &plain(), &plain());
        let paths: Vec<_> = found.iter().map(|found| found.path.as_str()).collect();
        assert!(paths.contains(&"spec.volumes.rrsa-oidc-token"), "{paths:?}");
        let absent = found
            .iter()
            .find(|found| found.path.ends_with("TOKEN_FILE"))
            .unwrap();
        assert_eq!(absent.seen, None);
    }
}
