//! Writes statuses and events: one status write a change, one event a transition.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use kube::api::{Patch, PatchParams};
use kube::core::request::Request;
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;
use tracing::{debug, warn};

use super::announcement::announcement;
use super::api::{api_problem, metadata_of};
use super::events;
use super::plan::Failing;
use super::secrets::is_older;
use crate::api::v1alpha1::{AlibabaRoleBinding, AlibabaRoleBindingStatus};
use crate::contract::FIELD_MANAGER;

/// Reports to the API server.
pub struct Reporter {
    client: kube::Client,
    /// The last status written for each binding, with the version that the write made, until the
    /// watch shows it: a look that comes before must not write it again.
    written: Mutex<HashMap<String, (String, AlibabaRoleBindingStatus)>>,
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reporter").finish_non_exhaustive()
    }
}

impl Reporter {
    /// A reporter.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self {
            client,
            written: Mutex::default(),
        }
    }

    /// Shows the status where it differs from what is shown, and announces a transition. Returns
    /// whether the status is shown now.
    pub async fn report(
        &self,
        binding: &AlibabaRoleBinding,
        shown: Option<&AlibabaRoleBindingStatus>,
        status: &AlibabaRoleBindingStatus,
        failing: Option<&Failing>,
        now: DateTime<Utc>,
    ) -> bool {
        if shown == Some(status) {
            return true;
        }
        if !self.write(binding, status).await {
            return false;
        }
        if let Some(told) = announcement(shown, status, failing) {
            events::announce(&self.client, binding, &told, now).await;
        }
        true
    }

    /// The newest status that is known: the watch's, or our own last write.
    #[must_use]
    pub fn shown(&self, binding: &AlibabaRoleBinding) -> Option<AlibabaRoleBindingStatus> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = binding.metadata.uid.as_deref()?;
        let version = binding.metadata.resource_version.as_deref();
        match written.get(uid) {
            Some((ours, status)) if is_older(version.unwrap_or_default(), ours) => {
                Some(status.clone())
            }
            Some(_) => {
                written.remove(uid);
                binding.status.clone()
            }
            None => binding.status.clone(),
        }
    }

    /// Returns whether the status was written.
    async fn write(&self, binding: &AlibabaRoleBinding, status: &AlibabaRoleBindingStatus) -> bool {
        let (name, uid) = (binding.name_any(), binding.uid().unwrap_or_default());
        let namespace = binding.namespace().unwrap_or_default();
        let patch = json!([
            // Another binding of the same name is none of ours.
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]);
        // Costs the API server less than an apply, and nobody else has a part of the status.
        let request =
            serde_json::from_value(patch)
                .map_err(kube::core::request::Error::SerializeBody)
                .and_then(|patch| {
                    let params = PatchParams {
                        field_manager: Some(FIELD_MANAGER.to_owned()),
                        ..PatchParams::default()
                    };
                    Request::new(AlibabaRoleBinding::url_path(&(), Some(&namespace)))
                        .patch_subresource("status", &name, &params, &Patch::Json::<()>(patch))
                });
        let action = format!("write the status of AlibabaRoleBinding {namespace}/{name}");
        match metadata_of(&self.client, &action, request).await {
            Ok(Ok(answer)) => {
                let version = answer.resource_version.unwrap_or_default();
                let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
                written.insert(uid, (version, status.clone()));
                true
            }
            Ok(Err(kube::Error::Api(answer))) if is_anothers(&answer) => {
                debug!("the binding is gone or another one; no status");
                false
            }
            Ok(Err(error)) => {
                warn!("{}", api_problem(&action, &error).message);
                false
            }
            Err(problem) => {
                warn!("{}", problem.message);
                false
            }
        }
    }

    /// Forgets bindings that are gone.
    pub(super) fn forget_all_but(&self, alive: &HashSet<String>) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.retain(|uid, _| alive.contains(uid));
    }
}

/// Whether the binding is gone, or another one has its name: then the test of the UID fails. The API
/// server answers that with 422 and, unlike for a status that it finds invalid, names no cause.
fn is_anothers(answer: &kube::core::Status) -> bool {
    let causes = answer.details.iter().flat_map(|details| &details.causes);
    matches!(answer.code, 404 | 409) || answer.code == 422 && causes.count() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::gone(json!({"code": 404, "reason": "NotFound", "details": {"name": "app"}}), true)]
    #[case::other_uid(json!({"code": 422, "reason": "Invalid", "details": {},
        "message": "the server rejected our request due to an error in our request"}), true)]
    #[case::invalid(json!({"code": 422, "reason": "Invalid", "details": {"causes": [
        {"reason": "FieldValueInvalid", "message": "Invalid value", "field": "status.roleArn"}]}}), false)]
    #[case::forbidden(json!({"code": 403, "reason": "Forbidden"}), false)]
    fn a_namesake_is_told_from_an_invalid_status(
        #[case] answer: serde_json::Value,
        #[case] is: bool,
    ) {
        assert_eq!(is_anothers(&serde_json::from_value(answer).unwrap()), is);
    }
}
