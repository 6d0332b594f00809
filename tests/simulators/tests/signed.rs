//! `AssumeRole` and `GetCallerIdentity`: the actions that are signed.

use std::time::Duration;

use reqwest::Method;

use crate::account::{Account, Ask, FURTHER_ROLE, Keys, ROLE, USER, in_seconds};
use crate::simulators::clock;
use crate::simulators::config::{Role, Trust};

fn identity() -> Ask {
    Ask::action("GetCallerIdentity")
}

#[tokio::test]
async fn user_assumes_a_role() {
    let account = Account::start();
    let user = Account::keys("LTAIuser");
    let ask = Ask::assume(ROLE).with("Policy", &spaced_policy());
    let post = account.call(&user, ask.clone()).await;
    let get = account.get(&ask.signed(&user, &Method::GET)).await;
    for reply in [post, get] {
        let keys = Keys::of(&reply.credentials());
        let session = account
            .sts
            .verify(&keys.id, &keys.secret, &keys.token.unwrap())
            .unwrap();
        assert_eq!((session.role_arn.as_str(), session.subject), (ROLE, None));
        assert!(reply.json().get("OIDCTokenInfo").is_none());
    }
}

/// Spaces are where clients with form-style escaping go wrong.
fn spaced_policy() -> String {
    r#"{ "Version": "1", "Statement": [{"Effect": "Deny", "NotAction": "oss:*", "Resource": "*"}] }"#
        .to_owned()
}

#[tokio::test]
async fn caller_is_told_who_it_is() {
    let account = Account::start();
    let who = account
        .call(&Account::keys("LTAIuser"), identity())
        .await
        .json();
    assert_eq!(
        (who["IdentityType"].as_str(), who["Arn"].as_str()),
        (Some("RAMUser"), Some(USER))
    );
    let keys = account.exchange().await;
    let who = account.call(&keys, identity()).await.json();
    assert_eq!(who["IdentityType"], "AssumedRoleUser");
    assert_eq!(who["AccountId"], "1234567890123456");
    assert_eq!(
        who["Arn"],
        "acs:ram::1234567890123456:assumed-role/app/test-session"
    );
    let who = account
        .call(&Account::keys("LTAIroot"), identity())
        .await
        .json();
    assert_eq!(who["IdentityType"], "Account");
}

#[tokio::test]
async fn each_missing_common_parameter_is_named() {
    let account = Account::start();
    let good = identity().signed(&Account::keys("LTAIuser"), &Method::POST);
    for name in [
        "AccessKeyId",
        "Signature",
        "SignatureMethod",
        "SignatureVersion",
        "SignatureNonce",
        "Timestamp",
        "Action",
        "Version",
    ] {
        let reply = account.post(&good.clone().without(name)).await;
        assert_eq!(reply.refusal(), (400, format!("Missing{name}")));
        assert_eq!(
            reply.message(),
            format!("{name} is mandatory for this action.")
        );
    }
}

#[tokio::test]
async fn each_bad_common_parameter_has_its_code() {
    let account = Account::start();
    let user = Account::keys("LTAIuser");
    let time = |seconds| clock::written(in_seconds(seconds));
    // A minute is left where time that passes on a busy machine leads over the border.
    let cases = [
        (
            "SignatureMethod",
            "HMAC-SHA256".to_owned(),
            "InvalidSignatureMethod",
        ),
        (
            "SignatureVersion",
            "2.0".to_owned(),
            "InvalidSignatureVersion",
        ),
        ("SignatureNonce", "n".repeat(65), "InvalidSignatureNonce"),
        (
            "Timestamp",
            "2024-01-02T03:04:05.123Z".to_owned(),
            "InvalidTimeStamp.Format",
        ),
        (
            "Timestamp",
            "2024-01-02 03:04:05".to_owned(),
            "InvalidTimeStamp.Format",
        ),
        (
            "Timestamp",
            "2024-1-2T3:4:5Z".to_owned(),
            "InvalidTimeStamp.Format",
        ),
        ("Timestamp", time(-15 * 60 - 2), "InvalidTimeStamp.Expired"),
        ("Timestamp", time(15 * 60 + 60), "InvalidTimeStamp.Expired"),
        (
            "SecurityToken",
            "CAISnone".to_owned(),
            "InvalidSecurityToken.MismatchWithAccessKey",
        ),
    ];
    for (name, value, code) in cases {
        let reply = account.call(&user, identity().with(name, &value)).await;
        assert_eq!(reply.refusal(), (400, code.to_owned()), "{name}={value}");
    }
    for seconds in [-15 * 60 + 60, 15 * 60 - 5] {
        let reply = account
            .call(&user, identity().with("Timestamp", &time(seconds)))
            .await;
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
}

#[tokio::test]
async fn service_with_another_clock_says_so() {
    let account = Account::start();
    account
        .sts
        .update(|config| config.clock_ahead = Duration::from_hours(1));
    let reply = account.call(&Account::keys("LTAIuser"), identity()).await;
    assert_eq!(
        reply.refusal(),
        (400, "InvalidTimeStamp.Expired".to_owned())
    );
    let date = reply.headers["date"].to_str().unwrap();
    let date = chrono::DateTime::parse_from_rfc2822(date).unwrap();
    let ahead = (date.to_utc() - clock::now()).num_minutes();
    assert!(
        (59..=60).contains(&ahead),
        "the Date header tells the service's time, not {date}"
    );
}

#[tokio::test]
async fn wrong_secret_is_answered_with_the_string_to_sign() {
    let account = Account::start();
    let mut keys = Account::keys("LTAIuser");
    keys.secret.push('x');
    let ask = identity().signed(&keys, &Method::POST);
    let reply = account.post(&ask).await;
    assert_eq!(reply.refusal(), (400, "SignatureDoesNotMatch".to_owned()));
    let message = reply.message();
    let (_, text) = message.split_once("server string to sign is:").unwrap();
    assert!(text.starts_with("POST&%2F&AccessKeyId%3DLTAIuser%26Action%3DGetCallerIdentity"));
    // The method is part of what is signed.
    let ask = identity().signed(&Account::keys("LTAIuser"), &Method::GET);
    assert_eq!(
        account.post(&ask).await.refusal().1,
        "SignatureDoesNotMatch"
    );
}

#[tokio::test]
async fn replayed_request_is_refused() {
    let account = Account::start();
    let user = Account::keys("LTAIuser");
    let ask = identity().signed(&user, &Method::POST);
    assert_eq!(account.post(&ask).await.status, 200);
    assert_eq!(
        account.post(&ask).await.refusal(),
        (400, "SignatureNonceUsed".to_owned())
    );
    // A request with a bad signature uses up no nonce.
    let nonce = "0123456789abcdef";
    let mut wrong = user.clone();
    wrong.secret.push('x');
    let ask = identity().with("SignatureNonce", nonce);
    assert_eq!(
        account.call(&wrong, ask.clone()).await.refusal().1,
        "SignatureDoesNotMatch"
    );
    assert_eq!(account.call(&user, ask.clone()).await.status, 200);
    // Another key may use the same nonce.
    assert_eq!(
        account.call(&Account::keys("LTAIother"), ask).await.status,
        200
    );
}

#[tokio::test]
async fn access_keys_are_told_apart() {
    let account = Account::start();
    let reply = account.call(&Account::keys("LTAInobody"), identity()).await;
    assert_eq!(
        reply.refusal(),
        (404, "InvalidAccessKeyId.NotFound".to_owned())
    );
    let reply = account.call(&Account::keys("LTAIoff"), identity()).await;
    assert_eq!(
        reply.refusal(),
        (400, "InvalidAccessKeyId.Inactive".to_owned())
    );

    let (one, other) = (account.exchange().await, account.exchange().await);
    let with_token = |token: Option<&str>| Keys {
        token: token.map(str::to_owned),
        ..one.clone()
    };
    for (keys, refusal) in [
        (with_token(None), (400, "MissingSecurityToken")),
        (
            with_token(Some("CAISmade-up")),
            (400, "InvalidSecurityToken.Malformed"),
        ),
        (
            with_token(other.token.as_deref()),
            (400, "InvalidSecurityToken.MismatchWithAccessKey"),
        ),
        (
            Keys {
                id: "STS.Nnobody".to_owned(),
                ..one.clone()
            },
            (404, "InvalidAccessKeyId.NotFound"),
        ),
    ] {
        let reply = account.call(&keys, identity()).await;
        assert_eq!(reply.refusal(), (refusal.0, refusal.1.to_owned()));
    }
}

#[tokio::test]
async fn only_trusted_callers_assume_a_role() {
    let account = Account::start();
    let no_permission = (403, "NoPermission".to_owned());
    let call =
        async |keys: &str, role: &str| account.call(&Account::keys(keys), Ask::assume(role)).await;
    assert_eq!(call("LTAIother", ROLE).await.refusal(), no_permission);
    let root = call("LTAIroot", ROLE).await;
    assert_eq!(root.refusal(), no_permission);
    assert_eq!(root.message(), "Roles may not be assumed by root accounts.");
    let unknown = call("LTAIuser", "acs:ram::1234567890123456:role/nobody").await;
    assert_eq!(unknown.refusal(), (404, "EntityNotExist.Role".to_owned()));

    for (principal, trusted) in [
        ("acs:ram::1234567890123456:root", true),
        ("acs:ram::1234567890123456:user/oth??", true),
        ("acs:ram::1234567890123456:user/*", true),
        ("acs:ram::9999999999999999:root", false),
        ("acs:ram::1234567890123456:user/admin", false),
    ] {
        account.sts.update(|config| {
            config.roles[0] = Role::new(ROLE, vec![Trust::principal(principal)]);
        });
        let status = call("LTAIother", ROLE).await.status;
        assert_eq!(status, if trusted { 200 } else { 403 }, "{principal}");
    }
}

#[tokio::test]
async fn external_id_is_demanded() {
    let account = Account::start();
    let session = account.exchange().await;
    let ask = Ask::assume(FURTHER_ROLE);
    for (ask, refusal) in [
        (ask.clone(), (403, "NoPermission")),
        (
            ask.clone().with("ExternalId", "other"),
            (403, "NoPermission"),
        ),
        (
            ask.clone().with("ExternalId", "x"),
            (400, "InvalidParameter.ExternalId"),
        ),
        (
            ask.clone().with("ExternalId", "a b"),
            (400, "InvalidParameter.ExternalId"),
        ),
    ] {
        let reply = account.call(&session, ask).await;
        assert_eq!(reply.refusal(), (refusal.0, refusal.1.to_owned()));
    }
    let reply = account
        .call(&session, ask.with("ExternalId", "shared/word"))
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn chained_session_lasts_an_hour_at_most() {
    let account = Account::start();
    let session = account.exchange().await;
    let ask = Ask::assume(FURTHER_ROLE).with("ExternalId", "shared/word");
    let two_hours = ask.clone().with("DurationSeconds", "7200");
    let reply = account.call(&session, two_hours.clone()).await;
    assert_eq!(
        reply.refusal(),
        (400, "InvalidParameter.DurationSeconds".to_owned())
    );
    assert_eq!(
        reply.message(),
        "The Min/Max value of DurationSeconds is 15min/1hr."
    );
    let reply = account
        .call(&session, ask.with("DurationSeconds", "3600"))
        .await;
    let chained = Keys::of(&reply.credentials());
    let who = account.call(&chained, identity()).await.json();
    assert_eq!(
        who["Arn"],
        "acs:ram::1234567890123456:assumed-role/further/test-session"
    );
    // A user is no session and may have what the role allows, but not more.
    let user = Account::keys("LTAIuser");
    assert_eq!(account.call(&user, two_hours.clone()).await.status, 200);
    let five_hours = two_hours.with("DurationSeconds", "18000");
    let reply = account.call(&user, five_hours).await;
    assert_eq!(
        reply.message(),
        "The Min/Max value of DurationSeconds is 15min/4hr."
    );
}
