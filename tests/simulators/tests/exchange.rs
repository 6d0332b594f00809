//! `AssumeRoleWithOIDC`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::account::{Account, Ask, CLUSTER, ISSUER, Keys, PROVIDER, ROLE, SUBJECT, in_seconds};
use crate::simulators::calls::fingerprint;
use crate::simulators::clock;
use crate::simulators::config::{FederatedTrust, Subjects, Trust};
use crate::simulators::issuance::VerifyError;
use crate::simulators::token_issuer::TokenIssuer;

fn good_token() -> String {
    CLUSTER.token(SUBJECT).expect("a token")
}

/// Claims of a good token with one changed.
fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = CLUSTER.claims(SUBJECT, in_seconds(600));
    claims[name] = value;
    claims
}

async fn refusal_of(account: &Account, token: &str) -> (u16, String) {
    account.post(&Ask::oidc(token)).await.refusal()
}

fn invalid() -> (u16, String) {
    (401, "AuthenticationFail.OIDCToken.Invalid".to_owned())
}

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
    assert!((3590..=3600).contains(&left.num_seconds()), "{left}");

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
async fn es256_token_is_accepted() {
    let account = Account::start();
    let issuer = TokenIssuer::es256(ISSUER).unwrap();
    issuer
        .write_jwks(&account.folder.path().join("jwks.json"))
        .unwrap();
    let reply = account
        .post(&Ask::oidc(&issuer.token(SUBJECT).unwrap()))
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text);
}

#[tokio::test]
async fn keys_are_read_at_each_verification() {
    let account = Account::start();
    let rotated = TokenIssuer::rs256(ISSUER).unwrap();
    let token = rotated.token(SUBJECT).unwrap();
    assert_eq!(refusal_of(&account, &token).await, invalid());
    rotated
        .write_jwks(&account.folder.path().join("jwks.json"))
        .unwrap();
    assert_eq!(account.post(&Ask::oidc(&token)).await.status, 200);
    assert_eq!(
        refusal_of(&account, &good_token()).await,
        invalid(),
        "the old key is gone"
    );
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
        invalid()
    );
}

#[tokio::test]
async fn expired_token_is_refused_without_leeway() {
    let account = Account::start();
    let expired = (401, "AuthenticationFail.OIDCToken.Expired".to_owned());
    for seconds in [-1, 0] {
        let token = CLUSTER
            .sign(&CLUSTER.claims(SUBJECT, in_seconds(seconds)))
            .unwrap();
        let reply = account.post(&Ask::oidc(&token)).await;
        assert_eq!(reply.refusal(), expired);
        assert_eq!(reply.message(), "This JsonWebToken is expired.");
    }
    let token = good_token();
    account
        .sts
        .update(|config| config.clock_ahead = Duration::from_mins(11));
    assert_eq!(
        refusal_of(&account, &token).await,
        expired,
        "the service's clock counts"
    );
}

#[tokio::test]
async fn token_of_the_future_is_refused() {
    let account = Account::start();
    let claims = claims_with("nbf", in_seconds(30).timestamp().into());
    assert_eq!(
        refusal_of(&account, &CLUSTER.sign(&claims).unwrap()).await,
        invalid()
    );
}

#[tokio::test]
async fn wrong_issuer_and_audience_are_refused() {
    let account = Account::start();
    let wrong_issuer = (
        401,
        "AuthenticationFail.OIDCToken.IssuerNotMatch".to_owned(),
    );
    for issuer in [
        "https://oidc.example/c2",
        "https://oidc.example/c1/",
        "HTTPS://oidc.example/c1",
    ] {
        let token = CLUSTER.sign(&claims_with("iss", issuer.into())).unwrap();
        assert_eq!(refusal_of(&account, &token).await, wrong_issuer, "{issuer}");
    }
    let wrong_audience = (
        401,
        "AuthenticationFail.OIDCToken.AudienceNotMatch".to_owned(),
    );
    for audience in [json!("sts"), json!(["a", "b"]), json!([])] {
        let token = CLUSTER.sign(&claims_with("aud", audience.clone())).unwrap();
        assert_eq!(
            refusal_of(&account, &token).await,
            wrong_audience,
            "{audience}"
        );
    }
    for audience in [
        json!("sts.aliyuncs.com"),
        json!(["other", "sts.aliyuncs.com"]),
    ] {
        let token = CLUSTER.sign(&claims_with("aud", audience)).unwrap();
        assert_eq!(account.post(&Ask::oidc(&token)).await.status, 200);
    }
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let account = Account::start();
    let token = good_token();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let kid = CLUSTER.kid();
    let claims = CLUSTER.claims(SUBJECT, in_seconds(600));

    let none = part(&json!({"alg": "none", "typ": "JWT", "kid": kid}));
    let wide_claims = part(&claims_with(
        "sub",
        "system:serviceaccount:kube-system:admin".into(),
    ));
    let mut hmac_header = Header::new(jsonwebtoken::Algorithm::HS256);
    hmac_header.kid = Some(kid.to_owned());
    let public_key = CLUSTER.jwks().unwrap()["keys"][0]["n"]
        .as_str()
        .unwrap()
        .to_owned();
    let hmac_key = EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(public_key).unwrap());
    let stranger = TokenIssuer::rs256(ISSUER).unwrap();
    let elliptic = TokenIssuer::es256(ISSUER).unwrap();
    let forged = [
        ("no signature", format!("{signed}.")),
        ("two parts", signed.to_owned()),
        ("four parts", format!("{token}.x")),
        ("no base64", "a!.b!.c!".to_owned()),
        ("trailing newline", format!("{token}\n")),
        ("alg none", format!("{none}.{payload}.")),
        (
            "alg none with a signature",
            format!("{none}.{payload}.{signature}"),
        ),
        (
            "other claims",
            format!("{header}.{wide_claims}.{signature}"),
        ),
        ("HMAC with the public key", {
            jsonwebtoken::encode(&hmac_header, &claims, &hmac_key).unwrap()
        }),
        ("stranger's key", stranger.token(SUBJECT).unwrap()),
        (
            "stranger's key under our name",
            stranger.sign_as(Some(kid), &claims).unwrap(),
        ),
        (
            "EC key under our name",
            elliptic.sign_as(Some(kid), &claims).unwrap(),
        ),
        ("no key named", CLUSTER.sign_as(None, &claims).unwrap()),
        (
            "no subject",
            CLUSTER.sign(&claims_with("sub", "".into())).unwrap(),
        ),
        (
            "no end",
            CLUSTER.sign(&claims_with("exp", Value::Null)).unwrap(),
        ),
    ];
    for (what, token) in forged {
        assert_eq!(refusal_of(&account, &token).await, invalid(), "{what}");
    }
}

#[tokio::test]
async fn ill_provider_is_told_apart() {
    let account = Account::start();
    let token = good_token();
    let broken = (
        401,
        "AuthenticationFail.OIDCToken.IssuerConfigurationBroken".to_owned(),
    );
    account
        .sts
        .update(|config| config.providers[0].broken = true);
    let reply = account.post(&Ask::oidc(&token)).await;
    assert_eq!(reply.refusal(), broken);
    assert!(reply.message().contains(ISSUER), "{}", reply.message());
    account.sts.update(|config| {
        config.providers[0].broken = false;
        config.providers[0].fingerprint_mismatch = true;
    });
    let mismatch = "AuthenticationFail.OIDCToken.PublicKeyFingerprintMismatch".to_owned();
    assert_eq!(refusal_of(&account, &token).await, (401, mismatch));
    account
        .sts
        .update(|config| config.providers[0].fingerprint_mismatch = false);
    std::fs::remove_file(account.folder.path().join("jwks.json")).unwrap();
    assert_eq!(
        refusal_of(&account, &token).await,
        broken,
        "no keys to be had"
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
