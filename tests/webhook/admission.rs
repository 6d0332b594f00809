//! One folder, one case:
//!
//! ```text
//! tests/data/admission/<case>/
//!   pod.yaml              what is created
//!   namespace.yaml        its namespace; absent: one without labels
//!   serviceaccount.yaml   its ServiceAccount; absent: there is none
//!   bindings.yaml         a list of bindings; absent: there are none
//!   configuration.yaml    added to the configuration
//!   before.yaml           the pod as it was, when it gets ephemeral containers; absent: it is new
//!   expect.yaml           decision, role, mode, warnings and the message of a refusal
//!   patched.yaml          the pod as it comes back; absent: unchanged
//! ```
//!
//! `UPDATE_EXPECTED=1` writes the last two anew; read the difference before you commit it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::rig::{CONFIGURATION, FakeCluster, Outcome, admit, admit_ephemeral, reviewer};

#[tokio::test]
async fn every_case_comes_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/admission");
    let mut cases: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(cases.len() > 20, "the cases are missing");
    let mut failures = Vec::new();
    for case in &cases {
        if let Err(failure) = run(case).await {
            failures.push(format!("{}: {failure}", case.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

async fn run(case: &Path) -> Result<(), String> {
    let pod = read(&case.join("pod.yaml")).expect("a case has a pod");
    let reviewer = {
        let mut cluster = FakeCluster::default();
        let bare = json!({"metadata": {"name": "team-a"}});
        let namespace = read(&case.join("namespace.yaml")).unwrap_or(bare);
        cluster.add_namespace("team-a", &namespace);
        if let Some(account) = read(&case.join("serviceaccount.yaml")) {
            cluster.add_account(account["metadata"]["name"].as_str().unwrap(), &account);
        }
        if let Some(bindings) = read(&case.join("bindings.yaml")) {
            cluster.add_bindings(&bindings);
        }
        let extra = text(&case.join("configuration.yaml")).unwrap_or_default();
        reviewer(Arc::new(cluster), &format!("{CONFIGURATION}{extra}"))
    };
    let before = read(&case.join("before.yaml"));
    let admitted = async |pod: &Value| match &before {
        Some(before) => admit_ephemeral(&reviewer, before, pod).await,
        None => admit(&reviewer, pod).await,
    };
    let outcome = admitted(&pod).await;
    let again = admitted(&outcome.pod).await;
    if again.patch.is_some() {
        return Err(format!("the second pass patches again: {:?}", again.patch));
    }
    for warning in &outcome.warnings {
        if !warning.is_ascii() || warning.len() > 400 {
            return Err(format!("no fit warning: {warning}"));
        }
    }
    compare(case, &pod, &outcome)
}

fn compare(case: &Path, pod: &Value, outcome: &Outcome) -> Result<(), String> {
    let (expect, patched) = (case.join("expect.yaml"), case.join("patched.yaml"));
    let mut seen = json!({"decision": outcome.decision, "warnings": outcome.warnings});
    if let Some(role) = &outcome.role {
        seen["role"] = json!(role);
    }
    if let Some(mode) = &outcome.mode {
        seen["mode"] = json!(mode);
    }
    if let Some(message) = &outcome.refused {
        seen["refused"] = json!(message);
    }
    if updating() {
        fs::write(&expect, serde_saphyr::to_string(&seen).unwrap()).unwrap();
        let _ = fs::remove_file(&patched);
        if outcome.pod != *pod {
            fs::write(&patched, serde_saphyr::to_string(&outcome.pod).unwrap()).unwrap();
        }
        return Ok(());
    }
    let expected = read(&expect).ok_or("there is no expect.yaml")?;
    if seen != expected {
        return Err(format!("expected {expected:#}\nseen {seen:#}"));
    }
    let expected = read(&patched).unwrap_or_else(|| pod.clone());
    if outcome.pod != expected {
        return Err(format!("expected {expected:#}\nseen {:#}", outcome.pod));
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a switch of this test for people"
)]
fn updating() -> bool {
    std::env::var_os("UPDATE_EXPECTED").is_some()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the cases are files of the repository"
)]
fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn read(path: &Path) -> Option<Value> {
    let text = text(path)?;
    Some(
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
    )
}
