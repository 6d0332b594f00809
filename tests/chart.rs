//! The chart: what it renders, that every value changes something, that misspelt ones are refused, and
//! that the manifests in `deploy/` are what it renders.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests read real files, and fail where they are not as expected"
)]

#[path = "chart/alerts.rs"]
mod alerts;
#[path = "chart/certificates.rs"]
mod certificates;
#[path = "chart/configuration.rs"]
mod configuration;
#[path = "chart/release.rs"]
mod release;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock};

use rrsa::api::configuration::Configuration;
use rrsa::contract;
use rstest::rstest;
use serde_json::{Map, Value, json};

/// The example with all switches on.
const EVERYTHING: &str = "everything.yaml";

fn repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(repository(file)).unwrap()
}

/// The folder of helm, built once for this machine.
fn helm() -> Command {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let output = Command::new(repository("tests/kubernetes/build.sh"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        PathBuf::from(text(&output.stdout).trim())
    });
    let mut command = Command::new(folder.join("helm"));
    // Its caches and plugins are the person's, not the test's.
    command.env("HOME", "/nonexistent");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The values of an example, with further ones over it.
fn template(example: &str, over: &Value, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.json");
    fs::write(&file, over.to_string()).unwrap();
    helm()
        .args(["template", "rrsa", "--namespace=rrsa-system", "--values"])
        .arg(repository("charts/rrsa/examples").join(example))
        .arg("--values")
        .arg(&file)
        .args(arguments)
        .arg(repository("charts/rrsa"))
        .output()
        .unwrap()
}

fn rendered(example: &str, over: &Value, arguments: &[&str]) -> String {
    let output = template(example, over, arguments);
    assert!(
        output.status.success(),
        "{example} with {over}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// `helm template RELEASE -n NAMESPACE` of everything: whether it was done, and what was said.
fn released(release: &str, namespace: &str, more: &[&str]) -> (bool, String) {
    let output = helm()
        .args(["template", release, "--namespace", namespace, "--values"])
        .arg(repository("charts/rrsa/examples").join(EVERYTHING))
        .args(more)
        .arg(repository("charts/rrsa"))
        .output()
        .unwrap();
    let said = text(&output.stdout) + &text(&output.stderr);
    (output.status.success(), said)
}

fn objects(text: &str) -> Vec<Value> {
    text.split("\n---\n")
        .map(|document| serde_saphyr::from_str::<Value>(document).unwrap())
        .filter(|object| !object.is_null())
        .collect()
}

/// Kind, namespace and name.
fn identity(object: &Value) -> String {
    let metadata = &object["metadata"];
    let of = |key: &str| metadata[key].as_str().unwrap_or_default();
    let kind = object["kind"].as_str().unwrap();
    format!("{kind} {}/{}", of("namespace"), of("name"))
}

fn examples() -> Vec<String> {
    let entries = fs::read_dir(repository("charts/rrsa/examples")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn schema() -> Value {
    serde_json::from_str(&read("charts/rrsa/values.schema.json")).unwrap()
}

/// Calls `see` for each value that the schema describes, with its path. What is below `config` is the
/// program's own, and the matter of `configuration`.
fn walk<'a>(schema: &'a Value, path: &mut Vec<&'a str>, see: &mut impl FnMut(&[&str], &'a Value)) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    for (name, property) in properties {
        path.push(name);
        see(path, property);
        if path[..] != ["config"] {
            walk(property, path, see);
        }
        path.pop();
    }
}

/// What an example renders as it is.
fn before(example: &'static str) -> &'static str {
    static SEEN: Mutex<BTreeMap<&str, &str>> = Mutex::new(BTreeMap::new());
    let mut seen = SEEN.lock().unwrap();
    seen.entry(example)
        .or_insert_with(|| rendered(example, &json!({}), &[]).leak())
}

/// A values object with one value in it.
fn nested(path: &[&str], value: &Value) -> Value {
    path.iter()
        .rev()
        .fold(value.clone(), |inner, name| json!({ *name: inner }))
}

#[test]
fn lint_is_content_with_every_example() {
    for example in examples() {
        let output = helm()
            .args(["lint", "--strict", "--values"])
            .arg(repository("charts/rrsa/examples").join(&example))
            .arg(repository("charts/rrsa"))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{example}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }
}

#[test]
fn every_value_changes_something() {
    let schema = schema();
    let mut idle = Vec::new();
    let mut seen = 0;
    walk(&schema, &mut Vec::new(), &mut |path, property| {
        let Some(example) = property["examples"].get(0) else {
            let is_group = property["properties"].is_object() || path == ["global"];
            assert!(is_group, "{} has no example in the schema", path.join("."));
            return;
        };
        seen += 1;
        // What is on already is switched off.
        let mut change = nested(path, example);
        if path[0] == "monitoring" && path.last() == Some(&"enabled") {
            change = nested(path, &json!(false));
        }
        let base = match path {
            ["webhook", "certificates", "duration" | "issuer", ..] => "cert-manager.yaml",
            ["webhook", "certificates", "secretName" | "caBundle"] => "certificate-secret.yaml",
            _ => EVERYTHING,
        };
        if rendered(base, &change, &[]) == *before(base) {
            idle.push(path.join("."));
        }
    });
    assert!(seen > 60, "only {seen} values were tried");
    assert!(idle.is_empty(), "these values change nothing: {idle:?}");
}

#[test]
fn every_value_has_a_default_and_a_meaning() {
    let schema = schema();
    let defaults: Value = serde_saphyr::from_str(&read("charts/rrsa/values.yaml")).unwrap();
    walk(&schema, &mut Vec::new(), &mut |path, property| {
        let pointer = format!("/{}", path.join("/"));
        let is_group = property["properties"].is_object() && path != ["config"];
        assert!(
            is_group || property["description"].is_string(),
            "{pointer} has no description"
        );
        assert!(
            path == ["global"] || defaults.pointer(&pointer).is_some(),
            "{pointer} is not in values.yaml"
        );
    });
}

#[test]
fn misspelt_values_are_refused() {
    let schema = schema();
    let mut groups = vec![Vec::new()];
    walk(&schema, &mut Vec::new(), &mut |path, property| {
        if property["properties"].is_object() {
            groups.push(path.iter().map(ToString::to_string).collect());
        }
    });
    assert!(groups.len() > 10, "{groups:?}");
    for group in groups {
        let mut path: Vec<_> = group.iter().map(String::as_str).collect();
        path.push("misspelt");
        let output = template("manifests.yaml", &nested(&path, &json!(1)), &[]);
        assert!(!output.status.success(), "{path:?} is accepted");
        assert!(text(&output.stderr).contains("misspelt"), "{path:?}");
    }
}

#[test]
fn what_must_be_given_is_named() {
    let output = helm()
        .args(["template", "rrsa"])
        .arg(repository("charts/rrsa"))
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("image.repository: push the image"), "{said}");
}

#[test]
fn the_manifests_are_what_the_chart_renders() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(repository("charts/render.sh"))
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut files = 0;
    let optional = folder.path().join("optional");
    for (below, folder) in [("deploy", folder.path()), ("deploy/optional", &*optional)] {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_dir() {
                continue;
            }
            let name = entry.file_name().into_string().unwrap();
            let fresh = fs::read_to_string(entry.path()).unwrap();
            assert!(
                fresh == read(&format!("{below}/{name}")),
                "{below}/{name} is out of date: run `make generate` and commit the result"
            );
            files += 1;
        }
    }
    assert!(files > 6, "only {files} files were rendered");
}

#[test]
fn the_charts_copies_are_fresh() {
    assert!(
        read("charts/rrsa/files/alibabarolebindings.yaml") == read("crds/alibabarolebindings.yaml"),
        "the chart's custom resource definition is out of date: run `make generate`"
    );
    let chart: Value = serde_saphyr::from_str(&read("charts/rrsa/Chart.yaml")).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_program_accepts_the_configuration() {
    for example in examples() {
        let text = rendered(
            &example,
            &json!({}),
            &["--show-only=templates/configmap.yaml"],
        );
        let object = &objects(&text)[0];
        let configuration = object["data"]["config.yaml"].as_str().unwrap();
        Configuration::parse(configuration).unwrap();
    }
    let text = rendered(
        "proxy.yaml",
        &json!({}),
        &["--show-only=templates/configmap.yaml"],
    );
    let object = &objects(&text)[0];
    let configuration = Configuration::parse(object["data"]["config.yaml"].as_str().unwrap());
    let file = configuration.unwrap().sts.ca_file.unwrap();
    assert_eq!(file, Path::new("/etc/rrsa/ca.pem"));
    let pem = object["data"]["ca.pem"].as_str().unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n"), "{pem}");
}

#[test]
fn the_program_accepts_the_flags() {
    let texts: BTreeSet<_> = [EVERYTHING, "certificate-secret.yaml"]
        .map(|example| rendered(example, &json!({}), &[]))
        .into();
    for object in texts.iter().flat_map(|text| objects(text)) {
        for pod in pods(&object) {
            let flags = pod["containers"][0]["args"].as_array().unwrap();
            // A flag that does not exist is complained about before the help is shown.
            let output = Command::new(env!("CARGO_BIN_EXE_rrsa"))
                .args(flags.iter().map(|flag| flag.as_str().unwrap()))
                .arg("--help")
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{flags:?}: {}",
                text(&output.stderr)
            );
        }
    }
}

/// The pods that an object runs.
fn pods(object: &Value) -> Vec<&Value> {
    match object["kind"].as_str().unwrap() {
        "Deployment" | "Job" => vec![&object["spec"]["template"]["spec"]],
        "Pod" => vec![&object["spec"]],
        _ => Vec::new(),
    }
}

#[test]
fn pods_keep_to_restricted_pod_security() {
    let mut seen = 0;
    for object in objects(&rendered(EVERYTHING, &json!({}), &[])) {
        for pod in pods(&object) {
            seen += 1;
            let name = &object["metadata"]["name"];
            let context = &pod["securityContext"];
            assert_eq!(context["runAsNonRoot"], true, "{name}");
            assert_eq!(
                context["seccompProfile"]["type"], "RuntimeDefault",
                "{name}"
            );
            assert!(pod.get("hostNetwork").is_none(), "{name}");
            for container in pod["containers"].as_array().unwrap() {
                let context = &container["securityContext"];
                assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
                assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
                assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{name}");
            }
        }
    }
    assert_eq!(seen, 4, "two deployments, the hook, the test");
}

/// A replica that is told to stop waits for its callers, and is not killed while it answers the last.
#[rstest]
#[case::of_the_chart(json!({}), 120)]
#[case::short(json!({"webhook": {"terminationGracePeriodSeconds": 45}}), 45)]
#[case::long(json!({"webhook": {"terminationGracePeriodSeconds": 600}}), 600)]
fn a_webhook_may_take_longer_to_end_than_it_drains(#[case] over: Value, #[case] grace: u64) {
    let objects = objects(&rendered("ack-managed.yaml", &over, &[]));
    let mut pods = objects.iter().flat_map(pods);
    let drains = |pod: &&Value| pod["containers"][0]["args"][0] == "webhook";
    let pod = pods.find(drains).expect("the webhook");
    assert_eq!(pod["terminationGracePeriodSeconds"], grace);
    let args = pod["containers"][0]["args"].as_array().unwrap();
    let seconds = |flag: &str| {
        let mut args = args.iter().filter_map(Value::as_str);
        let value = args
            .find_map(|arg| arg.strip_prefix(flag))
            .expect("the flag");
        value.parse::<u64>().unwrap()
    };
    let (delay, limit) = (seconds("--drain-delay="), seconds("--drain-limit="));
    // Reviews under way get 10 s after that.
    assert!(
        delay <= limit && limit + 10 < grace,
        "{delay} {limit} {grace}"
    );
}

#[test]
fn two_releases_share_no_object() {
    let of = |release: &str| -> BTreeSet<String> {
        let (done, text) = released(release, release, &["--set=crds.install=false"]);
        assert!(done, "{text}");
        objects(&text).iter().map(identity).collect()
    };
    let (one, other) = (of("one"), of("other"));
    assert!(one.len() > 20, "{one:?}");
    assert_eq!(
        one.intersection(&other).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
}

#[test]
fn selectors_do_not_change_with_an_upgrade() {
    // They are immutable: nothing that differs between versions may be in them.
    for object in objects(&rendered(EVERYTHING, &json!({}), &[])) {
        if object["kind"] == "Deployment" {
            let labels = object["spec"]["selector"]["matchLabels"]
                .as_object()
                .unwrap();
            let keys: Vec<_> = labels.keys().map(String::as_str).collect();
            assert_eq!(
                keys,
                [
                    "app.kubernetes.io/component",
                    "app.kubernetes.io/instance",
                    "app.kubernetes.io/name"
                ]
            );
        }
    }
}

#[test]
fn the_definition_survives_unless_told_otherwise() {
    let policy = |over: &Value| {
        let text = rendered("manifests.yaml", over, &["--show-only=templates/crd.yaml"]);
        objects(&text)[0]["metadata"]["annotations"]["helm.sh/resource-policy"].clone()
    };
    assert_eq!(policy(&json!({})), "keep");
    assert_eq!(policy(&json!({"crds": {"keep": false}})), Value::Null);
}

#[test]
fn the_chart_spells_words_as_the_code_does() {
    let text = rendered(EVERYTHING, &json!({}), &[]);
    for word in [
        contract::annotations::official::INJECTION,
        contract::annotations::ROLE_ARN,
        contract::annotations::INJECT,
        contract::AUDIENCE,
    ] {
        assert!(text.contains(word), "{word} is not in the chart");
    }
}

/// The reference of the values, made of the schema.
fn reference() -> String {
    let defaults: Value = serde_saphyr::from_str(&read("charts/rrsa/values.yaml")).unwrap();
    let mut page = String::from(
        "# Values of the chart\n\nMade of `charts/rrsa/values.schema.json` by `make generate`. Do not edit.\n\n\
         | value | default | meaning |\n|---|---|---|\n",
    );
    walk(&schema(), &mut Vec::new(), &mut |path, property| {
        let is_group = property["properties"].is_object() && path != ["config"];
        if is_group || path == ["global"] {
            return;
        }
        let default = defaults.pointer(&format!("/{}", path.join("/"))).unwrap();
        let meaning = property["description"].as_str().unwrap();
        let _ = writeln!(page, "| `{}` | `{default}` | {meaning} |", path.join("."));
    });
    page
}

#[test]
fn the_reference_of_the_values_is_fresh() {
    let file = repository("docs/values.md");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&file, reference()).unwrap();
    }
    assert!(
        fs::read_to_string(file).unwrap_or_default() == reference(),
        "docs/values.md is out of date: run `make generate` and commit the result"
    );
}

#[test]
fn the_check_for_idle_values_sees_one() {
    let change = nested(&["global"], &Value::Object(Map::new()));
    let before = rendered("manifests.yaml", &json!({}), &[]);
    assert_eq!(rendered("manifests.yaml", &change, &[]), before);
}
