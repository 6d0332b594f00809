//! What a user asks for.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::status::AlibabaRoleBindingStatus;

/// Grammar of a role ARN for the API server; `contract::arn` checks it again.
const ROLE_ARN: &str = r"^acs:ram::[0-9]+:role/[A-Za-z0-9._/-]+$";
const ROLE_NAME: &str = r"^[A-Za-z0-9._-]{1,64}$";
const PROVIDER_ARN: &str = r"^acs:ram::[0-9]+:oidc-provider/[A-Za-z0-9._-]+$";
const DNS_SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
const SESSION_NAME: &str = r"^[A-Za-z0-9.@_-]{2,64}$";
const EXTERNAL_ID: &str = r"^[A-Za-z0-9=,.@:/_-]+$";
const REGION: &str = r"^[a-z0-9-]{1,64}$";
const HOST_AND_PORT: &str = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$";

/// Lets a `ServiceAccount` take a RAM role of Alibaba Cloud and keeps fresh temporary credentials
/// of that role in a Secret.
#[expect(
    clippy::duplicated_attributes,
    reason = "each printcolumn has a type and a priority"
)]
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "rrsa.io",
    version = "v1alpha1",
    kind = "AlibabaRoleBinding",
    plural = "alibabarolebindings",
    singular = "alibabarolebinding",
    shortname = "arb",
    category = "rrsa",
    namespaced,
    status = "AlibabaRoleBindingStatus",
    derive = "PartialEq",
    doc = "Lets a ServiceAccount take a RAM role of Alibaba Cloud and keeps fresh temporary credentials of that role in a Secret.",
    printcolumn(
        name = "Role",
        type_ = "string",
        json_path = ".status.roleArn",
        description = "ARN of the role"
    ),
    printcolumn(
        name = "ServiceAccount",
        type_ = "string",
        json_path = ".spec.serviceAccountName",
        description = "The identity that is exchanged"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the Secret holds valid credentials of what is asked for"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why"
    ),
    printcolumn(
        name = "Expires",
        type_ = "string",
        json_path = ".status.expiration",
        description = "When the credentials in the Secret end"
    ),
    printcolumn(
        name = "Source",
        type_ = "string",
        json_path = ".status.source",
        description = "Where the credentials came from",
        priority = 1
    ),
    printcolumn(
        name = "Secret",
        type_ = "string",
        json_path = ".status.secretName",
        description = "The Secret that holds the credentials",
        priority = 1
    ),
    printcolumn(
        name = "Next Refresh",
        type_ = "string",
        json_path = ".status.nextRefreshTime",
        description = "When the next exchange is due",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.serviceAccountName) || (has(self.tokenSource) && self.tokenSource.type == 'File')")
        .message("serviceAccountName is required unless tokenSource.type is File")
        .field_path(".serviceAccountName"),
    validation = Rule::new("!(has(self.sts) && has(self.sts.endpoint) && has(self.tokenSource) && self.tokenSource.type == 'File')")
        .message("sts.endpoint cannot be combined with tokenSource.type File: the operator's own token only goes to the operator's STS host")
)]
pub struct AlibabaRoleBindingSpec {
    /// The RAM role to take, by exactly one of `arn` and `name`.
    pub role: Role,

    /// Name of the ServiceAccount, in the binding's namespace, whose identity is exchanged for the
    /// role. The role's trust policy must name it as
    /// `system:serviceaccount:<namespace>:<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub service_account_name: Option<String>,

    /// ARN of the OIDC provider in RAM that knows the cluster's tokens. Default: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300), regex(pattern = PROVIDER_ARN))]
    pub oidc_provider_arn: Option<String>,

    /// Where the token that is exchanged comes from. Default: a token of the ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_source: Option<TokenSource>,

    /// The session that STS opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,

    /// Further roles, each assumed with the credentials of the one before. The Secret holds the
    /// credentials of the last one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub assume: Vec<AssumeStep>,

    /// Which STS endpoint is asked. Default: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts: Option<StsSpec>,

    /// What to do where the cluster's tokens cannot be exchanged at all. The cluster's
    /// administrator must allow it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,

    /// The Secret that receives the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretSpec>,

    /// Whether pods of the ServiceAccount that opted in get this role from the webhook. They get
    /// nothing of a binding with `assume`, a session policy or a token source of type `File`.
    /// Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inject_pods: bool,

    /// Whether the operator leaves everything of this binding as it is. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// The RAM role: exactly one of `arn` and `name`.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.arn) != has(self.name)").message("give exactly one of role.arn and role.name"))]
pub struct Role {
    /// Full ARN, `acs:ram::<account id>:role/<role name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300), regex(pattern = ROLE_ARN))]
    pub arn: Option<String>,
    /// Name of a role in the operator's account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = ROLE_NAME))]
    pub name: Option<String>,
}

/// Where the exchanged token comes from.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("(self.type == 'File') == has(self.file)").message("tokenSource.file is required with type File and only legal there"))]
pub struct TokenSource {
    /// `ServiceAccount`: a short-lived token of the ServiceAccount. `File`: one of the operator's
    /// own tokens, which the cluster's administrator must have delegated to this namespace.
    #[serde(rename = "type")]
    pub kind: TokenSourceType,
    /// Name of the token file in the operator's configuration (not a path).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_SUBDOMAIN))]
    pub file: Option<String>,
}

/// Kinds of token sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TokenSourceType {
    /// A token of the ServiceAccount.
    ServiceAccount,
    /// A token of the operator.
    File,
}

/// The session that STS opens.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Name of the session, as ActionTrail shows it. Default: `<namespace>.<binding>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 64), regex(pattern = SESSION_NAME))]
    pub name: Option<String>,
    /// Life of the session in seconds, 900 to the role's maximum. Default: 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 900, max = 43200))]
    pub duration_seconds: Option<i32>,
    /// Session policy (JSON): the session may do what both the role and this policy allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub policy: Option<String>,
}

impl Session {
    /// Life of a session where nobody says otherwise (STS `DurationSeconds`).
    pub const DEFAULT_DURATION: Duration = Duration::from_hours(1);

    /// The life that is asked for.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(Self::DEFAULT_DURATION, Duration::from_secs)
    }
}

/// One further role of a chain.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssumeStep {
    /// ARN of the role.
    #[schemars(length(max = 300), regex(pattern = ROLE_ARN))]
    pub arn: String,
    /// External id that the role's trust policy asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224), regex(pattern = EXTERNAL_ID))]
    pub external_id: Option<String>,
    /// Life of the session in seconds; STS holds chained sessions to an hour. Default: 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 900, max = 3600))]
    pub duration_seconds: Option<i32>,
    /// Session policy (JSON).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub policy: Option<String>,
}

/// Which STS endpoint is asked: a region with its network, or an endpoint that the operator's
/// configuration allows.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.endpoint) || (!has(self.region) && !has(self.network))").message("give either sts.endpoint or sts.region and sts.network"))]
pub struct StsSpec {
    /// Region of the endpoint. Default: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = REGION))]
    pub region: Option<String>,
    /// `Vpc` for the endpoint inside the VPC, `Public` for the other. Default: the operator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// `host` or `host:port`, exactly as the operator's configuration allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = HOST_AND_PORT))]
    pub endpoint: Option<String>,
}

/// Which STS endpoint is asked: `Vpc` for the one inside the VPC, `Public` for the other. A binding's default is
/// the operator's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Network {
    /// `sts-vpc.<region>.aliyuncs.com`.
    #[default]
    Vpc,
    /// `sts.<region>.aliyuncs.com`.
    Public,
}

/// What to do where the cluster's tokens cannot be exchanged at all.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallback {
    /// `EcsMetadata`: the node's RAM role assumes the binding's role.
    #[serde(rename = "type")]
    pub kind: FallbackType,
}

/// Kinds of fallback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FallbackType {
    /// By the node's RAM role.
    EcsMetadata,
}

/// The Secret that receives the credentials.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.template) || self.template.all(key, key.matches('^[.]?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$') && size(key) <= 253)")
        .message("template keys are 1 to 253 letters, digits, '-', '_' or '.', and do not begin with '..'")
        .field_path(".template"),
    validation = Rule::new("!has(self.template) || self.template.all(key, !(key in ['ALIBABA_CLOUD_ACCESS_KEY_ID', 'ALIBABA_CLOUD_ACCESS_KEY_SECRET', 'ALIBABA_CLOUD_SECURITY_TOKEN', 'ALIBABA_CLOUD_CREDENTIALS_EXPIRATION', 'credentials.ini', 'config.json', 'credentials.json']))")
        .message("template keys must not be those of a format")
        .field_path(".template"),
    validation = Rule::new("!has(self.labels) || self.labels.all(key, !key.matches('^([^/]*[.])?(rrsa[.]io|kubernetes[.]io|k8s[.]io)/'))")
        .message("labels under rrsa.io/, kubernetes.io/ and k8s.io/ are reserved")
        .field_path(".labels"),
    validation = Rule::new("!has(self.labels) || self.labels.all(key, key.indexOf('/') <= 253 && key.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))")
        .message("keys of labels are a name of 1 to 63 letters, digits, '-', '_' or '.', after a DNS name and '/' if need be")
        .field_path(".labels"),
    validation = Rule::new("!has(self.annotations) || self.annotations.all(key, !key.matches('^([^/]*[.])?(rrsa[.]io|kubernetes[.]io|k8s[.]io)/'))")
        .message("annotations under rrsa.io/, kubernetes.io/ and k8s.io/ are reserved")
        .field_path(".annotations"),
    validation = Rule::new("!has(self.annotations) || self.annotations.all(key, key.indexOf('/') <= 253 && key.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))")
        .message("keys of annotations are a name of 1 to 63 letters, digits, '-', '_' or '.', after a DNS name and '/' if need be")
        .field_path(".annotations")
)]
pub struct SecretSpec {
    /// Name of the Secret. Default: the binding's name and `-credentials`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DNS_SUBDOMAIN))]
    pub name: Option<String>,
    /// Shapes in which the credentials are written: `env`, `json`, `cli` (with `json`), `ini`.
    /// Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4), extend("x-kubernetes-list-type" = "set"))]
    pub formats: Option<Vec<Format>>,
    /// Further keys, rendered from `access_key_id`, `access_key_secret`, `security_token`,
    /// `expiration`, `role_arn` and `region`: `"{{ access_key_id }}"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "template_schema")]
    pub template: BTreeMap<String, String>,
    /// Labels of the Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "label_schema")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotation_schema")]
    pub annotations: BTreeMap<String, String>,
    /// What becomes of the Secret when the binding is deleted. Default: `Delete`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// A shape of the credentials in the Secret.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Environment variables, for `envFrom`.
    Env,
    /// `credentials.ini` with a section of type `sts`.
    Ini,
    /// `config.json` of the Alibaba Cloud CLI.
    Cli,
    /// `credentials.json`.
    Json,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Env, Self::Ini, Self::Cli, Self::Json];
}

/// What becomes of the Secret when the binding is deleted. Default: `Delete`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The Secret goes with the binding.
    #[default]
    Delete,
    /// The Secret stays as it is.
    Retain,
}

fn map_schema(values: &Schema, max_properties: u32) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": values,
        "maxProperties": max_properties,
    })
}

fn template_schema(_: &mut SchemaGenerator) -> Schema {
    map_schema(&json_schema!({"type": "string", "maxLength": 4096}), 32)
}

fn label_schema(_: &mut SchemaGenerator) -> Schema {
    let value = json_schema!({
        "type": "string",
        "maxLength": 63,
        "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
    });
    map_schema(&value, 32)
}

fn annotation_schema(_: &mut SchemaGenerator) -> Schema {
    map_schema(&json_schema!({"type": "string", "maxLength": 4096}), 32)
}
