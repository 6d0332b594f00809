//! An API server for tests: what it answers is a function of the question.

use std::convert::Infallible;

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// A client of an API server that answers so; the path holds the query.
pub(crate) fn client(
    answer: impl Fn(&Method, &str) -> (u16, Value) + Send + Sync + 'static,
) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().to_string();
        let (code, body) = answer(request.method(), &path);
        let body = Body::from(body.to_string().into_bytes());
        let response = Response::builder().status(code).body(body).unwrap();
        async move { Ok::<_, Infallible>(response) }
    });
    Client::new(service, "default")
}

/// A list of these objects, the next page of which is asked for with `next`.
pub(crate) fn list(items: &[Value], next: &str) -> (u16, Value) {
    let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"continue": next},
        "items": items});
    (200, list)
}

/// A failure.
pub(crate) fn failure(code: u16, message: &str) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": message, "reason": "Failed", "code": code});
    (code, status)
}

/// An object with only metadata.
pub(crate) fn metadata(metadata: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}
