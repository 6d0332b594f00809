//! One more try: exactly one, only where the first failure need not come again, and with what the
//! first answer told.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use rrsa::credentials::{CredentialsError, OidcRoleArn, Provider as _};
use rrsa::sts::RefusalKind;
use rstest::rstest;

use crate::house::{House, OffBy, failure, ram, story};
use crate::simulators::clock;
use crate::simulators::faults::{Effect, Fault};

fn error(status: u16, code: &str) -> Effect {
    Effect::Error {
        status,
        code: code.to_owned(),
        message: "On demand.".to_owned(),
    }
}

#[rstest]
#[case::failure(error(503, "ServiceUnavailable"))]
#[case::internal(error(500, "InternalError"))]
#[case::throttle(error(400, "Throttling.User"))]
#[case::nonce(error(400, "SignatureNonceUsed"))]
#[case::token(error(401, "AuthenticationFail.OIDCToken.Expired"))]
#[case::gateway(Effect::Status { status: 502 })]
#[case::reset(Effect::Reset)]
#[tokio::test]
async fn what_may_pass_is_tried_once_more(#[case] effect: Effect) {
    let house = House::start();
    let calls = house.sts.calls();
    for provider in house.ways_to_a_role(&house.options()) {
        calls.clear();
        house.sts.faults().next(1, Fault::always(effect.clone()));
        house.session_of(&provider.credentials().await.unwrap());
        let nonces: Vec<_> = calls
            .all()
            .iter()
            .map(|call| call.parameters.get("SignatureNonce").cloned())
            .collect();
        assert_eq!(nonces.len(), 2, "asked twice");
        assert!(
            nonces[0].is_none() || nonces[0] != nonces[1],
            "a nonce is used once"
        );

        calls.clear();
        house
            .sts
            .faults()
            .until_cleared(Fault::always(effect.clone()));
        let error = failure(provider.credentials()).await;
        assert!(
            matches!(error, CredentialsError::Unavailable { .. }),
            "{error:?}"
        );
        assert_eq!(calls.all().len(), 2, "not a third time");
        if let Effect::Error { code, .. } = &effect {
            let refusal = error.refusal().unwrap();
            let last = calls.last().unwrap();
            assert_eq!(
                (&refusal.code, &refusal.request_id),
                (code, &last.request_id)
            );
            assert!(story(&error).contains(&last.request_id));
        }
        house.sts.faults().clear();
    }
}

#[rstest]
#[case::refused(error(403, "NoPermission"))]
#[case::signature(error(400, "SignatureDoesNotMatch"))]
#[case::unknown(error(400, "Brand.New"))]
#[case::page(Effect::Html)]
#[case::late(Effect::Hang)]
#[tokio::test]
async fn what_would_come_again_is_not_tried_again(#[case] effect: Effect) {
    let house = House::start();
    let mut options = house.options();
    if matches!(effect, Effect::Hang) {
        options.total_timeout = Duration::from_secs(3);
    }
    let calls = house.sts.calls();
    for provider in house.ways_to_a_role(&options) {
        calls.clear();
        house.sts.faults().next(1, Fault::always(effect.clone()));
        // A machine may be so busy that the time is over before the question has arrived.
        while calls.all().is_empty() {
            story(&failure(provider.credentials()).await);
        }
        assert_eq!(calls.all().len(), 1);
    }
}

#[rstest]
#[case::ahead(20)]
#[case::behind(-20)]
#[tokio::test]
async fn a_machine_with_a_wrong_clock_gets_credentials_at_the_second_try(#[case] minutes: i64) {
    let house = House::start();
    let off = TimeDelta::minutes(minutes);
    let mut world = house.world();
    world.clock = Arc::new(OffBy(off));
    let provider = ram(&world);

    let credentials = provider.credentials().await.unwrap();
    let outcomes: Vec<_> = house.sts.calls().all();
    let outcomes: Vec<_> = outcomes.iter().map(|call| call.outcome.as_str()).collect();
    assert_eq!(outcomes, ["InvalidTimeStamp.Expired", "Success"]);
    let told = credentials.issuer_is_ahead() + off;
    assert!(told.abs() < TimeDelta::seconds(60), "{told}");
    // The end is a time of the issuer's clock.
    let life = credentials.expiration().unwrap() - clock::now();
    assert!((59..=60).contains(&life.num_minutes()), "{life}");

    provider.credentials().await.unwrap();
    assert_eq!(house.sts.calls().all().len(), 3, "the time was remembered");
}

#[tokio::test]
async fn a_machine_whose_clock_cannot_be_corrected_is_told_so() {
    let house = House::start();
    let always = Fault::always(error(400, "InvalidTimeStamp.Expired"));
    house.sts.faults().until_cleared(always);
    let error = failure(ram(&house.world()).credentials()).await;
    assert_eq!(error.refusal().unwrap().kind(), RefusalKind::ClockSkew);
    assert!(error.is_transient());
    assert_eq!(house.sts.calls().all().len(), 2);
}

#[tokio::test]
async fn credentials_that_a_fast_clock_would_call_over_are_taken() {
    let house = House::start();
    let mut world = house.world();
    world.clock = Arc::new(OffBy(TimeDelta::minutes(20)));
    let provider = OidcRoleArn::builder()
        .duration(Duration::from_mins(15))
        .build(&world)
        .unwrap();
    let credentials = provider.credentials().await.unwrap();
    let ahead = credentials.issuer_is_ahead().num_seconds();
    assert!((-1260..=-1140).contains(&ahead), "{ahead}");
}
