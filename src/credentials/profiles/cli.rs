//! The file of the Alibaba Cloud CLI, `~/.aliyun/config.json`: its model. Keys that are not used
//! here are ignored, and nothing is ever written to the file.

use std::fmt;

use serde::Deserialize;

use super::error::{CliFileError, ProfileMistake};
use crate::credentials::config::InvalidKind;
use crate::secret::SecretText;

/// Most profiles that may follow each other by `source_profile`; each is an exchange with STS.
const MAX_CHAIN: usize = 8;

/// The file.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct CliFile {
    current: Option<String>,
    profiles: Option<Vec<CliEntry>>,
}

/// One profile, as it is written. Strings that are not set are often written as empty ones, and
/// numbers as 0; all of them count as none.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct CliEntry {
    pub(super) name: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) access_key_id: Option<String>,
    pub(super) access_key_secret: Option<SecretText>,
    pub(super) sts_token: Option<SecretText>,
    pub(super) sts_expiration: Option<i64>,
    pub(super) sts_region: Option<String>,
    pub(super) sts_endpoint: Option<String>,
    pub(super) enable_vpc: Option<bool>,
    pub(super) ram_role_name: Option<String>,
    pub(super) ram_role_arn: Option<String>,
    pub(super) ram_session_name: Option<String>,
    pub(super) expired_seconds: Option<u64>,
    pub(super) policy: Option<String>,
    pub(super) external_id: Option<SecretText>,
    pub(super) source_profile: Option<String>,
    pub(super) oidc_provider_arn: Option<String>,
    pub(super) oidc_token_file: Option<String>,
    pub(super) credentials_uri: Option<SecretText>,
    pub(super) process_command: Option<SecretText>,
    pub(super) bearer_token: Option<SecretText>,
    pub(super) cloud_sso_sign_in_url: Option<String>,
    pub(super) cloud_sso_account_id: Option<String>,
    pub(super) cloud_sso_access_config: Option<String>,
    pub(super) access_token: Option<SecretText>,
    pub(super) cloud_sso_access_token_expire: Option<i64>,
    pub(super) oauth_site_type: Option<String>,
    pub(super) oauth_access_token: Option<SecretText>,
    pub(super) oauth_access_token_expire: Option<i64>,
    pub(super) oauth_refresh_token: Option<SecretText>,
}

impl fmt::Debug for CliEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CliEntry")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A profile, and behind it those that it takes its keys from, each from the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CliChain {
    pub(super) profile: CliEntry,
    pub(super) sources: Vec<CliEntry>,
}

/// The modes of a profile that give credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Ak,
    StsToken,
    RamRoleArn,
    EcsRamRole,
    RamRoleArnWithRoleName,
    ChainableRamRoleArn,
    Oidc,
    CloudSso,
    OAuth,
    External,
    CredentialsUri,
    BearerToken,
}

impl Mode {
    pub(super) const ALL: [Self; 12] = [
        Self::Ak,
        Self::StsToken,
        Self::RamRoleArn,
        Self::EcsRamRole,
        Self::RamRoleArnWithRoleName,
        Self::ChainableRamRoleArn,
        Self::Oidc,
        Self::CloudSso,
        Self::OAuth,
        Self::External,
        Self::CredentialsUri,
        Self::BearerToken,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ak => "AK",
            Self::StsToken => "StsToken",
            Self::RamRoleArn => "RamRoleArn",
            Self::EcsRamRole => "EcsRamRole",
            Self::RamRoleArnWithRoleName => "RamRoleArnWithRoleName",
            Self::ChainableRamRoleArn => "ChainableRamRoleArn",
            Self::Oidc => "OIDC",
            Self::CloudSso => "CloudSSO",
            Self::OAuth => "OAuth",
            Self::External => "External",
            Self::CredentialsUri => "CredentialsURI",
            Self::BearerToken => "BearerToken",
        }
    }

    /// All of them, for a person.
    pub(super) fn list() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl CliFile {
    pub(super) fn parse(content: &[u8]) -> Result<Self, CliFileError> {
        let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        // serde_json's own message may quote the input, so only its position is passed on.
        serde_json::from_slice(content).map_err(|error| CliFileError::Json {
            line: error.line(),
            column: error.column(),
        })
    }

    fn profiles(&self) -> &[CliEntry] {
        self.profiles.as_deref().unwrap_or_default()
    }

    /// The first profile of this name. Without any profile the file is of no use to anybody.
    pub(super) fn find(&self, name: &str) -> Result<Option<&CliEntry>, CliFileError> {
        if self.profiles().is_empty() {
            return Err(CliFileError::NoProfiles);
        }
        Ok(self.named(name))
    }

    fn named(&self, name: &str) -> Option<&CliEntry> {
        self.profiles()
            .iter()
            .find(|entry| entry.name.as_deref() == Some(name))
    }

    /// The name of the profile that the file says is meant.
    pub(super) fn current(&self) -> Result<&str, CliFileError> {
        if self.profiles().is_empty() {
            return Err(CliFileError::NoProfiles);
        }
        text(self.current.as_ref()).ok_or(CliFileError::NoCurrent)
    }

    /// This profile with its sources.
    pub(super) fn chain(&self, profile: &CliEntry) -> Result<CliChain, CliFileError> {
        let mut seen = vec![profile.name()];
        let mut sources: Vec<CliEntry> = Vec::new();
        while let Some(source) = sources.last().unwrap_or(profile).source() {
            let next = self.named(source).ok_or_else(|| CliFileError::NoSource {
                profile: seen.last().copied().unwrap_or_default().to_owned(),
                source_profile: source.to_owned(),
            })?;
            if let Some(begin) = seen.iter().position(|name| *name == source) {
                let circle = seen[begin..].iter().chain([&source]);
                let circle = circle.map(|name| (*name).to_owned()).collect();
                return Err(CliFileError::Cycle(circle));
            }
            if seen.len() == MAX_CHAIN {
                return Err(CliFileError::TooLong(MAX_CHAIN));
            }
            seen.push(next.name());
            sources.push(next.clone());
        }
        Ok(CliChain {
            profile: profile.clone(),
            sources,
        })
    }
}

impl CliEntry {
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Only one mode looks at `source_profile`; others may have kept one from before.
    fn source(&self) -> Option<&str> {
        match self.mode() {
            Ok(Mode::ChainableRamRoleArn) => text(self.source_profile.as_ref()),
            _ => None,
        }
    }

    pub(super) fn mode(&self) -> Result<Mode, ProfileMistake> {
        let mode = text(self.mode.as_ref()).ok_or(ProfileMistake::Missing {
            kind: "a profile of the CLI",
            key: "mode",
        })?;
        match mode {
            "RsaKeyPair" => Err(InvalidKind::RsaKeyPair.into()),
            "Anonymous" => Err(ProfileMistake::Anonymous),
            _ => Mode::ALL
                .into_iter()
                .find(|known| known.as_str() == mode)
                .ok_or_else(|| ProfileMistake::Mode(mode.chars().take(60).collect())),
        }
    }
}

fn text(given: Option<&String>) -> Option<&str> {
    given.map(String::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn parse(text: &str) -> CliFile {
        CliFile::parse(text.as_bytes()).unwrap()
    }

    /// A file with these profiles, each with its source.
    fn chained(profiles: &[(&str, &str)]) -> CliFile {
        let profiles = profiles.iter().map(|(name, source)| CliEntry {
            name: Some((*name).to_owned()),
            mode: Some(
                if source.is_empty() {
                    "AK"
                } else {
                    "ChainableRamRoleArn"
                }
                .to_owned(),
            ),
            source_profile: Some((*source).to_owned()),
            ..CliEntry::default()
        });
        CliFile {
            current: None,
            profiles: Some(profiles.collect()),
        }
    }

    fn chain(file: &CliFile, name: &str) -> Result<Vec<String>, CliFileError> {
        let first = file.find(name)?.unwrap();
        let chain = file.chain(first)?;
        let entries = [chain.profile].into_iter().chain(chain.sources);
        Ok(entries.map(|entry| entry.name.unwrap()).collect())
    }

    #[test]
    fn the_first_profile_of_a_name_counts_and_unknown_keys_do_not() {
        let file = parse(
            r#"{"current": "a", "meta_path": "", "profiles": [
                {"name": "a", "mode": "AK", "access_key_id": "first", "retry_count": 0, "verified": null},
                {"name": "a", "access_key_id": "second"}]}"#,
        );
        assert_eq!(file.current().unwrap(), "a");
        let entry = file.find("a").unwrap().unwrap();
        assert_eq!(entry.access_key_id.as_deref(), Some("first"));
        assert_eq!(file.find("b"), Ok(None));
        let marked = b"\xef\xbb\xbf{\"current\": \"a\"}";
        assert!(CliFile::parse(marked).is_ok());
    }

    #[rstest]
    #[case::cli_3_no_profiles(r#"{"current": "a"}"#, CliFileError::NoProfiles)]
    #[case::cli_3_empty_profiles(r#"{"current": "a", "profiles": []}"#, CliFileError::NoProfiles)]
    #[case::no_current(r#"{"profiles": [{"name": "a"}]}"#, CliFileError::NoCurrent)]
    #[case::empty_current(
        r#"{"current": "", "profiles": [{"name": "a"}]}"#,
        CliFileError::NoCurrent
    )]
    fn a_file_must_have_profiles_and_a_current_one(
        #[case] text: &str,
        #[case] expected: CliFileError,
    ) {
        assert_eq!(parse(text).current().unwrap_err(), expected);
    }

    #[test]
    fn cli_3_bad_json_is_told_by_its_place_alone() {
        let text =
            "{\"profiles\": [\n{\"access_key_secret\": \"hunter2\", \"enable_vpc\": \"hunter3\"}]}";
        let error = CliFile::parse(text.as_bytes()).err().unwrap();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("line 2, column"), "{shown}");
        assert!(!shown.contains("hunter"), "{shown}");
    }

    #[test]
    fn sources_are_followed_to_the_last() {
        let file = chained(&[("a", "b"), ("c", ""), ("b", "c")]);
        assert_eq!(chain(&file, "a").unwrap(), ["a", "b", "c"]);
        assert_eq!(chain(&file, "c").unwrap(), ["c"]);
    }

    #[rstest]
    #[case::itself(&[("a", "a")], &["a", "a"])]
    #[case::two(&[("a", "b"), ("b", "a")], &["a", "b", "a"])]
    #[case::further_on(&[("a", "b"), ("b", "c"), ("c", "b")], &["b", "c", "b"])]
    fn circles_are_named(#[case] profiles: &[(&str, &str)], #[case] circle: &[&str]) {
        let error = chain(&chained(profiles), "a").unwrap_err();
        let circle: Vec<_> = circle.iter().map(|name| (*name).to_owned()).collect();
        assert!(error.to_string().ends_with(&circle.join(" -> ")), "{error}");
        assert_eq!(error, CliFileError::Cycle(circle));
    }

    #[test]
    fn chains_are_bounded() {
        let names: Vec<_> = (0..=MAX_CHAIN).map(|n| n.to_string()).collect();
        let file = |length: usize| {
            let sources = names[1..length].iter().map(String::as_str).chain([""]);
            let profiles: Vec<_> = names.iter().map(String::as_str).zip(sources).collect();
            chained(&profiles)
        };
        assert_eq!(chain(&file(MAX_CHAIN), "0").unwrap().len(), MAX_CHAIN);
        let error = chain(&file(MAX_CHAIN + 1), "0").unwrap_err();
        assert_eq!(error, CliFileError::TooLong(MAX_CHAIN));
    }

    #[test]
    fn cli_7_a_source_that_is_not_there_is_named() {
        let error = chain(&chained(&[("a", "gone")]), "a").unwrap_err();
        assert!(error.to_string().contains(r#""gone""#), "{error}");
    }

    #[rstest]
    #[case::cli_8_unsupported("Unsupported")]
    #[case::cli_8_invalid("InvalidMode")]
    #[case::letter_case("ak")]
    #[case::deprecated("RsaKeyPair")]
    #[case::without_credentials("Anonymous")]
    #[case::empty("")]
    fn what_is_no_mode_is_refused(#[case] mode: &str) {
        let entry = CliEntry {
            mode: Some(mode.to_owned()),
            ..CliEntry::default()
        };
        let error = entry.mode().unwrap_err();
        assert_eq!(
            mode == "RsaKeyPair",
            error == InvalidKind::RsaKeyPair.into()
        );
        let unknown = matches!(error, ProfileMistake::Mode(_));
        assert_eq!(unknown, !matches!(mode, "RsaKeyPair" | "Anonymous" | ""));
    }

    #[test]
    fn debug_shows_no_value_of_a_profile() {
        let file = parse(r#"{"profiles": [{"name": "a", "access_key_id": "hunter2"}]}"#);
        let shown = format!("{:?}", file.find("a"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(content: Vec<u8>) {
            let _ = CliFile::parse(&content);
        }
    }
}
