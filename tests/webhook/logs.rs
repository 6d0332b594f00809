//! What is logged of a review: names and codes, never what a container's variables hold.

use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use serde_json::json;
use tracing::instrument::WithSubscriber;
use tracing_subscriber::filter::LevelFilter;

use super::rig::{CONFIGURATION, FakeCluster, post, review, reviewer, send};

/// Everything that was written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Gets all that this thread logs, until the guard is dropped.
    pub(crate) fn of_this_thread(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone());
        tracing::subscriber::set_default(subscriber.finish())
    }

    /// How many lines hold these words.
    pub(crate) fn with(&self, words: &str) -> usize {
        let text = self.text();
        text.lines().filter(|line| line.contains(words)).count()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// All that is logged meanwhile, at any level.
async fn logged(work: impl Future<Output = ()>) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    work.with_subscriber(subscriber).await;
    lines.text()
}

/// The API server sends a pod's name before it looks at it: three megabytes are no line.
#[tokio::test]
async fn a_name_is_no_longer_in_a_line_than_names_can_be() {
    let work = async {
        let mut review = review(&json!({
            "metadata": {"annotations": {"rrsa.io/mode": "y".repeat(1 << 20)}},
            "spec": {"serviceAccountName": "app", "containers": [{"name": "app"}]}}));
        review["request"]["name"] = json!("x".repeat(3 << 20));
        let reviewer = reviewer(Arc::new(FakeCluster::ordinary()), CONFIGURATION);
        let (status, _) = send(&reviewer, post(review.to_string())).await;
        assert_eq!(status, StatusCode::OK);
    };
    let written = logged(work).await;
    assert!(written.contains(&"x".repeat(253)), "{written}");
    assert!(written.len() < 2_000, "{} bytes", written.len());
}

#[tokio::test]
async fn no_line_at_any_level_holds_a_variables_value() {
    const VALUE: &str = "hunter2-s3cret";
    let names = [
        "PASSWORD",
        "ALIBABA_CLOUD_ROLE_ARN",
        "ALIBABA_CLOUD_OIDC_TOKEN_FILE",
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED",
        "ALIBABA_CLOUD_CREDENTIALS_URI",
    ];
    let env: Vec<_> = names
        .iter()
        .map(|name| json!({"name": name, "value": VALUE}))
        .collect();
    let work = async {
        let configuration = format!("{CONFIGURATION}webhook: {{agent: {{}}, strict: true}}\n");
        for mode in ["oidc", "secret", "agent", VALUE] {
            for broken in [false, true] {
                let cluster = FakeCluster {
                    broken,
                    ..FakeCluster::ordinary()
                };
                let reviewer = reviewer(Arc::new(cluster), &configuration);
                let pod = json!({"metadata": {"annotations": {"rrsa.io/mode": mode}},
                    "spec": {"serviceAccountName": "app",
                        "containers": [{"name": "app", "env": env}]}});
                let text = review(&pod).to_string();
                let (status, _) = send(&reviewer, post(text.clone())).await;
                assert_eq!(status == StatusCode::OK, !broken);
                // A body that breaks off in the middle of a value, and one that is no review.
                let at = text.find(VALUE).unwrap() + 5;
                send(&reviewer, post(text[..at].to_owned())).await;
                send(&reviewer, post(json!({"kind": VALUE}).to_string())).await;
            }
        }
    };
    let written = logged(work).await;
    assert!(written.contains("reviewed"), "{written}");
    assert!(written.contains("a review was not answered"), "{written}");
    assert!(!written.contains("hunter"), "{written}");
}
