//! Which room may import which, and what the library pulls in without the operator.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests read real files, and fail where they are not as expected"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// The allowed arrows (design section 2). A room may import itself and what stands beside it.
const ARROWS: [(&str, &[&str]); 17] = [
    ("contract", &[]),
    ("secret", &[]),
    ("world", &["secret"]),
    ("signing", &["secret"]),
    ("sts", &["contract", "secret", "signing", "world"]),
    ("imds", &["secret", "world"]),
    (
        "credentials",
        &["contract", "imds", "secret", "sts", "world"],
    ),
    ("api", &["contract"]),
    // Pure; `world` for the future of a look-up alone.
    ("injection", &["api", "contract", "world"]),
    // Judges any webhook, so it must not know how ours decides.
    ("conformance", &["api", "contract", "world"]),
    // Finds by the webhook's rules; so it stands below both who run it, controller and cli.
    ("doctor", &["api", "contract", "injection"]),
    ("telemetry", &["contract"]),
    ("serving", &["contract", "secret", "telemetry", "world"]),
    (
        "controller",
        &[
            "api",
            "contract",
            "credentials",
            "doctor",
            "imds",
            "injection",
            "secret",
            "serving",
            "sts",
            "telemetry",
            "world",
        ],
    ),
    (
        "webhook",
        &[
            "api",
            "contract",
            "injection",
            "serving",
            "telemetry",
            "world",
        ],
    ),
    (
        "agent",
        &["api", "contract", "serving", "sts", "telemetry", "world"],
    ),
    (
        "cli",
        &[
            "agent",
            "api",
            "conformance",
            "contract",
            "controller",
            "credentials",
            "doctor",
            "imds",
            "injection",
            "secret",
            "serving",
            "sts",
            "telemetry",
            "webhook",
            "world",
        ],
    ),
];

/// Crates that would mean that the library knows Kubernetes, serves HTTP or has a command line.
const BEHIND_THE_WALL: [&str; 14] = [
    "anyhow",
    "axum",
    "axum-server",
    "clap",
    "json-patch",
    "jiff",
    "k8s-openapi",
    "kube",
    "kube-client",
    "minijinja",
    "rcgen",
    "schemars",
    "serde-saphyr",
    "tracing-subscriber",
];

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Rooms that the text names as `crate::<room>`, outside comments.
fn imports(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| {
            rest.chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect()
        })
        .collect()
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed: BTreeMap<_, _> = ARROWS.into_iter().collect();
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut seen = BTreeSet::new();
    for file in files {
        let relative = file.strip_prefix(&src).unwrap();
        let first = relative.iter().next().unwrap().to_str().unwrap();
        let room = first.trim_end_matches(".rs");
        if matches!(room, "lib" | "main") {
            continue;
        }
        let allowed = allowed
            .get(room)
            .unwrap_or_else(|| panic!("{room} is no room of the table"));
        seen.insert(room.to_owned());
        for other in imports(&std::fs::read_to_string(&file).unwrap()) {
            assert!(
                other == room || allowed.contains(&other.as_str()),
                "{} imports {other}; {room} may import {allowed:?}",
                relative.display()
            );
        }
    }
    assert!(
        seen.contains("controller") && seen.contains("contract"),
        "{seen:?}"
    );
}

#[test]
fn the_check_sees_a_forbidden_import() {
    let text = "// crate::webhook in a comment\nuse crate::{api};\nuse crate::controller::plan;\n";
    assert!(imports(text).contains("controller"));
    assert!(!imports(text).contains("webhook"));
}

#[test]
fn nested_imports_are_not_used() {
    // `use crate::{a, b}` would escape the check above.
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(
            !text.contains("crate::{"),
            "{}: one `use crate::room` a line",
            file.display()
        );
    }
}

/// The packages that a build for Linux takes in, as `cargo tree` prints them with these arguments,
/// and how it prints them: `name version`. This package is not among them.
fn packages(arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "normal", "--prefix", "none"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--format", "{p}"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).unwrap();
    let packages: BTreeSet<_> = tree
        .lines()
        .map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "))
        .filter(|package| !package.is_empty() && !package.starts_with("rrsa "))
        .collect();
    assert!(
        packages
            .iter()
            .any(|package| package.starts_with("reqwest ")),
        "the tree could not be read: {tree}"
    );
    packages
}

fn names(packages: &BTreeSet<String>) -> BTreeSet<&str> {
    packages
        .iter()
        .filter_map(|package| package.split(' ').next())
        .collect()
}

#[test]
fn the_library_alone_pulls_in_no_kubernetes_server_or_cli_crate() {
    let packages = packages(&["--no-default-features"]);
    let names = names(&packages);
    let leaked: Vec<_> = BEHIND_THE_WALL
        .iter()
        .filter(|name| names.contains(**name))
        .collect();
    assert!(
        leaked.is_empty(),
        "{leaked:?} belong to the feature `operator`"
    );
}

#[test]
fn each_dependency_of_the_library_is_justified_and_all_are_counted() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dependencies.md");
    let page = std::fs::read_to_string(file).unwrap();
    let justified: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let direct = packages(&["--no-default-features", "--depth", "1"]);
    assert_eq!(
        justified,
        names(&direct),
        "docs/dependencies.md (left) must say of each direct dependency of the library (right), \
         and of no other, why it is there"
    );
    let count = format!(
        "The library alone: {} packages. With the operator: {}.",
        packages(&["--no-default-features"]).len(),
        packages(&[]).len()
    );
    assert!(
        page.lines().any(|line| line == count),
        "docs/dependencies.md must have the line {count:?}"
    );
}
