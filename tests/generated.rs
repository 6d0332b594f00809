//! Generated files are committed, and here is the proof that they are fresh.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests read real files, and fail where they are not as expected"
)]

use std::path::Path;
use std::process::Command;

fn printed_by(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_rrsa"))
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn assert_fresh(file: &str, arguments: &[&str]) {
    let committed =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    assert!(
        committed == printed_by(arguments),
        "{file} is out of date: run `make generate` and commit the result"
    );
}

#[test]
fn the_custom_resource_definition_is_fresh() {
    assert_fresh("crds/alibabarolebindings.yaml", &["crd"]);
}

/// Fields without a description, which `kubectl explain` would call `<empty>`.
fn unexplained(schema: &serde_json::Value, path: &str, found: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let text = property["description"].as_str().unwrap_or_default();
        if text.trim().is_empty() {
            found.push(path.clone());
        }
        unexplained(property, &path, found);
        unexplained(&property["items"], &path, found);
    }
}

#[test]
fn every_field_of_the_custom_resource_is_explained() {
    let crd: serde_json::Value = serde_saphyr::from_str(&printed_by(&["crd"])).unwrap();
    let version = &crd["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    assert!(
        schema["properties"]["spec"]["properties"]["assume"]["items"]["properties"]["arn"]
            .is_object()
    );
    let mut found = Vec::new();
    for part in ["spec", "status"] {
        unexplained(&schema["properties"][part], part, &mut found);
    }
    assert_eq!(found, [""; 0]);
    for column in version["additionalPrinterColumns"].as_array().unwrap() {
        assert!(
            column["description"].is_string() || column["name"] == "Age",
            "{column}"
        );
    }
}

#[test]
fn the_command_reference_is_fresh() {
    assert_fresh("docs/cli.md", &["reference"]);
}

#[test]
fn the_page_of_reasons_is_fresh() {
    assert_fresh("docs/reasons.md", &["reference", "reasons"]);
}

#[test]
fn the_page_of_decisions_is_fresh() {
    assert_fresh("docs/decisions.md", &["reference", "decisions"]);
}

#[test]
fn the_schema_of_the_configuration_is_fresh() {
    assert_fresh("docs/configuration.schema.json", &["config", "schema"]);
}

#[test]
fn the_page_of_the_configuration_is_fresh() {
    assert_fresh("docs/configuration.md", &["config", "page"]);
}
