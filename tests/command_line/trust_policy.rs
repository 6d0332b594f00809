//! `rrsa trust-policy`, without a cluster at hand.

use serde_json::json;

use crate::person::{self, Person, RRSA};

const PROVIDER: &str = "--oidc-provider-arn=acs:ram::42:oidc-provider/ack-rrsa-c1";
const ISSUER: &str = "--issuer=https://oidc.example.com/c1";

#[tokio::test]
async fn a_role_is_lent_to_a_service_account() {
    let policy = said(&["team-a/app", PROVIDER, ISSUER]).await.json();
    assert_eq!(
        policy,
        json!({
            "Version": "1",
            "Statement": [{
                "Action": "sts:AssumeRole",
                "Effect": "Allow",
                "Principal": {"Federated": ["acs:ram::42:oidc-provider/ack-rrsa-c1"]},
                "Condition": {"StringEquals": {
                    "oidc:aud": "sts.aliyuncs.com",
                    "oidc:iss": "https://oidc.example.com/c1",
                    "oidc:sub": "system:serviceaccount:team-a:app",
                }},
            }],
        })
    );
}

#[tokio::test]
async fn several_service_accounts_are_in_one_statement() {
    let arguments = ["team-a/app", "team-b/job", "--statement", PROVIDER, ISSUER];
    let statement = said(&arguments).await.json();
    assert_eq!(
        statement["Condition"]["StringEquals"]["oidc:sub"],
        json!([
            "system:serviceaccount:team-a:app",
            "system:serviceaccount:team-b:job"
        ])
    );
}

#[tokio::test]
async fn the_operators_configuration_names_the_provider() {
    let person = Person::new();
    let file = person.file(
        "config.yaml",
        "accountId: '42'\nclusterId: c2\nregion: cn-hangzhou\n",
    );
    let config = format!("--config={}", file.display());
    let arguments = ["trust-policy", "team-a/app", "--statement", &config, ISSUER];
    let statement = person::said(person.program(RRSA, &arguments)).await.json();
    assert_eq!(
        statement["Principal"]["Federated"][0],
        "acs:ram::42:oidc-provider/ack-rrsa-c2"
    );
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let complaint = said(&["team-a/app", PROVIDER]).await.failed();
    assert!(complaint.contains("--issuer"), "{complaint}");
    let person = Person::new();
    let file = person.file("config.yaml", "region: cn-hangzhou\n");
    let config = format!("--config={}", file.display());
    let arguments = ["trust-policy", "team-a/app", &config, ISSUER];
    let complaint = person::said(person.program(RRSA, &arguments))
        .await
        .failed();
    assert!(complaint.contains("--oidc-provider-arn"), "{complaint}");
}

#[tokio::test]
async fn of_several_issuers_the_first_counts_and_a_wrong_one_is_refused() {
    let issuers = "--issuer=https://a.example/,http://b.example";
    let arguments = ["team-a/app", "--statement", PROVIDER, issuers];
    let statement = said(&arguments).await.json();
    assert_eq!(
        statement["Condition"]["StringEquals"]["oidc:iss"],
        "https://a.example/"
    );
    let refused = said(&[
        "team-a/app",
        PROVIDER,
        "--issuer=http://A.example/,https://b",
    ])
    .await;
    assert_ne!(refused.code, Some(0), "{}", refused.out);
    assert_eq!(refused.out, "");
    let complaint = &refused.err;
    assert!(
        complaint.contains("\"http://A.example/\" does not begin with https://"),
        "{complaint}"
    );
}

async fn said(arguments: &[&str]) -> person::Said {
    let arguments = [&["trust-policy"], arguments].concat();
    person::said(Person::new().program(RRSA, &arguments)).await
}
