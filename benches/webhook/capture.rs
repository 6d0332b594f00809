//! Asks a real API server what it sends: pods as people write them, with all that the API server
//! adds to them (defaults, the token's volume, `managedFields`).

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use rrsa::serving::server::{self, Stop};
use rrsa::serving::tls::{self, CertificateSlot};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::floor::certified_key;
use crate::servers::{BENCH, reviews_folder};
use crate::support::kubernetes::Cluster;

pub(crate) async fn run() -> Result<()> {
    let cluster = Cluster::start().await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": BENCH}});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "app", "namespace": BENCH}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [namespace, account]});
    cluster.apply_yaml(&list.to_string()).await?;

    let folder = cluster.state_dir().join("capture");
    std::fs::create_dir_all(&folder)?;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let names = vec!["127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)?.self_signed(&key)?;
    std::fs::write(folder.join("tls.crt"), certificate.pem())?;
    std::fs::write(folder.join("tls.key"), key.serialize_pem())?;
    let slot = Arc::new(CertificateSlot::default());
    slot.set(Arc::new(certified_key(&folder)?));
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (sender, mut bodies) = mpsc::channel(1);
    let router = Router::new()
        .route("/mutate", post(keep))
        .layer(DefaultBodyLimit::disable())
        .with_state(sender);
    let serving = server::serve_tls(listener, tls::server_config(slot)?, router, Stop::default());
    tokio::spawn(serving);

    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "capture"},
        "webhooks": [{
            "name": "capture.rrsa.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {
                "url": format!("https://{address}/mutate"),
                "caBundle": k8s_openapi::ByteString(certificate.pem().into_bytes()),
            },
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
                "operations": ["CREATE"], "scope": "Namespaced"}],
        }],
    });
    cluster.apply_yaml(&configuration.to_string()).await?;
    let client = cluster.client().await?;
    let pods = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
    let pods = Api::<DynamicObject>::namespaced_with(client, BENCH, &pods);
    for containers in [1, 10, 100] {
        // The API server learns of the configuration a moment later.
        let body = loop {
            let made = serde_json::from_value(pod(containers))?;
            let params = PostParams {
                dry_run: true,
                field_manager: Some("kubectl-create".to_owned()),
            };
            pods.create(&params, &made).await?;
            match bodies.try_recv() {
                Ok(body) => break body,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            }
        };
        let path = reviews_folder().join(format!("{containers}.json"));
        std::fs::write(&path, &body).with_context(|| path.display().to_string())?;
        println!("{}: {} bytes", path.display(), body.len());
    }
    Ok(())
}

async fn keep(State(sender): State<mpsc::Sender<Bytes>>, body: Bytes) -> String {
    let uid = serde_json::from_slice::<Value>(&body)
        .map(|review| review["request"]["uid"].clone())
        .unwrap_or_default();
    // A full channel holds the answer already.
    let _ = sender.try_send(body);
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": uid, "allowed": true}})
    .to_string()
}

/// A Deployment's pod as it stands in many charts.
fn pod(containers: usize) -> Value {
    let containers: Vec<Value> = (0..containers).map(container).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "orders-7d9c8b6f5d-",
            "labels": {
                "app.kubernetes.io/name": "orders", "app.kubernetes.io/instance": "orders-prod",
                "app.kubernetes.io/version": "2.14.3", "pod-template-hash": "7d9c8b6f5d",
                // The neighbour's opt-in; ours is the namespace's label.
                "azure.workload.identity/use": "true",
            },
            "annotations": {
                "prometheus.io/scrape": "true", "prometheus.io/port": "9102",
                "checksum/config": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            },
        },
        "spec": {
            "serviceAccountName": "app",
            "securityContext": {"runAsNonRoot": true, "fsGroup": 2000,
                "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": containers,
            "volumes": [
                {"name": "config", "configMap": {"name": "orders-config"}},
                {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
            ],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "orders"}}}],
        },
    })
}

fn container(number: usize) -> Value {
    let port = 8080 + number;
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": port}, "periodSeconds": 10});
    json!({
        "name": format!("worker-{number}"),
        "image": format!("registry.cn-hangzhou.aliyuncs.com/shop/orders-worker-{number}:2.14.3"),
        "args": ["--config=/etc/orders/config.yaml", format!("--shard={number}")],
        "ports": [{"name": format!("http-{number}"), "containerPort": port}],
        "env": [
            {"name": "LOG_LEVEL", "value": "info"},
            {"name": "DATABASE_HOST", "value": "orders-db.prod.svc.cluster.local"},
            {"name": "DATABASE_PASSWORD",
                "valueFrom": {"secretKeyRef": {"name": "orders-db", "key": "password"}}},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "GOMAXPROCS", "value": "2"},
        ],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
        "readinessProbe": probe("/ready"),
        "livenessProbe": probe("/healthz"),
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/orders", "readOnly": true},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    })
}
