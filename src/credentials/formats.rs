//! Credentials as other programs read them: what the operator writes into Secrets and what
//! `rrsa credentials` prints. Pure.
//!
//! | | read by |
//! |---|---|
//! | [`variables`] | every SDK, from the environment |
//! | [`ini`] | the SDKs, from the file of profiles |
//! | [`process_output`] | whoever runs the command of an `External` profile |
//! | [`uri_answer`] | whoever asks a credentials URI |
//! | [`cli_configuration`] | the Alibaba Cloud CLI, and the SDKs that read its file |

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::snapshot::Credentials;
use crate::contract::env;
use crate::secret::SecretText;
use crate::sts::TemporaryCredentials;

/// Fields of a JSON object.
pub type Fields = Map<String, Value>;

/// Keys that are to be written down.
#[derive(Clone)]
pub struct Keys {
    /// Access key id; not a secret.
    pub access_key_id: String,
    /// Secret of the access key.
    pub access_key_secret: SecretText,
    /// Security token of temporary keys.
    pub security_token: Option<SecretText>,
    /// When they end, as far as it is known.
    pub expiration: Option<DateTime<Utc>>,
}

impl From<&TemporaryCredentials> for Keys {
    fn from(issued: &TemporaryCredentials) -> Self {
        Self {
            access_key_id: issued.access_key_id.clone(),
            access_key_secret: issued.access_key_secret.clone(),
            security_token: Some(issued.security_token.clone()),
            expiration: Some(issued.expiration),
        }
    }
}

impl From<&Credentials> for Keys {
    fn from(credentials: &Credentials) -> Self {
        Self {
            access_key_id: credentials.access_key_id().to_owned(),
            access_key_secret: credentials.access_key_secret().clone(),
            security_token: credentials.security_token().cloned(),
            expiration: credentials.expiration(),
        }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("access_key_id", &self.access_key_id)
            .field("expiration", &self.expiration)
            .finish_non_exhaustive()
    }
}

/// A time as every SDK reads it: whole seconds, UTC, `Z`.
#[must_use]
pub fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The variables of these keys. A name that [`VARIABLES`] has and that is not here must not keep
/// the value of other keys.
#[must_use]
pub fn variables(keys: &Keys) -> Vec<(&'static str, SecretText)> {
    let all = [
        (env::ACCESS_KEY_ID, Some(keys.access_key_id.as_str().into())),
        (env::ACCESS_KEY_SECRET, Some(keys.access_key_secret.clone())),
        (env::SECURITY_TOKEN, keys.security_token.clone()),
        (
            env::CREDENTIALS_EXPIRATION,
            keys.expiration.map(|end| timestamp(end).into()),
        ),
    ];
    all.into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// The names of all variables of keys.
pub const VARIABLES: &[&str] = &[
    env::ACCESS_KEY_ID,
    env::ACCESS_KEY_SECRET,
    env::SECURITY_TOKEN,
    env::CREDENTIALS_EXPIRATION,
];

/// A file of profiles whose section `default` has these keys.
#[must_use]
pub fn ini(keys: &Keys) -> SecretText {
    let kind = match keys.security_token {
        Some(_) => "sts",
        None => "access_key",
    };
    let mut text = format!("[default]\nenable = true\ntype = {kind}\n");
    let _ = writeln!(text, "access_key_id = {}", keys.access_key_id);
    let _ = writeln!(
        text,
        "access_key_secret = {}",
        keys.access_key_secret.expose()
    );
    if let Some(token) = &keys.security_token {
        let _ = writeln!(text, "security_token = {}", token.expose());
    }
    if let Some(end) = keys.expiration {
        let _ = writeln!(text, "expiration = {}", timestamp(end));
    }
    text.into()
}

/// What the command of an `External` profile prints.
#[must_use]
pub fn process_output(keys: &Keys) -> Fields {
    let mut fields = profile(keys);
    if let Some(end) = keys.expiration {
        fields.insert("expiration".to_owned(), timestamp(end).into());
    }
    fields
}

/// What a credentials URI answers; none where the keys have no token or no end, because every SDK
/// demands both there.
#[must_use]
pub fn uri_answer(keys: &Keys) -> Option<Fields> {
    let token = keys.security_token.as_ref()?.expose();
    let end = timestamp(keys.expiration?);
    Some(fields([
        ("Code", "Success"),
        ("AccessKeyId", &keys.access_key_id),
        ("AccessKeySecret", keys.access_key_secret.expose()),
        ("SecurityToken", token),
        ("Expiration", &end),
    ]))
}

/// The fields of a CLI profile that holds these keys.
#[must_use]
pub fn profile(keys: &Keys) -> Fields {
    let secret = keys.access_key_secret.expose();
    let mut fields = fields([
        ("mode", "AK"),
        ("access_key_id", &keys.access_key_id),
        ("access_key_secret", secret),
    ]);
    if let Some(token) = &keys.security_token {
        fields.insert("mode".to_owned(), "StsToken".into());
        fields.insert("sts_token".to_owned(), token.expose().into());
    }
    fields
}

/// A configuration of the CLI whose one profile has these fields. Without a region the CLI asks
/// for one at each call.
#[must_use]
pub fn cli_configuration(mut profile: Fields, region: Option<&str>) -> Value {
    profile.extend(fields([
        ("name", "default"),
        ("output_format", "json"),
        ("language", "en"),
    ]));
    if let Some(region) = region {
        profile.insert("region_id".to_owned(), region.into());
    }
    json!({ "current": "default", "profiles": [profile], "meta_path": "" })
}

fn fields<const N: usize>(of: [(&str, &str); N]) -> Fields {
    of.into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys {
            access_key_id: "LTAItest".to_owned(),
            access_key_secret: "sk-value".into(),
            security_token: None,
            expiration: None,
        }
    }

    #[test]
    fn keys_without_a_token_are_an_access_key_everywhere() {
        let names: Vec<_> = variables(&keys())
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, VARIABLES[..2]);
        assert_eq!(
            ini(&keys()).expose(),
            "[default]\nenable = true\ntype = access_key\naccess_key_id = LTAItest\n\
             access_key_secret = sk-value\n"
        );
        let output = process_output(&keys());
        assert_eq!(output["mode"], "AK");
        assert_eq!(output.len(), 3);
        assert_eq!(uri_answer(&keys()), None);
    }

    #[test]
    fn a_token_without_an_end_is_nothing_for_a_credentials_uri() {
        let keys = Keys {
            security_token: Some("st-value".into()),
            ..keys()
        };
        assert_eq!(process_output(&keys)["mode"], "StsToken");
        assert_eq!(uri_answer(&keys), None);
    }

    #[test]
    fn variables_are_named_in_full() {
        let keys = Keys {
            security_token: Some("st-value".into()),
            expiration: Some(DateTime::UNIX_EPOCH),
            ..keys()
        };
        let names: Vec<_> = variables(&keys).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, VARIABLES);
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", keys());
        assert!(shown.contains("LTAItest"), "{shown}");
        assert!(!shown.contains("sk-value"), "{shown}");
    }

    #[test]
    fn a_profile_of_the_cli_has_a_region_only_where_one_is_known() {
        let with = cli_configuration(profile(&keys()), Some("cn-hangzhou"));
        assert_eq!(with["profiles"][0]["region_id"], "cn-hangzhou");
        assert_eq!(with["profiles"][0]["mode"], "AK");
        let without = cli_configuration(profile(&keys()), None);
        assert_eq!(without["profiles"][0].get("region_id"), None);
    }
}
