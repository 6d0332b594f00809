//! What `rrsa doctor pods` and `rrsa conformance` say of a configuration that is none.

use rstest::rstest;
use serde_json::json;

use crate::cluster::Cluster;
use crate::person::{self, Person, RRSA};

const REGION: &str = "--region=cn-hangzhou";
const VARIABLES: &str = "--auto-inject-sts-env-vars=false";

/// Whether it stands in a file or in the cluster, a flag over it changes nothing of the complaint.
#[rstest]
#[case::list("[1, 2]", REGION)]
#[case::list_under_the_webhooks_flag("[1, 2]", VARIABLES)]
#[case::text("hello", REGION)]
#[case::webhook_is_a_list("webhook: [a]", VARIABLES)]
#[case::webhook_is_text("webhook: hello", VARIABLES)]
#[tokio::test]
async fn a_configuration_of_another_shape_is_refused_with_flags_as_without(
    #[case] text: &str,
    #[case] flag: &str,
    #[values(&["doctor", "pods"][..], &["conformance"][..])] command: &[&str],
    #[values(true, false)] in_cluster: bool,
) {
    let path = "/api/v1/namespaces/rrsa-system/configmaps/rrsa";
    let map = json!({"metadata": {"name": "rrsa"}, "data": {"config.yaml": text}});
    let cluster = Cluster::start([(path, map)]);
    let person = Person::new();
    let kubeconfig = format!("--kubeconfig={}", cluster.kubeconfig(&person).display());
    let file = format!("--config={}", person.file("config.yaml", text).display());
    let mut arguments = [command, &[&kubeconfig]].concat();
    if !in_cluster {
        arguments.push(&file);
    }
    let without = person::said(person.program(RRSA, &arguments)).await;
    let complaint = "the configuration, with the flags over it, is refused: ";
    assert!(without.err.contains(complaint), "{}", without.err);
    arguments.push(flag);
    let with = person::said(person.program(RRSA, &arguments)).await;
    assert_eq!(
        (with.code, with.out.as_str()),
        (Some(2), ""),
        "{}",
        with.err
    );
    assert_eq!(with.err, without.err);
}
