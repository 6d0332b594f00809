//! The API server's audit log: who asked for what, so that tests can count calls.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// The audit log of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct AuditLog {
    file: PathBuf,
}

/// One request to the API server, as the audit log has it. A line is written when the response has
/// been sent, so a test that counts may have to wait for its last request; and a watch shows up
/// twice, at its start and at its end.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Call {
    /// The user, for example `system:serviceaccount:rrsa-system:rrsa-controller`.
    pub(crate) user: User,
    /// Whom that user was taken for, if somebody else.
    pub(crate) impersonated_user: Option<User>,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, …
    pub(crate) verb: String,
    /// `ResponseStarted` (only of watches and the like), `ResponseComplete` or `Panic`.
    pub(crate) stage: String,
    /// Path and query.
    #[serde(rename = "requestURI")]
    pub(crate) request_uri: String,
    /// What it was about; some paths are about no object.
    #[serde(default)]
    pub(crate) object_ref: ObjectRef,
    /// The HTTP status.
    #[serde(default)]
    pub(crate) response_status: Status,
}

/// Who asked.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct User {
    /// The name of the user.
    pub(crate) username: String,
}

/// The object of a call; what the request does not name is empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ObjectRef {
    /// The plural name, for example `secrets`.
    pub(crate) resource: String,
    /// For example `status` or `token`.
    pub(crate) subresource: String,
    /// The namespace.
    pub(crate) namespace: String,
    /// The name of the object.
    pub(crate) name: String,
}

/// How a call ended.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    /// The HTTP status code.
    pub(crate) code: u16,
}

impl Call {
    /// Whether it was made with the rights of that user.
    fn is_by(&self, username: &str) -> bool {
        self.impersonated_user
            .as_ref()
            .unwrap_or(&self.user)
            .username
            == username
    }
}

impl AuditLog {
    pub(super) fn at(file: PathBuf) -> Self {
        Self { file }
    }

    /// The file, one JSON document per line.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// All calls of a user so far, or of one who impersonated that user, in the order in which they
    /// were answered.
    ///
    /// # Errors
    /// When the log cannot be read or has another form than expected.
    pub(crate) fn calls_of(&self, username: &str) -> Result<Vec<Call>> {
        let file = self.file.display();
        let text = fs::read_to_string(&self.file).with_context(|| format!("read {file}"))?;
        // The last line may be half written.
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete
            .lines()
            .map(|line| {
                serde_json::from_str::<Call>(line).with_context(|| format!("a line of {file}"))
            })
            .filter(|call| call.as_ref().map_or(true, |call| call.is_by(username)))
            .collect()
    }
}
