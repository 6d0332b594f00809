//! `rrsa credentials get`.

use rrsa::contract::env;
use rstest::rstest;

use crate::house::{House, KEY_ID, KEY_SECRET, PROVIDER, ROLE};
use crate::person::{KEYS, Person, RRSA, said};

const TEMPORARY: [(&str, &str); 4] = [
    (env::ACCESS_KEY_ID, "STS.NTest"),
    (env::ACCESS_KEY_SECRET, "nobody-may-read-this"),
    (env::SECURITY_TOKEN, "CAIStoken/with+signs=="),
    (env::CREDENTIALS_EXPIRATION, "2999-01-01T00:00:00Z"),
];

#[tokio::test]
async fn a_newcomer_reads_where_credentials_would_come_from() {
    let person = Person::new();
    let said = person.run(&["get", "--explain"]).await;
    let home = person.home().to_str().unwrap();
    // One width for every machine: long lines break elsewhere with another home folder.
    let words: Vec<_> = said.err.split_whitespace().collect();
    let text = words.join(" ").replace(home, "~");
    assert_eq!(
        text,
        "The sources are asked in this order, and the first one that is set up decides: \
         env not set up set ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET \
         oidc_role_arn not set up set ALIBABA_CLOUD_OIDC_TOKEN_FILE, \
         ALIBABA_CLOUD_OIDC_PROVIDER_ARN, ALIBABA_CLOUD_ROLE_ARN \
         cli_profile not set up there is no file of the Alibaba Cloud CLI (looked in \
         ~/.aliyun/config.json); run `aliyun configure`, or set ALIBABA_CLOUD_CONFIG_FILE \
         profile not set up no file has the section [default] (looked in \
         ~/.alibabacloud/credentials.ini, ~/.alibabacloud/credentials); set \
         ALIBABA_CLOUD_CREDENTIALS_FILE or ALIBABA_CLOUD_PROFILE \
         ecs_ram_role not set up ALIBABA_CLOUD_ECS_METADATA_DISABLED switches it off \
         credential_uri not set up set ALIBABA_CLOUD_CREDENTIALS_URI \
         None of them is set up. One is enough. \
         rrsa: there are no credentials"
    );
    said.failed();
}

#[tokio::test]
async fn without_explain_the_error_is_the_list_of_sources() {
    let error = Person::new().run(&["get"]).await.failed();
    assert!(
        error.starts_with("rrsa: no source of credentials is set up here; set up one of these:\n"),
        "{error}"
    );
    assert!(
        error.contains("\n  credential_uri  set ALIBABA_CLOUD_CREDENTIALS_URI\n"),
        "{error}"
    );
}

#[tokio::test]
async fn explanations_do_not_mix_with_credentials() {
    let person = Person::new().with(&TEMPORARY);
    let arguments = ["get", "--explain", "--format", "json", "--show-secrets"];
    let said = person.run(&arguments).await;
    assert!(
        said.err
            .contains("  env             chosen     gave the access key id STS.NTest, until 2999"),
        "{}",
        said.err
    );
    assert!(!said.err.contains(TEMPORARY[1].1), "{}", said.err);
    let json = said.json();
    assert_eq!(json["access_key_secret"], TEMPORARY[1].1);
    assert_eq!(json["mode"], "StsToken");
}

#[tokio::test]
async fn a_broken_source_is_named_with_its_cause_and_the_way_on() {
    let person = Person::new().with(&[(env::ROLE_ARN, ROLE), (env::OIDC_PROVIDER_ARN, PROVIDER)]);
    let error = person.run(&["get", "--explain"]).await.failed();
    assert!(error.contains("  oidc_role_arn   broken "), "{error}");
    assert!(error.contains(env::OIDC_TOKEN_FILE), "{error}");
    assert!(error.contains("--without oidc_role_arn"), "{error}");
    assert!(error.contains("  ecs_ram_role    not asked\n"), "{error}");
}

#[tokio::test]
async fn secrets_are_masked_unless_asked_for() {
    let person = Person::new().with(&TEMPORARY);
    let (secret, token) = (TEMPORARY[1].1, TEMPORARY[2].1);
    let summary = person.run(&["get"]).await;
    assert_eq!(summary.err, "");
    let summary = summary.succeeded();
    assert!(summary.contains("default/env"), "{summary}");
    assert!(!summary.contains(secret) && !summary.contains(token));
    for format in ["env", "json", "ini", "cli", "uri"] {
        let masked = person.run(&["get", "--format", format]).await;
        assert!(masked.err.contains("--show-secrets"), "{}", masked.err);
        let masked = masked.succeeded();
        assert!(masked.contains("STS.NTest"), "{masked}");
        assert!(
            !masked.contains(secret) && !masked.contains(token),
            "{masked}"
        );
        let shown = person
            .run(&["get", "--format", format, "--show-secrets"])
            .await;
        assert_eq!(shown.err, "");
        let shown = shown.succeeded();
        assert!(shown.contains(secret) && shown.contains(token), "{shown}");
    }
}

#[rstest]
#[case::ini("ini", ".alibabacloud/credentials.ini", "profile")]
#[case::cli("cli", ".aliyun/config.json", "cli_profile")]
#[tokio::test]
async fn files_of_profiles_are_read_back(
    #[case] format: &str,
    #[case] file: &str,
    #[case] source: &str,
) {
    let person = Person::new().with(&TEMPORARY);
    let content = person
        .run(&["get", "--format", format, "--show-secrets"])
        .await;
    person.file(file, &content.succeeded());
    let arguments = [
        "get",
        "--only",
        source,
        "--format",
        "json",
        "--show-secrets",
    ];
    let json = person.run(&arguments).await.json();
    assert_eq!(json["access_key_id"], "STS.NTest");
    assert_eq!(json["access_key_secret"], TEMPORARY[1].1);
    assert_eq!(json["sts_token"], TEMPORARY[2].1);
}

#[tokio::test]
async fn an_external_profile_may_run_it() {
    let person = Person::new().with(&KEYS);
    let command = format!("{RRSA} credentials get --only env --format json --show-secrets");
    let profile = serde_json::json!({
        "name": "reports", "mode": "External", "process_command": command,
    });
    let configuration = serde_json::json!({ "current": "reports", "profiles": [profile] });
    person.file(".aliyun/config.json", &configuration.to_string());
    // The keys of the environment do not come before a profile that is named.
    let summary = person.run(&["get", "--profile", "reports"]).await;
    let summary = summary.succeeded();
    assert!(
        summary.contains("default/cli_profile/external"),
        "{summary}"
    );
    assert!(summary.contains(KEY_ID), "{summary}");
}

#[tokio::test]
async fn a_shell_takes_the_lines_over() {
    let person = Person::new().with(&TEMPORARY);
    let script = format!(
        "eval \"$({RRSA} credentials get --format env --show-secrets)\"; \
         exec {RRSA} credentials get --format json --show-secrets"
    );
    let json = said(person.program("/bin/sh", &["-c", &script]))
        .await
        .json();
    assert_eq!(json["sts_token"], TEMPORARY[2].1);
    assert_eq!(json["expiration"], TEMPORARY[3].1);
}

#[tokio::test]
async fn a_pod_gets_its_role() {
    let house = House::start();
    let arguments = ["get", "--explain", "--format", "json", "--show-secrets"];
    let json = Person::pod(&house).run(&arguments).await.json();
    let text = |name: &str| json[name].as_str().unwrap();
    let session = house
        .sts
        .verify(
            text("access_key_id"),
            text("access_key_secret"),
            text("sts_token"),
        )
        .unwrap();
    assert_eq!(session.role_arn, ROLE);
    // To explain costs no second exchange.
    assert_eq!(house.sts.calls().count(|_| true), 1);
}

#[rstest]
#[case::the_chain(&[], "ram_role_arn/default/env")]
#[case::its_own_type(&["--type", "ram_role_arn"], "ram_role_arn/static_ak")]
#[case::on_top_of_a_type(&["--type", "access_key"], "ram_role_arn/static_ak")]
#[tokio::test]
async fn a_role_is_tried_with_what_is_found(#[case] source: &[&str], #[case] provider: &str) {
    let house = House::start();
    let person = Person::in_house(&house).with(&KEYS);
    let arguments = [&["get", "--role-arn", ROLE], source].concat();
    let summary = person.run(&arguments).await.succeeded();
    assert!(summary.contains(provider), "{summary}");
    assert!(summary.contains("STS."), "{summary}");
    let explained = person.run(&[&arguments[..], &["--explain"]].concat()).await;
    assert!(
        explained.err.contains("gave the access key id STS."),
        "{}",
        explained.err
    );
    assert!(explained.succeeded().contains(provider));
}

#[tokio::test]
async fn a_role_that_does_not_trust_the_key_is_told_so() {
    let house = House::start();
    let person = Person::in_house(&house).with(&KEYS);
    let role = "acs:ram::1234567890123456:role/further";
    for further in [&[][..], &["--explain"]] {
        let arguments = [&["get", "--role-arn", role], further].concat();
        let error = person.run(&arguments).await.failed();
        assert!(error.contains("NoPermission"), "{error}");
        assert!(!error.contains(KEY_SECRET), "{error}");
    }
}

#[rstest]
#[case::type_and_source(&["--type", "sts", "--only", "env"])]
#[case::unknown_source(&["--only", "cloud"])]
#[case::no_name(&["--profile", ""])]
#[tokio::test]
async fn a_wrong_command_line_is_refused(#[case] arguments: &[&str]) {
    let said = Person::new().run(&[&["get"], arguments].concat()).await;
    assert_eq!(said.code, Some(2), "{}", said.err);
}
