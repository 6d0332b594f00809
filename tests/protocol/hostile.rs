//! Broken servers: typed errors within a bound, nothing of a body in any message, and a good
//! answer as soon as there is one again.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rrsa::credentials::{CredentialsError, EcsRamRole, OidcRoleArn, Provider as _, StsHost};
use rrsa::world::{HttpOptions, MAX_BODY, MAX_METADATA_BODY};
use rstest::rstest;

use crate::house::{House, PATIENCE, failure, imds_at, in_the_end, patient, story};
use crate::simulators::config::SimulatorConfig;
use crate::simulators::faults::{Effect, Fault};
use crate::simulators::sts::Sts;

/// Part of a body that must not come back out.
const MARK: &str = "do-not-show-this-body";

fn raw(status: u16, body: String) -> Effect {
    Effect::Raw {
        status,
        content_type: "application/json".to_owned(),
        body,
    }
}

/// Whether the answer never comes, so that the test waits for the end of its time.
fn is_late(effect: &Effect) -> bool {
    matches!(effect, Effect::Delay { .. } | Effect::Drip | Effect::Hang)
}

fn missing(pointer: &str) -> Effect {
    Effect::MissingField {
        pointer: pointer.to_owned(),
    }
}

fn check(error: &CredentialsError, expected: &str) {
    assert!(
        matches!(error, CredentialsError::Unavailable { .. }),
        "{error:?}"
    );
    assert!(error.is_transient());
    let story = story(error);
    assert!(story.contains(expected), "{story}");
    for part in [MARK, "<", "{"] {
        assert!(!story.contains(part), "{story}");
    }
}

#[rstest]
#[case::slow(Effect::Delay { by: Duration::from_mins(1) }, "no complete answer")]
#[case::drip(Effect::Drip, "no complete answer")]
#[case::silent(Effect::Hang, "no complete answer")]
#[case::reset(Effect::Reset, "the exchange with 127.0.0.1")]
#[case::endless(Effect::Endless, "longer than 262144 bytes")]
#[case::page(Effect::Html, "no JSON of that shape")]
#[case::truncated(Effect::Truncated, "no JSON of that shape")]
#[case::load_balancer(Effect::Status { status: 502 }, "HTTP 502")]
#[case::client_error_page(Effect::Status { status: 403 }, "HTTP 403")]
#[case::null(raw(200, "null".to_owned()), "no JSON of that shape")]
#[case::empty_object(raw(200, "{}".to_owned()), "Credentials is missing")]
#[case::text_as_secret(
    raw(200, format!(r#"{{"Credentials":{{"AccessKeySecret":7,"SecurityToken":"{MARK}"}}}}"#)),
    "no JSON of that shape"
)]
#[case::part_of_a_secret(
    raw(200, format!(r#"{{"Credentials":{{"AccessKeyId":"x","AccessKeySecret":"{MARK}"}}}}"#)),
    "SecurityToken is missing"
)]
#[case::no_credentials(missing("/Credentials"), "Credentials is missing")]
#[case::no_id(missing("/Credentials/AccessKeyId"), "AccessKeyId is missing")]
#[case::no_secret(missing("/Credentials/AccessKeySecret"), "AccessKeySecret is missing")]
#[case::no_token(missing("/Credentials/SecurityToken"), "SecurityToken is missing")]
#[case::no_expiration(missing("/Credentials/Expiration"), "Expiration is no time")]
#[case::over(Effect::ExpirationInPast, "before they arrived")]
#[tokio::test]
async fn a_broken_sts_is_unavailable(#[case] effect: Effect, #[case] expected: &str) {
    let house = House::start();
    let is_late = is_late(&effect);
    let mut options = house.options();
    if is_late {
        options.total_timeout = Duration::from_millis(800);
    }
    for provider in house.ways_to_a_role(&options) {
        house
            .sts
            .faults()
            .until_cleared(Fault::always(effect.clone()));
        check(&failure(provider.credentials()).await, expected);
        house.sts.faults().clear();
        if !is_late {
            provider.credentials().await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_endless_answer_is_hung_up_on() {
    let house = House::start();
    let endless = || Fault::always(Effect::Endless);
    house.sts.faults().until_cleared(endless());
    house.metadata.faults().until_cleared(endless());
    // What sockets hold on the way; without a cap it would be 300 MB before the time limit.
    let on_the_way = 4 * 1024 * 1024;
    let calls = house.sts.calls();
    for (number, provider) in house
        .ways_to_a_role(&house.options())
        .into_iter()
        .enumerate()
    {
        check(&failure(provider.credentials()).await, "longer than");
        assert_eq!(calls.all().len(), number + 1, "asked once only");
    }
    check(&failure(house.ecs().credentials()).await, "longer than");
    for (faults, cap) in [
        (house.sts.faults(), 2 * MAX_BODY),
        // The token, and the role's name without one.
        (house.metadata.faults(), 2 * MAX_METADATA_BODY),
    ] {
        let settled = async {
            let mut before = 0;
            while faults.poured() != before {
                before = faults.poured();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            before
        };
        let poured = tokio::time::timeout(PATIENCE, settled).await.unwrap();
        assert!((1..cap + on_the_way).contains(&poured), "{poured} bytes");
    }
}

#[rstest]
#[case::slow(Effect::Delay { by: Duration::from_mins(1) }, "no complete answer")]
#[case::drip(Effect::Drip, "no complete answer")]
#[case::silent(Effect::Hang, "no complete answer")]
#[case::reset(Effect::Reset, "the exchange with 127.0.0.1")]
#[case::endless(Effect::Endless, "longer than 65536 bytes")]
#[case::page(Effect::Html, "no JSON of that shape")]
#[case::truncated(Effect::Truncated, "no JSON of that shape")]
#[case::status(Effect::Status { status: 500 }, "HTTP 500")]
#[case::null(raw(200, "null".to_owned()), "no JSON of that shape")]
#[case::failed(raw(200, format!(r#"{{"Code":"Failed","Message":"{MARK}"}}"#)), "\"Failed\"")]
#[case::no_code(missing("/Code"), "Code is missing")]
#[case::no_id(missing("/AccessKeyId"), "AccessKeyId is missing")]
#[case::no_secret(missing("/AccessKeySecret"), "AccessKeySecret is missing")]
#[case::no_token(missing("/SecurityToken"), "SecurityToken is missing")]
#[case::no_expiration(missing("/Expiration"), "Expiration is missing")]
#[case::over(Effect::ExpirationInPast, "before they arrived")]
#[tokio::test]
async fn a_broken_metadata_service_is_unavailable(#[case] effect: Effect, #[case] expected: &str) {
    let house = House::start();
    let is_late = is_late(&effect);
    let provider = if is_late {
        let client = imds_at(house.metadata.address(), &HttpOptions::metadata());
        EcsRamRole::with_client(client, None)
    } else {
        house.ecs()
    };
    let fault = Fault::on("GetCredentials", effect);
    house.metadata.faults().until_cleared(fault);
    check(&failure(provider.credentials()).await, expected);
    house.metadata.faults().clear();
    if is_late {
        in_the_end(async || provider.credentials().await).await;
    } else {
        provider.credentials().await.unwrap();
    }
}

#[tokio::test]
async fn a_page_as_role_name_is_no_role_name() {
    let house = House::start();
    let page = Fault::on("ListRoles", Effect::Html);
    house.metadata.faults().until_cleared(page);
    check(&failure(house.ecs().credentials()).await, "not one word");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for status in [301, 302, 307, 308] {
        let (house, elsewhere) = (House::start(), House::start());
        let to = |location| Fault::always(Effect::Redirect { status, location });
        let sts = format!("https://{}/", elsewhere.sts.host());
        house.sts.faults().until_cleared(to(sts));
        for provider in house.ways_to_a_role(&house.options()) {
            check(
                &failure(provider.credentials()).await,
                &format!("HTTP {status}"),
            );
        }
        let metadata = format!("{}/latest/meta-data/region-id", elsewhere.metadata.url());
        house.metadata.faults().until_cleared(to(metadata));
        check(
            &failure(house.ecs().credentials()).await,
            &format!("HTTP {status}"),
        );
        assert!(elsewhere.sts.calls().all().is_empty());
        assert!(elsewhere.metadata.calls().all().is_empty());
    }
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_not_trusted() {
    let house = House::start();
    for provider in house.ways_to_a_role(&patient(HttpOptions::default())) {
        check(&failure(provider.credentials()).await, "no connection to");
    }
    assert!(house.sts.calls().all().is_empty(), "nothing was sent");
}

#[tokio::test]
async fn a_certificate_of_another_name_is_not_trusted() {
    let house = House::start();
    // The certificate names 127.0.0.1 and localhost, so at this address of loopback it is wrong.
    let stranger = SocketAddr::from(([127, 0, 0, 2], 0));
    let stranger = Sts::start_at(stranger, SimulatorConfig::default()).unwrap();
    let options = HttpOptions {
        extra_roots: Some(stranger.ca_pem().as_bytes().to_vec()),
        ..patient(HttpOptions::default())
    };
    let host = StsHost {
        endpoint: Some(stranger.host()),
        ..StsHost::default()
    };
    let provider = OidcRoleArn::builder()
        .sts_host(host)
        .build(&house.world_with(&options))
        .unwrap();
    check(&failure(provider.credentials()).await, "certificate");
    assert!(stranger.calls().all().is_empty(), "the token was not sent");
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let house = House::start();
    // Port 1 of loopback: nothing listens on it without root.
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let client = imds_at(nowhere, &patient(HttpOptions::metadata()));
    let provider = EcsRamRole::with_client(client, None);
    check(&failure(provider.credentials()).await, "no connection to");
    drop(house);
}
