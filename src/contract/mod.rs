//! The shared words: every name that two rooms, the chart, the documentation or a tenant's manifest
//! must spell alike stands here, once.
//!
//! ```text
//! contract::env          variables the webhook writes and the library reads
//! contract::annotations  keys on pods, ServiceAccounts, namespaces and our Secrets
//! contract::arn          the grammar of RAM names
//! contract::sts_hosts    which STS hosts exist
//! ```
//!
//! Sources: the ack-pod-identity-webhook 0.4.2 component page and the RRSA guide of Alibaba Cloud
//! for everything under `pod-identity.alibabacloud.com` and the injected names.

pub mod annotations;
pub mod arn;
pub mod env;
pub mod sts_hosts;

/// The audience of a token that STS accepts: the client id of the cluster's OIDC provider.
pub const AUDIENCE: &str = "sts.aliyuncs.com";

/// The field manager of every write this product makes.
pub const FIELD_MANAGER: &str = "rrsa";

/// The label by which our Secrets are found, and its value.
pub const MANAGED_BY_LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "rrsa");

/// The first word of every metric's name.
pub const METRICS_PREFIX: &str = "rrsa";

/// What the webhook mounts into a pod in mode `oidc`, as the official webhook does.
pub mod token_volume {
    use std::time::Duration;

    /// Name of the volume and of its mounts.
    pub const NAME: &str = "rrsa-oidc-token";
    /// Where the volume is mounted.
    pub const MOUNT_PATH: &str = "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens";
    /// File of the token below the mount path.
    pub const FILE: &str = "token";
    /// The same file as an absolute path, as Linux containers see it.
    pub const TOKEN_FILE: &str = "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token";
    /// The same file as Windows containers see it: their mounts lie below `C:`.
    pub const TOKEN_FILE_WINDOWS: &str =
        r"C:\var\run\secrets\ack.alibabacloud.com\rrsa-tokens\token";
    /// Mode of the projected files (0644): the kubelet tightens it where it can.
    pub const DEFAULT_MODE: u32 = 0o644;
    /// Shortest life of a token that may be asked for.
    pub const MIN_EXPIRATION: Duration = Duration::from_mins(10);
    /// Longest life of a token that may be asked for.
    pub const MAX_EXPIRATION: Duration = Duration::from_hours(12);
    /// Life of a token where nobody says otherwise.
    pub const DEFAULT_EXPIRATION: Duration = Duration::from_hours(1);
}

/// Where a Secret of credentials is mounted (mode `secret`, and the profile of format `cli`).
pub const CREDENTIALS_MOUNT_PATH: &str = "/var/run/secrets/rrsa.io/credentials";

/// Name of the volume of that Secret, in mode `secret`.
pub const CREDENTIALS_VOLUME: &str = "rrsa-credentials";

/// File names (Secret keys) of the formats.
pub mod secret_keys {
    /// Format `ini`: a credentials file of this library.
    pub const INI: &str = "credentials.ini";
    /// Format `cli`: a configuration of the Alibaba Cloud CLI.
    pub const CLI: &str = "config.json";
    /// Format `json`: what an `External` profile's command must print.
    pub const JSON: &str = "credentials.json";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_file_lies_in_the_mount() {
        assert_eq!(
            token_volume::TOKEN_FILE,
            format!("{}/{}", token_volume::MOUNT_PATH, token_volume::FILE)
        );
        assert_eq!(
            token_volume::TOKEN_FILE_WINDOWS,
            format!("C:{}", token_volume::TOKEN_FILE.replace('/', "\\"))
        );
    }
}
