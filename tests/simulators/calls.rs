//! The log of calls: what tests assert on. Tokens and secrets never get in, only a prefix of
//! their SHA-256, by which two calls with the same token can still be recognised.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::live::locked;

/// The outcome of a call that was answered with success.
pub(crate) const SUCCESS: &str = "Success";

/// One request and what became of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Call {
    /// Position in the log, from 1.
    pub(crate) number: u64,
    /// When it was answered.
    pub(crate) time: DateTime<Utc>,
    /// `sts` or `metadata`.
    pub(crate) service: &'static str,
    /// What was asked for: the RPC action, or the kind of metadata request.
    pub(crate) action: String,
    /// ARN of the role it was about.
    pub(crate) role: Option<String>,
    /// HTTP method.
    pub(crate) method: String,
    /// All parameters; secret values are replaced by [`fingerprint`].
    pub(crate) parameters: BTreeMap<String, String>,
    /// Names of the parameters that came in the URL, where proxies and access logs see them.
    pub(crate) in_url: Vec<String>,
    /// HTTP status, 0 when the answer was withheld.
    pub(crate) status: u16,
    /// [`SUCCESS`], the error code, or `Fault.…` for a fault on demand.
    pub(crate) outcome: String,
    /// The request id of the answer.
    pub(crate) request_id: String,
}

impl Call {
    /// Whether it was answered with success.
    pub(crate) fn succeeded(&self) -> bool {
        self.outcome == SUCCESS
    }
}

/// What stands in the log instead of a secret value.
pub(crate) fn fingerprint(secret: &str) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(secret.as_bytes()).iter().take(8) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The log of a simulator; clones are handles to the same log.
#[derive(Clone, Debug)]
pub(crate) struct CallLog {
    calls: Arc<Mutex<Vec<Call>>>,
    total: watch::Sender<u64>,
}

impl Default for CallLog {
    fn default() -> Self {
        Self {
            calls: Arc::default(),
            total: watch::Sender::new(0),
        }
    }
}

impl CallLog {
    /// Appends a call; its number is given here.
    pub(crate) fn record(&self, mut call: Call) {
        let mut calls = locked(&self.calls);
        call.number = self.total.borrow().saturating_add(1);
        let number = call.number;
        calls.push(call);
        self.total.send_replace(number);
    }

    /// All calls so far.
    pub(crate) fn all(&self) -> Vec<Call> {
        locked(&self.calls).clone()
    }

    /// The calls after the one with this number.
    pub(crate) fn after(&self, number: u64) -> Vec<Call> {
        locked(&self.calls)
            .iter()
            .filter(|call| call.number > number)
            .cloned()
            .collect()
    }

    /// How many calls satisfy `predicate`.
    pub(crate) fn count(&self, predicate: impl Fn(&Call) -> bool) -> usize {
        locked(&self.calls)
            .iter()
            .filter(|call| predicate(call))
            .count()
    }

    /// The calls about the role `arn`.
    pub(crate) fn by_role(&self, arn: &str) -> Vec<Call> {
        let about = |call: &&Call| call.role.as_deref() == Some(arn);
        locked(&self.calls).iter().filter(about).cloned().collect()
    }

    /// The last call.
    pub(crate) fn last(&self) -> Option<Call> {
        locked(&self.calls).last().cloned()
    }

    /// Forgets the calls so far; numbers go on.
    pub(crate) fn clear(&self) {
        locked(&self.calls).clear();
    }

    /// Forgets the calls up to the one with this number.
    pub(crate) fn clear_until(&self, number: u64) {
        locked(&self.calls).retain(|call| call.number > number);
    }

    /// Waits until at least `n` calls are in the log.
    pub(crate) async fn wait_for(&self, n: usize, timeout: Duration) -> Result<()> {
        self.wait_until(n, timeout, |_| true).await
    }

    /// Waits until at least `n` calls satisfy `predicate`.
    pub(crate) async fn wait_until(
        &self,
        n: usize,
        timeout: Duration,
        predicate: impl Fn(&Call) -> bool,
    ) -> Result<()> {
        let mut total = self.total.subscribe();
        let enough = async {
            while self.count(&predicate) < n {
                if total.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::time::timeout(timeout, enough)
            .await
            .with_context(|| {
                let seen = self.count(&predicate);
                format!(
                    "waited {timeout:?} for {n} such calls, saw {seen}; the log: {:#?}",
                    self.all()
                )
            })
    }
}
