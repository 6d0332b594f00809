//! `oidc_role_arn` against STS.

use std::time::Duration;

use rrsa::credentials::{CredentialsError, OidcRoleArn, Provider as _};
use rrsa::sts::RefusalKind;

use crate::house::{FURTHER_ROLE, House, PROVIDER, ROLE, SUBJECT, failure, story, token};
use crate::simulators::clock;
use crate::simulators::faults::{Effect, Fault};

#[tokio::test]
async fn a_projected_token_becomes_credentials_of_the_role() {
    let house = House::start();
    let provider = house.oidc();
    let credentials = provider.credentials().await.unwrap();
    let session = house.session_of(&credentials);
    assert_eq!(session.role_arn, ROLE);
    assert_eq!(session.subject.as_deref(), Some(SUBJECT));
    assert_eq!(credentials.expiration(), Some(session.expiration));
    assert_eq!(credentials.provider_name(), "oidc_role_arn");
    assert_eq!(provider.name(), "oidc_role_arn");
}

#[tokio::test]
async fn the_token_travels_in_the_form() {
    let house = House::start();
    house.oidc().credentials().await.unwrap();
    let call = house.sts.calls().last().unwrap();
    assert_eq!(call.method, "POST");
    assert_eq!(call.in_url, ["Action", "Format", "Timestamp", "Version"]);
    assert!(!call.parameters.contains_key("Signature"));
}

#[tokio::test]
async fn settings_reach_sts() {
    let house = House::start();
    let policy = r#"{ "Version": "1", "Statement": [{"Effect": "Deny", "Action": "oss:*", "Resource": "*"}] }"#;
    let provider = OidcRoleArn::builder()
        .session_name("me@here")
        .duration(Duration::from_mins(20))
        .policy(policy)
        .build(&house.world())
        .unwrap();
    let session = house.session_of(&provider.credentials().await.unwrap());
    assert_eq!(session.name, "me@here");
    assert_eq!(session.policy.as_deref(), Some(policy));
    let life = session.expiration - clock::now();
    assert!((1100..=1200).contains(&life.num_seconds()), "{life}");
}

#[tokio::test]
async fn the_token_file_is_read_anew_for_each_exchange() {
    let house = House::start();
    let provider = house.oidc();
    provider.credentials().await.unwrap();
    house.write_token("not-a-token");
    let error = failure(provider.credentials()).await;
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.kind(), RefusalKind::TokenInvalid);
    house.write_token(&token(SUBJECT));
    provider.credentials().await.unwrap();
}

#[tokio::test]
async fn refusals_carry_code_and_request_id() {
    let house = House::start();
    for (role, subject, provider_arn, kind) in [
        (
            ROLE,
            "system:serviceaccount:team-a:other",
            PROVIDER,
            RefusalKind::NotTrusted,
        ),
        (FURTHER_ROLE, SUBJECT, PROVIDER, RefusalKind::NotTrusted),
        (
            "acs:ram::1:role/none",
            SUBJECT,
            PROVIDER,
            RefusalKind::RoleNotFound,
        ),
        (
            ROLE,
            SUBJECT,
            "acs:ram::1:oidc-provider/none",
            RefusalKind::ProviderNotFound,
        ),
    ] {
        house.write_token(&token(subject));
        let provider = OidcRoleArn::builder()
            .role_arn(role)
            .provider_arn(provider_arn)
            .build(&house.world())
            .unwrap();
        let error = failure(provider.credentials()).await;
        assert!(
            matches!(error, CredentialsError::Refused { .. }),
            "{error:?}"
        );
        assert!(!error.is_transient());
        let call = house.sts.calls().last().unwrap();
        let refusal = error.refusal().unwrap();
        assert_eq!(refusal.kind(), kind);
        assert_eq!(
            (&refusal.code, &refusal.request_id),
            (&call.outcome, &call.request_id)
        );
        let story = story(&error);
        assert!(story.contains(&call.request_id), "{story}");
    }
}

#[tokio::test]
async fn a_token_that_sts_repeats_is_not_passed_on() {
    let house = House::start();
    let token = token(SUBJECT);
    house.write_token(&token);
    let repeated = Effect::Error {
        status: 401,
        code: "AuthenticationFail.OIDCToken.Invalid".to_owned(),
        message: format!("The token {token} is invalid."),
    };
    house.sts.faults().next(1, Fault::always(repeated));
    let error = failure(house.oidc().credentials()).await;
    assert!(story(&error).contains("The token [redacted] is invalid."));
}
