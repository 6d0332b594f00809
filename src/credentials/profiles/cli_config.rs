//! A profile of the Alibaba Cloud CLI, as settings. Pure: nothing outside is asked.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::cli::{CliEntry, Mode};
use super::error::ProfileMistake;
use crate::credentials::config::{Config, Kind};
use crate::credentials::snapshot::Credentials;
use crate::credentials::sts_host::StsHost;
use crate::credentials::{CloudSsoConfig, OAuthConfig, OAuthSite};
use crate::secret::SecretText;

/// Whether the key of a profile is a temporary one, which STS takes only with its token. Beside
/// another one a token is left over from another mode: the CLI keeps all fields when the mode
/// changes, and STS would refuse the pair.
fn temporary(entry: &CliEntry) -> bool {
    let id = entry.access_key_id.as_deref();
    id.is_some_and(|id| id.starts_with("STS."))
}

/// What a profile asks for.
#[derive(Debug)]
pub(super) struct CliConfig {
    /// The settings, every required one of them from the profile itself.
    pub(super) config: Config,
    /// Whose credentials assume the role, where the profile itself says so; that of a
    /// `source_profile` is not here.
    pub(super) previous: Option<Config>,
}

pub(super) fn cli_config(entry: &CliEntry) -> Result<CliConfig, ProfileMistake> {
    let mode = entry.mode()?;
    let of = Required { mode, entry };
    let previous = (mode == Mode::RamRoleArnWithRoleName).then(|| instance_role(entry));
    let config = match mode {
        Mode::Ak => of.keys(Kind::AccessKey)?,
        Mode::StsToken => Config {
            security_token: Some(of.secret("sts_token", entry.sts_token.as_ref())?),
            ..of.keys(Kind::Sts)?
        },
        Mode::RamRoleArn => Config {
            security_token: temporary(entry)
                .then(|| secret(entry.sts_token.as_ref()))
                .flatten(),
            ..of.role(of.keys(Kind::RamRoleArn)?)?
        },
        Mode::EcsRamRole => instance_role(entry),
        Mode::RamRoleArnWithRoleName => of.role(config(Kind::RamRoleArn))?,
        Mode::ChainableRamRoleArn => {
            of.text("source_profile", entry.source_profile.as_ref())?;
            of.role(config(Kind::RamRoleArn))?
        }
        Mode::Oidc => Config {
            oidc_provider_arn: Some(
                of.text("oidc_provider_arn", entry.oidc_provider_arn.as_ref())?,
            ),
            oidc_token_file_path: Some(
                of.text("oidc_token_file", entry.oidc_token_file.as_ref())?
                    .into(),
            ),
            ..of.role(config(Kind::OidcRoleArn))?
        },
        Mode::CloudSso => Config {
            cloud_sso: of.cloud_sso()?,
            ..config(Kind::CloudSso)
        },
        Mode::OAuth => Config {
            oauth: of.oauth()?,
            ..config(Kind::OAuth)
        },
        Mode::External => Config {
            process_command: Some(of.secret("process_command", entry.process_command.as_ref())?),
            ..config(Kind::External)
        },
        Mode::CredentialsUri => Config {
            credentials_uri: Some(of.secret("credentials_uri", entry.credentials_uri.as_ref())?),
            ..config(Kind::CredentialsUri)
        },
        Mode::BearerToken => Config {
            bearer_token: Some(of.secret("bearer_token", entry.bearer_token.as_ref())?),
            ..config(Kind::Bearer)
        },
    };
    Ok(CliConfig { config, previous })
}

/// The keys that a mode must have.
struct Required<'a> {
    mode: Mode,
    entry: &'a CliEntry,
}

impl Required<'_> {
    fn missing(&self, key: &'static str) -> ProfileMistake {
        let kind = self.mode.as_str();
        ProfileMistake::Missing { kind, key }
    }

    fn text(&self, key: &'static str, given: Option<&String>) -> Result<String, ProfileMistake> {
        text(given).ok_or_else(|| self.missing(key))
    }

    fn secret(
        &self,
        key: &'static str,
        given: Option<&SecretText>,
    ) -> Result<SecretText, ProfileMistake> {
        secret(given).ok_or_else(|| self.missing(key))
    }

    fn keys(&self, kind: Kind) -> Result<Config, ProfileMistake> {
        let id = self.text("access_key_id", self.entry.access_key_id.as_ref())?;
        let secret = self.secret("access_key_secret", self.entry.access_key_secret.as_ref())?;
        Ok(Config {
            access_key_id: Some(id),
            access_key_secret: Some(secret),
            ..config(kind)
        })
    }

    /// What all ways to a role share.
    fn role(&self, config: Config) -> Result<Config, ProfileMistake> {
        let entry = self.entry;
        Ok(Config {
            role_arn: Some(self.text("ram_role_arn", entry.ram_role_arn.as_ref())?),
            role_session_name: text(entry.ram_session_name.as_ref()),
            role_session_expiration: Duration::from_secs(entry.expired_seconds.unwrap_or(0)),
            policy: text(entry.policy.as_ref()),
            external_id: secret(entry.external_id.as_ref()),
            sts: StsHost {
                endpoint: text(entry.sts_endpoint.as_ref()).map(|url| host(&url).to_owned()),
                region: text(entry.sts_region.as_ref()),
                vpc: entry.enable_vpc,
            },
            ..config
        })
    }

    fn cloud_sso(&self) -> Result<CloudSsoConfig, ProfileMistake> {
        let entry = self.entry;
        let url = self.text(
            "cloud_sso_sign_in_url",
            entry.cloud_sso_sign_in_url.as_ref(),
        )?;
        let account = self.text("cloud_sso_account_id", entry.cloud_sso_account_id.as_ref())?;
        let access = self.text(
            "cloud_sso_access_config",
            entry.cloud_sso_access_config.as_ref(),
        )?;
        let end = time(entry.cloud_sso_access_token_expire)
            .ok_or_else(|| self.missing("cloud_sso_access_token_expire"))?;
        Ok(CloudSsoConfig {
            sign_in_url: Some(url),
            account_id: Some(account),
            access_configuration_id: Some(access),
            access_token: Some(self.secret("access_token", entry.access_token.as_ref())?),
            access_token_expiration: Some(end),
        })
    }

    fn oauth(&self) -> Result<OAuthConfig, ProfileMistake> {
        let entry = self.entry;
        let site = self.text("oauth_site_type", entry.oauth_site_type.as_ref())?;
        let site = match site.to_ascii_uppercase().as_str() {
            "CN" => OAuthSite::China,
            "INTL" => OAuthSite::International,
            _ => {
                return Err(ProfileMistake::Illegal {
                    key: "oauth_site_type",
                    expected: "CN or INTL",
                });
            }
        };
        Ok(OAuthConfig {
            site,
            access_token: secret(entry.oauth_access_token.as_ref()),
            access_token_expiration: time(entry.oauth_access_token_expire),
            refresh_token: secret(entry.oauth_refresh_token.as_ref()),
            issued: issued(entry),
        })
    }
}

fn config(kind: Kind) -> Config {
    Config {
        kind: Some(kind),
        ..Config::default()
    }
}

fn instance_role(entry: &CliEntry) -> Config {
    Config {
        role_name: text(entry.ram_role_name.as_ref()),
        ..config(Kind::EcsRamRole)
    }
}

/// What the CLI got for a login and wrote down, if it is there as a whole.
fn issued(entry: &CliEntry) -> Option<Credentials> {
    let (id, token) = (
        text(entry.access_key_id.as_ref())?,
        secret(entry.sts_token.as_ref())?,
    );
    let keys = Credentials::new(
        id,
        secret(entry.access_key_secret.as_ref())?,
        Kind::OAuth.as_str(),
    );
    let end = time(entry.sts_expiration)?;
    Some(keys.with_security_token(token).with_expiration(end))
}

/// The CLI takes a URL for the host, and so does this.
fn host(endpoint: &str) -> &str {
    let host = endpoint.trim();
    let host = host.strip_prefix("https://").unwrap_or(host);
    let host = host.strip_prefix("http://").unwrap_or(host);
    host.strip_suffix('/').unwrap_or(host)
}

fn text(given: Option<&String>) -> Option<String> {
    given.filter(|text| !text.is_empty()).cloned()
}

fn secret(given: Option<&SecretText>) -> Option<SecretText> {
    given.filter(|text| !text.is_empty()).cloned()
}

fn time(seconds: Option<i64>) -> Option<DateTime<Utc>> {
    let seconds = seconds.filter(|seconds| *seconds > 0)?;
    DateTime::from_timestamp(seconds, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn read(mode: Mode, rest: &Value) -> Result<CliConfig, ProfileMistake> {
        let mut profile = json!({"name": "p", "mode": mode.as_str()});
        let rest = rest.as_object().unwrap().clone();
        profile.as_object_mut().unwrap().extend(rest);
        cli_config(&serde_json::from_value(profile).unwrap())
    }

    fn only(mode: Mode, rest: &Value) -> Config {
        let CliConfig { config, previous } = read(mode, rest).unwrap();
        assert!(previous.is_none());
        config
    }

    /// A profile that has every key.
    fn whole() -> Value {
        json!({
            "access_key_id": "akid", "access_key_secret": "aksecret", "sts_token": "st",
            "sts_expiration": 1_767_326_400, "sts_region": "cn-beijing", "enable_vpc": true,
            "sts_endpoint": "https://sts.example/", "ram_role_name": "instance",
            "ram_role_arn": "acs:ram::1:role/r", "ram_session_name": "s", "expired_seconds": 900,
            "policy": "{}", "external_id": "e", "source_profile": "q",
            "oidc_provider_arn": "op", "oidc_token_file": "/t", "credentials_uri": "http://u",
            "process_command": "c", "bearer_token": "b", "cloud_sso_sign_in_url": "https://sso",
            "cloud_sso_account_id": "a", "cloud_sso_access_config": "ac", "access_token": "at",
            "cloud_sso_access_token_expire": 1_767_326_400, "oauth_site_type": "INTL",
            "oauth_access_token": "oat", "oauth_access_token_expire": 1_767_326_400,
            "oauth_refresh_token": "ort",
        })
    }

    #[rstest]
    #[case(Mode::Ak, Kind::AccessKey)]
    #[case(Mode::StsToken, Kind::Sts)]
    #[case(Mode::RamRoleArn, Kind::RamRoleArn)]
    #[case(Mode::EcsRamRole, Kind::EcsRamRole)]
    #[case(Mode::ChainableRamRoleArn, Kind::RamRoleArn)]
    #[case(Mode::Oidc, Kind::OidcRoleArn)]
    #[case(Mode::CloudSso, Kind::CloudSso)]
    #[case(Mode::OAuth, Kind::OAuth)]
    #[case(Mode::External, Kind::External)]
    #[case(Mode::CredentialsUri, Kind::CredentialsUri)]
    #[case(Mode::BearerToken, Kind::Bearer)]
    fn cli_5_each_mode_has_its_type(#[case] mode: Mode, #[case] kind: Kind) {
        assert_eq!(only(mode, &whole()).kind, Some(kind));
    }

    #[test]
    fn cli_5_keys_of_the_profile_are_taken() {
        let key = only(Mode::Ak, &whole());
        assert_eq!(key.access_key_id.as_deref(), Some("akid"));
        assert_eq!(key.access_key_secret, Some("aksecret".into()));
        assert_eq!(key.security_token, None);
        let sts = only(Mode::StsToken, &whole());
        assert_eq!(sts.security_token, Some("st".into()));
        // Left over from a login before, as likely as not.
        assert_eq!(sts.expiration, None);
    }

    #[rstest]
    fn cli_5_roles_are_taken_with_their_sessions_and_hosts(
        #[values(Mode::RamRoleArn, Mode::ChainableRamRoleArn, Mode::Oidc)] mode: Mode,
    ) {
        let config = only(mode, &whole());
        assert_eq!(config.role_arn.as_deref(), Some("acs:ram::1:role/r"));
        assert_eq!(config.role_session_name.as_deref(), Some("s"));
        assert_eq!(config.role_session_expiration, Duration::from_mins(15));
        assert_eq!(config.policy.as_deref(), Some("{}"));
        assert_eq!(config.external_id, Some("e".into()));
        assert_eq!(config.sts.endpoint.as_deref(), Some("sts.example"));
        assert_eq!(config.sts.region.as_deref(), Some("cn-beijing"));
        assert_eq!(config.sts.vpc, Some(true));
        assert_eq!(config.security_token, None);
    }

    #[test]
    fn a_token_goes_with_a_temporary_key_only() {
        let mut entry = whole();
        entry["access_key_id"] = "STS.N1".into();
        let config = only(Mode::RamRoleArn, &entry);
        assert_eq!(config.security_token, Some("st".into()));
    }

    #[test]
    fn cli_5_an_instance_may_assume_a_role() {
        let CliConfig { config, previous } = read(Mode::RamRoleArnWithRoleName, &whole()).unwrap();
        assert_eq!(config.kind, Some(Kind::RamRoleArn));
        assert_eq!(config.access_key_id, None);
        let previous = previous.unwrap();
        assert_eq!(previous.kind, Some(Kind::EcsRamRole));
        assert_eq!(previous.role_name.as_deref(), Some("instance"));
    }

    #[test]
    fn cli_5_logins_are_taken() {
        let end = "2026-01-02T04:00:00Z".parse().unwrap();
        let sso = only(Mode::CloudSso, &whole()).cloud_sso;
        assert_eq!(sso.sign_in_url.as_deref(), Some("https://sso"));
        assert_eq!(sso.account_id.as_deref(), Some("a"));
        assert_eq!(sso.access_configuration_id.as_deref(), Some("ac"));
        assert_eq!(sso.access_token, Some("at".into()));
        assert_eq!(sso.access_token_expiration, Some(end));
        let oauth = only(Mode::OAuth, &whole()).oauth;
        assert_eq!(oauth.site, OAuthSite::International);
        assert_eq!(oauth.access_token, Some("oat".into()));
        assert_eq!(oauth.access_token_expiration, Some(end));
        assert_eq!(oauth.refresh_token, Some("ort".into()));
        let issued = oauth.issued.unwrap();
        assert_eq!(issued.access_key_id(), "akid");
        assert_eq!(issued.expiration(), Some(end));
        assert_eq!(issued.provider_name(), "oauth");
    }

    #[test]
    fn cli_5_the_others_take_their_keys() {
        let external = only(Mode::External, &whole()).process_command;
        assert_eq!(external, Some("c".into()));
        let uri = only(Mode::CredentialsUri, &whole()).credentials_uri;
        assert_eq!(uri, Some("http://u".into()));
        let bearer = only(Mode::BearerToken, &whole()).bearer_token;
        assert_eq!(bearer, Some("b".into()));
        let ecs = only(Mode::EcsRamRole, &whole()).role_name;
        assert_eq!(ecs.as_deref(), Some("instance"));
    }

    #[test]
    fn what_the_cli_writes_for_nothing_is_the_default() {
        let empty = json!({
            "access_key_id": "akid", "access_key_secret": "aksecret", "sts_token": "",
            "ram_role_arn": "r", "ram_session_name": "", "expired_seconds": 0, "policy": null,
            "external_id": "", "sts_region": "", "sts_endpoint": "", "source_profile": "",
        });
        let config = only(Mode::RamRoleArn, &empty);
        assert_eq!(config.security_token, None);
        assert_eq!(config.role_session_name, None);
        assert_eq!(config.role_session_expiration, Duration::ZERO);
        assert_eq!(config.policy, None);
        assert_eq!(config.external_id, None);
        assert_eq!(config.sts, StsHost::default());
        assert_eq!(only(Mode::EcsRamRole, &empty).role_name, None);
        let login = json!({"oauth_site_type": "cn", "access_key_id": "old", "sts_expiration": 0});
        let oauth = only(Mode::OAuth, &login).oauth;
        assert_eq!(oauth.site, OAuthSite::China);
        assert_eq!(oauth.issued, None);
        assert_eq!(oauth.access_token_expiration, None);
    }

    #[rstest]
    #[case(Mode::Ak, &["access_key_id", "access_key_secret"])]
    #[case(Mode::StsToken, &["access_key_id", "access_key_secret", "sts_token"])]
    #[case::cli_6(Mode::RamRoleArn, &["access_key_id", "access_key_secret", "ram_role_arn"])]
    #[case(Mode::RamRoleArnWithRoleName, &["ram_role_arn"])]
    #[case::cli_7(Mode::ChainableRamRoleArn, &["source_profile", "ram_role_arn"])]
    #[case(Mode::Oidc, &["ram_role_arn", "oidc_provider_arn", "oidc_token_file"])]
    #[case(Mode::CloudSso, &["cloud_sso_sign_in_url", "cloud_sso_account_id",
        "cloud_sso_access_config", "access_token", "cloud_sso_access_token_expire"])]
    #[case(Mode::OAuth, &["oauth_site_type"])]
    #[case(Mode::External, &["process_command"])]
    #[case(Mode::CredentialsUri, &["credentials_uri"])]
    #[case(Mode::BearerToken, &["bearer_token"])]
    fn each_required_key_is_named_when_it_is_missing(#[case] mode: Mode, #[case] keys: &[&str]) {
        for required in keys {
            let mut profile = whole();
            profile.as_object_mut().unwrap().remove(*required);
            let error = read(mode, &profile).unwrap_err();
            let expected = format!("{} requires {required},", mode.as_str());
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn an_unknown_site_is_a_mistake() {
        let error = read(Mode::OAuth, &json!({"oauth_site_type": "EU"})).unwrap_err();
        assert!(error.to_string().starts_with("oauth_site_type"), "{error}");
    }
}
