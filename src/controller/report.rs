//! Writes statuses and events: one status write a change, one event a transition.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use tracing::{debug, warn};

use super::api::{api_problem, within};
use super::plan::Failing;
use super::secrets::is_older;
use super::status::announcement;
use crate::api::v1alpha1::{AlibabaRoleBinding, AlibabaRoleBindingStatus};
use crate::contract::FIELD_MANAGER;

/// The controller's name in events.
pub const REPORTER: &str = "rrsa-controller";

/// Reports to the API server.
pub struct Reporter {
    client: kube::Client,
    recorder: Recorder,
    /// The last status written for each binding, with the version that the write made: a pass
    /// that runs before the watch shows it must not write it again.
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
        let recorder = Recorder::new(client.clone(), REPORTER.into());
        Self {
            client,
            recorder,
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
    ) -> bool {
        if shown == Some(status) {
            return true;
        }
        if !self.write(binding, status).await {
            return false;
        }
        if let Some(told) = announcement(shown, status, failing) {
            let event = Event {
                type_: if told.warning {
                    EventType::Warning
                } else {
                    EventType::Normal
                },
                reason: told.reason.to_owned(),
                note: Some(told.note),
                action: "Exchange".to_owned(),
                secondary: None,
            };
            let reference = binding.object_ref(&());
            let publish = self.recorder.publish(&event, &reference);
            match within("create an event", publish).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!("{}", api_problem("create an event", &error).message),
                Err(problem) => warn!("{}", problem.message),
            }
        }
        true
    }

    /// The newest status that is known: the watch's, or our own last write.
    #[must_use]
    pub fn shown(&self, binding: &AlibabaRoleBinding) -> Option<AlibabaRoleBindingStatus> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = binding.metadata.uid.as_deref()?;
        let version = binding.resource_version().unwrap_or_default();
        match written.get(uid) {
            Some((ours, status)) if is_older(&version, ours) => Some(status.clone()),
            _ => binding.status.clone(),
        }
    }

    /// Returns whether the status was written.
    async fn write(&self, binding: &AlibabaRoleBinding, status: &AlibabaRoleBindingStatus) -> bool {
        let (name, uid) = (binding.name_any(), binding.uid().unwrap_or_default());
        let namespace = binding.namespace().unwrap_or_default();
        let api = Api::<AlibabaRoleBinding>::namespaced(self.client.clone(), &namespace);
        let patch = json!({
            "apiVersion": AlibabaRoleBinding::api_version(&()),
            "kind": AlibabaRoleBinding::kind(&()),
            // Another binding of the same name is none of ours.
            "metadata": {"name": name, "uid": uid},
            "status": status,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let action = format!("write the status of AlibabaRoleBinding {namespace}/{name}");
        match within(
            &action,
            api.patch_status(&name, &parameters, &Patch::Apply(&patch)),
        )
        .await
        {
            Ok(Ok(answer)) => {
                let version = answer.resource_version().unwrap_or_default();
                let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
                written.insert(uid, (version, status.clone()));
                true
            }
            Ok(Err(kube::Error::Api(answer))) if matches!(answer.code, 404 | 409) => {
                debug!("the binding is gone; no status");
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
