//! As much of an API server as the webhook asks: lists, watches, single objects, one Secret and
//! a patch. No rules of Kubernetes are imitated; the cluster tests have the real one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use futures::StreamExt;
use rrsa::serving::authority::Leaf;
use rrsa::serving::tls::{CertificateSlot, server_config};
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

pub(crate) const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/rrsa";

/// The path of what concerns every watch.
const EVERYWHERE: &str = "*";

/// Objects by path, and what watches are told.
#[derive(Debug, Clone)]
pub(crate) struct FakeApi {
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    events: broadcast::Sender<(String, Value)>,
    /// Kinds of which a watch was opened.
    watched: Arc<Mutex<BTreeSet<String>>>,
    /// Whether lists are answered.
    pub(crate) listing: watch::Sender<bool>,
    /// The status with which everything is refused; 0: nothing is.
    pub(crate) refusing: Arc<Mutex<u16>>,
    /// The seconds of pause that a refusal asks for; 0: it asks for none.
    pub(crate) retry_after: Arc<Mutex<u64>>,
    /// How many requests came in.
    pub(crate) requests: Arc<AtomicUsize>,
    /// How long a single object takes.
    pub(crate) delay: Arc<Mutex<Duration>>,
    /// Whether questions for a single object are answered.
    pub(crate) answering: watch::Sender<bool>,
    asked: Arc<Asked>,
}

/// How many single objects were asked for, and how many of these questions were given up.
#[derive(Debug, Default)]
struct Asked {
    started: AtomicUsize,
    given_up: AtomicUsize,
    paths: Mutex<BTreeSet<String>>,
}

/// A question for a single object, under way.
struct Question {
    asked: Arc<Asked>,
    is_answered: bool,
}

impl Question {
    fn begin(asked: &Arc<Asked>, path: &str) -> Self {
        asked.started.fetch_add(1, Ordering::Relaxed);
        asked.paths.lock().unwrap().insert(path.to_owned());
        Self {
            asked: Arc::clone(asked),
            is_answered: false,
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.is_answered {
            self.asked.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl FakeApi {
    pub(crate) fn new() -> Self {
        Self {
            objects: Arc::default(),
            // Room for all that a test does at once: a watch that misses an event ends.
            events: broadcast::Sender::new(1024),
            watched: Arc::default(),
            listing: watch::Sender::new(true),
            refusing: Arc::default(),
            retry_after: Arc::default(),
            requests: Arc::default(),
            delay: Arc::default(),
            answering: watch::Sender::new(true),
            asked: Arc::default(),
        }
    }

    pub(crate) fn client(&self) -> kube::Client {
        kube::Client::new(self.router(), "default")
    }

    fn router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }

    /// Serves at that listener, over TLS, until told to stop.
    pub(crate) fn serve(&self, listener: &TcpListener, certificate: &Leaf) -> Handle<SocketAddr> {
        let slot = CertificateSlot::default();
        slot.set(Arc::clone(&certificate.certified_key));
        let tls = RustlsConfig::from_config(server_config(Arc::new(slot)).unwrap());
        let handle = Handle::new();
        let server = axum_server::from_tcp(listener.try_clone().unwrap())
            .unwrap()
            .handle(handle.clone())
            .acceptor(RustlsAcceptor::new(tls));
        tokio::spawn(server.serve(self.router().into_make_service()));
        handle
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.objects.lock().unwrap().get(path).cloned()
    }

    /// Questions for a single object so far.
    pub(crate) fn started(&self) -> usize {
        self.asked.started.load(Ordering::Relaxed)
    }

    /// Whether that object was asked for.
    pub(crate) fn was_asked_for(&self, path: &str) -> bool {
        self.asked.paths.lock().unwrap().contains(path)
    }

    /// Those whose answers nobody waits for any more.
    pub(crate) fn given_up(&self) -> usize {
        self.asked.given_up.load(Ordering::Relaxed)
    }

    /// Puts an object there without telling the watches.
    pub(crate) fn put_quietly(&self, path: &str, mut object: Value) {
        let (_, name) = path.rsplit_once('/').unwrap();
        object["metadata"]["name"] = json!(name);
        object["metadata"]["resourceVersion"] = json!("1");
        if let Some((_, namespace)) = path.split_once("/namespaces/")
            && let Some((namespace, _)) = namespace.split_once('/')
        {
            object["metadata"]["namespace"] = json!(namespace);
        }
        self.objects.lock().unwrap().insert(path.to_owned(), object);
    }

    /// Ends every watch, each with that status.
    pub(crate) fn interrupt(&self, code: u16) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": code, "reason": "Expired", "message": "too old resource version",
            "metadata": {}});
        let event = json!({"type": "ERROR", "object": status});
        let _ = self.events.send((EVERYWHERE.to_owned(), event));
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        self.put_quietly(path, object);
        let event = json!({"type": "MODIFIED", "object": self.get(path).unwrap()});
        let _ = self.events.send((path.to_owned(), event));
    }

    /// Takes an object away and tells the watches.
    pub(crate) fn delete(&self, path: &str) {
        let object = self.objects.lock().unwrap().remove(path).unwrap();
        let event = json!({"type": "DELETED", "object": object});
        let _ = self.events.send((path.to_owned(), event));
    }

    /// Whether objects of that kind are watched: what happens before reaches no watch.
    pub(crate) fn is_watched(&self, kind: &str) -> bool {
        self.watched.lock().unwrap().contains(kind)
    }

    /// The objects of a collection, in all namespaces; of one name, where only that is asked for.
    fn list(&self, collection: &str, name: Option<&str>) -> Vec<Value> {
        let objects = self.objects.lock().unwrap();
        let belongs = |path: &str| belongs(path, collection) && is_named(path, name);
        let listed = objects.iter().filter(|(path, _)| belongs(path));
        listed.map(|(_, object)| object.clone()).collect()
    }

    fn watch(&self, collection: String, name: Option<String>) -> Body {
        let (_, kind) = collection.rsplit_once('/').unwrap();
        self.watched.lock().unwrap().insert(kind.to_owned());
        let events = futures::stream::unfold(self.events.subscribe(), |mut events| async {
            let event = events.recv().await.ok()?;
            Some((event, events))
        });
        let lines = events.filter_map(move |(path, event)| {
            let concerned = path == EVERYWHERE
                || belongs(&path, &collection) && is_named(&path, name.as_deref());
            let line = concerned.then(|| format!("{event}\n"));
            futures::future::ready(line.map(Ok::<_, std::convert::Infallible>))
        });
        Body::from_stream(lines)
    }
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().unwrap_or_default().contains("watch=true")
}

/// The name of the only object that is listed or watched.
fn only_name(uri: &Uri) -> Option<String> {
    let query = uri.query().unwrap_or_default();
    let mut parts = url::form_urlencoded::parse(query.as_bytes());
    let (_, selector) = parts.find(|(key, _)| key == "fieldSelector")?;
    Some(selector.strip_prefix("metadata.name=").unwrap().to_owned())
}

fn is_named(path: &str, name: Option<&str>) -> bool {
    let (_, last) = path.rsplit_once('/').unwrap();
    name.is_none_or(|name| name == last)
}

/// Whether namespaces and ServiceAccounts are asked for by their metadata alone.
fn accepts_metadata(uri: &Uri, headers: &HeaderMap) -> bool {
    let path = uri.path();
    let lists = ["/api/v1/namespaces", "/api/v1/serviceaccounts"];
    let wanted = if lists.contains(&path) && !is_watch(uri) {
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    } else if lists.contains(&path) || path.contains("/serviceaccounts/") {
        "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    } else {
        return true;
    };
    headers.get("accept").is_some_and(|accept| accept == wanted)
}

fn belongs(path: &str, collection: &str) -> bool {
    let (root, kind) = collection.rsplit_once('/').unwrap();
    let (parent, _) = path.rsplit_once('/').unwrap();
    parent == collection
        || parent.starts_with(&format!("{root}/namespaces/"))
            && parent.ends_with(&format!("/{kind}"))
}

async fn answer(
    State(api): State<FakeApi>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path();
    let (_, last) = path.rsplit_once('/').unwrap();
    api.requests.fetch_add(1, Ordering::Relaxed);
    let code = *api.refusing.lock().unwrap();
    if code != 0 {
        let mut refusal = refuse(code);
        let seconds = *api.retry_after.lock().unwrap();
        if seconds != 0 {
            refusal.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        return refusal;
    }
    let collections = [
        "namespaces",
        "serviceaccounts",
        "alibabarolebindings",
        "mutatingwebhookconfigurations",
    ];
    match method {
        // Whole ones may be large; a list and an object are different types.
        Method::GET if !accepts_metadata(&uri, &headers) => refuse(406),
        Method::GET if collections.contains(&last) => {
            if is_watch(&uri) {
                return api.watch(path.to_owned(), only_name(&uri)).into_response();
            }
            api.listing
                .subscribe()
                .wait_for(|listing| *listing)
                .await
                .unwrap();
            let list = json!({"kind": "List", "apiVersion": "v1",
                "metadata": {"resourceVersion": "1"}, "items": api.list(path, only_name(&uri).as_deref())});
            list.to_string().into_response()
        }
        Method::GET => {
            let delay = *api.delay.lock().unwrap();
            let mut question = Question::begin(&api.asked, path);
            tokio::time::sleep(delay).await;
            api.answering
                .subscribe()
                .wait_for(|answering| *answering)
                .await
                .unwrap();
            question.is_answered = true;
            api.get(path)
                .map_or_else(|| refuse(404), |object| object.to_string().into_response())
        }
        Method::POST => {
            let object: Value = serde_json::from_slice(&body).unwrap();
            let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
            if api.get(&path).is_some() {
                return refuse(409);
            }
            api.put(&path, object);
            api.get(&path).unwrap().to_string().into_response()
        }
        Method::PATCH => {
            let patch: json_patch::Patch = serde_json::from_slice(&body).unwrap();
            let mut object = api.get(path).unwrap();
            if json_patch::patch(&mut object, &patch).is_err() {
                return refuse(422);
            }
            api.put(path, object.clone());
            object.to_string().into_response()
        }
        _ => refuse(405),
    }
}

fn refuse(code: u16) -> Response {
    let reason = match code {
        404 => "NotFound",
        409 => "AlreadyExists",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "MethodNotAllowed",
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": "refused", "metadata": {}});
    (StatusCode::from_u16(code).unwrap(), status.to_string()).into_response()
}
