//! Whether a configuration is legal, field by field. Pure.

use super::{Configuration, ConfigurationError, MAX_NAMESPACES, PodLook, Webhook};
use crate::api::glob;
use crate::contract::{arn, sts_hosts};

impl Configuration {
    pub(super) fn check(&self) -> Result<(), ConfigurationError> {
        let refuse = |field, problem: String| Err(ConfigurationError::Value { field, problem });
        if !arn::is_account_id(&self.account_id) {
            return refuse(
                "accountId",
                format!(
                    "{:?} is not an account id; write its digits in quotes",
                    self.account_id
                ),
            );
        }
        if !sts_hosts::is_known(&self.region, &self.sts.extra_regions) {
            return refuse(
                "region",
                format!(
                    "{:?} is not a region this release knows; add it to sts.extraRegions if it is new",
                    self.region
                ),
            );
        }
        if let Some(region) = self
            .sts
            .extra_regions
            .iter()
            .find(|region| !is_region(region))
        {
            return refuse("sts.extraRegions", format!("{region:?} is not a region id"));
        }
        self.check_proxy()?;
        if self.namespaces.len() > MAX_NAMESPACES {
            return refuse(
                "namespaces",
                format!(
                    "{} namespaces; at most {MAX_NAMESPACES}, each has watches of its own: leave the list empty to serve all",
                    self.namespaces.len()
                ),
            );
        }
        if let Some(name) = self.namespaces.iter().find(|name| !is_namespace(name)) {
            return refuse(
                "namespaces",
                format!("{name:?} is no name of a namespace; globs are not possible here"),
            );
        }
        if self.pod_look.interval_seconds < PodLook::SHORTEST {
            return refuse(
                "podLook.intervalSeconds",
                format!("write {} seconds or more, such as 600", PodLook::SHORTEST),
            );
        }
        let delegation = self.delegation.iter();
        let delegation = delegation.map(|entry| (&entry.namespaces, &entry.roles));
        permissions("delegation", delegation)?;
        let fallback = self.ecs_fallback.iter();
        permissions(
            "ecsFallback",
            fallback.map(|entry| (&entry.namespaces, &entry.roles)),
        )?;
        self.webhook.check()
    }

    fn check_proxy(&self) -> Result<(), ConfigurationError> {
        let refuse = |field, problem: &str| {
            Err(ConfigurationError::Value {
                field,
                problem: problem.to_owned(),
            })
        };
        let Some(proxy) = &self.sts.proxy else {
            if self.sts.proxy_credentials_file.is_some() {
                return refuse(
                    "sts.proxyCredentialsFile",
                    "there is no sts.proxy to use it for",
                );
            }
            return Ok(());
        };
        // The URL is not quoted: it may hold a password.
        let Ok(url) = url::Url::parse(proxy) else {
            return refuse(
                "sts.proxy",
                "is no URL; write it like http://proxy.example:3128",
            );
        };
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return refuse("sts.proxy", "must be an http or https URL with a host");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse(
                "sts.proxy",
                "must not hold user or password; put user:password into a file and name it in sts.proxyCredentialsFile",
            );
        }
        Ok(())
    }
}

/// Entries that give somebody the operator's identity: by namespaces and roles.
fn permissions<'a>(
    field: &'static str,
    entries: impl Iterator<Item = (&'a Vec<String>, &'a Vec<String>)>,
) -> Result<(), ConfigurationError> {
    let refuse = |problem: String| Err(ConfigurationError::Value { field, problem });
    for (namespaces, roles) in entries {
        if namespaces.is_empty() || roles.is_empty() {
            return refuse(
                "an entry without namespaces or roles allows nothing; remove or complete it".into(),
            );
        }
        for glob in namespaces {
            glob::check_namespace(glob).or_else(refuse)?;
        }
        for glob in roles {
            glob::check_role(glob).or_else(refuse)?;
        }
    }
    Ok(())
}

impl Webhook {
    fn check(&self) -> Result<(), ConfigurationError> {
        let refuse = |field, problem: String| Err(ConfigurationError::Value { field, problem });
        let fallback = self.ecs_fallback.iter();
        if let Some(entry) = fallback
            .clone()
            .find(|entry| !arn::is_role_name(&entry.node_role))
        {
            let problem = format!(
                "nodeRole {:?} is not the name of a RAM role; write 1 to 64 letters, digits, '.', '_' or '-'",
                entry.node_role
            );
            return refuse("webhook.ecsFallback", problem);
        }
        if fallback.clone().any(|entry| entry.namespaces.is_empty()) {
            return refuse(
                "webhook.ecsFallback",
                "an entry without namespaces allows nothing; remove or complete it".into(),
            );
        }
        for glob in fallback.flat_map(|entry| &entry.namespaces) {
            glob::check_namespace(glob)
                .or_else(|problem| refuse("webhook.ecsFallback", problem))?;
        }
        if self.agent.as_ref().is_some_and(|agent| agent.port == 0) {
            return refuse(
                "webhook.agent.port",
                "0 is no port; write 1 to 65535".into(),
            );
        }
        Ok(())
    }
}

fn is_namespace(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "accountId: '123'\noidcProviderArn: acs:ram::123:oidc-provider/ack-rrsa-c1\nregion: cn-hangzhou\n";

    #[test]
    fn bad_values_name_field_and_remedy() {
        for (from, to, field) in [
            ("'123'", "abc", "accountId"),
            ("cn-hangzhou", "evil.com/", "field region:"),
            ("cn-hangzhou", "''", "field region:"),
            ("cn-hangzhou", "'cn-hangzhou:443'", "field region:"),
            (
                "acs:ram::123:oidc-provider/ack-rrsa-c1",
                "nonsense",
                "OIDC provider ARN",
            ),
        ] {
            let error = Configuration::parse(&MINIMAL.replace(from, to)).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
    }

    #[test]
    fn a_further_region_can_name_no_other_domain() {
        for region in ["evil.com/", "", "cn-new:443", "a.b"] {
            let text = format!("{MINIMAL}sts: {{extraRegions: ['{region}']}}\n");
            let error = Configuration::parse(&text).unwrap_err().to_string();
            assert!(error.contains("field sts.extraRegions:"), "{error}");
        }
    }

    #[test]
    fn an_empty_entry_of_a_permission_is_refused() {
        for field in ["delegation", "ecsFallback"] {
            let text = format!("{MINIMAL}{field}: [{{namespaces: [a], roles: []}}]\n");
            let error = Configuration::parse(&text).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn a_proxy_holds_no_password_and_is_not_quoted() {
        for (proxy, problem) in [
            ("http://user:hunter2@proxy:3128", "proxyCredentialsFile"),
            ("socks5://proxy:1080", "http or https"),
            ("hunter2", "is no URL"),
        ] {
            let text = format!("{MINIMAL}sts: {{proxy: '{proxy}'}}\n");
            let error = Configuration::parse(&text).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let text = format!("{MINIMAL}sts: {{proxyCredentialsFile: /a}}\n");
        assert!(Configuration::parse(&text).is_err());
        let text =
            format!("{MINIMAL}sts: {{proxy: 'http://proxy:3128', proxyCredentialsFile: /a}}\n");
        Configuration::parse(&text).unwrap();
    }

    #[test]
    fn namespaces_are_names_and_bounded() {
        for list in ["[team-*]".to_owned(), format!("{:?}", vec!["a"; 101])] {
            let text = format!("{MINIMAL}namespaces: {list}\n");
            let error = Configuration::parse(&text).unwrap_err().to_string();
            assert!(error.contains("namespaces"), "{error}");
        }
    }

    #[test]
    fn globs_that_match_nothing_are_refused_by_name() {
        for (field, entry, glob) in [
            (
                "delegation",
                "{namespaces: ['team-?'], roles: ['acs:ram::1:role/a']}",
                "team-?",
            ),
            ("delegation", "{namespaces: [a], roles: ['*']}", "\"*\""),
            (
                "ecsFallback",
                "{namespaces: [A], roles: ['acs:ram::1:role/a']}",
                "\"A\"",
            ),
            ("ecsFallback", "{namespaces: [a], roles: [app]}", "\"app\""),
        ] {
            let text = format!("{MINIMAL}{field}: [{entry}]\n");
            let error = Configuration::parse(&text).unwrap_err().to_string();
            assert!(error.contains(field) && error.contains(glob), "{error}");
        }
        let text =
            format!("{MINIMAL}webhook: {{ecsFallback: [{{namespaces: ['a/*'], nodeRole: b}}]}}\n");
        let error = Configuration::parse(&text).unwrap_err().to_string();
        assert!(
            error.contains("webhook.ecsFallback") && error.contains("a/*"),
            "{error}"
        );
    }
}
