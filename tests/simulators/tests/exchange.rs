//! `AssumeRoleWithOIDC`: what it grants, its limits, and who is trusted.

use std::time::Duration;

use crate::account::{Account, Ask, ISSUER, Keys, PROVIDER, ROLE, SUBJECT, good_token};
use crate::simulators::calls::fingerprint;
use crate::simulators::clock;
use crate::simulators::config::{FederatedTrust, Subjects, Trust};
use crate::simulators::issuance::VerifyError;

#[tokio::test]
async fn good_token_gives_credentials_that_verify() {
    let account = Account::start();
    let policy = r#"{"Version": "1", "Statement": [{"Effect": "Allow", "Action": "oss:*", "Resource": "*"}]}"#;
    let token = good_token();
    let reply = account
        .post(&Ask::oidc(&token).with("Policy", policy))
        .await;
    let credentials = reply.credentials();
    let keys = Keys::of(&credentials);
    assert!(keys.id.starts_with("STS.N"));
    let session = account
        .sts
        .verify(&keys.id, &keys.secret, keys.token.as_deref().unwrap())
        .unwrap();
    assert_eq!(session.role_arn, ROLE);
    assert_eq!(session.name, "test-session");
    assert_eq!(session.subject.as_deref(), Some(SUBJECT));
    assert_eq!(session.policy.as_deref(), Some(policy));
    assert!(!session.expired);
    assert_eq!(
        credentials["Expiration"],
        clock::written(session.expiration)
    );
    let left = session.expiration - clock::now();
    assert!((3540..=3600).contains(&left.num_seconds()), "{left}");

    let body = reply.json();
    assert_eq!(
        body["AssumedRoleUser"]["Arn"],
        format!("{ROLE}/test-session")
    );
    let id = body["AssumedRoleUser"]["AssumedRoleId"].as_str().unwrap();
    assert!(id.ends_with(":test-session"), "{id}");
    assert_eq!(body["OIDCTokenInfo"]["Subject"], SUBJECT);
    assert_eq!(body["OIDCTokenInfo"]["Issuer"], ISSUER);
    assert_eq!(body["OIDCTokenInfo"]["ClientIds"], "sts.aliyuncs.com");
    assert_eq!(body["OIDCTokenInfo"]["VerificationInfo"], "Success");
    assert_eq!(
        reply.headers["x-acs-request-id"],
        body["RequestId"].as_str().unwrap()
    );
}

#[tokio::test]
async fn everything_in_the_url_is_as_good() {
    let account = Account::start();
    let token = good_token();
    let keys = Keys::of(&account.get(&Ask::oidc(&token)).await.credentials());
    assert!(
        account
            .sts
            .verify(&keys.id, &keys.secret, &keys.token.unwrap())
            .is_ok()
    );
    let call = account.sts.calls().last().unwrap();
    assert!(call.in_url.iter().any(|name| name == "OIDCToken"));
}

#[tokio::test]
async fn other_credentials_do_not_verify() {
    let account = Account::start();
    let one = account.exchange().await;
    let other = account.exchange().await;
    let (token, other_token) = (one.token.unwrap(), other.token.unwrap());
    let sts = &account.sts;
    assert_eq!(
        sts.verify("STS.Nnever", "x", "y"),
        Err(VerifyError::UnknownAccessKeyId)
    );
    assert_eq!(
        sts.verify(&one.id, &other.secret, &token),
        Err(VerifyError::WrongSecret)
    );
    assert_eq!(
        sts.verify(&one.id, &one.secret, &other_token),
        Err(VerifyError::WrongSecurityToken)
    );
}

#[tokio::test]
async fn each_missing_parameter_is_named() {
    let account = Account::start();
    let good = Ask::oidc(&good_token());
    for name in ["OIDCProviderArn", "OIDCToken", "RoleArn", "RoleSessionName"] {
        let expected = (400, format!("MissingParameter.{name}"));
        assert_eq!(
            account.post(&good.clone().without(name)).await.refusal(),
            expected
        );
        assert_eq!(
            account.post(&good.clone().with(name, "")).await.refusal(),
            expected
        );
    }
    let without_duration = good.without("DurationSeconds");
    assert_eq!(account.post(&without_duration).await.status, 200);
}

#[tokio::test]
async fn each_malformed_parameter_is_named() {
    let account = Account::start();
    let long = "x".repeat(65);
    let long_token = "x".repeat(20_001);
    let long_policy = " ".repeat(2049);
    let cases = [
        ("RoleArn", "app", "RoleArn"),
        ("RoleArn", PROVIDER, "RoleArn"),
        ("RoleSessionName", "a", "RoleSessionName"),
        ("RoleSessionName", &long, "RoleSessionName"),
        ("RoleSessionName", "a b", "RoleSessionName"),
        ("RoleSessionName", "a~b", "RoleSessionName"),
        ("RoleSessionName", "ä-session", "RoleSessionName"),
        ("DurationSeconds", "899", "DurationSeconds"),
        ("DurationSeconds", "43201", "DurationSeconds"),
        ("DurationSeconds", "3601", "DurationSeconds"),
        ("DurationSeconds", "1h", "DurationSeconds"),
        ("DurationSeconds", "+3600", "DurationSeconds"),
        ("DurationSeconds", "", "DurationSeconds"),
        ("Policy", &long_policy, "PolicySize"),
        ("Policy", "", "PolicyGrammar"),
        ("Policy", "{", "PolicyGrammar"),
        ("Policy", r#"{"Version": "1"}"#, "PolicyGrammar"),
        (
            "Policy",
            r#"{"Version": "2", "Statement": []}"#,
            "PolicyGrammar",
        ),
        ("OIDCToken", "a.b", "OIDCToken"),
        ("OIDCToken", &long_token, "OIDCToken"),
    ];
    for (name, value, code) in cases {
        let reply = account
            .post(&Ask::oidc(&good_token()).with(name, value))
            .await;
        assert_eq!(
            reply.refusal(),
            (400, format!("InvalidParameter.{code}")),
            "{name}: {}",
            value.chars().take(40).collect::<String>()
        );
    }
}

#[tokio::test]
async fn limits_themselves_are_accepted() {
    let account = Account::start();
    let good = || Ask::oidc(&good_token());
    for ask in [
        good().with("DurationSeconds", "900"),
        good().with("DurationSeconds", "3600"),
        good().with("RoleSessionName", "a1"),
        good().with("RoleSessionName", &"a.@-_".repeat(12)),
    ] {
        assert_eq!(account.post(&ask).await.status, 200);
    }
    account.sts.update(|config| {
        for role in &mut config.roles {
            role.max_session_duration = Duration::from_hours(12);
        }
    });
    let keys = account
        .post(&good().with("DurationSeconds", "43200"))
        .await
        .credentials();
    let keys = Keys::of(&keys);
    let session = account
        .sts
        .verify(&keys.id, &keys.secret, &keys.token.unwrap())
        .unwrap();
    assert!((session.expiration - clock::now()).num_minutes() >= 719);
}

#[tokio::test]
async fn wrong_provider_is_refused() {
    let account = Account::start();
    let no_permission = (401, "AuthenticationFail.NoPermission".to_owned());
    for (arn, message) in [
        (
            "acs:ram::1234567890123456:role/app",
            "Parameter OIDCProviderArn is not valid",
        ),
        ("ack-rrsa-c1", "Parameter OIDCProviderArn is not valid"),
        (
            "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c2",
            "No such OIDC Provider registered.",
        ),
    ] {
        let reply = account
            .post(&Ask::oidc(&good_token()).with("OIDCProviderArn", arn))
            .await;
        assert_eq!(
            (reply.refusal(), reply.message().as_str()),
            (no_permission.clone(), message)
        );
    }
}

#[tokio::test]
async fn unknown_role_is_refused_after_the_token_is_verified() {
    let account = Account::start();
    let unknown = "acs:ram::1234567890123456:role/nobody";
    let ask = Ask::oidc(&good_token()).with("RoleArn", unknown);
    let reply = account.post(&ask).await;
    assert_eq!(reply.refusal(), (404, "EntityNotExist.Role".to_owned()));
    assert_eq!(reply.message(), format!("The role not exists: {unknown}."));
    // Without a good token nobody learns which roles exist.
    assert_eq!(
        account
            .post(&ask.with("OIDCToken", "a.b.c.d"))
            .await
            .refusal(),
        (401, "AuthenticationFail.OIDCToken.Invalid".to_owned())
    );
}

#[tokio::test]
async fn only_trusted_subjects_are_served() {
    let account = Account::start();
    let trust = |subjects: Subjects, issuer: Option<&str>, audience: &str| {
        let trust = Trust::Federated(FederatedTrust {
            provider_arn: PROVIDER.to_owned(),
            audiences: vec![audience.to_owned()],
            issuer: issuer.map(str::to_owned),
            subjects,
        });
        account
            .sts
            .update(|config| config.roles[0].trust = vec![trust]);
    };
    let list = |value: &str| vec![value.to_owned()];
    let equals = |value: &str| Subjects {
        equals: list(value),
        ..Subjects::default()
    };
    let like = |value: &str| Subjects {
        like: list(value),
        ..Subjects::default()
    };
    let audience = "sts.aliyuncs.com";
    let cases = [
        (equals(SUBJECT), None, audience, true),
        (
            equals("system:serviceaccount:team-a:*"),
            None,
            audience,
            false,
        ),
        (like("system:serviceaccount:team-a:*"), None, audience, true),
        (
            like("system:serviceaccount:team-?:app"),
            None,
            audience,
            true,
        ),
        (
            like("system:serviceaccount:team-b:*"),
            None,
            audience,
            false,
        ),
        (Subjects::default(), None, audience, false),
        (equals(SUBJECT), Some(ISSUER), audience, true),
        (
            equals(SUBJECT),
            Some("https://oidc.example/c2"),
            audience,
            false,
        ),
        (equals(SUBJECT), None, "other", false),
    ];
    for (number, (subjects, issuer, audience, trusted)) in cases.into_iter().enumerate() {
        trust(subjects, issuer, audience);
        let reply = account.post(&Ask::oidc(&good_token())).await;
        if trusted {
            assert_eq!(reply.status, 200, "case {number}: {}", reply.text);
        } else {
            let no_permission = (401, "AuthenticationFail.NoPermission".to_owned());
            assert_eq!(reply.refusal(), no_permission, "case {number}");
            assert_eq!(reply.message(), "There is no permission");
        }
    }
}

#[tokio::test]
async fn short_sessions_really_end() {
    let account = Account::start();
    account
        .sts
        .update(|config| config.session_lifetime = Some(Duration::from_secs(1)));
    let keys = account.exchange().await;
    let verify = || {
        let token = keys.token.as_deref().unwrap();
        account.sts.verify(&keys.id, &keys.secret, token).unwrap()
    };
    let expiration = verify().expiration;
    while clock::now() < expiration {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(verify().expired);
    let reply = account.call(&keys, Ask::action("GetCallerIdentity")).await;
    assert_eq!(
        reply.refusal(),
        (400, "InvalidSecurityToken.Expired".to_owned())
    );
}

#[tokio::test]
async fn log_of_calls_holds_no_secret() {
    let account = Account::start();
    let token = good_token();
    let keys = Keys::of(&account.post(&Ask::oidc(&token)).await.credentials());
    account.call(&keys, Ask::action("GetCallerIdentity")).await;
    let written = serde_json::to_string(&account.sts.calls().all()).unwrap();
    let secrets = account.sts.issued_secrets();
    assert_eq!(
        secrets.len(),
        3,
        "the JWT, the secret and the security token"
    );
    assert!(secrets.contains(&token));
    for secret in secrets {
        assert!(!written.contains(&secret));
    }
    let call = &account.sts.calls().by_role(ROLE)[0];
    assert_eq!(call.parameters["OIDCToken"], fingerprint(&token));
    assert!(call.succeeded());
    assert_eq!(call.status, 200);
}
