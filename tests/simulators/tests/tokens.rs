//! `AssumeRoleWithOIDC`: which tokens are believed.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::account::{Account, Ask, CLUSTER, ISSUER, SUBJECT, good_token, in_seconds};
use crate::simulators::token_issuer::TokenIssuer;

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
