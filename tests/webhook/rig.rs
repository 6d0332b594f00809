//! A reviewer with a cluster made of YAML, and the API server's half of a review.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use base64::Engine;
use rrsa::api::configuration::Configuration;
use rrsa::injection::bindings::{BindingView, Bindings};
use rrsa::injection::facts::{
    Cluster, Found, FromMetadata, LookupError, NamespaceFacts, ServiceAccountFacts,
};
use rrsa::injection::settings::Settings;
use rrsa::webhook::handler::{PATH, Reviewer};
use rrsa::webhook::metrics::Metrics;
use rrsa::world::BoxFuture;
use serde_json::{Value, json};
use tower::ServiceExt;

pub(crate) const CONFIGURATION: &str = "accountId: '1234567890123456'\n\
    oidcProviderArn: acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0123456789\n\
    region: cn-hangzhou\n";

/// Objects as the API server would have them. Of them only bindings are cached.
#[derive(Debug, Default)]
pub(crate) struct FakeCluster {
    pub(crate) namespaces: BTreeMap<String, Arc<NamespaceFacts>>,
    pub(crate) accounts: BTreeMap<String, Arc<ServiceAccountFacts>>,
    pub(crate) bindings: Arc<Bindings>,
    /// What the cache still believes about every namespace, and about every ServiceAccount.
    pub(crate) stale_namespace: Option<Arc<NamespaceFacts>>,
    pub(crate) stale_account: Option<Arc<ServiceAccountFacts>>,
    pub(crate) broken: bool,
    pub(crate) lookups: AtomicUsize,
}

impl FakeCluster {
    pub(crate) fn add_namespace(&mut self, name: &str, object: &Value) {
        let metadata = serde_json::from_value(object["metadata"].clone()).unwrap();
        self.namespaces.insert(
            name.to_owned(),
            Arc::new(FromMetadata::from_metadata(&metadata)),
        );
    }

    pub(crate) fn add_account(&mut self, name: &str, object: &Value) {
        let metadata = serde_json::from_value(object["metadata"].clone()).unwrap();
        self.accounts.insert(
            name.to_owned(),
            Arc::new(FromMetadata::from_metadata(&metadata)),
        );
    }

    pub(crate) fn add_bindings(&mut self, objects: &Value) {
        let views: Vec<BindingView> = serde_json::from_value(objects.clone()).unwrap();
        self.bindings = Arc::new(views.into_iter().map(Into::into).collect());
    }

    /// A namespace `team-a` that opted in, with a ServiceAccount `app` of the role `app`.
    pub(crate) fn ordinary() -> Self {
        let mut cluster = Self::default();
        let on = json!({"pod-identity.alibabacloud.com/injection": "on"});
        cluster.add_namespace("team-a", &json!({"metadata": {"labels": on}}));
        let role = json!({"pod-identity.alibabacloud.com/role-name": "app"});
        cluster.add_account("app", &json!({"metadata": {"annotations": role}}));
        cluster
    }

    fn answer<T>(&self, found: Option<&Arc<T>>) -> Found<T> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        if self.broken {
            let (what, cause) = ("the object".to_owned(), "the API server is down".to_owned());
            return Err(LookupError { what, cause });
        }
        Ok(found.cloned())
    }
}

impl Cluster for FakeCluster {
    fn cached_namespace(&self, _: &str) -> Option<Arc<NamespaceFacts>> {
        self.stale_namespace.clone()
    }

    fn cached_service_account(&self, _: &str, _: &str) -> Option<Arc<ServiceAccountFacts>> {
        self.stale_account.clone()
    }

    fn cached_bindings(&self, _: &str) -> Arc<Bindings> {
        Arc::clone(&self.bindings)
    }

    fn namespace<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Found<NamespaceFacts>> {
        Box::pin(async move { self.answer(self.namespaces.get(name)) })
    }

    fn service_account<'a>(
        &'a self,
        _: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Found<ServiceAccountFacts>> {
        Box::pin(async move { self.answer(self.accounts.get(name)) })
    }

    fn bindings<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Found<Bindings>> {
        Box::pin(async move { self.answer(Some(&self.bindings)) })
    }
}

pub(crate) fn reviewer(cluster: Arc<FakeCluster>, configuration: &str) -> Reviewer {
    let configuration = Configuration::parse(configuration).unwrap();
    Reviewer::new(Settings::from(&configuration), cluster, Metrics::default())
}

pub(crate) fn ordinary_reviewer() -> Reviewer {
    reviewer(Arc::new(FakeCluster::ordinary()), CONFIGURATION)
}

/// The review that the API server would send for the creation of that pod in `team-a`.
pub(crate) fn review(pod: &Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "team-a", "object": pod, "oldObject": null, "dryRun": false}})
}

pub(crate) async fn send(reviewer: &Reviewer, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let answer = reviewer.clone().oneshot(request).await.unwrap();
    let status = answer.status();
    (
        status,
        to_bytes(answer.into_body(), usize::MAX)
            .await
            .unwrap()
            .to_vec(),
    )
}

pub(crate) fn post(body: impl Into<Body>) -> Request<Body> {
    Request::post(PATH)
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap()
}

/// What came of a pod.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) decision: String,
    pub(crate) role: Option<String>,
    pub(crate) mode: Option<String>,
    /// The message of a refusal.
    pub(crate) refused: Option<String>,
    pub(crate) warnings: Vec<String>,
    pub(crate) patch: Option<Value>,
    pub(crate) pod: Value,
}

/// Sends a pod through the reviewer and applies the patch to the raw document, as the API server
/// does.
pub(crate) async fn admit(reviewer: &Reviewer, pod: &Value) -> Outcome {
    answered(reviewer, pod, review(pod)).await
}

/// The same for the ephemeral containers that a running pod gets.
pub(crate) async fn admit_ephemeral(reviewer: &Reviewer, before: &Value, pod: &Value) -> Outcome {
    let mut review = review(pod);
    review["request"]["operation"] = json!("UPDATE");
    review["request"]["subResource"] = json!("ephemeralcontainers");
    review["request"]["oldObject"] = before.clone();
    answered(reviewer, pod, review).await
}

async fn answered(reviewer: &Reviewer, pod: &Value, review: Value) -> Outcome {
    let (status, body) = send(reviewer, post(review.to_string())).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    let answer: Value = serde_json::from_slice(&body).unwrap();
    let response = &answer["response"];
    assert_eq!(response["uid"], review["request"]["uid"]);
    let message = response["status"]["message"].as_str();
    assert_eq!(response["allowed"], message.is_none());
    let patch = response["patch"].as_str().map(|patch| {
        assert_eq!(response["patchType"], "JSONPatch");
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(patch)
            .unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()
    });
    let mut patched = pod.clone();
    if let Some(patch) = &patch {
        let patch: json_patch::Patch = serde_json::from_value(patch.clone()).unwrap();
        assert!(!patch.0.is_empty(), "an empty patch is no patch");
        json_patch::patch(&mut patched, &patch).unwrap();
    }
    let audit = &response["auditAnnotations"];
    let warnings = response["warnings"].as_array().into_iter().flatten();
    Outcome {
        decision: audit["decision"].as_str().unwrap().to_owned(),
        role: audit["role"].as_str().map(ToOwned::to_owned),
        mode: audit["mode"].as_str().map(ToOwned::to_owned),
        refused: message.map(ToOwned::to_owned),
        warnings: warnings
            .map(|warning| warning.as_str().unwrap().to_owned())
            .collect(),
        patch,
        pod: patched,
    }
}
