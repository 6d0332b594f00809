//! Environment variables of the official SDKs that this product writes or reads.

/// Static access key id, or that of a temporary credential.
pub const ACCESS_KEY_ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
/// Secret of the access key.
pub const ACCESS_KEY_SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
/// Security token of a temporary credential.
pub const SECURITY_TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";
/// Our own: when the credential of the three variables above ends (RFC 3339, UTC).
pub const CREDENTIALS_EXPIRATION: &str = "ALIBABA_CLOUD_CREDENTIALS_EXPIRATION";

/// ARN of the role to assume.
pub const ROLE_ARN: &str = "ALIBABA_CLOUD_ROLE_ARN";
/// ARN of the OIDC provider of the cluster.
pub const OIDC_PROVIDER_ARN: &str = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN";
/// File of the projected ServiceAccount token.
pub const OIDC_TOKEN_FILE: &str = "ALIBABA_CLOUD_OIDC_TOKEN_FILE";
/// STS host without a scheme.
pub const STS_ENDPOINT: &str = "ALIBABA_CLOUD_STS_ENDPOINT";
/// Region whose STS endpoint is used.
pub const STS_REGION: &str = "ALIBABA_CLOUD_STS_REGION";
/// `true`: use the endpoint inside the VPC.
pub const VPC_ENDPOINT_ENABLED: &str = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED";

/// Name of the session when a role is assumed.
pub const ROLE_SESSION_NAME: &str = "ALIBABA_CLOUD_ROLE_SESSION_NAME";
/// Name of the ECS instance's RAM role.
pub const ECS_METADATA: &str = "ALIBABA_CLOUD_ECS_METADATA";
/// `true`: the ECS metadata service is not asked for credentials.
pub const ECS_METADATA_DISABLED: &str = "ALIBABA_CLOUD_ECS_METADATA_DISABLED";
/// `true`: the ECS metadata service is only asked with a token.
pub const IMDSV1_DISABLED: &str = "ALIBABA_CLOUD_IMDSV1_DISABLED";
/// What the official README calls [`IMDSV1_DISABLED`]; no official SDK reads it.
pub const IMDSV1_DISABLE: &str = "ALIBABA_CLOUD_IMDSV1_DISABLE";

/// Our own: address of the node that a pod runs on.
pub const HOST_IP: &str = "RRSA_HOST_IP";
/// Our own: UID of the pod.
pub const POD_UID: &str = "RRSA_POD_UID";

/// URI that gives credentials to whoever asks.
pub const CREDENTIALS_URI: &str = "ALIBABA_CLOUD_CREDENTIALS_URI";
/// Name of the profile, in the ini file and in the CLI's.
pub const PROFILE: &str = "ALIBABA_CLOUD_PROFILE";
/// The ini file of profiles.
pub const CREDENTIALS_FILE: &str = "ALIBABA_CLOUD_CREDENTIALS_FILE";
/// The configuration file of the Alibaba Cloud CLI.
pub const CONFIG_FILE: &str = "ALIBABA_CLOUD_CONFIG_FILE";
/// `true`: the CLI's file is not read.
pub const CLI_PROFILE_DISABLED: &str = "ALIBABA_CLOUD_CLI_PROFILE_DISABLED";
/// Our own: how many programs that print credentials run inside each other.
pub const EXTERNAL_DEPTH: &str = "RRSA_EXTERNAL_DEPTH";
/// `TRUE`: the Alibaba Cloud CLI does not read its file, and takes the environment.
pub const IGNORE_PROFILE: &str = "ALIBABA_CLOUD_IGNORE_PROFILE";
