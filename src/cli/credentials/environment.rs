//! What the variables of a program become that is to use certain credentials and no others. Pure.

use std::process::Command;

use crate::contract::env;
use crate::credentials::formats::{self, Keys};
use crate::secret::SecretText;

/// Variables that name an identity, or a file that does. Not those of keys: see
/// [`formats::VARIABLES`].
const IDENTITIES: &[&str] = &[
    env::ROLE_ARN,
    env::ROLE_SESSION_NAME,
    env::OIDC_PROVIDER_ARN,
    env::OIDC_TOKEN_FILE,
    env::CREDENTIALS_URI,
    env::ECS_METADATA,
    env::PROFILE,
    env::CREDENTIALS_FILE,
    env::CONFIG_FILE,
];

/// The same by older names, which the Alibaba Cloud CLI, ack-ram-tool, the Terraform provider and
/// Ansible read as well, some of them first.
const OLDER_NAMES: &[&str] = &[
    "ALIBABACLOUD_ACCESS_KEY_ID",
    "ALIBABACLOUD_ACCESS_KEY_SECRET",
    "ALIBABACLOUD_SECURITY_TOKEN",
    "ALIBABACLOUD_ROLE_ARN",
    "ALIBABACLOUD_OIDC_PROVIDER_ARN",
    "ALIBABACLOUD_OIDC_TOKEN_FILE",
    "ALIBABACLOUD_PROFILE",
    "ALICLOUD_ACCESS_KEY",
    "ALICLOUD_SECRET_KEY",
    "ALICLOUD_ACCESS_KEY_STS_TOKEN",
    "ALICLOUD_ACCESS_KEY_ID",
    "ALICLOUD_ACCESS_KEY_SECRET",
    "ALICLOUD_SECURITY_TOKEN",
    "ALICLOUD_PROFILE",
    "ALICLOUD_SHARED_CREDENTIALS_FILE",
    "ALICLOUD_CREDENTIALS_URI",
    "ALICLOUD_ECS_ROLE_NAME",
    // With these Terraform and Ansible assume one more role with the keys that they are given.
    "ALICLOUD_ASSUME_ROLE_ARN",
    "ALICLOUD_ASSUME_ROLE_SESSION_NAME",
    "ALICLOUD_ROLE_SESSION_NAME",
];

/// Changes to the variables that a program inherits.
pub(super) struct Changes {
    remove: Vec<&'static str>,
    set: Vec<(&'static str, SecretText)>,
}

impl Changes {
    /// For keys in the environment, which every SDK takes first.
    pub(super) fn for_keys(keys: &Keys) -> Self {
        let mut changes = Self::of(formats::variables(keys));
        // The CLI prefers its file to the environment.
        changes.set.push((env::IGNORE_PROFILE, "TRUE".into()));
        changes
    }

    /// For a credentials URI, which every SDK asks last: what it would ask before is switched off.
    pub(super) fn for_uri(uri: &SecretText) -> Self {
        Self::of(vec![
            (env::CREDENTIALS_URI, uri.clone()),
            (env::CLI_PROFILE_DISABLED, "true".into()),
            (env::ECS_METADATA_DISABLED, "true".into()),
            (env::IGNORE_PROFILE, "TRUE".into()),
        ])
    }

    fn of(set: Vec<(&'static str, SecretText)>) -> Self {
        let names = [formats::VARIABLES, IDENTITIES, OLDER_NAMES];
        Self {
            remove: names.concat(),
            set,
        }
    }

    /// Makes them.
    pub(super) fn apply(&self, command: &mut Command) {
        for name in &self.remove {
            command.env_remove(name);
        }
        for (name, value) in &self.set {
            command.env(name, value.expose());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn environment(changes: &Changes) -> BTreeMap<String, Option<String>> {
        let mut command = Command::new("true");
        changes.apply(&mut command);
        let text = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
        command
            .get_envs()
            .map(|(name, value)| (text(name), value.map(text)))
            .collect()
    }

    #[test]
    fn keys_take_the_place_of_all_other_identities() {
        let keys = Keys {
            access_key_id: "LTAItest".to_owned(),
            access_key_secret: "sk-value".into(),
            security_token: None,
            expiration: None,
        };
        let made = environment(&Changes::for_keys(&keys));
        assert_eq!(made[env::ACCESS_KEY_ID].as_deref(), Some("LTAItest"));
        assert_eq!(made[env::ACCESS_KEY_SECRET].as_deref(), Some("sk-value"));
        // The token of other keys would spoil these.
        assert_eq!(made[env::SECURITY_TOKEN], None);
        assert_eq!(made[env::CREDENTIALS_EXPIRATION], None);
        assert_eq!(made[env::ROLE_ARN], None);
        assert_eq!(made["ALICLOUD_SECURITY_TOKEN"], None);
        assert_eq!(made["ALICLOUD_ASSUME_ROLE_ARN"], None);
        assert_eq!(made["ALICLOUD_CREDENTIALS_URI"], None);
    }

    #[test]
    fn nothing_comes_before_the_uri() {
        let made = environment(&Changes::for_uri(&"http://127.0.0.1:1/x".into()));
        assert_eq!(
            made[env::CREDENTIALS_URI].as_deref(),
            Some("http://127.0.0.1:1/x")
        );
        assert_eq!(made[env::ACCESS_KEY_ID], None);
        assert_eq!(made[env::OIDC_TOKEN_FILE], None);
        assert_eq!(made[env::ECS_METADATA_DISABLED].as_deref(), Some("true"));
    }
}
