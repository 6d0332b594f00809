//! `cli_profile`: a profile of the Alibaba Cloud CLI.
//!
//! | setting | else the variable | else |
//! |---|---|---|
//! | file | `ALIBABA_CLOUD_CONFIG_FILE` | `~/.aliyun/config.json` |
//! | profile | `ALIBABA_CLOUD_PROFILE` | `current` of the file |
//! | — | `ALIBABA_CLOUD_CLI_PROFILE_DISABLED`: `true` switches this source off | on |
//!
//! | `mode` | required keys | optional keys |
//! |---|---|---|
//! | `AK` | `access_key_id`, `access_key_secret` | |
//! | `StsToken` | the same, `sts_token` | |
//! | `RamRoleArn` | `access_key_id`, `access_key_secret`, `ram_role_arn` | `sts_token` (of a key id that begins with `STS.`), and those of a role |
//! | `EcsRamRole` | | `ram_role_name` |
//! | `RamRoleArnWithRoleName`: a role, assumed with the instance's | `ram_role_arn` | `ram_role_name`, and those of a role |
//! | `ChainableRamRoleArn`: a role, assumed with another profile | `source_profile`, `ram_role_arn` | those of a role |
//! | `OIDC` | `ram_role_arn`, `oidc_provider_arn`, `oidc_token_file` | those of a role |
//! | `CloudSSO` | `cloud_sso_sign_in_url`, `cloud_sso_account_id`, `cloud_sso_access_config`, `access_token`, `cloud_sso_access_token_expire` | |
//! | `OAuth` | `oauth_site_type` | `oauth_access_token`, `oauth_access_token_expire`, `oauth_refresh_token`; `access_key_id`, `access_key_secret`, `sts_token`, `sts_expiration` |
//! | `External` | `process_command` | |
//! | `CredentialsURI` | `credentials_uri` | |
//! | `BearerToken` | `bearer_token` | |
//!
//! Those of a role are `ram_session_name`, `expired_seconds` (0 for the default), `policy`,
//! `external_id`, `sts_region`, `enable_vpc` and `sts_endpoint`. Required keys must stand in the
//! profile: an identity is never put together from the file and the environment. What is optional
//! and left out comes from where the type's own page says. Other keys are ignored. `RsaKeyPair` is
//! refused, see [`InvalidKind`](crate::credentials::InvalidKind); `Anonymous` has no credentials.
//!
//! `source_profile` may lead over eight profiles at most, and not in a circle.
//!
//! | | |
//! |---|---|
//! | switched off, or nobody named a file and the usual one is missing | not configured |
//! | `ALIBABA_CLOUD_PROFILE` names a profile that the file does not have | not configured: the variable serves the ini file, too |
//! | a file that is named is missing, or cannot be read, or is no configuration of the CLI | misconfigured |
//! | there are no profiles; nobody says which is meant; the one that the caller or `current` names is missing | misconfigured |
//! | the profile has no mode, an unknown one, or lacks a key, or its source does | misconfigured |
//! | what the profile asks for is not set up here | misconfigured |
//!
//! The file is read at each call; the provider of a profile is kept while the profile and its
//! sources stay the same, and with it the tokens that a login was given since. Unlike the official
//! SDKs this one **never writes to the file**: mounts are read-only, many replicas would write, and
//! the keys that the CLI has no model of would be lost. A login whose refresh token changes must
//! therefore not be shared with the CLI.
//!
//! ```no_run
//! use rrsa::credentials::{CliProfile, CliProfileConfig, Provider};
//! use rrsa::world::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let provider = CliProfile::new(CliProfileConfig::default(), &World::system()?)?;
//! let credentials = provider.credentials().await?;
//! println!("{}", credentials.provider_name()); // such as cli_profile/ram_role_arn/static_ak
//! # Ok(())
//! # }
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cli::{CliChain, CliEntry, CliFile};
use super::cli_config::{CliConfig, cli_config};
use super::error::{CliFileError, ProfileError, looked_in, of_provider};
use super::home::{CALLER, Place, Wanted};
use super::kept::Kept;
use crate::contract::env;
use crate::credentials::config::Config;
use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::credentials::variables::Variables;
use crate::world::{BoxFuture, World};

const NAME: &str = "cli_profile";

/// The usual file below the home folder.
const IN_HOME: [&str; 1] = [".aliyun/config.json"];

/// Settings of [`CliProfile`]; what is left out comes from the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CliProfileConfig {
    /// The file.
    pub file: Option<PathBuf>,
    /// Name of the profile.
    pub profile: Option<String>,
}

/// Credentials of a profile. The file is read at each call, so that its edits are followed.
#[derive(Debug, Clone)]
pub struct CliProfile {
    place: Place,
    wanted: Wanted,
    kept: Arc<Kept<CliChain>>,
    world: World,
}

impl CliProfile {
    /// The file is not read yet.
    ///
    /// # Errors
    /// [`CredentialsError::NotConfigured`] when the environment switches this source off,
    /// [`CredentialsError::Misconfigured`] when a variable is not readable.
    pub fn new(config: CliProfileConfig, world: &World) -> Result<Self, CredentialsError> {
        let variables = Variables::of(NAME, world.env.as_ref());
        if variables.switch(env::CLI_PROFILE_DISABLED)? {
            return Err(CredentialsError::not_configured(
                NAME,
                format!("{} switches it off", env::CLI_PROFILE_DISABLED),
            ));
        }
        Ok(Self {
            place: Place::find(config.file, env::CONFIG_FILE, &IN_HOME, variables)?,
            wanted: Wanted::find(config.profile, variables)?,
            kept: Arc::default(),
            world: world.clone(),
        })
    }

    async fn ask(&self) -> Result<Credentials, CredentialsError> {
        let (file, chain) = self.chain()?;
        let name = chain.profile.name().to_owned();
        let provider = self
            .kept
            .provider(chain, |chain| self.provider(file, chain))?;
        match provider.credentials().await {
            Ok(credentials) => Ok(credentials.through(NAME)),
            Err(error) => Err(of_provider(NAME, file, &name, error)),
        }
    }

    /// The file, and the profile with its sources as they stand now.
    fn chain(&self) -> Result<(&Path, CliChain), CredentialsError> {
        let files = self.world.files.as_ref();
        for file in self.place.files() {
            if let Some(content) = self.place.read(files, file).map_err(wrong)? {
                let of_file = |error: CliFileError| wrong(ProfileError::file(file, error));
                let parsed = CliFile::parse(&content).map_err(of_file)?;
                let first = self.profile(file, &parsed)?;
                return Ok((file, parsed.chain(first).map_err(of_file)?));
            }
        }
        Err(CredentialsError::not_configured(
            NAME,
            format!(
                "there is no file of the Alibaba Cloud CLI ({}); run `aliyun configure`, or set {}",
                looked_in(self.place.files()),
                env::CONFIG_FILE
            ),
        ))
    }

    /// The profile that is meant.
    fn profile<'a>(
        &self,
        file: &Path,
        parsed: &'a CliFile,
    ) -> Result<&'a CliEntry, CredentialsError> {
        let of_file = |error: CliFileError| wrong(ProfileError::file(file, error));
        let (name, by) = match &self.wanted {
            Wanted::Given(name) => (name.as_str(), CALLER),
            Wanted::Variable(name) => (name.as_str(), env::PROFILE),
            Wanted::Usual => (parsed.current().map_err(of_file)?, "`current` in it"),
        };
        match (parsed.find(name).map_err(of_file)?, &self.wanted) {
            (Some(entry), _) => Ok(entry),
            (None, Wanted::Variable(_)) => Err(CredentialsError::not_configured(
                NAME,
                format!(
                    "{} has no profile {name:?}, which {by} names",
                    file.display()
                ),
            )),
            (None, Wanted::Given(_) | Wanted::Usual) => Err(wrong(ProfileError::NoProfile {
                profile: name.to_owned(),
                by: Some(by),
                files: vec![file.to_owned()],
            })),
        }
    }

    /// The provider of a profile: its sources are made first, the last one of them to begin with.
    fn provider(
        &self,
        file: &Path,
        chain: &CliChain,
    ) -> Result<Arc<dyn Provider>, CredentialsError> {
        let mut previous = None;
        for source in chain.sources.iter().rev() {
            previous = Some(self.link(file, source, previous)?);
        }
        self.link(file, &chain.profile, previous)
    }

    fn link(
        &self,
        file: &Path,
        entry: &CliEntry,
        source: Option<Arc<dyn Provider>>,
    ) -> Result<Arc<dyn Provider>, CredentialsError> {
        let of_provider = |error| of_provider(NAME, file, entry.name(), error);
        let CliConfig { config, previous } = cli_config(entry)
            .map_err(|mistake| wrong(ProfileError::profile(file, entry.name(), mistake)))?;
        let previous = match previous {
            Some(previous) => Some(previous.provider(&self.world).map_err(of_provider)?),
            None => source,
        };
        let config = Config { previous, ..config };
        config.provider(&self.world).map_err(of_provider)
    }
}

fn wrong(error: ProfileError) -> CredentialsError {
    CredentialsError::misconfigured(NAME, error)
}

impl Provider for CliProfile {
    fn name(&self) -> &str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(self.ask())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::chain::DefaultChain;
    use crate::credentials::profiles::home::HOME;
    use crate::credentials::test_world::world;
    use crate::world::{Http, HttpError, Request, Response};
    use bytes::Bytes;
    use rstest::rstest;
    use serde_json::{Value, json};
    use std::fs;
    use tempfile::TempDir;

    fn profiles() -> Value {
        let role = |name, source| {
            json!({"name": name, "mode": "ChainableRamRoleArn", "source_profile": source,
                "ram_role_arn": "acs:ram::1:role/r", "ram_session_name": "session"})
        };
        json!([
            {"name": "key", "mode": "AK", "access_key_id": "akid", "access_key_secret": "sk"},
            {"name": "custom_profile", "mode": "StsToken", "access_key_id": "akid",
                "access_key_secret": "sk", "sts_token": "st"},
            {"name": "role", "mode": "RamRoleArn", "access_key_id": "akid",
                "access_key_secret": "sk", "ram_role_arn": "acs:ram::1:role/r"},
            {"name": "half", "mode": "RamRoleArn", "ram_role_arn": "acs:ram::1:role/r",
                "access_key_secret": "hunter2"},
            {"name": "instance", "mode": "EcsRamRole"},
            {"name": "odd", "mode": "InvalidMode"},
            role("chained", "role"),
            role("of_half", "half"),
            role("of_nothing", "gone"),
            role("round", "and_round"),
            role("and_round", "round"),
        ])
    }

    /// A home folder with this file of the CLI.
    fn home(content: &str) -> TempDir {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".aliyun")).unwrap();
        fs::write(home.path().join(".aliyun/config.json"), content).unwrap();
        home
    }

    fn file_of(current: &str) -> String {
        json!({"current": current, "profiles": profiles()}).to_string()
    }

    fn at(home: &TempDir, variables: &[(&str, &str)]) -> CliProfile {
        let mut all = vec![(HOME, home.path().to_str().unwrap())];
        all.extend(variables);
        CliProfile::new(CliProfileConfig::default(), &world(&all)).unwrap()
    }

    fn given(home: &TempDir, profile: &str, variables: &[(&str, &str)]) -> CliProfile {
        let config = CliProfileConfig {
            file: Some(home.path().join(".aliyun/config.json")),
            profile: Some(profile.to_owned()),
        };
        CliProfile::new(config, &world(variables)).unwrap()
    }

    async fn name_of(provider: &CliProfile) -> String {
        let credentials = provider.credentials().await.unwrap();
        credentials.provider_name().to_owned()
    }

    async fn misconfigured(provider: &CliProfile) -> String {
        let error = provider.credentials().await.unwrap_err();
        let broken = matches!(error, CredentialsError::Misconfigured { .. });
        assert!(broken, "{error:?}");
        assert_eq!(error.provider(), NAME);
        let shown = error.chain().to_string();
        assert!(!format!("{shown}{error:?}{provider:?}").contains("hunter2"));
        shown
    }

    async fn not_configured(provider: &CliProfile) -> String {
        let error = provider.credentials().await.unwrap_err();
        let absent = matches!(error, CredentialsError::NotConfigured { .. });
        assert!(absent, "{error:?}");
        error.to_string()
    }

    #[tokio::test]
    async fn cli_1_current_is_meant_unless_the_variable_or_the_caller_names_another() {
        let home = home(&file_of("key"));
        let variables = [(env::PROFILE, "custom_profile")];
        assert_eq!(name_of(&at(&home, &[])).await, "cli_profile/static_ak");
        let from_env = name_of(&at(&home, &variables)).await;
        assert_eq!(from_env, "cli_profile/static_sts");
        let from_caller = name_of(&given(&home, "key", &variables)).await;
        assert_eq!(from_caller, "cli_profile/static_ak");
    }

    #[test]
    fn cli_2_a_source_that_is_switched_off_is_not_configured() {
        let variables = [(env::CLI_PROFILE_DISABLED, "True")];
        let error = CliProfile::new(CliProfileConfig::default(), &world(&variables)).unwrap_err();
        assert!(matches!(error, CredentialsError::NotConfigured { .. }));
    }

    #[tokio::test]
    async fn cli_3_a_usual_file_may_be_missing_and_one_that_is_named_may_not() {
        let home = tempfile::tempdir().unwrap();
        let shown = not_configured(&at(&home, &[])).await;
        assert!(shown.contains(".aliyun/config.json"), "{shown}");
        let homeless = CliProfile::new(CliProfileConfig::default(), &world(&[])).unwrap();
        not_configured(&homeless).await;
        let shown = misconfigured(&at(&home, &[(env::CONFIG_FILE, "/no/such/file")])).await;
        assert!(shown.contains(env::CONFIG_FILE), "{shown}");
        let shown = misconfigured(&given(&home, "key", &[])).await;
        assert!(shown.contains("the configuration names"), "{shown}");
    }

    #[rstest]
    #[case::bad_json("{\"current\": \"hunter2", "line 1, column")]
    #[case::of_another_shape("{\"profiles\": \"hunter2\"}", "line 1, column")]
    #[case::no_profiles("{\"current\": \"key\", \"profiles\": []}", "has no profiles")]
    #[case::no_current("{\"profiles\": [{\"name\": \"a\"}]}", "no `current` profile")]
    #[tokio::test]
    async fn cli_3_a_broken_file_is_a_mistake_that_is_not_quoted(
        #[case] content: &str,
        #[case] expected: &str,
    ) {
        let shown = misconfigured(&at(&home(content), &[])).await;
        assert!(shown.contains(expected), "{shown}");
        assert!(shown.contains(".aliyun/config.json"), "{shown}");
    }

    #[tokio::test]
    async fn cli_3_what_is_no_file_is_a_mistake() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join(".aliyun/config.json")).unwrap();
        misconfigured(&at(&home, &[])).await;
    }

    #[tokio::test]
    async fn cli_4_a_profile_that_is_not_found_is_named() {
        let home = home(&file_of("gone"));
        let shown = misconfigured(&at(&home, &[])).await;
        let expected = r#"no file has the profile "gone", which `current` in it names"#;
        assert!(shown.contains(expected), "{shown}");
        let shown = misconfigured(&given(&home, "mistyped", &[])).await;
        assert!(
            shown.contains("\"mistyped\", which the configuration names"),
            "{shown}"
        );
        // The ini file may have it.
        let shown = not_configured(&at(&home, &[(env::PROFILE, "mistyped")])).await;
        assert!(shown.contains("\"mistyped\""), "{shown}");
    }

    #[rstest]
    #[case::cli_6("half", r#"profile "half" of"#, "RamRoleArn requires access_key_id")]
    #[case::cli_7_half_a_source("of_half", r#"profile "half" of"#, "requires access_key_id")]
    #[case::cli_7_no_source("of_nothing", "source_profile \"gone\"", "not there")]
    #[case::cli_8("odd", r#"profile "odd" of"#, "\"InvalidMode\" is no mode")]
    #[case::circle("round", "in a circle", "round -> and_round -> round")]
    #[tokio::test]
    async fn mistakes_name_file_and_profile_and_key(
        #[case] profile: &str,
        #[case] what: &str,
        #[case] why: &str,
    ) {
        // The environment must not fill what the profile lacks.
        let variables = [(env::ACCESS_KEY_ID, "e"), (env::ACCESS_KEY_SECRET, "e")];
        let home = home(&file_of("key"));
        let shown = misconfigured(&given(&home, profile, &variables)).await;
        assert!(shown.contains(what) && shown.contains(why), "{shown}");
        assert!(shown.contains(".aliyun/config.json"), "{shown}");
    }

    #[tokio::test]
    async fn what_the_profile_asks_for_cannot_count_as_not_set_up() {
        let variables = [(env::ECS_METADATA_DISABLED, "true")];
        let home = home(&file_of("instance"));
        let shown = misconfigured(&at(&home, &variables)).await;
        assert!(shown.contains("ecs_ram_role is not configured"), "{shown}");
    }

    #[tokio::test]
    async fn edits_are_followed() {
        let home = home(&file_of("key"));
        let provider = at(&home, &[]);
        assert_eq!(name_of(&provider).await, "cli_profile/static_ak");
        let file = home.path().join(".aliyun/config.json");
        fs::write(&file, file_of("custom_profile")).unwrap();
        assert_eq!(name_of(&provider).await, "cli_profile/static_sts");
    }

    // CLI-10 to CLI-12 are about writing to the file, which is not done here.

    /// Answers as STS does to `AssumeRole`, and tells which host was asked.
    #[derive(Debug)]
    struct Sts;

    impl Http for Sts {
        fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
            let host = request.uri().host().unwrap_or_default();
            let body = json!({"RequestId": "R", "Credentials": {
                "AccessKeyId": host, "AccessKeySecret": "sk", "SecurityToken": "st",
                "Expiration": "2026-01-02T04:04:05Z"}});
            let body = Bytes::from(body.to_string());
            Box::pin(std::future::ready(Ok(Response::new(body))))
        }
    }

    #[tokio::test]
    async fn cli_9_a_chain_of_roles_is_named_in_full() {
        let home = home(&file_of("chained"));
        let world = World {
            http: Arc::new(Sts),
            ..world(&[(HOME, home.path().to_str().unwrap())])
        };
        let credentials = DefaultChain::new(&world).credentials().await.unwrap();
        assert_eq!(
            credentials.provider_name(),
            "default/cli_profile/ram_role_arn/ram_role_arn/static_ak"
        );
    }

    #[tokio::test]
    async fn cli_5_region_and_vpc_of_the_profile_choose_the_host() {
        let content = json!({"current": "p", "profiles": [{"name": "p", "mode": "RamRoleArn",
            "access_key_id": "akid", "access_key_secret": "sk",
            "ram_role_arn": "acs:ram::1:role/r", "sts_region": "cn-beijing", "enable_vpc": true,
            "expired_seconds": 0}]});
        let home = home(&content.to_string());
        let world = World {
            http: Arc::new(Sts),
            ..world(&[(HOME, home.path().to_str().unwrap())])
        };
        let provider = CliProfile::new(CliProfileConfig::default(), &world).unwrap();
        let credentials = provider.credentials().await.unwrap();
        let host = credentials.access_key_id();
        assert_eq!(host, "sts-vpc.cn-beijing.aliyuncs.com");
    }
}
