//! What the kubelet and a monitoring system ask, over plain HTTP: whether the process lives,
//! whether it is ready, and its metrics.
//!
//! Alive is not ready: a process that waits for the API server must not be restarted for it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;

use super::liveness::Liveness;
use super::readiness::Readiness;
use crate::telemetry::metrics;

/// What the answers are made of.
#[derive(Debug, Clone)]
pub struct Admin {
    /// For `/readyz`.
    pub readiness: Readiness,
    /// For `/healthz`.
    pub liveness: Liveness,
    /// For `/metrics`. Everything is registered by now.
    pub registry: Arc<Registry>,
}

/// `/healthz` answers 503 with the loops that stand still, else 200; `/readyz` answers 200 or 503
/// with the reasons; `/metrics` is in the `OpenMetrics` text form.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(page))
        .with_state(admin)
}

async fn alive(State(admin): State<Admin>) -> (StatusCode, String) {
    let stuck = admin.liveness.stuck();
    if stuck.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, stuck)
    }
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    let report = admin.readiness.report();
    let status = if report.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, report.to_string())
}

async fn page(State(admin): State<Admin>) -> Response {
    match metrics::page(&admin.registry) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "a metric could not be written\n",
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Clock, SystemClock};
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use std::time::Duration;
    use tower::ServiceExt;

    fn admin() -> Admin {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Admin {
            readiness: Readiness::new(),
            liveness: Liveness::new(clock),
            registry: Arc::new(metrics::registry()),
        }
    }

    async fn get(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = to_bytes(answer.into_body(), 1 << 16).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn alive_is_not_ready() {
        let admin = admin();
        let condition = admin
            .readiness
            .condition("caches", "namespaces are not listed yet");
        let router = router(admin);
        assert_eq!(get(&router, "/healthz").await.0, StatusCode::OK);
        let (status, body) = get(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains("namespaces are not listed yet"), "{body}");
        condition.ready();
        assert_eq!(get(&router, "/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_stuck_loop_is_a_reason_for_a_restart() {
        let admin = admin();
        let heart = admin.liveness.heart("queue", Duration::from_millis(50));
        let router = router(admin);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (status, body) = get(&router, "/healthz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.starts_with("queue has not gone round"), "{body}");
        drop(heart);
    }

    #[tokio::test]
    async fn metrics_have_their_media_type() {
        let request = Request::get("/metrics").body(Body::empty()).unwrap();
        let answer = router(admin()).oneshot(request).await.unwrap();
        assert_eq!(
            answer.headers()[header::CONTENT_TYPE],
            metrics::CONTENT_TYPE
        );
    }
}
