//! A credentials URI over plain HTTP. The metadata service serves one: it answers in the same form.

use std::time::Duration;

use rrsa::credentials::{Config, CredentialsError, CredentialsUri, ExchangeError, Kind, Provider};
use rrsa::world::{HttpClient, HttpOptions, World};
use rstest::rstest;

use crate::house::{House, failure, in_the_end, story};
use crate::log;
use crate::simulators::faults::{Effect, Fault};

/// What makes the URI a secret.
const KEY: &str = "the-part-that-nobody-guesses";

fn uri(house: &House) -> String {
    let service = house.metadata.url();
    format!("{service}/latest/meta-data/ram/security-credentials/node?{KEY}")
}

fn provider_in(house: &House, world: &World) -> CredentialsUri {
    CredentialsUri::new(Some(uri(house).into()), world).expect("a legal URI")
}

fn provider(house: &House) -> CredentialsUri {
    provider_in(house, &house.world())
}

/// The story of a failure, which shows of the URI only where it leads.
fn checked_story(house: &House, error: &CredentialsError) -> String {
    let story = story(error);
    let origin = house.metadata.address().to_string();
    assert!(story.contains(&origin), "{story}");
    for part in ["latest", "<", "{"] {
        assert!(!story.contains(part), "{story}");
    }
    check_log();
    story
}

fn check_log() {
    let line = log::find(KEY);
    assert!(line.is_none(), "the URI is in the log: {line:?}…");
}

#[tokio::test]
async fn a_uri_gives_credentials() {
    let house = House::start();
    let credentials = provider(&house).credentials().await.unwrap();
    assert_eq!(credentials.provider_name(), "credential_uri");
    assert!(credentials.expiration().is_some());
    house.session_of(&credentials);
    check_log();
}

#[tokio::test]
async fn the_flat_settings_lead_there_too() {
    let house = House::start();
    let config = Config {
        kind: Some(Kind::CredentialsUri),
        credentials_uri: Some(uri(&house).into()),
        ..Config::default()
    };
    let provider = config.provider(&house.world()).unwrap();
    house.session_of(&provider.credentials().await.unwrap());
}

#[rstest]
#[case::slow(Effect::Delay { by: Duration::from_mins(1) }, "no complete answer")]
#[case::silent(Effect::Hang, "no complete answer")]
#[case::reset(Effect::Reset, "broke off")]
#[case::endless(Effect::Endless, "longer than 262144 bytes")]
#[case::page(Effect::Html, "no JSON of that shape")]
#[case::truncated(Effect::Truncated, "no JSON of that shape")]
#[case::gateway(Effect::Status { status: 502 }, "HTTP 502")]
#[case::no_token(Effect::MissingField { pointer: "/SecurityToken".to_owned() }, "SecurityToken is missing")]
#[case::over(Effect::ExpirationInPast, "before they arrived")]
#[tokio::test]
async fn a_broken_uri_is_unavailable(#[case] effect: Effect, #[case] expected: &str) {
    let house = House::start();
    let mut world = house.world();
    let is_late = matches!(effect, Effect::Delay { .. } | Effect::Hang);
    if is_late {
        let options = HttpOptions {
            total_timeout: Duration::from_millis(800),
            ..HttpOptions::direct()
        };
        world.direct = std::sync::Arc::new(HttpClient::new(&options).unwrap());
    }
    let provider = provider_in(&house, &world);
    house.metadata.faults().until_cleared(Fault::always(effect));
    let error = failure(provider.credentials()).await;
    assert!(
        matches!(error, CredentialsError::Unavailable { .. }),
        "{error:?}"
    );
    let story = checked_story(&house, &error);
    assert!(story.contains(expected), "{story}");
    house.metadata.faults().clear();
    if is_late {
        in_the_end(async || provider.credentials().await).await;
    } else {
        provider.credentials().await.unwrap();
    }
}

#[tokio::test]
async fn a_wrong_path_is_refused_for_good_and_asked_once() {
    let house = House::start();
    house.metadata.update(|config| config.role = None);
    let error = failure(provider(&house).credentials()).await;
    let CredentialsError::Refused { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(matches!(
        source.downcast_ref(),
        Some(ExchangeError::Failed { status, .. }) if status.as_u16() == 404
    ));
    let story = checked_story(&house, &error);
    assert!(story.contains("check the URI"), "{story}");
    assert_eq!(house.asked("GetCredentials"), 1);
}

#[tokio::test]
async fn one_failure_is_tried_again() {
    let house = House::start();
    for effect in [Effect::Status { status: 500 }, Effect::Reset] {
        house.metadata.faults().next(1, Fault::always(effect));
        provider(&house).credentials().await.unwrap();
    }
    assert_eq!(house.asked("GetCredentials"), 4);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for status in [301, 302, 307, 308] {
        let (house, elsewhere) = (House::start(), House::start());
        let location = uri(&elsewhere);
        let redirect = Fault::always(Effect::Redirect { status, location });
        house.metadata.faults().until_cleared(redirect);
        let error = failure(provider(&house).credentials()).await;
        assert!(error.is_transient(), "{error:?}");
        let story = checked_story(&house, &error);
        assert!(story.contains("redirects are not followed"), "{story}");
        assert_eq!(house.asked("GetCredentials"), 1);
        assert!(elsewhere.metadata.calls().all().is_empty());
    }
}
