//! Faults on demand, as a client sees them.

use std::pin::Pin;
use std::time::Duration;

use crate::account::{Account, Ask, FURTHER_ROLE, PATIENCE, ROLE, Reply, good_token};
use crate::simulators::clock;
use crate::simulators::faults::{Effect, Fault, Hold};

const ACTION: &str = "AssumeRoleWithOIDC";

fn exchange() -> Ask {
    Ask::oidc(&good_token())
}

/// The next exchange, with this effect.
async fn next(account: &Account, effect: Effect) -> Reply {
    account.sts.faults().next(1, Fault::on(ACTION, effect));
    account.post(&exchange()).await
}

#[tokio::test]
async fn error_on_demand_has_the_services_shape() {
    let account = Account::start();
    let error = Effect::Error {
        status: 503,
        code: "ServiceUnavailable".to_owned(),
        message: "Try later.".to_owned(),
    };
    let reply = next(&account, error).await;
    assert_eq!(reply.refusal(), (503, "ServiceUnavailable".to_owned()));
    assert_eq!(reply.message(), "Try later.");
    assert_eq!(
        account.sts.calls().last().unwrap().outcome,
        "ServiceUnavailable"
    );
    assert_eq!(
        account.post(&exchange()).await.status,
        200,
        "it was for one request"
    );
}

#[tokio::test]
async fn counted_fault_ends_and_standing_one_stays() {
    let account = Account::start();
    let faults = account.sts.faults();
    let status = |status| Effect::Status { status };
    faults.next(2, Fault::always(status(500)));
    faults.until_cleared(Fault::for_role(ROLE, status(502)));
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(account.post(&exchange()).await.status);
    }
    assert_eq!(seen, [500, 500, 502, 502]);
    let other = account
        .post(&exchange().with("RoleArn", FURTHER_ROLE))
        .await;
    assert_eq!(other.status, 401, "the fault is for the other role");
    faults.clear();
    assert_eq!(account.post(&exchange()).await.status, 200);
    account
        .sts
        .update(|config| config.faults = vec![Fault::on(ACTION, status(504))]);
    assert_eq!(account.post(&exchange()).await.status, 504);
    account.sts.update(|config| config.faults.clear());
    assert_eq!(account.post(&exchange()).await.status, 200);
}

#[tokio::test]
async fn delayed_answer_is_genuine() {
    let account = Account::start();
    let by = Duration::from_millis(300);
    let start = clock::now();
    let reply = next(&account, Effect::Delay { by }).await;
    assert_eq!(reply.status, 200);
    assert!((clock::now() - start).to_std().unwrap() >= by);
}

/// Goes on with a first question until STS has it, and holds its answer back.
async fn until_held(account: &Account, mut held: Pin<&mut impl Future<Output = Reply>>) {
    let calls = account.sts.calls();
    tokio::select! {
        reply = &mut held => panic!("answered: {reply:?}"),
        seen = calls.wait_for(1, PATIENCE) => seen.expect("STS is asked"),
    }
}

#[tokio::test]
async fn held_answer_is_genuine_and_comes_when_it_is_let_go() {
    let account = Account::start();
    let hold = Hold::default();
    let mut held = std::pin::pin!(next(&account, Effect::Hold(hold.clone())));
    until_held(&account, held.as_mut()).await;
    assert!(hold.release(), "somebody waits");
    assert_eq!(held.await.status, 200);
    // It holds nobody any more.
    let again = next(&account, Effect::Hold(hold.clone())).await;
    assert_eq!(again.status, 200);
}

#[tokio::test]
async fn a_hold_tells_that_its_client_gave_up() {
    let account = Account::start();
    let hold = Hold::default();
    {
        let held = std::pin::pin!(next(&account, Effect::Hold(hold.clone())));
        until_held(&account, held).await;
    }
    // After the answers that are under way: there is none.
    account.sts.stop().await.unwrap();
    assert!(!hold.release());
}

#[tokio::test]
async fn hanging_call_is_seen_but_never_answered() {
    let account = Account::start();
    account.sts.faults().next(1, Fault::always(Effect::Hang));
    let calls = account.sts.calls();
    let ask = exchange();
    {
        let mut hanging = std::pin::pin!(account.post(&ask));
        tokio::select! {
            reply = &mut hanging => panic!("answered: {reply:?}"),
            seen = calls.wait_for(1, PATIENCE) => seen.unwrap(),
        }
        assert!(
            tokio::time::timeout(Duration::from_millis(100), hanging)
                .await
                .is_err()
        );
    }
    assert_eq!(calls.last().unwrap().outcome, "Fault.Hang");
    account.sts.stop().await.unwrap();
}

#[tokio::test]
async fn reset_connection_is_an_error_of_the_connection() {
    let account = Account::start();
    account.sts.faults().next(1, Fault::always(Effect::Reset));
    let request = account
        .client
        .post(account.url())
        .form(&exchange().0)
        .send();
    let error = request.await.unwrap_err();
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    let mut kinds = Vec::new();
    while let Some(error) = cause {
        kinds.extend(
            error
                .downcast_ref::<std::io::Error>()
                .map(std::io::Error::kind),
        );
        cause = error.source();
    }
    assert!(
        kinds.contains(&std::io::ErrorKind::ConnectionReset),
        "{error:?}"
    );
    assert_eq!(
        account.post(&exchange()).await.status,
        200,
        "the next connection works"
    );
}

#[tokio::test]
async fn answers_that_are_no_answers() {
    let account = Account::start();
    let html = next(&account, Effect::Html).await;
    assert_eq!(html.status, 200);
    assert!(html.text.starts_with("<!DOCTYPE html>"));

    let truncated = next(&account, Effect::Truncated).await;
    assert_eq!(truncated.status, 200);
    assert!(serde_json::from_str::<serde_json::Value>(&truncated.text).is_err());
    assert!(truncated.text.starts_with('{'));

    let location = "https://elsewhere.example/".to_owned();
    let redirect = next(
        &account,
        Effect::Redirect {
            status: 302,
            location: location.clone(),
        },
    );
    let redirect = redirect.await;
    assert_eq!(
        (redirect.status, &redirect.headers["location"]),
        (302, &location.parse().unwrap())
    );

    let raw = Effect::Raw {
        status: 201,
        content_type: "application/json".to_owned(),
        body: "null".to_owned(),
    };
    let raw = next(&account, raw).await;
    assert_eq!((raw.status, raw.text.as_str()), (201, "null"));
}

#[tokio::test]
async fn endless_body_passes_any_cap() {
    let account = Account::start();
    account.sts.faults().next(1, Fault::always(Effect::Endless));
    let request = account
        .client
        .post(account.url())
        .form(&exchange().0)
        .send();
    let mut response = request.await.unwrap();
    assert_eq!(response.status(), 200);
    let mut size = 0;
    while size < 4 * 1024 * 1024 {
        size += response.chunk().await.unwrap().expect("more").len();
    }
}

#[tokio::test]
async fn genuine_answers_can_be_bent() {
    let account = Account::start();
    for member in [
        "AccessKeyId",
        "AccessKeySecret",
        "SecurityToken",
        "Expiration",
    ] {
        let pointer = format!("/Credentials/{member}");
        let credentials = next(&account, Effect::MissingField { pointer })
            .await
            .credentials();
        assert!(credentials.get(member).is_none());
        assert_eq!(credentials.as_object().unwrap().len(), 3);
    }
    let pointer = "/Credentials".to_owned();
    let reply = next(&account, Effect::MissingField { pointer }).await;
    assert_eq!(reply.credentials(), serde_json::Value::Null);
    let credentials = next(&account, Effect::ExpirationInPast).await.credentials();
    let expiration = clock::read(credentials["Expiration"].as_str().unwrap()).unwrap();
    assert!(expiration < clock::now());
}
