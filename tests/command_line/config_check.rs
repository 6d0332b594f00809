//! `rrsa config check`: what an administrator is told before the operator is.

use crate::person::{Person, RRSA, Said, said};

/// A file that leaves nothing to be wished for.
const GOOD: &str = "\
accountId: '1234567890123456'
oidcProviderArn: acs:ram::1234567890123456:oidc-provider/ack-rrsa-c1
region: cn-hangzhou
tokenFiles:
  operator: /var/run/secrets/rrsa.io/token
delegation:
  - namespaces: [team-*]
    roles: ['acs:ram::1234567890123456:role/shared-*']
sts:
  callsPerSecond: 50
";

async fn check(text: &str) -> Said {
    let person = Person::new();
    let file = person.file("config.yaml", text);
    let file = file.to_str().expect("text");
    said(person.program(RRSA, &["config", "check", file])).await
}

#[tokio::test]
async fn a_good_file_is_called_good() {
    let out = check(GOOD).await.succeeded();
    assert!(out.ends_with("config.yaml: good\n"), "{out}");
    assert_eq!(out.lines().count(), 1, "{out}");
}

#[tokio::test]
async fn what_is_discovered_is_said_and_no_mistake() {
    let text: String = GOOD
        .lines()
        .filter(|line| !line.starts_with("region:") && !line.starts_with("accountId:"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let out = check(&text).await.succeeded();
    assert!(
        out.contains("accountId and region left out: asked of the ECS metadata"),
        "{out}"
    );
    assert!(out.ends_with("config.yaml: good\n"), "{out}");
}

/// Every kind of mistake: exit code 1, one line that names file, place and remedy, and nothing on
/// the standard output.
#[tokio::test]
async fn mistakes_are_named_with_their_place_and_end_with_code_1() {
    let with = |more: &str| format!("{GOOD}{more}\n");
    let instead = |old: &str, new: &str| {
        assert!(GOOD.contains(old), "{old}");
        GOOD.replace(old, new)
    };
    for (what, text, expected) in [
        (
            "an unknown key",
            with("delegations: []"),
            vec!["delegations", "line 11"],
        ),
        (
            "an unknown key below",
            instead("callsPerSecond: 50", "callsPerSeconds: 50"),
            vec!["callsPerSeconds", "line 10"],
        ),
        ("a key twice", with("region: cn-beijing"), vec!["region"]),
        ("no YAML", with("a: ["), vec!["cannot be read"]),
        ("a wrong type", instead("[team-*]", "team"), vec!["line 7"]),
        (
            "a glob over namespaces that matches nothing",
            instead("team-*", "'team-[ab]'"),
            vec![
                "config.yaml:6",
                "delegation",
                "\"team-[ab]\"",
                "write a name",
            ],
        ),
        (
            "a glob over roles that matches nothing",
            instead("acs:ram::1234567890123456:role/shared-*", "shared-*"),
            vec![
                "config.yaml:6",
                "delegation",
                "\"shared-*\"",
                "acs:ram::<account id>:role/<name>",
            ],
        ),
        (
            "an entry that allows nothing",
            instead("[team-*]", "[]"),
            vec!["config.yaml:6", "remove or complete it"],
        ),
        (
            "an unknown region",
            instead("cn-hangzhou", "cn-nowhere"),
            vec!["config.yaml:3", "\"cn-nowhere\"", "sts.extraRegions"],
        ),
        (
            "an account without quotes",
            instead("'1234567890123456'\n", "12a\n"),
            vec!["config.yaml:1", "digits in quotes"],
        ),
        (
            "a provider that is none",
            instead("oidc-provider/ack-rrsa-c1", "role/app"),
            vec!["OIDC provider"],
        ),
        (
            "a pace beyond sense",
            instead("callsPerSecond: 50", "callsPerSecond: 1001"),
            vec!["1001", "1 to 1000"],
        ),
        (
            "a proxy with a password",
            instead("callsPerSecond: 50", "proxy: http://me:hunter2@proxy:3128"),
            vec!["config.yaml:10", "sts.proxyCredentialsFile"],
        ),
        (
            "a namespace with a star",
            with("namespaces: [team-*]"),
            vec!["config.yaml:11", "globs are not possible"],
        ),
        (
            "a pause too short",
            with("podLook: {enabled: true, intervalSeconds: 4}"),
            vec!["podLook.intervalSeconds", "5 seconds or more"],
        ),
        (
            "a node's role that is no name",
            with("webhook: {ecsFallback: [{namespaces: [a], nodeRole: 'acs:ram::1:role/a'}]}"),
            vec!["webhook.ecsFallback", "is not the name of a RAM role"],
        ),
    ] {
        let complaint = check(&text).await.failed();
        for part in expected {
            assert!(
                complaint.contains(part),
                "{what}: no {part:?} in {complaint}"
            );
        }
        assert!(complaint.contains("config.yaml"), "{what}: {complaint}");
        assert!(!complaint.contains("hunter2"), "{what}: {complaint}");
    }
}

#[tokio::test]
async fn what_is_legal_and_rarely_meant_is_warned_about_with_code_0() {
    for (text, expected) in [
        (
            GOOD.replace("callsPerSecond: 50", "callsPerSecond: 100"),
            "leaves nothing of the account's 100 calls",
        ),
        (
            GOOD.replace("[team-*]", "['*']"),
            "delegation[0].namespaces",
        ),
        (GOOD.replace("shared-*", "*"), "delegation[0].roles"),
        (
            GOOD.replace("callsPerSecond: 50", "endpoint: sts.example.com"),
            "sts.example.com is no host of Alibaba Cloud",
        ),
        (
            format!("{GOOD}ecsFallback: [{{namespaces: ['*'], roles: ['acs:ram::1:role/a']}}]\n"),
            "ecsFallback[0].namespaces",
        ),
    ] {
        let out = check(&text).await.succeeded();
        assert!(
            out.contains(": warning: ") && out.contains(expected),
            "{out}"
        );
        assert!(out.ends_with("good, with 1 warning\n"), "{out}");
    }
    let both = GOOD
        .replace("[team-*]", "['*']")
        .replace("callsPerSecond: 50", "callsPerSecond: 999");
    assert!(
        check(&both)
            .await
            .succeeded()
            .ends_with("good, with 2 warnings\n")
    );
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let person = Person::new();
    let complaint = said(person.program(RRSA, &["config", "check", "/nowhere/config.yaml"]))
        .await
        .failed();
    assert!(
        complaint.contains("/nowhere/config.yaml cannot be read"),
        "{complaint}"
    );
    let said = said(person.program(RRSA, &["config", "check"])).await;
    assert_eq!(said.code, Some(2), "{said:?}");
}
