//! `rrsa credentials exec`.

use std::collections::BTreeMap;

use rrsa::contract::env;

use crate::house::{House, KEY_ID, KEY_SECRET, ROLE};
use crate::person::{KEYS, Person, RRSA};

fn variables(listed: &str) -> BTreeMap<&str, &str> {
    listed
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect()
}

#[tokio::test]
async fn the_program_finds_these_keys_and_no_other_identity() {
    let person = Person::new().with(&[
        (env::SECURITY_TOKEN, "of-other-keys"),
        (env::ROLE_ARN, ROLE),
        (env::CREDENTIALS_URI, "http://127.0.0.1:9/"),
        (env::PROFILE, "default"),
        ("ALICLOUD_SECURITY_TOKEN", "of-other-keys"),
        ("UNRELATED", "kept"),
    ]);
    let profile = format!(
        "[default]\ntype = access_key\naccess_key_id = {KEY_ID}\naccess_key_secret = {KEY_SECRET}\n"
    );
    person.file(".alibabacloud/credentials.ini", &profile);
    let said = person
        .run(&["exec", "--only", "profile", "--", "env"])
        .await;
    let listed = said.succeeded();
    let found = variables(&listed);
    assert_eq!(found[env::ACCESS_KEY_ID], KEY_ID);
    assert_eq!(found[env::ACCESS_KEY_SECRET], KEY_SECRET);
    assert_eq!(found["UNRELATED"], "kept");
    assert_eq!(found[env::IGNORE_PROFILE], "TRUE");
    assert!(!listed.contains("of-other-keys"), "{listed}");
    for gone in [env::ROLE_ARN, env::CREDENTIALS_URI, env::PROFILE] {
        assert!(!found.contains_key(gone), "{gone}");
    }
}

#[tokio::test]
async fn a_program_works_with_an_assumed_role() {
    let house = House::start();
    let person = Person::in_house(&house).with(&KEYS);
    let inner = [
        RRSA,
        "credentials",
        "get",
        "--format",
        "json",
        "--show-secrets",
    ];
    let arguments = [&["exec", "--role-arn", ROLE, "--"], &inner[..]].concat();
    let json = person.run(&arguments).await.json();
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
    assert!(text("expiration").ends_with('Z'));
}

#[tokio::test]
async fn the_exit_code_is_that_of_the_program() {
    let person = Person::new().with(&KEYS);
    let said = person.run(&["exec", "--", "sh", "-c", "exit 7"]).await;
    assert_eq!(said.code, Some(7));
}

#[tokio::test]
async fn a_program_that_is_missing_is_named_without_its_arguments() {
    let person = Person::new().with(&KEYS);
    let said = person
        .run(&["exec", "--", "no-such-program", "--password=hunter2"])
        .await;
    assert_eq!(said.code, Some(127));
    assert!(
        said.err.contains("no-such-program is not found"),
        "{}",
        said.err
    );
    assert!(!said.err.contains("hunter2"), "{}", said.err);

    let file = person.file("no-program", "");
    let said = person.run(&["exec", "--", file.to_str().unwrap()]).await;
    assert_eq!(said.code, Some(126));
}

#[tokio::test]
async fn without_credentials_nothing_runs() {
    let person = Person::new();
    let error = person.run(&["exec", "--", "echo", "ran"]).await.failed();
    assert!(error.contains("no source of credentials"), "{error}");
}
