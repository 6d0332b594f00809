//! Events about bindings. One request each and nothing kept: only transitions are told, so there
//! are no repetitions that would have to be counted, and a cache of ten thousand events would be
//! the largest thing in this process.

use chrono::{DateTime, SecondsFormat, Utc};
use k8s_openapi::api::events::v1::Event;
use kube::api::PostParams;
use kube::core::request::Request;
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;
use tracing::warn;

use super::announcement::Announcement;
use super::api::{api_problem, metadata_of};
use crate::api::v1alpha1::AlibabaRoleBinding;

/// The controller's name in events.
pub(super) const REPORTER: &str = "rrsa-controller";

/// Tells of a transition. An event that cannot be written is lost: the status tells the same.
pub(super) async fn announce(
    client: &kube::Client,
    binding: &AlibabaRoleBinding,
    told: &Announcement,
    now: DateTime<Utc>,
) {
    let namespace = binding.namespace().unwrap_or_default();
    let event = json!({
        "apiVersion": Event::api_version(&()),
        "kind": Event::kind(&()),
        "metadata": {"namespace": namespace, "generateName": format!("{REPORTER}-")},
        "eventTime": now.to_rfc3339_opts(SecondsFormat::Micros, true),
        "reportingController": REPORTER,
        "reportingInstance": REPORTER,
        "action": "Exchange",
        "type": if told.warning { "Warning" } else { "Normal" },
        "reason": told.reason,
        "note": told.note,
        "regarding": binding.object_ref(&()),
    });
    let request = Request::new(Event::url_path(&(), Some(&namespace)))
        .create(&PostParams::default(), event.to_string().into_bytes());
    let action = "create an event";
    match metadata_of(client, action, request).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => warn!("{}", api_problem(action, &error).message),
        Err(problem) => warn!("{}", problem.message),
    }
}
