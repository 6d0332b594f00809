//! Roles assumed with the credentials of other providers.

use std::sync::Arc;
use std::time::Duration;

use rrsa::credentials::{
    CredentialsError, OidcRoleArn, Provider, RamRoleArn, RamRoleArnBuilder, StaticSts,
};

use crate::house::{EXTERNAL_ID, FURTHER_ROLE, House, ROLE, failure, key, ram, story};
use crate::simulators::config::Trust;

fn over(previous: impl Provider + 'static) -> RamRoleArnBuilder {
    RamRoleArn::builder(Arc::new(previous))
}

/// The credentials are those of this role, and both names are this one.
async fn check(house: &House, provider: &RamRoleArn, role: &str, name: &str) {
    let credentials = provider.credentials().await.expect("credentials");
    let session = house.session_of(&credentials);
    assert_eq!(session.role_arn, role);
    assert_eq!(credentials.expiration(), Some(session.expiration));
    assert_eq!((credentials.provider_name(), provider.name()), (name, name));
}

#[tokio::test]
async fn ram_5_a_role_is_assumed_with_a_key() {
    let house = House::start();
    let provider = RamRoleArn::builder(key())
        .role_arn(FURTHER_ROLE)
        .external_id(EXTERNAL_ID)
        .session_name("me@here")
        .duration(Duration::from_mins(20))
        .build(&house.world())
        .unwrap();
    check(&house, &provider, FURTHER_ROLE, "ram_role_arn/static_ak").await;
    let sent = house.sts.calls().last().unwrap().parameters;
    assert_eq!(sent["RoleSessionName"], "me@here");
    assert_eq!(sent["DurationSeconds"], "1200");
    assert!(!sent.contains_key("SecurityToken"));
}

#[tokio::test]
async fn a_role_is_assumed_with_a_role_that_was_assumed_with_a_key() {
    let house = House::start();
    let provider = over(ram(&house.world()))
        .role_arn(FURTHER_ROLE)
        .build(&house.world())
        .unwrap();
    let name = "ram_role_arn/ram_role_arn/static_ak";
    check(&house, &provider, FURTHER_ROLE, name).await;
    let calls = house.sts.calls().all();
    let roles: Vec<_> = calls.iter().map(|call| call.role.as_deref()).collect();
    assert_eq!(roles, [Some(ROLE), Some(FURTHER_ROLE)]);
}

#[tokio::test]
async fn a_role_is_assumed_with_the_role_of_the_pod() {
    let house = House::start();
    let provider = over(house.oidc())
        .role_arn(FURTHER_ROLE)
        .build(&house.world())
        .unwrap();
    check(
        &house,
        &provider,
        FURTHER_ROLE,
        "ram_role_arn/oidc_role_arn",
    )
    .await;
}

#[tokio::test]
async fn a_role_is_assumed_with_the_role_of_the_machine() {
    let house = House::start();
    let node = "acs:ram::1234567890123456:role/node";
    house
        .sts
        .update(|account| account.roles[0].trust.push(Trust::principal(node)));
    let provider = over(house.ecs()).build(&house.world()).unwrap();
    check(&house, &provider, ROLE, "ram_role_arn/ecs_ram_role").await;
}

#[tokio::test]
async fn a_role_is_assumed_with_temporary_keys() {
    let house = House::start();
    let first = house.oidc().credentials().await.unwrap();
    let keys = StaticSts::new(
        first.access_key_id(),
        first.access_key_secret().clone(),
        first.security_token().unwrap().clone(),
    )
    .unwrap();
    let provider = over(keys)
        .role_arn(FURTHER_ROLE)
        .build(&house.world())
        .unwrap();
    check(&house, &provider, FURTHER_ROLE, "ram_role_arn/static_sts").await;
}

#[tokio::test]
async fn a_chained_session_is_not_longer_than_an_hour() {
    let house = House::start();
    house
        .sts
        .update(|account| account.roles[1].max_session_duration = Duration::from_hours(12));
    let provider = over(house.oidc())
        .role_arn(FURTHER_ROLE)
        .duration(Duration::from_hours(2))
        .build(&house.world())
        .unwrap();
    let error = failure(provider.credentials()).await;
    assert!(
        matches!(error, CredentialsError::Refused { .. }),
        "{error:?}"
    );
    assert_eq!(error.provider(), "ram_role_arn");
    let last = house.sts.calls().last().unwrap();
    assert!(story(&error).contains(&last.request_id));
}

#[tokio::test]
async fn a_previous_provider_that_fails_is_the_one_to_be_named() {
    let house = House::start();
    let previous = OidcRoleArn::builder()
        .token_file("/no/such/token")
        .build(&house.world())
        .unwrap();
    let provider = over(previous)
        .role_arn(FURTHER_ROLE)
        .build(&house.world())
        .unwrap();
    let error = failure(provider.credentials()).await;
    assert!(
        matches!(error, CredentialsError::Misconfigured { .. }),
        "{error:?}"
    );
    assert_eq!(error.provider(), "oidc_role_arn");
    assert!(house.sts.calls().all().is_empty(), "nothing was asked");
}
