//! Names, labels, ports and places of what the chart renders, where values or the release have a say.

use std::collections::BTreeSet;

use rstest::rstest;
use serde_json::{Value, json};

use super::{examples, identity, objects, pods, released, rendered, repository, template, text};

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .collect()
}

/// Objects are read strictly: a key that stands there twice, or a number for a name, fails.
#[test]
fn a_namespace_of_digits_stays_a_name() {
    let (done, text) = released("rrsa", "123", &[]);
    assert!(done, "{text}");
    let objects = objects(&text);
    let named: Vec<_> = objects
        .iter()
        .filter_map(|object| object["metadata"].get("namespace"))
        .collect();
    assert!(named.len() > 10 && named.iter().all(|name| name.is_string()));
}

#[rstest]
#[case::digit_first("9lives", &[])]
#[case::dot("my.rrsa", &[])]
#[case::chosen("one", &["--set=fullnameOverride=My_Name"])]
fn a_name_that_no_service_can_have_is_refused(#[case] release: &str, #[case] more: &[&str]) {
    let (done, said) = released(release, "rrsa-system", more);
    assert!(!done && said.contains("fullnameOverride"), "{said}");
}

#[test]
fn chosen_labels_come_to_every_object_and_replace_the_usual_ones() {
    let over = json!({
        "commonLabels": {"app.kubernetes.io/part-of": "platform", "team": "a"},
        "webhook": {"podLabels": {"team": "b"}},
    });
    let objects = objects(&rendered("everything.yaml", &over, &[]));
    for object in &objects {
        if object["kind"] != "CustomResourceDefinition" {
            let labels = &object["metadata"]["labels"];
            assert_eq!(labels["app.kubernetes.io/part-of"], "platform", "{object}");
            assert_eq!(labels["team"], "a", "{object}");
        }
    }
    let teams: BTreeSet<_> = of_kind(&objects, "Deployment")
        .iter()
        .map(|deployment| {
            deployment["spec"]["template"]["metadata"]["labels"]["team"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert_eq!(teams, ["a", "b"].into());
}

#[rstest]
#[case(json!({"commonLabels": {"app.kubernetes.io/name": "x"}}))]
#[case(json!({"controller": {"podLabels": {"app.kubernetes.io/component": "x"}}}))]
fn labels_that_find_the_pods_cannot_be_chosen(#[case] over: Value) {
    let output = template("everything.yaml", &over, &[]);
    let said = text(&output.stderr);
    assert!(
        !output.status.success() && said.contains("it cannot be chosen"),
        "{said}"
    );
}

#[test]
fn spread_counts_the_components_own_pods() {
    let zones = json!([
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"},
        {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule",
         "labelSelector": {"matchLabels": {"own": "selector"}}},
    ]);
    let over = json!({"controller": {"topologySpreadConstraints": zones}});
    let objects = objects(&rendered("everything.yaml", &over, &[]));
    for deployment in of_kind(&objects, "Deployment") {
        let selector = &deployment["spec"]["selector"];
        let spread = &deployment["spec"]["template"]["spec"]["topologySpreadConstraints"];
        assert_eq!(&spread[0]["labelSelector"], selector, "{deployment}");
        if selector["matchLabels"]["app.kubernetes.io/component"] == "controller" {
            assert_eq!(spread[0]["topologyKey"], "zone");
            let own = json!({"matchLabels": {"own": "selector"}});
            assert_eq!(spread[1]["labelSelector"], own);
        }
    }
}

/// The ports that a component may reach with this `config.sts`.
fn reachable(sts: &Value, component: &str) -> BTreeSet<u64> {
    let over = json!({"config": {"sts": sts}});
    let objects = objects(&rendered("everything.yaml", &over, &[]));
    let policies = of_kind(&objects, "NetworkPolicy");
    let of = |policy: &&&Value| {
        policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == component
    };
    let policy = policies.iter().find(of).expect("a policy");
    let ports = policy["spec"]["egress"][0]["ports"].as_array().unwrap();
    ports
        .iter()
        .map(|port| port["port"].as_u64().unwrap())
        .collect()
}

#[test]
fn the_ports_of_sts_and_of_a_proxy_are_open() {
    let sts = json!({
        "endpoint": "sts.example.com:8443",
        "proxy": "http://proxy.example.com:3128",
        "allowedHosts": ["sts.aliyuncs.com", "other.example.com:9443"],
    });
    let controller = reachable(&sts, "controller");
    assert_eq!(controller, [53, 443, 3128, 6443, 8443, 9443].into());
    assert_eq!(reachable(&sts, "webhook"), [53, 443, 6443].into());
}

/// The chart finds the port where the program's own URL parser does.
#[rstest]
#[case::of_the_scheme("http://proxy.example.com", 80)]
#[case::of_https("https://proxy.example.com/", 443)]
#[case::empty("http://proxy.example.com:/", 80)]
#[case::before_a_path("http://proxy.example.com:3128/path", 3128)]
#[case::before_a_query("HTTP://proxy.example.com:3128?a=:1", 3128)]
#[case::colon_in_the_path("http://proxy.example.com/a:3128", 80)]
#[case::ipv6("http://[2001:db8::80]:3128", 3128)]
#[case::ipv6_alone("http://[2001:db8::3128]/", 80)]
#[case::leading_zero("http://proxy.example.com:03128", 3128)]
fn the_port_of_a_proxy_is_that_of_its_url(#[case] proxy: &str, #[case] port: u64) {
    let url = url::Url::parse(proxy).unwrap();
    assert_eq!(url.port_or_known_default().map(u64::from), Some(port));
    let open = reachable(&json!({ "proxy": proxy }), "controller");
    assert_eq!(open, [53, 443, 6443, port].into());
}

/// The program refuses a proxy with a password; were that text ever legal, its digits are no port.
#[test]
fn a_password_is_no_port() {
    let sts = json!({"proxy": "http://user:1234@proxy.example.com"});
    assert_eq!(reachable(&sts, "controller"), [53, 80, 443, 6443].into());
}

#[test]
fn a_drain_that_would_be_cut_off_is_refused() {
    let over = json!({"webhook": {"drainDelaySeconds": 101, "terminationGracePeriodSeconds": 120}});
    let said = text(&template("manifests.yaml", &over, &[]).stderr);
    assert!(said.contains("webhook.drainDelaySeconds"), "{said}");
}

#[test]
fn an_image_with_its_tag_in_the_repository_is_refused() {
    let refused = |repository: &str| {
        let over = json!({"image": {"repository": repository}});
        !template("manifests.yaml", &over, &[]).status.success()
    };
    assert!(refused("registry.example.com/rrsa:0.1.0"));
    assert!(refused("registry.example.com/rrsa@sha256:00"));
    assert!(!refused("registry.example.com:5000/a/rrsa"));
}

#[rstest]
#[case("config", json!({"config": null}))]
#[case("podDisruptionBudget", json!({"webhook": {"podDisruptionBudget": null}}))]
fn a_group_that_was_taken_away_is_named(#[case] group: &str, #[case] over: Value) {
    let said = text(&template("manifests.yaml", &over, &[]).stderr);
    assert!(
        said.contains("missing property") && said.contains(group),
        "{said}"
    );
}

/// `helm upgrade --reuse-values` brings the values of the release before.
#[test]
fn values_of_a_release_before_there_were_tasks_will_do() {
    rendered("everything.yaml", &json!({"tasks": null}), &[]);
}

#[test]
fn tasks_run_where_they_are_told_to() {
    let objects = objects(&rendered("ack-pro.yaml", &json!({}), &[]));
    let tasks: Vec<_> = objects
        .iter()
        .filter(|object| object["kind"] == "Job" || object["kind"] == "Pod")
        .flat_map(pods)
        .collect();
    assert_eq!(tasks.len(), 2, "the hook and the test");
    for pod in tasks {
        assert_eq!(pod["nodeSelector"]["pool"], "system");
        assert_eq!(pod["tolerations"][0]["key"], "dedicated");
        assert!(pod["containers"][0]["resources"]["limits"].is_object());
    }
}

#[test]
fn namespaces_that_are_never_served_are_told_to_the_look_at_pods() {
    let over = json!({"webhook": {"excludedNamespaces": ["monitoring"]}});
    let told = |over: &Value| {
        let only = ["--show-only=templates/configmap.yaml"];
        let object = objects(&rendered("everything.yaml", over, &only)).remove(0);
        let text = object["data"]["config.yaml"].as_str().unwrap().to_owned();
        let configuration = rrsa::api::configuration::Configuration::parse(&text).unwrap();
        configuration.pod_look.never_served
    };
    assert_eq!(told(&over), ["kube-system", "rrsa-system", "monitoring"]);
    let own = json!({"config": {"podLook": {"neverServed": ["mine"]}}});
    assert_eq!(told(&own), ["mine"]);
}

/// `charts/render.sh` leaves out nothing of any example but what only Helm needs.
#[test]
fn every_example_can_be_installed_without_helm() {
    for example in examples() {
        let folder = tempfile::tempdir().unwrap();
        let output = std::process::Command::new(repository("charts/render.sh"))
            .arg(folder.path())
            .arg(repository("charts/rrsa/examples").join(&example))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{example}: {}",
            text(&output.stderr)
        );
        let mut written = BTreeSet::new();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let text = std::fs::read_to_string(&path).unwrap();
                for object in objects(&text) {
                    assert!(written.insert(identity(&object)), "{object} twice");
                }
            }
        }
        let expected: BTreeSet<_> = objects(&rendered(&example, &json!({}), &[]))
            .iter()
            .filter(|object| {
                object["kind"] != "CustomResourceDefinition"
                    && object["metadata"]["annotations"]
                        .get("helm.sh/hook")
                        .is_none()
            })
            .map(identity)
            .collect();
        assert_eq!(written, expected, "{example}");
    }
}
