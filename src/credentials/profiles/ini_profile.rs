//! `profile`: a section of the ini file of the SDKs.
//!
//! | setting | else the variable | else |
//! |---|---|---|
//! | file | `ALIBABA_CLOUD_CREDENTIALS_FILE` | `~/.alibabacloud/credentials.ini`, then `~/.alibabacloud/credentials` |
//! | profile | `ALIBABA_CLOUD_PROFILE` | `default` |
//!
//! `~` is `HOME`, on Windows `USERPROFILE`.
//! The two usual files are looked at in this order, and the first one that has the section counts:
//! the official SDKs know one of the two each.
//!
//! | `type` | required keys | optional keys |
//! |---|---|---|
//! | `access_key` | `access_key_id`, `access_key_secret` | |
//! | `sts` | the same, `security_token` | `expiration`: when they end (RFC 3339); afterwards they are not given out |
//! | `bearer` | `bearer_token` | |
//! | `ram_role_arn` | `access_key_id`, `access_key_secret`, `role_arn` | `security_token`, `external_id`, and those of a role |
//! | `oidc_role_arn` | `role_arn`, `oidc_provider_arn`, `oidc_token_file_path` | those of a role |
//! | `ecs_ram_role` | | `role_name`, `disable_imds_v1` |
//! | `credentials_uri` | `credentials_uri` | |
//! | `external` | `process_command` | |
//!
//! Those of a role are `role_session_name`, `role_session_expiration` (seconds, 0 for the
//! default), `policy`, `sts_region`, `enable_vpc` and `sts_endpoint`. Required keys must stand in
//! the section: an identity is never put together from the file and the environment. What is
//! optional and left out comes from where the type's own page says. `enable = false` switches a
//! section off; left out, it counts. Other keys, such as `region_id`, are ignored.
//!
//! The official SDKs read one file in different ways; these are the rules here:
//!
//! * `[name]` begins a section; letter case counts. What stands before the first one is a mistake.
//! * `key = value` or `key: value`; the first of the two signs parts them. The letter case of keys
//!   does not count. An empty value counts as none.
//! * A line whose first character other than a blank is `#` or `;` is a comment.
//! * Behind a value or a section a comment begins at a `#` or `;` **after a blank**. Without the
//!   blank they belong to the value: keys and passwords may contain them.
//! * A value in a pair of `"` or `'` is what stands between them: blanks and comment signs are
//!   kept, and nothing is escaped. A value that begins with a quote but is not surrounded by the
//!   pair, or contains that quote once more, is a mistake: put it into quotes of the other kind.
//! * Nothing is expanded, no section inherits from another, and a value has one line. A line that
//!   goes in deeper than the key above it, which would continue a value in Python, is a mistake.
//! * A section or a key that stands twice is a mistake, because one of two secrets is the wrong one.
//! * UTF-8 with or without a byte order mark; lines end with LF or CRLF.
//!
//! A mistake anywhere makes the whole file unusable, and the error names the line, never what
//! stands there.
//!
//! | | |
//! |---|---|
//! | nobody named file or profile, and there is no usual file, or no section `default` | not configured |
//! | the section has `enable = false` | not configured |
//! | a file that is named is missing, or cannot be read, or has a mistake | misconfigured |
//! | a profile that is named is in no file, also when there is no file | misconfigured: a mistyped name must not end with the node's role |
//! | a file is named, no profile is, and it has no section `default` | misconfigured |
//! | the section has no type, an unknown one, or lacks a key | misconfigured |
//! | what the section asks for is not set up here | misconfigured |
//!
//! The file is read at each call, since a mounted Secret changes; the provider of a section is
//! kept while the section stays the same.
//!
//! ```no_run
//! use rrsa::credentials::{IniProfile, IniProfileConfig, Provider};
//! use rrsa::world::World;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = IniProfileConfig {
//!     profile: Some("reports".to_owned()),
//!     ..IniProfileConfig::default()
//! };
//! let provider = IniProfile::new(config, &World::system()?)?;
//! let credentials = provider.credentials().await?;
//! println!("{}", credentials.provider_name()); // such as profile/static_sts
//! # Ok(())
//! # }
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{ProfileError, ProfileMistake, looked_in, of_provider};
use super::home::{CALLER, Place, Wanted};
use super::ini::{self, Section};
use super::ini_config::{ini_config, is_enabled};
use super::kept::Kept;
use crate::contract::env;
use crate::credentials::error::CredentialsError;
use crate::credentials::provider::Provider;
use crate::credentials::snapshot::Credentials;
use crate::credentials::variables::Variables;
use crate::world::{BoxFuture, World};

const NAME: &str = "profile";

/// The usual files below the home folder: the first is Python's and Java's, the second Go's and
/// Node's.
const IN_HOME: [&str; 2] = [".alibabacloud/credentials.ini", ".alibabacloud/credentials"];

/// The section that is meant when nobody names one.
const DEFAULT: &str = "default";

/// Settings of [`IniProfile`]; what is left out comes from the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IniProfileConfig {
    /// The file.
    pub file: Option<PathBuf>,
    /// Name of the profile.
    pub profile: Option<String>,
}

/// Credentials of a profile. The file is read at each call, so that its edits are followed.
#[derive(Debug, Clone)]
pub struct IniProfile {
    place: Place,
    wanted: Wanted,
    kept: Arc<Kept<Section>>,
    world: World,
}

impl IniProfile {
    /// The file is not read yet.
    ///
    /// # Errors
    /// [`CredentialsError::Misconfigured`] when a variable is not readable.
    pub fn new(config: IniProfileConfig, world: &World) -> Result<Self, CredentialsError> {
        let variables = Variables::of(NAME, world.env.as_ref());
        Ok(Self {
            place: Place::find(config.file, env::CREDENTIALS_FILE, &IN_HOME, variables)?,
            wanted: Wanted::find(config.profile, variables)?,
            kept: Arc::default(),
            world: world.clone(),
        })
    }

    fn profile(&self) -> &str {
        match &self.wanted {
            Wanted::Given(name) | Wanted::Variable(name) => name,
            Wanted::Usual => DEFAULT,
        }
    }

    async fn ask(&self) -> Result<Credentials, CredentialsError> {
        let (file, section) = self.section()?;
        let provider = self
            .kept
            .provider(section, |section| self.provider(file, section))?;
        match provider.credentials().await {
            Ok(credentials) => Ok(credentials.through(NAME)),
            Err(error) => Err(of_provider(NAME, file, self.profile(), error)),
        }
    }

    /// The section as it stands now, and the file that has it.
    fn section(&self) -> Result<(&Path, Section), CredentialsError> {
        for file in self.place.files() {
            let content = self
                .place
                .read(self.world.files.as_ref(), file)
                .map_err(wrong)?;
            let Some(content) = content else { continue };
            let mut sections =
                ini::parse(&content).map_err(|error| wrong(ProfileError::file(file, error)))?;
            let Some(section) = sections.remove(self.profile()) else {
                continue;
            };
            if is_enabled(&section).map_err(|mistake| self.mistake(file, mistake))? {
                return Ok((file, section));
            }
            return Err(CredentialsError::not_configured(
                NAME,
                format!(
                    "the profile {:?} of {} has enable = false",
                    self.profile(),
                    file.display()
                ),
            ));
        }
        Err(self.absence())
    }

    /// What it means that no file has the section.
    fn absence(&self) -> CredentialsError {
        let files = self.place.files();
        let by = match (&self.wanted, &self.place) {
            (Wanted::Given(_), _) => Some(CALLER),
            (Wanted::Variable(_), _) => Some(env::PROFILE),
            (Wanted::Usual, Place::Named { .. }) => None,
            (Wanted::Usual, Place::Usual(_)) => {
                return CredentialsError::not_configured(
                    NAME,
                    format!(
                        "no file has the section [{DEFAULT}] ({}); set {} or {}",
                        looked_in(files),
                        env::CREDENTIALS_FILE,
                        env::PROFILE
                    ),
                );
            }
        };
        wrong(ProfileError::NoProfile {
            profile: self.profile().to_owned(),
            by,
            files: files.to_vec(),
        })
    }

    fn provider(
        &self,
        file: &Path,
        section: &Section,
    ) -> Result<Arc<dyn Provider>, CredentialsError> {
        ini_config(section)
            .map_err(|mistake| self.mistake(file, mistake))?
            .provider(&self.world)
            .map_err(|error| of_provider(NAME, file, self.profile(), error))
    }

    fn mistake(&self, file: &Path, mistake: ProfileMistake) -> CredentialsError {
        wrong(ProfileError::profile(file, self.profile(), mistake))
    }
}

fn wrong(error: ProfileError) -> CredentialsError {
    CredentialsError::misconfigured(NAME, error)
}

impl Provider for IniProfile {
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
    use crate::credentials::profiles::home::HOME;
    use crate::credentials::test_world::world;
    use rstest::rstest;
    use std::fs;
    use tempfile::TempDir;

    const KEYS: &str = "type = access_key\naccess_key_id = foo\naccess_key_secret = bar\n";

    /// A home folder with these files in `.alibabacloud`.
    fn home(files: &[(&str, &str)]) -> TempDir {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".alibabacloud")).unwrap();
        for (name, content) in files {
            fs::write(home.path().join(".alibabacloud").join(name), content).unwrap();
        }
        home
    }

    fn at(home: &TempDir, variables: &[(&str, &str)]) -> IniProfile {
        let mut all = vec![(HOME, home.path().to_str().unwrap())];
        all.extend(variables);
        IniProfile::new(IniProfileConfig::default(), &world(&all)).unwrap()
    }

    /// The key id, and the provider's name; else the error.
    async fn ask(provider: &IniProfile) -> Result<(String, String), CredentialsError> {
        let credentials = provider.credentials().await?;
        let id = credentials.access_key_id().to_owned();
        Ok((id, credentials.provider_name().to_owned()))
    }

    async fn misconfigured(provider: &IniProfile) -> String {
        let error = ask(provider).await.unwrap_err();
        let broken = matches!(error, CredentialsError::Misconfigured { .. });
        assert!(broken, "{error:?}");
        assert_eq!(error.provider(), NAME);
        error.chain().to_string()
    }

    async fn not_configured(provider: &IniProfile) -> String {
        let error = ask(provider).await.unwrap_err();
        let absent = matches!(error, CredentialsError::NotConfigured { .. });
        assert!(absent, "{error:?}");
        error.to_string()
    }

    #[tokio::test]
    async fn ini_3_the_default_section_is_given_out() {
        let text = format!("[default]\n{KEYS}");
        let home = home(&[("credentials.ini", &text)]);
        let provider = at(&home, &[]);
        let expected = ("foo".to_owned(), "profile/static_ak".to_owned());
        assert_eq!(ask(&provider).await.unwrap(), expected);
        assert_eq!(provider.name(), "profile");
    }

    #[tokio::test]
    async fn both_usual_files_are_looked_at() {
        let first = "[default]\ntype = bearer\nbearer_token = b";
        let second = format!("[default]\n{KEYS}\n[other]\n{KEYS}");
        let home = home(&[("credentials.ini", first), ("credentials", &second)]);
        assert_eq!(ask(&at(&home, &[])).await.unwrap().1, "profile/bearer");
        let other = at(&home, &[(env::PROFILE, "other")]);
        assert_eq!(ask(&other).await.unwrap().1, "profile/static_ak");
        fs::remove_file(home.path().join(".alibabacloud/credentials.ini")).unwrap();
        assert_eq!(ask(&at(&home, &[])).await.unwrap().1, "profile/static_ak");
    }

    #[tokio::test]
    async fn what_nobody_named_may_be_missing() {
        let home = home(&[]);
        let shown = not_configured(&at(&home, &[])).await;
        assert!(shown.contains("credentials.ini"), "{shown}");
        let other = format!("[other]\n{KEYS}");
        fs::write(home.path().join(".alibabacloud/credentials"), other).unwrap();
        not_configured(&at(&home, &[])).await;
        let homeless = IniProfile::new(IniProfileConfig::default(), &world(&[])).unwrap();
        let shown = not_configured(&homeless).await;
        assert!(shown.contains(HOME), "{shown}");
    }

    #[tokio::test]
    async fn ini_7_a_section_that_is_switched_off_is_not_configured() {
        let text = format!("[default]\nenable = False\n{KEYS}");
        let shown = not_configured(&at(&home(&[("credentials", &text)]), &[])).await;
        assert!(shown.contains("enable"), "{shown}");
        let text = format!("[default]\nenable = 1\n{KEYS}");
        let shown = misconfigured(&at(&home(&[("credentials", &text)]), &[])).await;
        assert!(shown.contains("enable must be"), "{shown}");
    }

    #[tokio::test]
    async fn a_profile_that_is_named_must_be_somewhere() {
        let text = format!("[default]\n{KEYS}");
        let named = [(env::PROFILE, "mistyped")];
        for home in [home(&[("credentials", &text)]), home(&[])] {
            let shown = misconfigured(&at(&home, &named)).await;
            let expected = r#"no file has the profile "mistyped", which ALIBABA_CLOUD_PROFILE"#;
            assert!(shown.contains(expected), "{shown}");
        }
        let homeless = IniProfile::new(IniProfileConfig::default(), &world(&named)).unwrap();
        misconfigured(&homeless).await;
        let given = IniProfileConfig {
            profile: Some("default".to_owned()),
            ..IniProfileConfig::default()
        };
        let given = IniProfile::new(given, &world(&[])).unwrap();
        let shown = misconfigured(&given).await;
        assert!(shown.contains("the configuration names"), "{shown}");
    }

    #[tokio::test]
    async fn a_file_that_is_named_must_be_there_with_its_section() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        let variables = [(env::CREDENTIALS_FILE, file.to_str().unwrap())];
        let provider = IniProfile::new(IniProfileConfig::default(), &world(&variables)).unwrap();
        let shown = misconfigured(&provider).await;
        assert!(shown.contains(env::CREDENTIALS_FILE), "{shown}");
        fs::write(&file, format!("[other]\n{KEYS}")).unwrap();
        let shown = misconfigured(&provider).await;
        assert!(shown.contains("because none is named"), "{shown}");
        fs::write(&file, format!("[default]\n{KEYS}")).unwrap();
        assert_eq!(ask(&provider).await.unwrap().0, "foo");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        misconfigured(&provider).await;
    }

    #[rstest]
    #[case::ini_1_no_type("access_key_id = foo", "requires type")]
    #[case::ini_1_unknown("type = unknown", "\"unknown\" is no type")]
    #[case::ini_2(
        "type = access_key\naccess_key_secret = hunter2",
        "access_key requires access_key_id"
    )]
    #[case::ini_5(
        "type = ram_role_arn\naccess_key_id = foo\naccess_key_secret = hunter2",
        "requires role_arn"
    )]
    #[case::illegal(
        "type = ram_role_arn\naccess_key_id = foo\naccess_key_secret = hunter2\nrole_arn = role",
        "ram_role_arn is misconfigured"
    )]
    #[case::not_surrounded("access_key_secret = \"hunter2", "line 2 has a value")]
    #[tokio::test]
    async fn mistakes_name_file_and_profile_and_key_and_never_a_value(
        #[case] section: &str,
        #[case] expected: &str,
    ) {
        // The environment must not fill what the section lacks.
        let variables = [
            (env::ACCESS_KEY_ID, "env"),
            (env::ACCESS_KEY_SECRET, "env"),
            (env::ROLE_ARN, "acs:ram::1:role/r"),
        ];
        let text = format!("[default]\n{section}\n");
        let home = home(&[("credentials", &text)]);
        let provider = at(&home, &variables);
        let shown = misconfigured(&provider).await;
        assert!(shown.contains(expected), "{shown}");
        assert!(shown.contains(".alibabacloud/credentials"), "{shown}");
        let error = ask(&provider).await.unwrap_err();
        assert!(!format!("{shown}{error:?}{provider:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn what_the_section_asks_for_cannot_count_as_not_set_up() {
        let home = home(&[("credentials", "[default]\ntype = ecs_ram_role")]);
        let off = at(&home, &[(env::ECS_METADATA_DISABLED, "true")]);
        let shown = misconfigured(&off).await;
        assert!(shown.contains("ecs_ram_role is not configured"), "{shown}");
        // Without the switch it is asked, and nobody answers here.
        let error = ask(&at(&home, &[])).await.unwrap_err();
        assert!(error.is_transient(), "{error:?}");
    }

    #[tokio::test]
    async fn edits_are_followed() {
        let home = home(&[]);
        let file = home.path().join(".alibabacloud/credentials.ini");
        let provider = at(&home, &[]);
        not_configured(&provider).await;
        for id in ["one", "two"] {
            fs::write(&file, format!("[default]\n{KEYS}").replace("foo", id)).unwrap();
            assert_eq!(ask(&provider).await.unwrap().0, id);
        }
    }

    #[tokio::test]
    async fn a_file_as_the_operator_writes_it_is_read_until_it_ends() {
        let text = "[default]\nenable = true\ntype = sts\naccess_key_id = STS.id\n\
            access_key_secret = sk\nsecurity_token = st\nexpiration = 2026-01-02T04:00:00Z\n";
        let file = home(&[("credentials.ini", text)]);
        let credentials = at(&file, &[]).credentials().await.unwrap();
        assert_eq!(credentials.provider_name(), "profile/static_sts");
        assert_eq!(credentials.security_token().unwrap().expose(), "st");
        let end = "2026-01-02T04:00:00Z".parse().unwrap();
        assert_eq!(credentials.expiration(), Some(end));
        let over = text.replace("04:00:00", "03:00:00");
        let shown = misconfigured(&at(&home(&[("credentials.ini", &over)]), &[])).await;
        assert!(shown.contains("the credentials ended"), "{shown}");
    }
}
