//! A section of the ini file, as settings. Pure: nothing outside is asked.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::error::ProfileMistake;
use super::ini::Section;
use crate::credentials::config::{Config, Kind};
use crate::credentials::sts_host::StsHost;
use crate::secret::SecretText;

/// Whether the section counts. Left out, it does.
pub(super) fn is_enabled(section: &Section) -> Result<bool, ProfileMistake> {
    Ok(section.switch("enable")?.unwrap_or(true))
}

/// The settings of a section, every required one of them from the section itself.
pub(super) fn ini_config(section: &Section) -> Result<Config, ProfileMistake> {
    let kind: Kind = section
        .text("type")
        .ok_or(ProfileMistake::Missing {
            kind: "an ini profile",
            key: "type",
        })?
        .parse()?;
    let of = Required {
        kind: kind.as_str(),
        section,
    };
    let config = match kind {
        Kind::AccessKey => of.keys()?,
        Kind::Sts => Config {
            security_token: Some(of.secret("security_token")?),
            expiration: section.time("expiration")?,
            ..of.keys()?
        },
        Kind::Bearer => Config {
            bearer_token: Some(of.secret("bearer_token")?),
            ..Config::default()
        },
        Kind::RamRoleArn => Config {
            security_token: section.secret("security_token"),
            external_id: section.secret("external_id"),
            ..of.role(of.keys()?)?
        },
        Kind::OidcRoleArn => Config {
            oidc_provider_arn: Some(of.text("oidc_provider_arn")?),
            oidc_token_file_path: Some(of.text("oidc_token_file_path")?.into()),
            ..of.role(Config::default())?
        },
        Kind::EcsRamRole => Config {
            role_name: section.text("role_name"),
            disable_imds_v1: section.switch("disable_imds_v1")?,
            ..Config::default()
        },
        Kind::CredentialsUri => Config {
            credentials_uri: Some(of.secret("credentials_uri")?),
            ..Config::default()
        },
        Kind::External => Config {
            process_command: Some(of.secret("process_command")?),
            ..Config::default()
        },
        Kind::CloudSso | Kind::OAuth => return Err(ProfileMistake::CliOnly(kind.as_str())),
    };
    Ok(Config {
        kind: Some(kind),
        ..config
    })
}

/// The keys that a type must have.
struct Required<'a> {
    kind: &'static str,
    section: &'a Section,
}

impl Required<'_> {
    fn secret(&self, key: &'static str) -> Result<SecretText, ProfileMistake> {
        let kind = self.kind;
        self.section
            .secret(key)
            .ok_or(ProfileMistake::Missing { kind, key })
    }

    fn text(&self, key: &'static str) -> Result<String, ProfileMistake> {
        Ok(self.secret(key)?.expose().to_owned())
    }

    fn keys(&self) -> Result<Config, ProfileMistake> {
        Ok(Config {
            access_key_id: Some(self.text("access_key_id")?),
            access_key_secret: Some(self.secret("access_key_secret")?),
            ..Config::default()
        })
    }

    /// What both ways to a role share.
    fn role(&self, config: Config) -> Result<Config, ProfileMistake> {
        let section = self.section;
        Ok(Config {
            role_arn: Some(self.text("role_arn")?),
            role_session_name: section.text("role_session_name"),
            role_session_expiration: section.seconds("role_session_expiration")?,
            policy: section.text("policy"),
            sts: StsHost {
                endpoint: section.text("sts_endpoint"),
                region: section.text("sts_region"),
                vpc: section.switch("enable_vpc")?,
            },
            ..config
        })
    }
}

impl Section {
    fn switch(&self, key: &'static str) -> Result<Option<bool>, ProfileMistake> {
        match self
            .text(key)
            .map(|text| text.to_ascii_lowercase())
            .as_deref()
        {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(ProfileMistake::Illegal {
                key,
                expected: "true or false",
            }),
        }
    }

    /// Zero when there are none.
    fn seconds(&self, key: &'static str) -> Result<Duration, ProfileMistake> {
        let Some(text) = self.text(key) else {
            return Ok(Duration::ZERO);
        };
        text.parse()
            .map(Duration::from_secs)
            .map_err(|_| ProfileMistake::Illegal {
                key,
                expected: "a number of seconds",
            })
    }

    fn time(&self, key: &'static str) -> Result<Option<DateTime<Utc>>, ProfileMistake> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        let time = DateTime::parse_from_rfc3339(&text).map_err(|_| ProfileMistake::Illegal {
            key,
            expected: "a time like 2026-01-02T03:04:05Z",
        })?;
        Ok(Some(time.with_timezone(&Utc)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::config::InvalidKind;
    use crate::credentials::profiles::ini;
    use rstest::rstest;

    const KEYS: &str = "access_key_id = akid\naccess_key_secret = aksecret\n";
    const ROLE: &str = "role_arn = acs:ram::1:role/r\nrole_session_name = s\n\
        role_session_expiration = 900\npolicy = {}\nsts_region = cn-beijing\nenable_vpc = True\n";

    fn read(text: &str) -> Result<Config, ProfileMistake> {
        let mut sections = ini::parse(format!("[s]\n{text}").as_bytes()).unwrap();
        ini_config(&sections.remove("s").unwrap())
    }

    fn config(text: &str) -> Config {
        read(text).unwrap()
    }

    #[test]
    fn keys_and_tokens_are_taken() {
        let config = config(&format!(
            "type = sts\n{KEYS}security_token = st\nexpiration = 2026-01-02T04:00:00Z"
        ));
        assert_eq!(
            config.expiration,
            Some("2026-01-02T04:00:00Z".parse().unwrap())
        );
        assert_eq!(config.kind, Some(Kind::Sts));
        assert_eq!(config.access_key_id.as_deref(), Some("akid"));
        assert_eq!(config.access_key_secret, Some("aksecret".into()));
        assert_eq!(config.security_token, Some("st".into()));
    }

    #[test]
    fn roles_are_taken_with_their_sessions_and_hosts() {
        let oidc = "oidc_provider_arn = p\noidc_token_file_path = /t\n";
        for text in [
            format!("type = ram_role_arn\n{KEYS}{ROLE}"),
            format!("type = oidc_role_arn\n{oidc}{ROLE}"),
        ] {
            let config = config(&text);
            assert_eq!(config.role_arn.as_deref(), Some("acs:ram::1:role/r"));
            assert_eq!(config.role_session_name.as_deref(), Some("s"));
            assert_eq!(config.role_session_expiration, Duration::from_mins(15));
            assert_eq!(config.policy.as_deref(), Some("{}"));
            assert_eq!(config.sts.region.as_deref(), Some("cn-beijing"));
            assert_eq!(config.sts.vpc, Some(true));
        }
        let ram = format!("type = ram_role_arn\n{KEYS}{ROLE}external_id = e\nsecurity_token = st");
        let ram = config(&ram);
        assert_eq!(ram.external_id, Some("e".into()));
        assert_eq!(ram.security_token, Some("st".into()));
        let oidc = config(&format!("type = oidc_role_arn\n{oidc}{ROLE}"));
        assert_eq!(oidc.oidc_provider_arn.as_deref(), Some("p"));
        assert_eq!(oidc.oidc_token_file_path, Some("/t".into()));
    }

    #[test]
    fn the_other_types_take_their_keys() {
        let bearer = config("type = bearer\nbearer_token = b");
        assert_eq!(bearer.bearer_token, Some("b".into()));
        let uri = config("type = credentials_uri\ncredentials_uri = http://h/p#f");
        assert_eq!(uri.credentials_uri, Some("http://h/p#f".into()));
        let external = config("type = external\nprocess_command = '\"/a b\" -c'");
        assert_eq!(external.process_command, Some("\"/a b\" -c".into()));
    }

    #[test]
    fn ini_4_differs_on_purpose_the_instance_says_its_role() {
        assert_eq!(config("type = ecs_ram_role").role_name, None);
        let named = config("type = ecs_ram_role\nrole_name = r\ndisable_imds_v1 = true");
        assert_eq!(named.role_name.as_deref(), Some("r"));
        assert_eq!(named.disable_imds_v1, Some(true));
    }

    #[test]
    fn zero_seconds_and_empty_keys_are_the_default() {
        let text = "type = ram_role_arn\nrole_arn = r\nrole_session_expiration = 0\npolicy =\n";
        let config = config(&format!("{text}{KEYS}"));
        assert_eq!(config.role_session_expiration, Duration::ZERO);
        assert_eq!(config.policy, None);
        assert_eq!(config.role_session_name, None);
        assert_eq!(config.sts, StsHost::default());
    }

    #[rstest]
    #[case::ini_1_no_type("access_key_id = akid", "type")]
    #[case::ini_2_missing("type = access_key\naccess_key_secret = s", "access_key_id")]
    #[case::ini_2_empty(
        "type = access_key\naccess_key_id =\naccess_key_secret = s",
        "access_key_id"
    )]
    #[case::secret("type = access_key\naccess_key_id = akid", "access_key_secret")]
    #[case::sts(
        "type = sts\naccess_key_id = akid\naccess_key_secret = s",
        "security_token"
    )]
    #[case::ini_5(
        "type = ram_role_arn\naccess_key_id = akid\naccess_key_secret = s",
        "role_arn"
    )]
    #[case::ini_5_empty(
        "type = ram_role_arn\naccess_key_id = \naccess_key_secret = s",
        "access_key_id"
    )]
    #[case::oidc(
        "type = oidc_role_arn\nrole_arn = r\noidc_provider_arn = p",
        "oidc_token_file_path"
    )]
    #[case::bearer("type = bearer", "bearer_token")]
    #[case::uri("type = credentials_uri", "credentials_uri")]
    #[case::external("type = external", "process_command")]
    fn a_missing_key_is_named(#[case] text: &str, #[case] missing: &str) {
        let Err(ProfileMistake::Missing { key, .. }) = read(text) else {
            panic!("{text}");
        };
        assert_eq!(key, missing);
    }

    #[rstest]
    #[case("type = ecs_ram_role\ndisable_imds_v1 = 1", "disable_imds_v1")]
    #[case(
        "type = ram_role_arn\nrole_arn = r\nrole_session_expiration = 1h",
        "role_session_expiration"
    )]
    #[case("type = sts\nsecurity_token = st\nexpiration = tomorrow", "expiration")]
    fn an_illegal_value_is_named_by_its_key(#[case] text: &str, #[case] wrong: &str) {
        let Err(ProfileMistake::Illegal { key, .. }) = read(&format!("{text}\n{KEYS}")) else {
            panic!("{text}");
        };
        assert_eq!(key, wrong);
    }

    #[rstest]
    #[case::ini_1_unknown("unknown", ProfileMistake::Kind(InvalidKind::Unknown("unknown".to_owned())))]
    #[case::key_pair("rsa_key_pair", ProfileMistake::Kind(InvalidKind::RsaKeyPair))]
    #[case::cli_only("oauth", ProfileMistake::CliOnly("oauth"))]
    fn what_is_no_type_of_an_ini_file_is_refused(
        #[case] kind: &str,
        #[case] expected: ProfileMistake,
    ) {
        assert_eq!(read(&format!("type = {kind}")).unwrap_err(), expected);
    }

    #[rstest]
    #[case::left_out("", Ok(true))]
    #[case::ini_7_true("enable = true", Ok(true))]
    #[case::ini_7_any_case("enable = True", Ok(true))]
    #[case::ini_7_false("enable = FALSE", Ok(false))]
    #[case::ini_7_one("enable = 1", Err(()))]
    fn only_false_switches_a_section_off(#[case] text: &str, #[case] expected: Result<bool, ()>) {
        let sections = ini::parse(format!("[s]\n{text}").as_bytes()).unwrap();
        assert_eq!(is_enabled(&sections["s"]).map_err(|_| ()), expected);
    }
}
