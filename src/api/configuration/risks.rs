//! What is legal and rarely meant. Pure.

use super::Configuration;

/// The account's limit at STS, calls a second.
const ACCOUNT_LIMIT: u32 = 100;

impl Configuration {
    /// Warnings for the administrator, each with field, what it means and what to do instead.
    #[must_use]
    pub fn risks(&self) -> Vec<String> {
        let mut risks = Vec::new();
        for (index, entry) in self.delegation.iter().enumerate() {
            let field = format!("delegation[{index}]");
            risks.extend(wide(&field, &entry.namespaces, &entry.roles, "operator"));
        }
        for (index, entry) in self.ecs_fallback.iter().enumerate() {
            let field = format!("ecsFallback[{index}]");
            risks.extend(wide(&field, &entry.namespaces, &entry.roles, "node's role"));
        }
        if !self.delegation.is_empty() && self.token_files.is_empty() {
            risks.push(
                "delegation: allows the use of token files, and tokenFiles names none".to_owned(),
            );
        }
        for host in self.sts.endpoint.iter().chain(&self.sts.allowed_hosts) {
            let name = host.split(':').next().unwrap_or(host);
            if !name.ends_with(".aliyuncs.com") {
                risks.push(format!(
                    "sts: {host} is no host of Alibaba Cloud; whoever answers there is given the tokens of ServiceAccounts"
                ));
            }
        }
        if self.webhook.agent.is_some() {
            risks.push(
                "webhook.agent: this release has no agent; pods that choose mode agent are sent to an address where nobody answers".to_owned(),
            );
        }
        let pace = self.sts.calls_per_second.get();
        if pace >= ACCOUNT_LIMIT {
            risks.push(format!(
                "sts.callsPerSecond: {pace} leaves nothing of the account's {ACCOUNT_LIMIT} calls a second to pods and other clusters of the account"
            ));
        }
        risks
    }
}

/// Entries that allow more than somebody is likely to have thought of.
fn wide(field: &str, namespaces: &[String], roles: &[String], whom: &str) -> Vec<String> {
    let mut risks = Vec::new();
    if namespaces.iter().any(|glob| glob == "*") {
        risks.push(format!(
            "{field}.namespaces: \"*\" lets every namespace, also future ones, use an identity that is not its own; name the namespaces or a prefix"
        ));
    }
    for glob in roles {
        let (_, name) = glob.rsplit_once('/').unwrap_or(("", glob));
        let account = glob.split(':').nth(3).unwrap_or_default();
        if name.trim_matches('*').is_empty() || account.contains('*') {
            risks.push(format!(
                "{field}.roles: {glob:?} allows every role that trusts the {whom}, also future ones; name the roles or a prefix in one account"
            ));
        }
    }
    risks
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str =
        "accountId: '1'\noidcProviderArn: acs:ram::1:oidc-provider/p\nregion: cn-hangzhou\n";

    fn risks(text: &str) -> Vec<String> {
        Configuration::parse(&format!("{MINIMAL}{text}"))
            .unwrap()
            .risks()
    }

    #[test]
    fn a_narrow_configuration_has_no_risks() {
        let text = "tokenFiles: {operator: /t}\ndelegation: [{namespaces: [team-*], roles: ['acs:ram::1:role/shared-*']}]\nsts: {allowedHosts: [sts-vpc.cn-hangzhou.aliyuncs.com]}\n";
        assert_eq!(risks(text), Vec::<String>::new());
    }

    #[test]
    fn what_is_wide_is_named_by_field() {
        for (text, expected) in [
            (
                "tokenFiles: {a: /t}\ndelegation: [{namespaces: ['*'], roles: ['acs:ram::1:role/a']}]",
                "delegation[0].namespaces",
            ),
            (
                "tokenFiles: {a: /t}\ndelegation: [{namespaces: [a], roles: ['acs:ram::1:role/*']}]",
                "delegation[0].roles",
            ),
            (
                "tokenFiles: {a: /t}\ndelegation: [{namespaces: [a], roles: ['acs:ram::*:role/a']}]",
                "delegation[0].roles",
            ),
            (
                "ecsFallback: [{namespaces: ['*'], roles: ['acs:ram::1:role/a']}]",
                "ecsFallback[0].namespaces",
            ),
            (
                "ecsFallback: [{namespaces: [a], roles: ['acs:ram::1:role/*']}]",
                "trusts the node's role",
            ),
            (
                "delegation: [{namespaces: [a], roles: ['acs:ram::1:role/a']}]",
                "tokenFiles names none",
            ),
            (
                "sts: {endpoint: 'sts.example.com:8443'}",
                "sts.example.com:8443",
            ),
            (
                "sts: {allowedHosts: [evil-aliyuncs.com]}",
                "evil-aliyuncs.com",
            ),
            ("sts: {callsPerSecond: 100}", "sts.callsPerSecond"),
            ("webhook: {agent: {}}", "webhook.agent"),
        ] {
            let found = risks(text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].contains(expected), "{found:?}");
        }
    }
}
