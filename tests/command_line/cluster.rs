//! As much of an API server as the commands ask of one: single objects, read and deleted.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::person::Person;
use crate::simulators::listener::Listener;

/// A cluster with these objects.
#[derive(Debug)]
pub(crate) struct Cluster {
    listener: Listener,
    shared: Shared,
}

type Shared = Arc<Mutex<Content>>;

/// Objects by path.
#[derive(Debug, Default)]
struct Content {
    objects: BTreeMap<String, Value>,
    /// What takes the place of an object just before it is deleted.
    meanwhile: BTreeMap<String, Value>,
    asked: Vec<String>,
}

impl Cluster {
    /// Serves objects by their paths.
    pub(crate) fn start<const N: usize>(objects: [(&str, Value); N]) -> Self {
        let content = Content {
            objects: objects.map(|(path, it)| (path.to_owned(), it)).into(),
            ..Content::default()
        };
        let shared = Shared::new(Mutex::new(content));
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&shared));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::start(address, router, None).expect("a listener");
        Self { listener, shared }
    }

    /// The object takes the place of the one there when that is to be deleted.
    pub(crate) fn meanwhile(&self, path: &str, object: Value) {
        let mut content = self.shared.lock().expect("a lock");
        content.meanwhile.insert(path.to_owned(), object);
    }

    /// Whether there is an object.
    pub(crate) fn has(&self, path: &str) -> bool {
        let content = self.shared.lock().expect("a lock");
        content.objects.contains_key(path)
    }

    /// The requests so far: method and path.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.lock().expect("a lock").asked.clone()
    }

    /// The way there for a person, as a file.
    pub(crate) fn kubeconfig(&self, person: &Person) -> PathBuf {
        let server = format!("http://{}", self.listener.address());
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        });
        person.file("kubeconfig", &config.to_string())
    }
}

async fn answer(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut content = shared.lock().expect("a lock");
    let path = uri.path();
    content.asked.push(format!("{method} {path}"));
    if method == Method::DELETE
        && let Some(object) = content.meanwhile.remove(path)
    {
        content.objects.insert(path.to_owned(), object);
    }
    let Some(object) = content.objects.get(path) else {
        return status(StatusCode::NOT_FOUND, "NotFound");
    };
    if method == Method::GET {
        let accepted = headers.get(ACCEPT).and_then(|it| it.to_str().ok());
        if accepted.is_some_and(|it| it.contains("as=PartialObjectMetadata")) {
            let metadata = &object["metadata"];
            let kind = "PartialObjectMetadata";
            let part = json!({"apiVersion": "meta.k8s.io/v1", "kind": kind, "metadata": metadata});
            return axum::Json(part).into_response();
        }
        return axum::Json(object).into_response();
    }
    let options: Value = serde_json::from_slice(&body).expect("options");
    for key in ["uid", "resourceVersion"] {
        if options["preconditions"][key] != object["metadata"][key] {
            return status(StatusCode::CONFLICT, "Conflict");
        }
    }
    content.objects.remove(path);
    status(StatusCode::OK, "")
}

fn status(code: StatusCode, reason: &str) -> Response {
    let outcome = if code.is_success() {
        "Success"
    } else {
        "Failure"
    };
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": outcome, "reason": reason,
        "message": reason, "code": code.as_u16()});
    (code, axum::Json(status)).into_response()
}
