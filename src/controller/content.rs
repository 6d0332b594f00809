//! What stands in the Secret: the keys of each format, and the template. Pure.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::reason::{Problem, Reason};
use super::template;
use super::wanted::{Wanted, hex};
use crate::api::v1alpha1::Format;
use crate::contract::{CREDENTIALS_MOUNT_PATH, secret_keys};
use crate::credentials::formats::{self, Fields, Keys};
use crate::secret::SecretText;
use crate::sts::TemporaryCredentials;

/// Keys and values of a Secret.
pub type Content = BTreeMap<String, SecretText>;

/// Longest content of a Secret; etcd takes 1 MiB for the whole object.
const MAX_CONTENT: usize = 512 * 1024;

/// The keys that a format writes.
#[must_use]
pub const fn keys_of(format: Format) -> &'static [&'static str] {
    match format {
        Format::Env => formats::VARIABLES,
        Format::Ini => &[secret_keys::INI],
        Format::Cli => &[secret_keys::CLI],
        Format::Json => &[secret_keys::JSON],
    }
}

/// Renders everything the binding asks for.
///
/// # Errors
/// A template that fails, naming key and line, or a content that is too long.
pub fn render(wanted: &Wanted, credentials: &TemporaryCredentials) -> Result<Content, Problem> {
    let mut content = Content::new();
    let keys = Keys::from(credentials);
    for format in &wanted.formats {
        let entries = entries(*format, &keys, &wanted.region).into_iter();
        content.extend(entries.map(|(key, value)| (key.to_owned(), value)));
    }
    content.extend(template::render(wanted, credentials)?);
    let size: usize = content
        .iter()
        .map(|(key, value)| key.len() + value.expose().len())
        .sum();
    if size > MAX_CONTENT {
        return Err(Problem::new(
            Reason::TemplateFailed,
            format!("the Secret would have {size} bytes; at most {MAX_CONTENT} are possible"),
        ));
    }
    Ok(content)
}

/// SHA-256 (hex) over keys and values, by which a foreign edit is told from a touch.
#[must_use]
pub fn hash<'a>(content: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hasher = Sha256::new();
    for (key, value) in content {
        // Lengths keep the boundary between key and value unambiguous.
        hasher.update((key.len() as u64).to_be_bytes());
        hasher.update(key.as_bytes());
        hasher.update((value.len() as u64).to_be_bytes());
        hasher.update(value);
    }
    hex(&hasher.finalize())
}

fn entries(format: Format, keys: &Keys, region: &str) -> Vec<(&'static str, SecretText)> {
    match format {
        Format::Env => formats::variables(keys),
        Format::Ini => vec![(secret_keys::INI, formats::ini(keys))],
        Format::Cli => vec![(secret_keys::CLI, cli_configuration(region))],
        Format::Json => vec![(secret_keys::JSON, credentials_json(keys))],
    }
}

/// A profile that asks `credentials.json` anew each time, so that clients follow refreshes; the
/// keys themselves would be read once and outlive their session.
fn cli_configuration(region: &str) -> SecretText {
    let command = format!("cat {CREDENTIALS_MOUNT_PATH}/{}", secret_keys::JSON);
    let mut profile = Fields::new();
    profile.insert("mode".to_owned(), "External".into());
    profile.insert("process_command".to_owned(), command.into());
    formats::cli_configuration(profile, Some(region))
        .to_string()
        .into()
}

/// What an `External` profile's command prints, and the names of a credentials URI beside it.
fn credentials_json(keys: &Keys) -> SecretText {
    let mut fields = formats::process_output(keys);
    fields.extend(formats::uri_answer(keys).into_iter().flatten());
    Value::Object(fields).to_string().into()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::v1alpha1::DeletionPolicy;
    use crate::contract::env;
    use crate::controller::fallback::Fallback;
    use crate::controller::wanted::TokenFrom;
    use std::time::Duration;

    pub(in crate::controller) fn wanted() -> Wanted {
        Wanted {
            namespace: "team-a".to_owned(),
            role_arn: "acs:ram::1:role/app".parse().unwrap(),
            provider_arn: "acs:ram::1:oidc-provider/p".parse().unwrap(),
            token: TokenFrom::ServiceAccount("app".to_owned()),
            endpoint: "sts.aliyuncs.com".parse().unwrap(),
            region: "cn-hangzhou".to_owned(),
            session_name: "team-a.app".to_owned(),
            default_session_name: "team-a.app".to_owned(),
            chain: Vec::new(),
            fallback: Fallback::NotAsked,
            usual: true,
            duration: Duration::from_hours(1),
            policy: None,
            secret_name: "app-credentials".to_owned(),
            formats: Format::ALL.into_iter().collect(),
            template: BTreeMap::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            deletion_policy: DeletionPolicy::Delete,
        }
    }

    pub(in crate::controller) fn credentials() -> TemporaryCredentials {
        TemporaryCredentials {
            access_key_id: "STS.NTest".to_owned(),
            access_key_secret: "sk-value".into(),
            security_token: "st-value".into(),
            expiration: "2026-01-02T04:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn each_format_writes_its_keys() {
        for format in Format::ALL {
            let wanted = Wanted {
                formats: [format].into(),
                ..wanted()
            };
            let content = render(&wanted, &credentials()).unwrap();
            let mut keys = keys_of(format).to_vec();
            keys.sort_unstable();
            assert_eq!(content.keys().map(String::as_str).collect::<Vec<_>>(), keys);
            assert_eq!(wanted.keys().into_iter().collect::<Vec<_>>(), keys);
        }
    }

    #[test]
    fn the_json_serves_external_profiles_and_credentials_uris() {
        let content = render(&wanted(), &credentials()).unwrap();
        let value: serde_json::Value =
            serde_json::from_str(content[secret_keys::JSON].expose()).unwrap();
        assert_eq!(value["sts_token"], "st-value");
        assert_eq!(value["SecurityToken"], "st-value");
        assert_eq!(value["Expiration"], "2026-01-02T04:00:00Z");
    }

    #[test]
    fn the_content_is_the_same_byte_for_byte() {
        // A change here rewrites every Secret of every cluster.
        let content = render(&wanted(), &credentials()).unwrap();
        let text = |key: &str| content[key].expose();
        assert_eq!(
            text(secret_keys::INI),
            "[default]\nenable = true\ntype = sts\naccess_key_id = STS.NTest\n\
             access_key_secret = sk-value\nsecurity_token = st-value\n\
             expiration = 2026-01-02T04:00:00Z\n"
        );
        assert_eq!(
            text(secret_keys::CLI),
            r#"{"current":"default","meta_path":"","profiles":[{"language":"en","mode":"External","name":"default","output_format":"json","process_command":"cat /var/run/secrets/rrsa.io/credentials/credentials.json","region_id":"cn-hangzhou"}]}"#
        );
        assert_eq!(
            text(secret_keys::JSON),
            r#"{"AccessKeyId":"STS.NTest","AccessKeySecret":"sk-value","Code":"Success","Expiration":"2026-01-02T04:00:00Z","SecurityToken":"st-value","access_key_id":"STS.NTest","access_key_secret":"sk-value","expiration":"2026-01-02T04:00:00Z","mode":"StsToken","sts_token":"st-value"}"#
        );
        assert_eq!(text(env::ACCESS_KEY_ID), "STS.NTest");
        assert_eq!(text(env::ACCESS_KEY_SECRET), "sk-value");
        assert_eq!(text(env::SECURITY_TOKEN), "st-value");
        assert_eq!(text(env::CREDENTIALS_EXPIRATION), "2026-01-02T04:00:00Z");
        assert_eq!(content.len(), 7);
    }

    #[test]
    fn the_profile_holds_no_key_and_reads_the_mounted_file() {
        let content = render(&wanted(), &credentials()).unwrap();
        let profile = content[secret_keys::CLI].expose();
        assert!(!profile.contains("sk-value") && !profile.contains("STS.NTest"));
        assert!(profile.contains("cat /var/run/secrets/rrsa.io/credentials/credentials.json"));
    }

    #[test]
    fn the_hash_sees_boundaries() {
        let hash_of = |pairs: &[(&str, &str)]| hash(pairs.iter().map(|(k, v)| (*k, v.as_bytes())));
        assert_ne!(hash_of(&[("a", "bc")]), hash_of(&[("ab", "c")]));
        assert_ne!(hash_of(&[("a", "b")]), hash_of(&[("a", "b"), ("c", "")]));
    }
}
