//! The suite of `rrsa conformance` without a cluster: the same cases, the same judgement, our
//! webhook.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use rrsa::api::configuration::Configuration;
use rrsa::conformance::Parameters;
use rrsa::conformance::case::{Case, List};
use rrsa::conformance::expected::{differences, is_injected};
use rrsa::conformance::suite::cases;
use serde_json::{Value, json};

use super::rig::{CONFIGURATION, FakeCluster, admit, reviewer};

/// The pod as our webhook sends it back.
async fn injected(case: &Case, configuration: &str) -> Value {
    let mut cluster = FakeCluster::default();
    let namespace = json!({"metadata": {"labels": case.body.namespace}});
    cluster.add_namespace("team-a", &namespace);
    let account = json!({"metadata": {"annotations": case.body.service_account}});
    cluster.add_account("app", &account);
    let reviewer = reviewer(Arc::new(cluster), configuration);
    admit(&reviewer, &case.pod("app")).await.pod
}

#[tokio::test]
async fn our_webhook_passes_every_case_and_every_corner() {
    for extra in [
        "",
        "network: Public\n",
        "webhook: {autoInjectStsEnvVars: false}\n",
    ] {
        let configuration = format!("{CONFIGURATION}{extra}");
        let parameters = Parameters::from(&Configuration::parse(&configuration).unwrap());
        for case in cases(true).unwrap() {
            let plain = case.plain_pod("app");
            let seen = injected(&case, &configuration).await;
            let found = differences(&case, &parameters, &plain, &seen);
            assert!(found.is_empty(), "{} {extra}: {found:#?}", case.name);
            let changed = case.body.expect.is_some();
            assert_eq!(is_injected(&plain, &seen), changed, "{}", case.name);
        }
    }
}

#[tokio::test]
async fn the_documented_cases_tell_a_wrong_webhook_from_a_right_one() {
    // Each of these is one thing done wrong.
    let wrong = |pod: &Value, from: &str, to: &str| -> Value {
        serde_json::from_str(&pod.to_string().replace(from, to)).unwrap()
    };
    let parameters = Parameters::from(&Configuration::parse(CONFIGURATION).unwrap());
    let cases = cases(false).unwrap();
    assert!(cases.iter().all(|case| case.list == List::Documented));
    for (from, to) in [
        ("ack-rrsa-c0123456789", "ack-rrsa-other"),
        ("\"audience\":\"sts.aliyuncs.com\"", "\"audience\":\"api\""),
        ("\"expirationSeconds\":3600", "\"expirationSeconds\":3601"),
        ("sts-vpc.cn-hangzhou.aliyuncs.com", "sts.aliyuncs.com"),
        ("\"readOnly\":true", "\"readOnly\":false"),
        ("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", "VPC_ENDPOINT_ENABLED"),
    ] {
        let mut caught = 0;
        for case in &cases {
            let seen = injected(case, CONFIGURATION).await;
            let seen = wrong(&seen, from, to);
            let found = differences(case, &parameters, &case.plain_pod("app"), &seen);
            caught += usize::from(!found.is_empty());
        }
        assert!(caught > 0, "nobody noticed {to}");
    }
}

#[test]
fn every_file_of_a_case_is_in_the_suite() {
    let suite: BTreeSet<_> = cases(true).unwrap().iter().map(|case| case.name).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/conformance/cases");
    let mut files = 0;
    for list in ["documented", "corners"] {
        for entry in std::fs::read_dir(folder.join(list)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(
                suite.contains(name),
                "{} is not in suite.rs",
                path.display()
            );
            files += 1;
        }
    }
    assert_eq!(files, suite.len());
}
