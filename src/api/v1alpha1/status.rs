//! What the operator reports.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator did and found. Times are RFC 3339 in UTC.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlibabaRoleBindingStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`: the Secret holds valid credentials of what the spec asks for.
    /// `CredentialsIssued`: the last exchange succeeded. `SecretSynced`: the Secret holds what was
    /// issued last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 8))]
    pub conditions: Vec<Condition>,

    /// Where the credentials in the Secret came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<CredentialSource>,

    /// ARN of the role that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,

    /// ARN of the session, with its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assumed_role_arn: Option<String>,

    /// Access key id of the credentials (not a secret): finds the session in ActionTrail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,

    /// When the credentials in the Secret end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<String>,

    /// When the credentials in the Secret were issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_refresh_time: Option<String>,

    /// When the next exchange is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_refresh_time: Option<String>,

    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,

    /// The present failure; absent while all is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Where credentials came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CredentialSource {
    /// A token was exchanged at STS.
    #[serde(rename = "OIDC")]
    Oidc,
    /// The node's RAM role assumed the binding's role.
    #[serde(rename = "ECSMetadata")]
    EcsMetadata,
}

/// A failure and the way out of it.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Error code of STS or of the API server, or the condition's reason.
    pub code: String,
    /// What happened.
    pub message: String,
    /// STS's id of the refused request, for a support ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What to do about it.
    pub remedy: String,
    /// How many attempts in a row failed so.
    pub count: i32,
    /// When the first of them failed.
    pub since: String,
}
