//! The alerts: they ask for series that exist, and for nothing that a release does not have.

use std::collections::BTreeSet;

use rstest::rstest;
use serde_json::{Value, json};

use super::{EVERYTHING, objects, read, rendered};

/// What the rules of `over` say, by the alert's name.
fn rules(over: &Value) -> Vec<(String, String)> {
    let only = ["--show-only=templates/prometheusrule.yaml"];
    let rule = &objects(&rendered(EVERYTHING, over, &only))[0];
    let rules = rule["spec"]["groups"][0]["rules"].as_array().unwrap();
    let said = |rule: &Value, key: &str| rule[key].as_str().unwrap().to_owned();
    rules
        .iter()
        .map(|rule| (said(rule, "alert"), said(rule, "expr")))
        .collect()
}

/// Whether some file of the program registers such a series, with this label value if there is one.
fn is_registered(series: &str, value: Option<&str>) -> bool {
    let families = [
        ("rrsa_controller_", "src/controller/census.rs"),
        ("rrsa_controller_", "src/controller/metrics.rs"),
        ("rrsa_webhook_", "src/serving/expiry.rs"),
        ("rrsa_webhook_", "src/webhook/caches.rs"),
        ("rrsa_", "src/serving/reload.rs"),
    ];
    families.iter().any(|(prefix, file)| {
        let Some(name) = series.strip_prefix(prefix) else {
            return false;
        };
        let (code, quoted) = (read(file), |word: &str| format!("\"{word}\""));
        let name = name.strip_suffix("_total").unwrap_or(name);
        code.contains(&quoted(name)) && value.is_none_or(|value| code.contains(&quoted(value)))
    })
}

#[test]
fn alerts_ask_for_series_that_exist() {
    let mut seen = BTreeSet::new();
    for (alert, expression) in rules(&json!({})) {
        let start = expression.find("rrsa_").expect("a series");
        let (series, rest) = expression[start..].split_once('{').expect("a selector");
        let (labels, _) = rest.split_once('}').expect("an end");
        assert!(
            labels.starts_with("namespace=\"rrsa-system\""),
            "{alert}: {expression}"
        );
        let value = labels
            .split_once("left=\"")
            .map(|(_, value)| value.trim_end_matches('"'));
        assert!(is_registered(series, value), "{alert}: {expression}");
        seen.insert(series.to_owned());
    }
    assert!(seen.len() > 5, "{seen:?}");
    assert!(!is_registered("rrsa_controller_nothing", None));
    assert!(!is_registered("rrsa_controller_secrets", Some("nothing")));
}

#[test]
fn what_is_not_installed_is_not_missed() {
    let alerts = |over: Value| {
        let rules = rules(&over);
        let of = |component: &str| rules.iter().any(|(_, expr)| expr.contains(component));
        (of("rrsa_controller_"), of("rrsa_webhook_"))
    };
    assert_eq!(alerts(json!({})), (true, true));
    assert_eq!(
        alerts(json!({"controller": {"enabled": false}})),
        (false, true)
    );
    assert_eq!(
        alerts(json!({"webhook": {"enabled": false}})),
        (true, false)
    );
}

/// cert-manager renews when a third is left; before that nobody is to be woken.
#[rstest]
#[case::of_the_chart(json!({}), 86_400)]
#[case::long(json!({"mode": "certManager", "duration": "2160h"}), 86_400)]
#[case::short(json!({"mode": "certManager", "duration": "1h30m"}), 900)]
fn a_certificate_is_missed_when_it_should_have_been_renewed(
    #[case] certificates: Value,
    #[case] seconds: u64,
) {
    let rules = rules(&json!({"webhook": {"certificates": certificates}}));
    let ends = format!(" - time() < {seconds}");
    assert!(
        rules
            .iter()
            .any(|(alert, expr)| alert == "RrsaWebhookCertificateEndsSoon" && expr.ends_with(&ends)),
        "{rules:?}"
    );
}
