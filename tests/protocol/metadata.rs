//! `ecs_ram_role` against the metadata service.

use rrsa::credentials::{CredentialsError, EcsRamRole, Provider as _};

use crate::house::{House, failure, story};
use crate::simulators::faults::{Effect, Fault};

const NODE: &str = "acs:ram::1234567890123456:role/node";

#[tokio::test]
async fn a_machine_has_the_credentials_of_its_role() {
    let house = House::start();
    let provider = house.ecs();
    let credentials = provider.credentials().await.unwrap();
    let session = house.session_of(&credentials);
    assert_eq!(session.role_arn, NODE);
    assert_eq!(credentials.expiration(), Some(session.expiration));
    assert_eq!(credentials.provider_name(), "ecs_ram_role");
    assert_eq!(provider.name(), "ecs_ram_role");
}

#[tokio::test]
async fn token_and_role_name_are_asked_for_once() {
    let house = House::start();
    let provider = house.ecs();
    for _ in 0..3 {
        provider.credentials().await.unwrap();
    }
    assert_eq!(house.asked("PutToken"), 1);
    assert_eq!(house.asked("ListRoles"), 1);
    assert_eq!(house.asked("GetCredentials"), 3);
    let put = &house.metadata.calls().all()[0];
    assert_eq!(put.method, "PUT");
    assert_eq!(
        put.parameters["x-aliyun-ecs-metadata-token-ttl-seconds"],
        "21600"
    );
}

#[tokio::test]
async fn a_named_role_is_not_discovered() {
    let house = House::start();
    let role = Some("node".parse().unwrap());
    let provider = EcsRamRole::with_client(house.imds(), role);
    provider.credentials().await.unwrap();
    assert_eq!(house.asked("ListRoles"), 0);
}

#[tokio::test]
async fn a_hardened_instance_is_asked_with_a_token() {
    let house = House::start();
    house.metadata.update(|instance| instance.hardened = true);
    for client in [house.imds(), house.imds().disable_v1()] {
        let provider = EcsRamRole::with_client(client, None);
        house.session_of(&provider.credentials().await.unwrap());
    }
}

#[tokio::test]
async fn an_old_instance_is_asked_without_a_token() {
    let house = House::start();
    house.metadata.update(|instance| instance.tokens = false);
    house.session_of(&house.ecs().credentials().await.unwrap());
    let provider = EcsRamRole::with_client(house.imds().disable_v1(), None);
    let before = house.asked("ListRoles") + house.asked("GetCredentials");
    let error = failure(provider.credentials()).await;
    let story = story(&error);
    assert!(story.contains("IMDSv1 is switched off"), "{story}");
    assert_eq!(
        house.asked("ListRoles") + house.asked("GetCredentials"),
        before
    );
}

#[tokio::test]
async fn a_blocked_token_request_on_a_hardened_instance_is_explained() {
    let house = House::start();
    house.metadata.update(|instance| instance.hardened = true);
    let blocked = Fault::on("PutToken", Effect::Status { status: 405 });
    house.metadata.faults().until_cleared(blocked);
    let error = failure(house.ecs().credentials()).await;
    let story = story(&error);
    assert!(
        story.contains("takes only requests with an IMDSv2 token"),
        "{story}"
    );
    assert!(story.contains("HTTP 405"), "{story}");
}

#[tokio::test]
async fn ecs_11_a_failing_question_is_repeated_once_without_the_token() {
    let house = House::start();
    let failing = Fault::on("GetCredentials", Effect::Status { status: 500 });
    house.metadata.faults().next(1, failing.clone());
    house.ecs().credentials().await.unwrap();
    assert_eq!(house.asked("GetCredentials"), 2);
    let last = house.metadata.calls().last().unwrap();
    assert!(!last.parameters.contains_key("x-aliyun-ecs-metadata-token"));

    house.metadata.faults().next(1, failing);
    let hardened = EcsRamRole::with_client(house.imds().disable_v1(), None);
    failure(hardened.credentials()).await;
    assert_eq!(house.asked("GetCredentials"), 3);
}

#[tokio::test]
async fn a_machine_without_a_role_is_not_configured() {
    let house = House::start();
    house.metadata.update(|instance| instance.role = None);
    let error = failure(house.ecs().credentials()).await;
    assert!(
        matches!(error, CredentialsError::NotConfigured { .. }),
        "{error:?}"
    );
    let other = EcsRamRole::with_client(house.imds(), Some("other".parse().unwrap()));
    let error = failure(other.credentials()).await;
    assert!(
        matches!(error, CredentialsError::Misconfigured { .. }),
        "{error:?}"
    );
    assert!(story(&error).contains("no RAM role other"));
}

#[tokio::test]
async fn a_role_that_was_replaced_is_found_again() {
    let house = House::start();
    let provider = house.ecs();
    provider.credentials().await.unwrap();
    house
        .metadata
        .update(|instance| instance.role = Some("new-node".to_owned()));
    let session = house.session_of(&provider.credentials().await.unwrap());
    assert!(session.role_arn.ends_with(":role/new-node"));
}

#[tokio::test]
async fn the_region_is_known() {
    let house = House::start();
    assert_eq!(house.imds().region_id().await.unwrap(), "cn-hangzhou");
}
