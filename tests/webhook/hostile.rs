//! What nobody should send: the documented answer comes, and nothing else breaks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode};
use futures::StreamExt;
use rstest::rstest;
use serde_json::{Value, json};

use rrsa::api::configuration::Configuration;
use rrsa::injection::bindings::Bindings;
use rrsa::injection::facts::{Cluster, Found, NamespaceFacts, ServiceAccountFacts};
use rrsa::injection::settings::Settings;
use rrsa::webhook::handler::Reviewer;
use rrsa::webhook::metrics::Metrics;
use rrsa::world::BoxFuture;

use super::rig::{
    CONFIGURATION, FakeCluster, admit, ordinary_reviewer, post, review, reviewer, send,
};

fn pod() -> Value {
    json!({"metadata": {"generateName": "app-"}, "spec": {
        "serviceAccountName": "app", "containers": [{"name": "app", "image": "example/app:1"}]}})
}

async fn status_of(body: impl Into<Body>) -> StatusCode {
    send(&ordinary_reviewer(), post(body)).await.0
}

#[rstest]
#[case::empty("")]
#[case::no_json("hello")]
#[case::truncated(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"#)]
#[case::null("null")]
#[case::deep(&"[".repeat(10_000))]
#[case::nulls(&format!("[{}null]", "null,".repeat(1_000_000)))]
#[case::huge_number(r#"{"apiVersion":1e400}"#)]
#[tokio::test]
async fn what_is_no_review_is_a_bad_request(#[case] body: &str) {
    assert_eq!(status_of(body.to_owned()).await, StatusCode::BAD_REQUEST);
}

#[rstest]
#[case::path("team-a/serviceaccounts/app")]
#[case::parent("..")]
#[case::long(&"a".repeat(60_000))]
#[tokio::test]
async fn a_namespace_that_cannot_be_is_a_bad_request(#[case] namespace: &str) {
    let cluster = Arc::new(FakeCluster::ordinary());
    let reviewer = reviewer(Arc::clone(&cluster), CONFIGURATION);
    let mut review = review(&pod());
    review["request"]["namespace"] = json!(namespace);
    let (status, body) = send(&reviewer, post(review.to_string())).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.len() < 200, "the name is not said again");
    assert_eq!(cluster.lookups.load(Ordering::Relaxed), 0);
}

/// The API server refuses such a pod, but only after its webhooks.
#[rstest]
#[case::path("app/token")]
#[case::parent("..")]
#[case::long(&"a".repeat(60_000))]
#[tokio::test]
async fn a_service_account_that_cannot_be_is_missing_and_not_asked_for(#[case] name: &str) {
    let cluster = Arc::new(FakeCluster::ordinary());
    let reviewer = reviewer(Arc::clone(&cluster), CONFIGURATION);
    let mut pod = pod();
    pod["spec"]["serviceAccountName"] = json!(name);
    let outcome = admit(&reviewer, &pod).await;
    assert_eq!(outcome.decision, "ServiceAccountMissing");
    assert!(outcome.warnings[0].len() < 300, "{:?}", outcome.warnings);
    let namespace_alone = 1;
    assert_eq!(cluster.lookups.load(Ordering::Relaxed), namespace_alone);
}

#[tokio::test]
async fn trailing_bytes_are_a_bad_request() {
    let body = format!("{} {{}}", review(&pod()));
    assert_eq!(status_of(body).await, StatusCode::BAD_REQUEST);
}

#[rstest]
#[case::doubled_spec(r#""spec""#, r#""spec":{"containers":[]},"spec""#)]
#[case::doubled_containers(r#""containers""#, r#""containers":[],"containers""#)]
#[case::lone_surrogate(r#""name":"app""#, r#""name":"\ud800""#)]
#[case::doubled_account(
    r#""serviceAccountName""#,
    r#""serviceAccountName":"x","serviceAccountName""#
)]
#[tokio::test]
async fn contradictions_that_count_are_a_bad_request(#[case] from: &str, #[case] to: &str) {
    let body = review(&pod()).to_string().replacen(from, to, 1);
    assert_eq!(status_of(body).await, StatusCode::BAD_REQUEST);
}

#[rstest]
#[case::unknown_doubled(r#""image""#, r#""future":1,"future":2,"image""#)]
#[case::other_case(r#""containers""#, r#""Containers":[],"containers""#)]
#[case::surrogate_that_is_not_read(r#""image":"#, r#""x":"\udfff","image":"#)]
#[case::nul(r#""image":"#, r#""x":"\u0000","image":"#)]
#[case::long_text(r#""image":"#, &format!(r#""x":"{}","image":"#, "y".repeat(5 << 20)))]
#[tokio::test]
async fn oddities_that_do_not_count_are_let_pass(#[case] from: &str, #[case] to: &str) {
    let body = review(&pod()).to_string().replacen(from, to, 1);
    let (status, body) = send(&ordinary_reviewer(), post(body)).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        String::from_utf8(body)
            .unwrap()
            .contains(r#""decision":"Injected""#)
    );
}

#[rstest]
#[case::plain(Some("application/json"), StatusCode::OK)]
#[case::charset(Some("application/json; charset=utf-8"), StatusCode::OK)]
#[case::upper(Some("Application/JSON"), StatusCode::OK)]
#[case::missing(None, StatusCode::UNSUPPORTED_MEDIA_TYPE)]
#[case::text(Some("text/plain"), StatusCode::UNSUPPORTED_MEDIA_TYPE)]
#[case::prefix(Some("application/jsonx"), StatusCode::UNSUPPORTED_MEDIA_TYPE)]
#[tokio::test]
async fn only_json_is_taken(#[case] kind: Option<&str>, #[case] expected: StatusCode) {
    let mut request = Request::post("/mutate");
    if let Some(kind) = kind {
        request = request.header("content-type", kind);
    }
    let request = request
        .body(Body::from(review(&pod()).to_string()))
        .unwrap();
    assert_eq!(send(&ordinary_reviewer(), request).await.0, expected);
}

#[tokio::test]
async fn compressed_bodies_are_refused() {
    let mut request = post(review(&pod()).to_string());
    request
        .headers_mut()
        .insert("content-encoding", "gzip".parse().unwrap());
    let (status, _) = send(&ordinary_reviewer(), request).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn seven_mebibytes_are_taken_and_one_byte_more_is_not() {
    let limit = 7 << 20;
    let mut body = review(&pod()).to_string();
    body.push_str(&" ".repeat(limit - body.len()));
    assert_eq!(status_of(body.clone()).await, StatusCode::OK);
    body.push(' ');
    assert_eq!(status_of(body.clone()).await, StatusCode::PAYLOAD_TOO_LARGE);
    // The same without a Content-Length, in pieces that never end.
    let pieces = futures::stream::repeat(Bytes::from(vec![b' '; 65536]))
        .map(Ok::<_, std::convert::Infallible>);
    assert_eq!(
        status_of(Body::from_stream(pieces)).await,
        StatusCode::PAYLOAD_TOO_LARGE
    );
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut_off() {
    let drip = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))])
        .chain(futures::stream::pending());
    assert_eq!(
        status_of(Body::from_stream(drip)).await,
        StatusCode::REQUEST_TIMEOUT
    );
}

#[rstest]
#[case::get(Method::GET, "/mutate", StatusCode::METHOD_NOT_ALLOWED)]
#[case::head(Method::HEAD, "/mutate", StatusCode::METHOD_NOT_ALLOWED)]
#[case::put(Method::PUT, "/mutate", StatusCode::METHOD_NOT_ALLOWED)]
#[case::double_slash(Method::POST, "//mutate", StatusCode::NOT_FOUND)]
#[case::trailing_slash(Method::POST, "/mutate/", StatusCode::NOT_FOUND)]
#[case::dots(Method::POST, "/mutate/../x", StatusCode::NOT_FOUND)]
#[case::encoded(Method::POST, "/%6dutate%2f", StatusCode::NOT_FOUND)]
#[case::root(Method::POST, "/", StatusCode::NOT_FOUND)]
#[tokio::test]
async fn other_methods_and_paths_are_refused(
    #[case] method: Method,
    #[case] path: &str,
    #[case] expected: StatusCode,
) {
    let request = Request::builder().method(method).uri(path);
    let request = request
        .header("content-type", "application/json")
        .body(Body::empty())
        .unwrap();
    assert_eq!(send(&ordinary_reviewer(), request).await.0, expected);
}

#[rstest]
#[case::update("UPDATE", "", "pods")]
#[case::delete("DELETE", "", "pods")]
#[case::connect("CONNECT", "exec", "pods")]
#[case::binding("CREATE", "binding", "pods")]
#[case::status("UPDATE", "status", "pods")]
#[case::created_ephemeral("CREATE", "ephemeralcontainers", "pods")]
#[case::services("CREATE", "", "services")]
#[tokio::test]
async fn what_is_not_ours_is_allowed_untouched_and_nobody_is_asked(
    #[case] operation: &str,
    #[case] sub_resource: &str,
    #[case] resource: &str,
) {
    let cluster = Arc::new(FakeCluster::ordinary());
    let reviewer = reviewer(Arc::clone(&cluster), CONFIGURATION);
    let mut asked = review(&pod());
    asked["request"]["operation"] = json!(operation);
    asked["request"]["subResource"] = json!(sub_resource);
    asked["request"]["resource"]["resource"] = json!(resource);
    let (status, body) = send(&reviewer, post(asked.to_string())).await;
    assert_eq!(status, StatusCode::OK);
    let answer: Value = serde_json::from_slice(&body).unwrap();
    let response = &answer["response"];
    assert_eq!(response["auditAnnotations"]["decision"], "NotHandled");
    assert!(response["allowed"] == true && response.get("patch").is_none());
    assert_eq!(cluster.lookups.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn an_api_server_that_fails_is_our_fault_and_no_denial() {
    let cluster = FakeCluster {
        broken: true,
        ..FakeCluster::ordinary()
    };
    let reviewer = reviewer(Arc::new(cluster), CONFIGURATION);
    let (status, body) = send(&reviewer, post(review(&pod()).to_string())).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        String::from_utf8(body)
            .unwrap()
            .contains("the API server is down")
    );
}

#[tokio::test]
async fn a_namespace_labelled_a_moment_ago_is_looked_at_again() {
    let stale = Some(Arc::default());
    let cluster = FakeCluster {
        stale_namespace: stale,
        ..FakeCluster::ordinary()
    };
    let reviewer = reviewer(Arc::new(cluster), CONFIGURATION);
    assert_eq!(admit(&reviewer, &pod()).await.decision, "Injected");
}

/// The pod asks by itself, or its namespace has been labelled since the cache heard of it; in the end
/// the namespace is not there.
#[rstest]
#[case::unknown_to_the_cache(None)]
#[case::known_to_the_cache(Some(Arc::default()))]
#[tokio::test]
async fn a_namespace_deleted_meanwhile_is_warned_about(
    #[case] stale_namespace: Option<Arc<NamespaceFacts>>,
) {
    let cluster = FakeCluster {
        namespaces: BTreeMap::new(),
        stale_namespace,
        ..FakeCluster::ordinary()
    };
    let reviewer = reviewer(Arc::new(cluster), CONFIGURATION);
    let outcome = admit(&reviewer, &pod()).await;
    assert_eq!(outcome.decision, "NamespaceMissing");
    assert!(outcome.patch.is_none() && outcome.refused.is_none());
    let [warning] = &*outcome.warnings else {
        panic!("{:?}", outcome.warnings);
    };
    assert!(
        warning.contains("namespace \"team-a\"") && warning.ends_with("[NamespaceMissing]"),
        "{warning}"
    );
}

/// What was decided from is what was seen: that the namespace goes away after its label was read
/// changes nothing, and its ServiceAccounts may go first.
#[tokio::test]
async fn an_account_deleted_with_its_namespace_is_warned_about() {
    let cluster = FakeCluster {
        accounts: BTreeMap::new(),
        ..FakeCluster::ordinary()
    };
    let outcome = admit(&reviewer(Arc::new(cluster), CONFIGURATION), &pod()).await;
    assert_eq!(
        (
            outcome.decision.as_str(),
            outcome.patch,
            outcome.warnings.len()
        ),
        ("ServiceAccountMissing", None, 1)
    );
}

/// A cluster that never answers from one question on.
#[derive(Debug)]
struct Hanging(FakeCluster, &'static str);

impl Hanging {
    /// Asks, if it is answered at all.
    fn or_never<'a, T: Send + Sync + 'a>(
        &self,
        question: &str,
        answer: BoxFuture<'a, Found<T>>,
    ) -> BoxFuture<'a, Found<T>> {
        if self.1 == question {
            return Box::pin(std::future::pending());
        }
        answer
    }
}

impl Cluster for Hanging {
    fn cached_namespace(&self, name: &str) -> Option<Arc<NamespaceFacts>> {
        self.0.cached_namespace(name)
    }

    fn cached_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<ServiceAccountFacts>> {
        self.0.cached_service_account(namespace, name)
    }

    fn cached_bindings(&self, namespace: &str) -> Arc<Bindings> {
        self.0.cached_bindings(namespace)
    }

    fn namespace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Found<NamespaceFacts>> {
        self.or_never("namespace", self.0.namespace(name))
    }

    fn service_account<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Found<ServiceAccountFacts>> {
        self.or_never("account", self.0.service_account(namespace, name))
    }

    fn bindings<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Found<Bindings>> {
        self.or_never("bindings", self.0.bindings(namespace))
    }
}

/// The API server waits for 5 s.
#[rstest]
#[case::namespace("namespace")]
#[case::account("account")]
#[case::bindings("bindings")]
#[tokio::test]
async fn a_cluster_that_never_answers_is_our_fault_in_time(#[case] question: &'static str) {
    let mut cluster = FakeCluster::ordinary();
    if question == "bindings" {
        // Without a role of its own the account needs a binding.
        cluster.add_account("app", &json!({"metadata": {}}));
    }
    let configuration = Configuration::parse(CONFIGURATION).unwrap();
    let cluster = Arc::new(Hanging(cluster, question));
    let reviewer = Reviewer::new(Settings::from(&configuration), cluster, Metrics::default());
    let asked = send(&reviewer, post(review(&pod()).to_string()));
    let (status, body) = tokio::time::timeout(Duration::from_secs(5), asked)
        .await
        .expect("an answer before the API server gives up");
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("no decision within 2.5s"), "{body}");
}

#[tokio::test]
async fn an_account_annotated_a_moment_ago_is_looked_at_again() {
    let cluster = FakeCluster {
        stale_account: Some(Arc::default()),
        ..FakeCluster::ordinary()
    };
    let reviewer = reviewer(Arc::new(cluster), CONFIGURATION);
    assert_eq!(admit(&reviewer, &pod()).await.decision, "Injected");
}

#[tokio::test]
async fn the_requests_namespace_wins_over_the_objects() {
    let mut pod = pod();
    pod["metadata"]["namespace"] = json!("kube-system");
    assert_eq!(admit(&ordinary_reviewer(), &pod).await.decision, "Injected");
}

#[rstest]
#[case::absent(json!({"serviceAccountName": "app"}))]
#[case::null(json!({"serviceAccountName": "app", "containers": null}))]
#[case::empty(json!({"serviceAccountName": "app", "containers": []}))]
#[case::object(json!({"serviceAccountName": "app", "containers": {"name": "a"}}))]
#[case::null_element(json!({"serviceAccountName": "app", "containers": [{"name": "a"}, null]}))]
#[case::volumes(json!({"serviceAccountName": "app", "containers": [{"name": "a"}], "volumes": {}}))]
#[case::init(json!({"serviceAccountName": "app", "containers": [{"name": "a"}], "initContainers": 1}))]
#[tokio::test]
async fn pods_that_are_none_are_left_to_validation(#[case] spec: Value) {
    let outcome = admit(&ordinary_reviewer(), &json!({"spec": spec})).await;
    assert_eq!(outcome.decision, "PodMalformed");
    assert!(outcome.patch.is_none() && outcome.warnings.is_empty());
}

#[rstest]
#[case::null_metadata(json!(null))]
#[case::null_maps(json!({"labels": null, "annotations": null}))]
#[case::list_maps(json!({"labels": [], "annotations": 5}))]
#[case::odd_values(json!({"annotations": {
    "rrsa.io/role-arn": 5, "rrsa.io/inject": {}, "rrsa.io/mode": null,
    "pod-identity.alibabacloud.com/only-containers": ["app"]}}))]
#[tokio::test]
async fn odd_metadata_counts_as_absent(#[case] metadata: Value) {
    let mut pod = pod();
    pod["metadata"] = metadata;
    assert_eq!(admit(&ordinary_reviewer(), &pod).await.decision, "Injected");
}

/// The CPU time of the least of three goes at the pods that `make` gives for a size and for sixteen
/// times that size: sixteen times as much if it is linear, 256 times if it is quadratic.
async fn takes_linear_time(size: usize, make: impl Fn(usize) -> (Reviewer, Value)) {
    let least = async |size: usize| {
        let (reviewer, pod) = make(size);
        let body = review(&pod).to_string();
        let mut least = Duration::MAX;
        for _ in 0..3 {
            let begun = cpu_time();
            let (status, _) = send(&reviewer, post(body.clone())).await;
            least = least.min(cpu_time().saturating_sub(begun));
            assert_eq!(status, StatusCode::OK);
        }
        least
    };
    let (small, large) = (least(size).await, least(16 * size).await);
    let ratio = large.as_secs_f64() / small.as_secs_f64();
    assert!(ratio < 48.0, "{small:?} became {large:?}, {ratio:.0} times");
}

/// What this thread has worked until now, however busy the machine is.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

#[tokio::test]
async fn many_containers_variables_and_names_take_linear_time() {
    let pod = |count: usize| {
        let env: Vec<_> = (0..10)
            .map(|n| json!({"name": format!("V{n}"), "value": "x"}))
            .collect();
        let containers: Vec<_> = (0..count)
            .map(|n| json!({"name": format!("c{n}"), "env": env}))
            .collect();
        let list = "c1,".repeat(100 * count);
        let annotations = json!({"pod-identity.alibabacloud.com/skip-containers": list});
        json!({"metadata": {"annotations": annotations},
            "spec": {"serviceAccountName": "app", "containers": containers}})
    };
    let reviewer = ordinary_reviewer();
    let patch = admit(&reviewer, &pod(1000)).await.patch.unwrap();
    assert_eq!(patch.as_array().unwrap().len(), 999 * 7 + 1);
    // No node runs more, and an answer many times as long as the question is a lever.
    assert_eq!(admit(&reviewer, &pod(1001)).await.decision, "PodMalformed");
    takes_linear_time(60, |count| (ordinary_reviewer(), pod(count))).await;
}

#[tokio::test]
async fn ten_thousand_variables_and_annotations_at_the_limit_take_linear_time() {
    let pod = |count: usize| {
        let env: Vec<_> = (0..count)
            .map(|n| json!({"name": format!("V{n}"), "value": "x"}))
            .collect();
        let mut annotations: serde_json::Map<_, _> = (0..256)
            .map(|n| (format!("example.com/a{n}"), json!("y".repeat(990))))
            .collect();
        annotations.insert("rrsa.io/inject".to_owned(), json!("on"));
        json!({"metadata": {"annotations": annotations},
            "spec": {"serviceAccountName": "app", "containers": [{"name": "app", "env": env}]}})
    };
    let reviewer = ordinary_reviewer();
    let outcome = admit(&reviewer, &pod(10_000)).await;
    assert_eq!(outcome.patch.unwrap().as_array().unwrap().len(), 6 + 2);
    assert_eq!(outcome.warnings.len(), 1);
    takes_linear_time(1_000, |count| (ordinary_reviewer(), pod(count))).await;
}

/// Each mount is held against all volumes, so both are many.
#[tokio::test]
async fn many_volumes_and_many_mounts_take_linear_time() {
    let pod = |count: usize| {
        let token = json!({"sources": [{"serviceAccountToken":
            {"audience": "sts.aliyuncs.com", "path": "token"}}]});
        let volumes: Vec<_> = (0..count)
            .map(|n| json!({"name": format!("volume-{n}"), "projected": token}))
            .collect();
        let path = "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens";
        let mounts: Vec<_> = (0..count)
            .map(|n| json!({"name": format!("volume-{n}"), "mountPath": path}))
            .collect();
        json!({"spec": {"serviceAccountName": "app", "volumes": volumes,
            "containers": [{"name": "app", "volumeMounts": mounts}]}})
    };
    let outcome = admit(&ordinary_reviewer(), &pod(10)).await;
    assert_eq!(outcome.decision, "Injected");
    takes_linear_time(500, |count| (ordinary_reviewer(), pod(count))).await;
}

/// Each Secret that a container takes is held against all bindings, so both are many.
#[tokio::test]
async fn many_secrets_and_many_bindings_take_linear_time() {
    let make = |count: usize| {
        let bindings: Vec<_> = (0..count)
            .map(|n| {
                json!({"metadata": {"namespace": "team-a", "name": format!("binding-{n}")},
                    "spec": {"role": {"name": "app"}, "serviceAccountName": "other"}})
            })
            .collect();
        let mut cluster = FakeCluster::ordinary();
        cluster.add_bindings(&json!(bindings));
        let secrets: Vec<_> = (0..count)
            .map(|n| json!({"secretRef": {"name": format!("secret-{n}")}}))
            .chain([json!({"secretRef": {"name": "binding-7-credentials"}})])
            .collect();
        let pod = json!({"spec": {"serviceAccountName": "app",
            "containers": [{"name": "app", "envFrom": secrets}]}});
        (reviewer(Arc::new(cluster), CONFIGURATION), pod)
    };
    let (reviewer, pod) = make(10);
    let warnings = admit(&reviewer, &pod).await.warnings;
    assert!(
        warnings[0].contains("binding-7-credentials"),
        "{warnings:?}"
    );
    takes_linear_time(500, make).await;
}

/// What would be removed one by one is left alone where it is very much, because the API server takes
/// the square of it.
#[rstest]
#[case::at_the_limit(65, "Injected")]
#[case::beyond(80, "VariablesRepeated")]
#[tokio::test]
async fn the_same_variable_again_and_again_is_not_removed_without_end(
    #[case] count: usize,
    #[case] decision: &str,
) {
    let env = vec![json!({"name": "ALIBABA_CLOUD_ROLE_ARN", "value": "x"}); count];
    let annotations = json!({"pod-identity.alibabacloud.com/override-env": "true"});
    let pod = json!({"metadata": {"annotations": annotations},
        "spec": {"serviceAccountName": "app", "containers": [{"name": "app", "env": env}]}});
    let outcome = admit(&ordinary_reviewer(), &pod).await;
    assert_eq!(outcome.decision, decision);
    let removals = outcome.patch.map_or(0, |patch| {
        let operations = patch.as_array().unwrap();
        let removes = |operation: &&Value| operation["op"] == "remove";
        operations.iter().filter(removes).count()
    });
    assert_eq!(removals, if decision == "Injected" { count - 1 } else { 0 });
    assert_eq!(outcome.warnings.len(), usize::from(decision != "Injected"));
}

#[tokio::test]
async fn a_dry_run_gets_the_same_answer() {
    let mut asked = review(&pod());
    let (_, real) = send(&ordinary_reviewer(), post(asked.to_string())).await;
    asked["request"]["dryRun"] = json!(true);
    let (status, dry) = send(&ordinary_reviewer(), post(asked.to_string())).await;
    assert_eq!((status, real), (StatusCode::OK, dry));
}

/// Another webhook between two passes: it prepends a sidecar, turns the lists around and adds
/// variables and volumes of its own.
#[tokio::test]
async fn after_another_webhook_only_the_new_container_is_served() {
    let reviewer = ordinary_reviewer();
    let mut pod = pod();
    pod["spec"]["containers"] = json!([{"name": "app"}, {"name": "side"}]);
    let mut first = admit(&reviewer, &pod).await.pod;
    let spec = &mut first["spec"];
    for container in spec["containers"].as_array_mut().unwrap() {
        let env = container["env"].as_array_mut().unwrap();
        env.reverse();
        env.insert(0, json!({"name": "PROXY", "value": "on"}));
        let mounts = container["volumeMounts"].as_array_mut().unwrap();
        mounts.insert(0, json!({"name": "proxy", "mountPath": "/proxy"}));
    }
    spec["containers"].as_array_mut().unwrap().reverse();
    spec["volumes"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({"name": "proxy", "emptyDir": {}}));
    let unchanged = admit(&reviewer, &first).await;
    assert_eq!(
        (unchanged.decision.as_str(), unchanged.patch),
        ("AlreadyInjected", None)
    );

    let containers = first["spec"]["containers"].as_array_mut().unwrap();
    containers.insert(0, json!({"name": "proxy"}));
    let second = admit(&reviewer, &first).await;
    for operation in second.patch.unwrap().as_array().unwrap() {
        let path = operation["path"].as_str().unwrap();
        assert!(path.starts_with("/spec/containers/0/"), "{path}");
    }
    assert!(second.warnings.is_empty(), "{:?}", second.warnings);
}

#[tokio::test]
async fn a_hundred_containers_of_a_workflow_are_all_served() {
    let containers: Vec<_> = (0..100)
        .map(|n| json!({"name": format!("step-{n}")}))
        .collect();
    let pod = json!({"metadata": {"name": "wf-1-3791", "labels": {"workflows.argoproj.io/workflow": "wf-1"}},
        "spec": {"serviceAccountName": "app", "containers": containers,
            "initContainers": [{"name": "prepare"}, {"name": "place-scripts"}]}});
    let outcome = admit(&ordinary_reviewer(), &pod).await;
    assert_eq!(
        outcome.patch.unwrap().as_array().unwrap().len(),
        102 * 2 + 1
    );
    assert!(outcome.warnings.is_empty());
}

#[tokio::test]
async fn a_thousand_conflicts_make_a_short_warning() {
    let mount = json!([{"name": "mine",
        "mountPath": "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens"}]);
    let containers: Vec<_> = (0..1_000)
        .map(|n| json!({"name": format!("c{n}"), "volumeMounts": mount}))
        .collect();
    let pod = json!({"spec": {"serviceAccountName": "app", "containers": containers}});
    let outcome = admit(&ordinary_reviewer(), &pod).await;
    assert_eq!(
        (outcome.decision.as_str(), outcome.warnings.len()),
        ("MountPathTaken", 1)
    );
    assert!(
        outcome.warnings[0].contains("and 997 more"),
        "{}",
        outcome.warnings[0]
    );
}

#[tokio::test]
async fn no_answer_repeats_a_variables_value() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["env"] = json!([
        {"name": "PASSWORD", "value": "hunter2"},
        {"name": "ALIBABA_CLOUD_ROLE_ARN", "value": "hunter2"}]);
    let (_, body) = send(&ordinary_reviewer(), post(review(&pod).to_string())).await;
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("VariablesMixed") && !body.contains("hunter2"));
}

/// A cluster whose cache is broken in a way that nobody thought of.
#[derive(Debug)]
struct Panicking(FakeCluster);

impl Cluster for Panicking {
    fn cached_namespace(&self, name: &str) -> Option<Arc<NamespaceFacts>> {
        self.0.cached_namespace(name)
    }

    fn cached_service_account(&self, _: &str, name: &str) -> Option<Arc<ServiceAccountFacts>> {
        assert_ne!(name, "cursed");
        self.0.accounts.get(name).cloned()
    }

    fn cached_bindings(&self, namespace: &str) -> Arc<Bindings> {
        self.0.cached_bindings(namespace)
    }

    fn namespace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Found<NamespaceFacts>> {
        self.0.namespace(name)
    }

    fn service_account<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Found<ServiceAccountFacts>> {
        self.0.service_account(namespace, name)
    }

    fn bindings<'a>(&'a self, namespace: &'a str) -> BoxFuture<'a, Found<Bindings>> {
        self.0.bindings(namespace)
    }
}

#[tokio::test]
async fn a_panic_is_a_failure_of_that_review_only() {
    let configuration = Configuration::parse(CONFIGURATION).unwrap();
    let cluster = Arc::new(Panicking(FakeCluster::ordinary()));
    let reviewer = Reviewer::new(Settings::from(&configuration), cluster, Metrics::default());
    let mut cursed = pod();
    cursed["spec"]["serviceAccountName"] = json!("cursed");
    let (status, body) = send(&reviewer, post(review(&cursed).to_string())).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(String::from_utf8(body).unwrap().contains("internal fault"));
    assert_eq!(admit(&reviewer, &pod()).await.decision, "Injected");
}

#[tokio::test]
async fn large_bodies_at_once_are_bounded_and_small_ones_go_on() {
    let reviewer = ordinary_reviewer();
    let seven_mebibytes = Bytes::from(vec![b' '; 7 << 20]);
    let arriving = |_| {
        let first = futures::stream::iter([Ok::<_, std::io::Error>(seven_mebibytes.clone())]);
        let body = Body::from_stream(first.chain(futures::stream::pending()));
        let reviewer = reviewer.clone();
        async move { send(&reviewer, post(body)).await.0 }
    };
    let large = futures::future::join_all((0..10).map(arriving));
    let small = async {
        tokio::task::yield_now().await;
        admit(&reviewer, &pod()).await.decision
    };
    let (statuses, decision) = tokio::join!(large, small);
    assert_eq!(decision, "Injected");
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    let (slow, refused) = (StatusCode::REQUEST_TIMEOUT, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((count(slow), count(refused)), (4, 6), "{statuses:?}");
}
