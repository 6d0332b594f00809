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
